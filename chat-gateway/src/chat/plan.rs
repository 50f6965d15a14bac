//! Which models are asked, in which order, each with a request of its own.

use std::collections::VecDeque;

use opentelemetry::KeyValue;
use service_runtime::semconv::attribute;

use super::{Error, operation::parameters};
use crate::{
    detect::{self, Detected},
    message::{Chat, OpenAiApi, Provider},
    provider::{self, Outbound},
};

/// The models to ask. All were checked: each has a provider, chats, and takes the request.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) first: Target,
    pub(super) further: Further,
}

/// Those that are asked if the ones before them cannot answer.
#[derive(Debug)]
pub(super) struct Further {
    models: VecDeque<Detected>,
    /// What their requests are made of. Files are in it: it is gone as soon as no further
    /// request can be needed.
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    chat: Chat,
    /// Whose options they are.
    provider: Provider,
    options: serde_json::Map<String, serde_json::Value>,
    openai_api: Option<OpenAiApi>,
}

/// A model that is asked, and the request to it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) provider: Provider,
    /// As the provider calls it.
    pub(super) model: String,
    /// By which its provider was found.
    pub(super) rule: String,
    pub(super) outbound: Outbound,
    /// What a span says of the request.
    pub(super) parameters: Vec<KeyValue>,
}

impl Target {
    fn new(model: Detected, chat: &Chat) -> Result<Self, Error> {
        let outbound = outbound(&model, chat)?;
        let Detected { provider, provider_model: model, rule, chats: _ } = model;
        let mut parameters = parameters(chat);
        parameters.extend(openai_api(provider, &outbound));
        Ok(Self { provider, model, rule, outbound, parameters })
    }
}

/// Which of OpenAI's APIs is asked.
fn openai_api(provider: Provider, outbound: &Outbound) -> Option<KeyValue> {
    let api = if outbound.path == "/responses" { "responses" } else { "chat_completions" };
    (provider == Provider::OpenAi).then(|| KeyValue::new(attribute::OPENAI_API_TYPE, api))
}

impl Plan {
    /// Checks all models before anything is sent: a fallback that could never answer would be
    /// noticed on the worst of days.
    pub(super) fn new(model: &str, fallbacks: &[String], mut chat: Chat) -> Result<Self, Error> {
        let model = detected(model)?;
        let provider = model.provider;
        let first = Target::new(model, &chat)?;
        let mut models = VecDeque::new();
        if fallbacks.is_empty() {
            return Ok(Self { first, further: Further { models, rest: None } });
        }
        let options = std::mem::take(&mut chat.provider_options);
        let openai_api = chat.openai_api.take();
        let mut rest = Rest { chat, provider, options, openai_api };
        for (n, name) in fallbacks.iter().enumerate() {
            let model = detected(name)?;
            rest.target(model.clone()).map_err(|error| error.of_fallback(n, name))?;
            models.push_back(model);
        }
        Ok(Self { first, further: Further { models, rest: Some(rest) } })
    }
}

impl Further {
    /// The next model to ask.
    pub(super) fn next(&mut self) -> Result<Option<Target>, Error> {
        let (Some(model), Some(rest)) = (self.models.pop_front(), &mut self.rest) else { return Ok(None) };
        let target = rest.target(model)?;
        if self.models.is_empty() {
            self.rest = None;
        }
        Ok(Some(target))
    }

    /// Whether there are any.
    pub(super) fn are_left(&self) -> bool {
        !self.models.is_empty()
    }
}

impl Rest {
    fn target(&mut self, model: Detected) -> Result<Target, Error> {
        let own = model.provider == self.provider;
        self.chat.provider_options = if own { self.options.clone() } else { serde_json::Map::new() };
        self.chat.openai_api = if own { self.openai_api } else { None };
        Target::new(model, &self.chat)
    }
}

fn detected(model: &str) -> Result<Detected, Error> {
    let model = || model.to_owned();
    match detect::detect(&model()) {
        Ok(detected) if detected.chats => Ok(detected),
        Ok(detected) => Err(Error::ModelUnsupported { model: model(), provider: detected.provider }),
        Err(none) => Err(Error::ModelUnknown { model: model(), why: none.reason }),
    }
}

fn outbound(model: &Detected, chat: &Chat) -> Result<Outbound, Error> {
    provider::outbound(model.provider, &model.provider_model, chat)
        .map_err(|refused| Error::Unsupported { field: refused.field, problem: refused.problem })
}
