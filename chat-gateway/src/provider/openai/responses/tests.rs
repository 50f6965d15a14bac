//! What is sent to the API, and what its streams come to.

mod requests;
mod streams;
