//! The doors of the micro-benchmarks (`benches/`) and of the test that counts allocations
//! (`tests/allocations.rs`): built for them only, with the feature `benchmarks`.
//!
//! A body is given in the pieces in which it arrives.

use std::hint::black_box;

use prost::Message as _;

use crate::{
    message::{Chat, Event, Message, OpenAiApi, Part, Provider, UserPart},
    provider::{self, NewDecoder, Output, Surrogates},
    rpc, sse,
};

/// The longest event.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// An API by which answers are streamed.
#[derive(Clone, Copy, Debug)]
pub enum Api {
    /// Anthropic's messages.
    Anthropic,
    /// `OpenAI`'s chat completions.
    OpenAiChat,
    /// `OpenAI`'s responses.
    OpenAiResponses,
    /// Gemini's `streamGenerateContent`.
    Gemini,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Anthropic, Self::OpenAiChat, Self::OpenAiResponses, Self::Gemini];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAiChat => "openai_chat",
            Self::OpenAiResponses => "openai_responses",
            Self::Gemini => "gemini",
        }
    }

    /// What reads its answers, as a chat finds it. `None` if no chat leads to it.
    pub fn reader(self) -> Option<Reader> {
        let (provider, model, openai_api) = match self {
            Self::Anthropic => (Provider::Anthropic, "claude-sonnet-4-5", None),
            Self::OpenAiChat => (Provider::OpenAi, "gpt-4o", Some(OpenAiApi::ChatCompletions)),
            Self::OpenAiResponses => (Provider::OpenAi, "gpt-4o", Some(OpenAiApi::Responses)),
            Self::Gemini => (Provider::Gemini, "gemini-2.5-flash", None),
        };
        let text = Part::from(UserPart::Text("Hi".to_owned()));
        let chat = Chat { messages: vec![Message::User(vec![text])], openai_api, ..Chat::default() };
        provider::outbound(provider, model, &chat).ok().map(|outbound| Reader(outbound.decoder))
    }
}

/// Reads the answers of one API, each anew.
#[derive(Clone, Copy, Debug)]
pub struct Reader(NewDecoder);

impl Reader {
    /// Reads an answer as an exchange with a provider does. Returns how many events it has;
    /// `None` if it is not whole.
    pub fn decode<'a>(self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<usize> {
        let mut events = 0;
        self.read(pieces, |event| {
            black_box(event);
            events += 1;
            Some(())
        })?;
        Some(events)
    }

    /// Reads an answer, and encodes each event for the caller into a buffer that is kept for all
    /// of them. `None` if it is not whole.
    pub fn relay<'a>(self, pieces: impl IntoIterator<Item = &'a [u8]>, mut send: impl FnMut(&[u8])) -> Option<()> {
        let mut buffer = Vec::new();
        self.read(pieces, |event| {
            buffer.clear();
            rpc::message(event).encode(&mut buffer).ok()?;
            send(&buffer);
            Some(())
        })
    }

    fn read<'a>(
        self,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        mut take: impl FnMut(Event) -> Option<()>,
    ) -> Option<()> {
        let (mut reader, mut decoder) = (sse::Reader::new(EVENT_BYTES_MAX), (self.0)("seed"));
        let (mut surrogates, mut output) = (Surrogates::default(), Output::default());
        for piece in pieces.into_iter().map(Some).chain([None]) {
            match piece {
                Some(bytes) => reader.push(bytes),
                None => reader.finish(),
            }
            while let Some(data) = reader.next_event().ok()? {
                decoder.event(&surrogates.mend(data), &mut output).ok()?;
                while let Some(event) = output.events.pop_front() {
                    take(event)?;
                }
                if output.finished {
                    return Some(());
                }
            }
        }
        decoder.end(&mut output).ok()?;
        while let Some(event) = output.events.pop_front() {
            take(event)?;
        }
        output.finished.then_some(())
    }
}

/// Reads an event stream, whosever it is. Returns how many bytes of data it has; `None` if one of
/// its events is too long.
pub fn sse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<usize> {
    let mut reader = sse::Reader::new(EVENT_BYTES_MAX);
    let mut bytes = 0;
    for piece in pieces {
        reader.push(piece);
        while let Some(data) = reader.next_event().ok()? {
            bytes += black_box(data).len();
        }
    }
    Some(bytes)
}

/// Whether a model's name leads to a provider.
pub fn detect(model: &str) -> bool {
    black_box(crate::detect::detect(model)).is_ok()
}
