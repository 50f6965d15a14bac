//! Google's Gemini API, as AI Studio serves it.
//!
//! <https://ai.google.dev/api/generate-content>. What is odd: the model stands in the
//! path; an answer ends with the body and nothing else; a call is one whole object and
//! often has no id, so that its result is matched by name and order; any part may be
//! signed and goes back as it was then; a bad key is a 400.

mod decoder;
mod errors;
mod model_list;
mod models;
mod names;
mod partial_args;
mod request;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Decoder, ModelNames, ModelPage, Outbound, Provider, Rejection, Standing, Unsupported};
use crate::message::{Chat, KeyMaterial};

/// How the ids begin that are made where Gemini has none. It never sees them.
const MADE_ID: &str = "call-gateway-";

pub(super) struct Gemini;

impl Provider for Gemini {
    fn title(&self) -> &'static str {
        "Gemini"
    }

    fn base_url(&self) -> &'static str {
        "https://generativelanguage.googleapis.com/v1beta"
    }

    fn key_prefix(&self) -> Option<&'static str> {
        Some("AIza")
    }

    fn model_names(&self) -> ModelNames {
        names::NAMES
    }

    fn model_behind(&self, prefix: &str, rest: &str) -> String {
        names::behind(prefix, rest)
    }

    fn telling<'a>(&self, model: &'a str) -> &'a str {
        names::telling(model)
    }

    fn request(&self, model: &str, chat: &Chat) -> Result<Outbound, Unsupported> {
        let body = request::body(model, chat)?;
        Ok(Outbound { path: request::path(model), headers: HeaderMap::new(), body: body.into(), decoder })
    }

    // A header: in the query, the key would be written to the log of every proxy.
    fn credential(&self, key: &KeyMaterial) -> Option<(HeaderName, HeaderValue)> {
        let mut value = HeaderValue::from_str(key.expose()).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_static("x-goog-api-key"), value))
    }

    // Gemini reads both ways of writing a name. Routing, which Vertex AI has, lets another
    // model answer.
    fn fixed_options(&self) -> &'static [&'static str] {
        &[
            "model",
            "generationConfig.candidateCount",
            "generationConfig.candidate_count",
            "generation_config.candidateCount",
            "generation_config.candidate_count",
            "generationConfig.routingConfig",
            "generationConfig.routing_config",
            "generation_config.routingConfig",
            "generation_config.routing_config",
        ]
    }

    fn classify(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Rejection {
        errors::classify(status, headers, body)
    }

    fn request_id_header(&self) -> Option<&'static str> {
        None
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

/// Reads a response.
fn decoder(call_seed: &str) -> Box<dyn Decoder> {
    Box::new(decoder::ResponseDecoder::new(call_seed))
}

#[cfg(test)]
mod tests;
