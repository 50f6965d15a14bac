//! OpenAI's APIs.
//!
//! Chat Completions and Responses have a key, a list of models and a form of errors in
//! common; the rest is in a module for each.

mod chat;
mod errors;
mod model_list;
mod models;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{ModelPage, Outbound, Provider, Rejection, Standing, Unsupported};
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

    fn models_query(&self, after: Option<&str>) -> Vec<(&'static str, String)> {
        model_list::query(after)
    }

    fn models_page(&self, body: &[u8]) -> Option<ModelPage> {
        model_list::page(body)
    }

    fn standing(&self, rejection: &Rejection) -> Option<Standing> {
        errors::standing(rejection)
    }
}

#[cfg(test)]
mod tests;
