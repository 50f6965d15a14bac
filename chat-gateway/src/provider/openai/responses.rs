//! The Responses API.
//!
//! <https://platform.openai.com/docs/api-reference/responses>. What is odd: a conversation
//! is a list of items, of which messages are one kind; nothing is stored there, so what a
//! model thought goes back encrypted and in its place; there is no finish reason; an error
//! in a stream is said twice, first nested and then as the end.
//!
//! OpenAI's own tools and whatever else is an item of the answer are passed on whole.

mod decoder;
mod need;
mod request;

use serde::Deserialize;

use std::borrow::Cow;

use crate::provider::{Decoder, json_text};

pub(super) use need::is_needed;
pub(super) use request::body;

/// Reads a response.
pub(super) fn decoder(call_seed: &str) -> Box<dyn Decoder> {
    Box::new(decoder::ResponseDecoder::new(call_seed))
}

/// The `type` of an object, which everything of this API has. Empty if there is none.
fn type_of(json: &str) -> Cow<'_, str> {
    #[derive(Default, Deserialize)]
    struct Tag<'a> {
        #[serde(borrow, default, rename = "type")]
        kind: Cow<'a, str>,
    }
    json_text::object::<Tag<'_>>(json.as_bytes()).unwrap_or_default().kind
}

#[cfg(test)]
mod tests;
