//! Streams chat completions from the provider of a model with the key of a profile.

mod detect;
mod message;
mod provider;
mod sse;
