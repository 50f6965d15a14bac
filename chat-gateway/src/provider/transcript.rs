//! Tests only: what a stream comes to.

use super::{Broken, NewDecoder, Output};
use crate::{
    message::{Event, Finish, FinishedCall, Usage},
    sse,
};

/// A body that was read to its end or to its failure.
#[derive(Debug, PartialEq)]
pub(super) struct Transcript {
    pub(super) events: Vec<Event>,
    pub(super) broken: Option<Broken>,
    pub(super) finished: bool,
    /// How many upstream events did not commit the answer.
    pub(super) before_commit: usize,
    pub(super) model: Option<String>,
    pub(super) response_id: Option<String>,
}

const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Reads `body`, and checks that it reads the same wherever it is cut.
pub(super) fn read(new: NewDecoder, body: &str) -> Transcript {
    let whole = read_chunks(new, [body.as_bytes()]);
    for cut in 1..body.len() {
        let (head, tail) = body.as_bytes().split_at(cut);
        assert_eq!(read_chunks(new, [head, tail]), whole, "cut at {cut}");
    }
    assert_eq!(read_chunks(new, body.as_bytes().chunks(1)), whole);
    whole
}

fn read_chunks<'a>(new: NewDecoder, chunks: impl IntoIterator<Item = &'a [u8]>) -> Transcript {
    let mut reader = sse::Reader::new(EVENT_BYTES_MAX);
    let mut decoder = new("seed");
    let (mut out, mut before_commit) = (Output::default(), 0);
    let mut drain = |reader: &mut sse::Reader, out: &mut Output| -> Result<(), Broken> {
        while !out.finished {
            let Some(data) = reader.next_event().unwrap() else { break };
            decoder.event(data, out)?;
            before_commit += usize::from(!out.committed);
        }
        Ok(())
    };
    let read = || {
        for chunk in chunks {
            reader.push(chunk);
            drain(&mut reader, &mut out)?;
        }
        reader.finish();
        drain(&mut reader, &mut out)
    };
    let mut broken = read().err();
    if broken.is_none() && !out.finished {
        broken = decoder.end(&mut out).err();
    }
    let Output { events, finished, model, response_id, .. } = out;
    Transcript { events: events.into(), broken, finished, before_commit, model, response_id }
}

impl Transcript {
    pub(super) fn text(&self) -> String {
        self.texts(|event| if let Event::Text(text) = event { Some(text) } else { None })
    }

    pub(super) fn refusal(&self) -> String {
        self.texts(|event| if let Event::Refusal(text) = event { Some(text) } else { None })
    }

    fn texts(&self, text: impl Fn(&Event) -> Option<&String>) -> String {
        self.events.iter().filter_map(text).inspect(|text| assert!(!text.is_empty())).map(String::as_str).collect()
    }

    /// The finished calls. Their pieces are checked to come to their arguments.
    pub(super) fn calls(&self) -> Vec<&FinishedCall> {
        let calls = self.events.iter().filter_map(|event| match event {
            Event::ToolCallFinished(call) => Some(call),
            _ => None,
        });
        calls.inspect(|call| self.check(call)).collect()
    }

    fn check(&self, call: &FinishedCall) {
        let started = Event::ToolCallStarted { index: call.index, id: call.id.clone(), name: call.name.clone() };
        assert_eq!(self.events.iter().filter(|event| **event == started).count(), 1);
        let pieces = self.texts(|event| match event {
            Event::ToolCallDelta { index, arguments } if *index == call.index => Some(arguments),
            _ => None,
        });
        assert!(pieces == call.arguments || (pieces.is_empty() && call.arguments == "{}"), "{pieces} {call:?}");
    }

    /// The end of a whole answer.
    pub(super) fn finish(&self) -> &Finish {
        assert_eq!((self.finished, &self.broken), (true, &None));
        match self.events.last() {
            Some(Event::Finished(finish)) => finish,
            other => panic!("the last event is {other:?}"),
        }
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.events.iter().rev().find_map(|event| match event {
            Event::Usage(usage) => Some(*usage),
            _ => None,
        })
    }
}

/// A finished call as a line: `0 id name {"a":1}`, with a `!` if it is incomplete.
pub(super) fn line(call: &FinishedCall) -> String {
    let mark = if call.incomplete { " !" } else { "" };
    format!("{} {} {} {}{mark}", call.index, call.id, call.name, call.arguments)
}

/// An event stream of `data`, without names of events.
pub(super) fn stream(data: &[&str]) -> String {
    data.iter().flat_map(|data| ["data: ", data, "\n\n"]).collect()
}

/// Counts in the order of the contract.
pub(super) fn usage(counts: [Option<u64>; 6]) -> Usage {
    let [input, cached_input, cache_write, output, reasoning, total] = counts;
    Usage { input, cached_input, cache_write, output, reasoning, total }
}
