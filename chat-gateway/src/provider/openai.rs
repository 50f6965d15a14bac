//! OpenAI's APIs.
//!
//! Chat Completions and Responses have a key, a list of models and a form of errors in
//! common; the rest is in a module for each.

mod chat;
mod errors;
mod model_list;
mod models;
mod names;
mod responses;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{ModelNames, ModelPage, NewDecoder, Outbound, Provider, Rejection, Standing, Unsupported};
use crate::message::{Chat, KeyMaterial, OpenAiApi};

pub(super) struct OpenAi;

impl Provider for OpenAi {
    fn title(&self) -> &'static str {
        "OpenAI"
    }

    fn base_url(&self) -> &'static str {
        "https://api.openai.com/v1"
    }

    fn key_prefix(&self) -> Option<&'static str> {
        Some("sk-")
    }

    fn model_names(&self) -> ModelNames {
        names::NAMES
    }

    fn telling<'a>(&self, model: &'a str) -> &'a str {
        names::telling(model)
    }

    fn request(&self, model: &str, chat: &Chat) -> Result<Outbound, Unsupported> {
        let (path, body, decoder): (&str, Vec<u8>, NewDecoder) = match api(model, chat)? {
            OpenAiApi::ChatCompletions => ("/chat/completions", chat::body(model, chat)?, chat::decoder),
            OpenAiApi::Responses => ("/responses", responses::body(model, chat)?, responses::decoder),
        };
        Ok(Outbound { path: path.to_owned(), headers: HeaderMap::new(), body: body.into(), decoder })
    }

    fn credential(&self, key: &KeyMaterial) -> Option<(HeaderName, HeaderValue)> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose())).ok()?;
        value.set_sensitive(true);
        Some((header::AUTHORIZATION, value))
    }

    fn fixed_options(&self) -> &'static [&'static str] {
        // Gateways such as OpenRouter let another model answer with `models`, `fallbacks` or
        // `route`. Without `include_usage`, Chat Completions says nothing of what an answer used.
        &["model", "models", "fallbacks", "route", "stream", "n", "background", "stream_options.include_usage"]
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

/// The API that answers. Servers that imitate OpenAI have Chat Completions, so that is taken
/// where nothing asks for the other.
fn api(model: &str, chat: &Chat) -> Result<OpenAiApi, Unsupported> {
    let only_responses = models::only_responses(model);
    match chat.openai_api {
        Some(OpenAiApi::ChatCompletions) if only_responses => Err(Unsupported {
            field: "openai_api".to_owned(),
            problem: format!("{model} answers only through the Responses API; leave it unset"),
        }),
        Some(asked) => Ok(asked),
        None if only_responses || responses::is_needed(model, chat) => Ok(OpenAiApi::Responses),
        None => Ok(OpenAiApi::ChatCompletions),
    }
}

#[cfg(test)]
mod tests;
