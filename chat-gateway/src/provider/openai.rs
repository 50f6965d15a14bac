//! OpenAI's Chat Completions API.
//!
//! <https://platform.openai.com/docs/api-reference/chat>. What is odd: usage comes only
//! if it is asked for, in a chunk without choices after the finish reason; a refusal is
//! text of its own with the finish reason `stop`; calls have no end of their own; the
//! reasoning models refuse most sampling parameters.
//!
//! Azure and servers that imitate this API are read as well where they differ in what
//! they leave out. Content that has no common form yet (audio, reasoning of imitators,
//! annotations) commits an answer and is otherwise read over.

mod decoder;
mod errors;
mod request;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use serde_json::Value;

use super::{Decoder, Outbound, Provider, Rejection, Standing, Unsupported, key_check};
use crate::message::{Chat, KeyMaterial};

pub(super) struct OpenAi;

impl Provider for OpenAi {
    fn request(&self, model: &str, chat: &Chat) -> Result<Outbound, Unsupported> {
        let body = request::body(model, chat)?;
        Ok(Outbound { path: "/chat/completions".to_owned(), headers: HeaderMap::new(), body })
    }

    fn credential(&self, key: &KeyMaterial) -> Option<(HeaderName, HeaderValue)> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose())).ok()?;
        value.set_sensitive(true);
        Some((header::AUTHORIZATION, value))
    }

    fn decoder(&self, call_seed: &str) -> Box<dyn Decoder> {
        Box::new(decoder::ChunkDecoder::new(call_seed))
    }

    fn classify(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Rejection {
        errors::classify(status, headers, body)
    }

    fn request_id_header(&self) -> Option<&'static str> {
        Some("x-request-id")
    }

    fn models(&self) -> (&'static str, HeaderMap) {
        ("/models", HeaderMap::new())
    }

    fn lists_models(&self, body: &Value) -> bool {
        key_check::lists(body, "data", "id")
    }

    fn standing(&self, rejection: &Rejection) -> Option<Standing> {
        errors::standing(rejection)
    }
}

#[cfg(test)]
mod tests;
