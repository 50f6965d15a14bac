//! Anthropic's Messages API.
//!
//! <https://platform.claude.com/docs/en/api/messages>. What is odd: `max_tokens` is
//! required; results of tools are said by the user; the newer families refuse all
//! sampling parameters, and are told in words how much to think; a refusal to answer is
//! a 200; files of its store need the header of a beta.

mod decoder;
mod errors;
mod model_list;
mod models;
mod request;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Decoder, ModelNames, ModelPage, Outbound, Provider, Rejection, Shape, Standing, Unsupported};
use crate::message::{Chat, KeyMaterial};

pub(super) struct Anthropic;

/// The beta in which files are uploaded once and named by their id.
const FILES: &str = "files-api-2025-04-14";

impl Provider for Anthropic {
    fn title(&self) -> &'static str {
        "Anthropic"
    }

    fn base_url(&self) -> &'static str {
        "https://api.anthropic.com/v1"
    }

    fn key_prefix(&self) -> Option<&'static str> {
        Some("sk-")
    }

    fn model_names(&self) -> ModelNames {
        ModelNames { rules: &[("claude", Shape::Word)], ..ModelNames::default() }
    }

    fn request(&self, model: &str, chat: &Chat) -> Result<Outbound, Unsupported> {
        let body = request::body(model, chat)?;
        let mut headers = version();
        if request::names_files(chat) {
            headers.insert(HeaderName::from_static("anthropic-beta"), HeaderValue::from_static(FILES));
        }
        Ok(Outbound { path: "/messages".to_owned(), headers, body: body.into(), decoder })
    }

    fn credential(&self, key: &KeyMaterial) -> Option<(HeaderName, HeaderValue)> {
        let mut value = HeaderValue::from_str(key.expose()).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_static("x-api-key"), value))
    }

    // Fallbacks let other models answer, which nobody asked whether the caller may use.
    // <https://platform.claude.com/docs/en/api/beta/messages/create>
    fn fixed_options(&self) -> &'static [&'static str] {
        &["model", "stream", "fallbacks"]
    }

    // What is not released yet is asked for by name.
    fn header_options(&self) -> &'static [(&'static str, &'static str)] {
        &[("anthropic_beta", "anthropic-beta")]
    }

    fn classify(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Rejection {
        errors::classify(status, headers, body)
    }

    fn request_id_header(&self) -> Option<&'static str> {
        Some("request-id")
    }

    fn models(&self) -> (&'static str, HeaderMap) {
        ("/models", version())
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

/// Reads a message. Anthropic has an id for each call; none is made.
fn decoder(_call_seed: &str) -> Box<dyn Decoder> {
    Box::<decoder::MessageDecoder>::default()
}

/// The version of the API that this module was written against, which every request names.
fn version() -> HeaderMap {
    const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
    HeaderMap::from_iter([(VERSION, HeaderValue::from_static("2023-06-01"))])
}

#[cfg(test)]
mod tests;
