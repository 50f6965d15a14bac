//! Tests and fuzzing only: what holds for every reader of a provider's answer, whatever the
//! bytes and wherever they are cut.
//!
//! Nothing panics; what is held and what is made of it is bounded by what came in; the
//! result is the same for every cut; an answer keeps the grammar of the contract. Broken
//! answers are answers too: whether one is refused is the matter of each provider's tests.

mod decoders;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::{Broken, HELD_EVENTS_MAX, NewDecoder, Output};
use crate::{
    message::{Event, Finish, ProviderEvent, Usage},
    sse::{Reader, TooLarge},
};

#[cfg(fuzzing)]
pub(crate) use decoders::decoder;

/// Small, so that short inputs reach it.
const SSE_EVENT_BYTES_MAX: usize = 64;

const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// What a reader keeps beside the chunk that came last: a line and an event that are not
/// whole, and an event that was joined from lines.
const READERS_EVENTS_MAX: usize = 3;

/// How much larger than its input an answer may be: pieces are said again when what they
/// belong to ends, and some things are passed on in the provider's form as well.
const BYTES_OUT_PER_BYTE: usize = 16;
const BYTES_OUT_ANYWAY: usize = 4 * 1024;

/// Holds a body against what every event stream is held to.
pub(crate) fn check_sse(body: &[u8], step: usize) {
    let whole = read_sse([body]);
    assert_eq!(read_sse(body.chunks(step.max(1))), whole, "in steps of {step}");
    assert_eq!(read_sse(body.chunks(1)), whole, "byte by byte");
    let bytes: usize = whole.0.iter().map(Vec::len).sum();
    assert!(bytes <= body.len(), "{bytes} bytes of data in a body of {}", body.len());
}

fn read_sse<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Result<(), TooLarge>) {
    let mut reader = Reader::new(SSE_EVENT_BYTES_MAX);
    let mut events = Vec::new();
    let mut drain = |reader: &mut Reader| -> Result<(), TooLarge> {
        while let Some(event) = reader.next_event()? {
            assert!(!event.is_empty() && event.len() <= SSE_EVENT_BYTES_MAX);
            events.push(event.to_vec());
        }
        Ok(())
    };
    let read = || {
        for chunk in chunks {
            reader.push(chunk);
            drain(&mut reader)?;
            check_held(&reader, SSE_EVENT_BYTES_MAX, chunk);
        }
        reader.finish();
        drain(&mut reader)
    };
    let outcome = read();
    (events, outcome)
}

fn check_held(reader: &Reader, event_bytes_max: usize, chunk: &[u8]) {
    let held = reader.held_bytes();
    let most = READERS_EVENTS_MAX * event_bytes_max + chunk.len() + 16;
    assert!(held <= most, "{held} bytes are held, and {most} may be");
}

/// Holds a body against what every decoder is held to.
pub(crate) fn check(new: NewDecoder, body: &[u8], step: usize) {
    let whole = read(new, [body]);
    assert_eq!(read(new, body.chunks(step.max(1))), whole, "in steps of {step}");
    assert_eq!(read(new, body.chunks(1)), whole, "byte by byte");
    whole.check(body.len());
}

/// All that is known of an answer.
#[derive(Debug, PartialEq)]
struct Answer {
    events: Vec<Event>,
    end: End,
    committed: bool,
    usage: Option<Usage>,
    model: Option<String>,
    response_id: Option<String>,
}

#[derive(Debug, PartialEq)]
enum End {
    Finished,
    /// The body ended, and not the answer.
    Open,
    TooLarge,
    Broken(Broken),
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<TooLarge> for End {
    fn from(TooLarge: TooLarge) -> Self {
        Self::TooLarge
    }
}

/// Reads an answer as whoever relays it does: nothing before it is committed, then all.
fn read<'a>(new: NewDecoder, chunks: impl IntoIterator<Item = &'a [u8]>) -> Answer {
    let mut reader = Reader::new(EVENT_BYTES_MAX);
    let mut decoder = new("seed");
    let (mut out, mut events) = (Output::default(), Vec::new());
    let read = |out: &mut Output| -> Result<(), End> {
        let mut drain = |reader: &mut Reader, out: &mut Output| -> Result<(), End> {
            while !out.finished {
                let Some(data) = reader.next_event()? else { break };
                decoder.event(data, out)?;
                let waiting = out.events.len();
                assert!(out.committed || waiting <= HELD_EVENTS_MAX, "{waiting} events wait for a first output");
                if out.committed {
                    events.extend(out.events.drain(..));
                }
            }
            Ok(())
        };
        for chunk in chunks {
            reader.push(chunk);
            drain(&mut reader, out)?;
            if out.finished {
                return Ok(());
            }
            check_held(&reader, EVENT_BYTES_MAX, chunk);
        }
        reader.finish();
        drain(&mut reader, out)?;
        if out.finished { Ok(()) } else { Ok(decoder.end(out)?) }
    };
    let end = match read(&mut out) {
        Ok(()) if out.finished => End::Finished,
        Ok(()) => End::Open,
        Err(end) => end,
    };
    let Output { events: last, committed, usage, model, response_id, .. } = out;
    events.extend(last);
    Answer { events, end, committed, usage, model, response_id }
}

impl Answer {
    fn check(&self, body: usize) {
        let bytes: usize = self.events.iter().map(bytes).sum();
        assert!(bytes <= BYTES_OUT_PER_BYTE * body + BYTES_OUT_ANYWAY, "{bytes} bytes from {body}");
        let ends = self.events.iter().filter(|event| matches!(event, Event::Finished(_))).count();
        let is_last = matches!(self.events.last(), Some(Event::Finished(_)));
        let finished = self.end == End::Finished;
        assert_eq!((ends, is_last), (usize::from(finished), finished), "`finished` ends an answer that is whole");
        assert!(self.committed || !finished, "an end commits");
        let mut calls = Calls::default();
        let mut reasoning = 0;
        for event in &self.events {
            match event {
                Event::Text(text) | Event::Refusal(text) => assert!(!text.is_empty()),
                Event::SignedText { signature, .. } => assert!(!signature.is_empty()),
                Event::Reasoning(delta) => {
                    let says = [&delta.text, &delta.signature, &delta.redacted_data, &delta.id];
                    assert!(says.iter().any(|text| !text.is_empty()), "reasoning says something");
                    assert!(delta.index <= reasoning, "blocks are numbered without a gap");
                    reasoning = reasoning.max(delta.index + 1);
                }
                Event::Provider(ProviderEvent { kind, json, .. }) => assert!(is_json(json), "{kind}: {json}"),
                Event::Citation(citation) => assert!(citation.json.is_empty() || is_json(&citation.json)),
                Event::ToolCallStarted { .. } | Event::ToolCallDelta { .. } | Event::ToolCallFinished(_) => {
                    calls.add(event);
                }
                Event::Usage(_) => {}
                Event::Finished(Finish { usage, provider_details, provider_usage, .. }) => {
                    assert!(provider_details.is_empty() || is_json(provider_details), "{provider_details}");
                    assert!(provider_usage.is_empty() || is_json(provider_usage), "{provider_usage}");
                    assert_eq!(*usage, self.usage);
                    assert!(calls.open.is_empty(), "all calls end before the answer");
                }
            }
        }
    }
}

/// The calls of an answer, as a caller keeps account of them.
#[derive(Default)]
struct Calls<'a> {
    begun: u32,
    open: BTreeMap<u32, (&'a str, String)>,
}

impl<'a> Calls<'a> {
    fn add(&mut self, event: &'a Event) {
        match event {
            Event::ToolCallStarted { index, id, .. } => {
                assert_eq!(*index, self.begun, "calls are numbered as they begin");
                self.begun += 1;
                self.open.insert(*index, (id, String::new()));
            }
            Event::ToolCallDelta { index, arguments } => {
                let open = self.open.get_mut(index);
                assert!(open.is_some() && !arguments.is_empty(), "a piece of a call that is open");
                if let Some((_, joined)) = open {
                    joined.push_str(arguments);
                }
            }
            Event::ToolCallFinished(call) => {
                let open = self.open.remove(&call.index);
                let (id, joined) = open.unwrap_or_default();
                assert_eq!(id, call.id, "a call that is open ends");
                let says_none = call.arguments == "{}" && joined.trim().is_empty();
                assert!(call.arguments == joined || says_none, "pieces add up: {joined:?} {call:?}");
                assert_eq!(call.incomplete, !is_json(&call.arguments), "{call:?}");
            }
            Event::Text(_)
            | Event::SignedText { .. }
            | Event::Refusal(_)
            | Event::Reasoning(_)
            | Event::Citation(_)
            | Event::Provider(_)
            | Event::Usage(_)
            | Event::Finished(_) => {}
        }
    }
}

/// What an event has of texts.
fn bytes(event: &Event) -> usize {
    let texts: &[&String] = match event {
        Event::Text(text) | Event::Refusal(text) | Event::ToolCallDelta { arguments: text, .. } => &[text],
        Event::SignedText { text, signature } => &[text, signature],
        Event::Reasoning(delta) => &[&delta.text, &delta.signature, &delta.redacted_data, &delta.id],
        Event::ToolCallStarted { id, name, .. } => &[id, name],
        Event::ToolCallFinished(call) => &[&call.id, &call.name, &call.arguments, &call.signature],
        Event::Citation(citation) => &[&citation.cited_text, &citation.title, &citation.url, &citation.json],
        Event::Provider(event) => &[&event.kind, &event.json],
        Event::Usage(_) => &[],
        Event::Finished(finish) => {
            &[&finish.provider_reason, &finish.stop_sequence, &finish.provider_details, &finish.provider_usage]
        }
    };
    texts.iter().map(|text| text.len()).sum()
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}
