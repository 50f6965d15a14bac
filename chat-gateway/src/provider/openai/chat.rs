//! The Chat Completions API.
//!
//! <https://platform.openai.com/docs/api-reference/chat>. What is odd: usage comes only
//! if it is asked for, in a chunk without choices after the finish reason; a refusal is
//! text of its own with the finish reason `stop`; calls have no end of their own; the
//! reasoning models refuse to be sampled, and show nothing of what they think.
//!
//! Azure and servers that imitate this API are read as well where they differ in what
//! they leave out or add.

mod decoder;
mod request;

use crate::provider::Decoder;

pub(super) use request::body;

/// Reads a completion.
pub(super) fn decoder(call_seed: &str) -> Box<dyn Decoder> {
    Box::new(decoder::ChunkDecoder::new(call_seed))
}
