//! What differs between providers.
//!
//! A provider is a folder of pure functions: no IO, no clock, no randomness, no logging
//! of bodies. What does not differ is in `upstream`. Which there are is in `table`;
//! `docs/adding-a-provider.md` says how to add one.

mod anthropic;
mod bounded_list;
mod gemini;
mod json_text;
mod key_check;
mod limits;
mod model_page;
mod names;
mod openai;
mod options;
mod place;
#[cfg(test)]
mod reference;
mod rejection;
#[cfg(any(test, fuzzing))]
pub(crate) mod robustness;
mod surrogates;
mod table;
mod tool_calls;
#[cfg(test)]
mod transcript;

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use crate::message::{Chat, Event, KeyMaterial, ProviderEvent, Usage};
use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) use key_check::{Checked, Reservation, Standing, judge};
pub(crate) use model_page::{ListedModel, ModelPage};
pub(crate) use names::{ModelNames, Shape};
pub(crate) use rejection::is_error;
pub(crate) use surrogates::Surrogates;
pub use table::Name;
pub(crate) use table::of;

/// What is particular to one provider.
pub(crate) trait Provider: Sync {
    /// How it writes itself, for people.
    fn title(&self) -> &'static str;

    /// Where it is if nothing else is configured: a URL whose last segment is the version of
    /// the API, which is added to configured ones that have none.
    fn base_url(&self) -> &'static str;

    /// How its keys begin, if all do and nothing else does. Words like that are not shown.
    fn key_prefix(&self) -> Option<&'static str>;

    /// How its models are named.
    fn model_names(&self) -> ModelNames;

    /// The model that stands behind a prefix, for the provider. `prefix` is in lower case.
    fn model_behind(&self, _prefix: &str, rest: &str) -> String {
        rest.to_owned()
    }

    /// The part of a model's name, in lower case, whose words tell whether it chats.
    fn telling<'a>(&self, model: &'a str) -> &'a str {
        model
    }

    /// The request that continues `chat` with `model` as a stream.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] names the field which the provider, or this model of it, does not
    /// have. Nothing is dropped silently.
    fn request(&self, model: &str, chat: &Chat) -> Result<Outbound, Unsupported>;

    /// The fields of a body that `provider_options` cannot touch, as paths with dots: the
    /// model, the streaming, the number of answers.
    fn fixed_options(&self) -> &'static [&'static str];

    /// The options that are headers and no part of the body: their names, and the headers'.
    fn header_options(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// The header that carries the key. `None` if the key cannot stand in a header.
    /// The value is marked sensitive.
    fn credential(&self, key: &KeyMaterial) -> Option<(HeaderName, HeaderValue)>;

    /// What a status other than 2xx, or an error inside a 200, means.
    fn classify(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Rejection;

    /// The header of an answer that names the request for the provider's support.
    fn request_id_header(&self) -> Option<&'static str>;

    /// The request for the list of models: its path, and its headers beside the credential.
    fn models(&self) -> (&'static str, HeaderMap);

    /// The query for a page of that list, as large as there is: the first, or the one after
    /// `after`.
    fn models_query(&self, after: Option<&str>) -> Vec<(&'static str, String)>;

    /// Reads a page of the list of models. `None` if the body is none.
    fn models_page(&self, body: &[u8]) -> Option<ModelPage>;

    /// What a refusal to list the models says about the key, where its kind says something
    /// else of this provider, or nothing.
    fn standing(&self, rejection: &Rejection) -> Option<Standing>;
}

/// The request that continues `chat` with `model` as a stream, with what only the provider
/// has merged into it.
///
/// # Errors
///
/// As [`Provider::request`], and for options that are not the caller's to set.
pub(crate) fn outbound(name: Name, model: &str, chat: &Chat) -> Result<Outbound, Unsupported> {
    let provider = of(name);
    let mut outbound = provider.request(model, chat)?;
    let mut own = chat.provider_options.clone();
    options::take_headers(&mut own, provider.header_options(), &mut outbound.headers)?;
    if !own.is_empty() {
        outbound.body = options::merge(&outbound.body, &own, provider.fixed_options())?.into();
    }
    Ok(outbound)
}

/// A request that a provider understands. The base URL and the key are added by
/// whoever sends it.
#[derive(Debug)]
pub(crate) struct Outbound {
    /// Path and query, without the version segment, for example `/messages`.
    pub(crate) path: String,
    /// Headers beside the credential.
    pub(crate) headers: HeaderMap,
    /// JSON. Sent more than once if need be.
    pub(crate) body: Bytes,
    /// Reads the answer.
    pub(crate) decoder: NewDecoder,
}

/// Makes a reader of the answer to one request. Its argument, the seed of calls, is unique
/// to the request: ids of tool calls are made from it where the provider has none.
pub(crate) type NewDecoder = fn(&str) -> Box<dyn Decoder>;

/// A field of the request that the provider does not have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unsupported {
    /// Its path, as the contract names it: `seed`, `messages[2].parts[0].image.url`.
    pub(crate) field: String,
    /// What is wrong and what to do, for example `Anthropic has no seed; leave it unset`.
    pub(crate) problem: String,
}

/// Turns the data of server-sent events into the events of an answer.
///
/// A state machine with an explicit end: after [`Output::finished`] is set it is given
/// nothing more.
pub(crate) trait Decoder: Send {
    /// Reads the data of one event.
    ///
    /// # Errors
    ///
    /// [`Broken`] if the answer cannot go on; the decoder is dropped then.
    fn event(&mut self, data: &[u8], out: &mut Output) -> Result<(), Broken>;

    /// The body ended cleanly. Sets [`Output::finished`] if the end of the body is how the
    /// provider ends an answer and all of it was there.
    ///
    /// # Errors
    ///
    /// [`Broken`] if something that was begun is not whole.
    fn end(&mut self, out: &mut Output) -> Result<(), Broken>;
}

/// How many events are held back while a provider has produced no output.
const HELD_EVENTS_MAX: usize = 256;

/// And how much of what a provider said.
const HELD_BYTES_MAX: usize = 1024 * 1024;

/// What a decoder has read.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// To be relayed in this order. The last of a whole answer is [`Event::Finished`].
    pub(crate) events: VecDeque<Event>,
    /// The provider has produced output, or has ended: the answer is committed. Also set
    /// by output that has no event here.
    pub(crate) committed: bool,
    /// The answer is whole.
    pub(crate) finished: bool,
    /// The latest usage, merged field by field.
    pub(crate) usage: Option<Usage>,
    /// The model that answers, once the provider has said it.
    pub(crate) model: Option<String>,
    /// The provider's id of the answer, for providers without a request id header.
    pub(crate) response_id: Option<String>,
    /// What was passed on before the answer was committed.
    held_bytes: usize,
}

impl Output {
    /// Adds an event of the answer, which commits it.
    pub(crate) fn push(&mut self, event: Event) {
        self.committed = true;
        self.events.push_back(event);
    }

    /// Adds what has no common form and is no output. Does not commit the answer, unless so
    /// much of it waits that it must be relayed.
    pub(crate) fn pass_on(&mut self, kind: impl Into<String>, json: impl Into<String>) {
        let (kind, json) = (kind.into(), json.into());
        self.held_bytes = self.held_bytes.saturating_add(kind.len() + json.len());
        self.events.push_back(Event::Provider(ProviderEvent { kind, json, replayable: false }));
        self.committed |= self.events.len() > HELD_EVENTS_MAX || self.held_bytes > HELD_BYTES_MAX;
    }

    /// Replaces the usage, and reports it if it changed. Does not commit.
    pub(crate) fn report_usage(&mut self, usage: Usage) {
        if self.usage != Some(usage) {
            self.usage = Some(usage);
            match self.events.back_mut() {
                Some(Event::Usage(before)) => *before = usage,
                _ => self.events.push_back(Event::Usage(usage)),
            }
        }
    }
}

/// Why an answer cannot go on.
#[derive(Debug, PartialEq)]
pub(crate) enum Broken {
    /// The provider says that the answer is done, and never said why: what stands between
    /// us and it may have cut the answer and closed the stream by itself.
    Cut,
    /// The provider sent what it should not have; the text says what, without quoting.
    Malformed(&'static str),
    /// The provider reported an error inside the stream.
    Rejected(Rejection),
}

/// What a provider's refusal means for the caller.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rejection {
    pub(crate) kind: RejectionKind,
    /// The provider's own code or type. Empty if it gave none.
    pub(crate) code: String,
    /// The provider's own words. Not scrubbed: may quote the key.
    pub(crate) message: String,
    /// How long the provider asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the provider says that the same may be sent again, or not.
    pub(crate) should_retry: Option<bool>,
}

/// The classes of `Rejection`, in the order of whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RejectionKind {
    /// The request cannot succeed as it is.
    InvalidRequest,
    /// The conversation is too long for the model.
    ContextLength,
    /// No such model, or not for this key.
    ModelNotFound,
    /// The key is not valid.
    Key,
    /// The key may not do this.
    Permission,
    /// No credit or quota left; waiting does not help.
    Quota,
    /// Too much for now.
    RateLimited,
    /// The provider is overloaded.
    Overloaded,
    /// The provider failed.
    Internal,
    /// The provider gave up waiting.
    Timeout,
}
