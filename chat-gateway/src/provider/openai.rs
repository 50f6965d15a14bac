//! OpenAI's APIs.
//!
//! Chat Completions and Responses have a key, a list of models and a form of errors in
//! common; the rest is in a module for each.

mod chat;
mod errors;
mod models;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use serde_json::Value;

use super::{Outbound, Provider, Rejection, Standing, Unsupported, key_check};
use crate::message::{Chat, KeyMaterial};

pub(super) struct OpenAi;

impl Provider for OpenAi {
    fn request(&self, model: &str, chat: &Chat) -> Result<Outbound, Unsupported> {
        let body = chat::body(model, chat)?;
        Ok(Outbound { path: "/chat/completions".to_owned(), headers: HeaderMap::new(), body, decoder: chat::decoder })
    }

    fn credential(&self, key: &KeyMaterial) -> Option<(HeaderName, HeaderValue)> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose())).ok()?;
        value.set_sensitive(true);
        Some((header::AUTHORIZATION, value))
    }

    fn fixed_options(&self) -> &'static [&'static str] {
        &["model", "stream", "n", "background"]
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
