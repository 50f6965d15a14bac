//! Spans, and the tree that those of one trace make.

use std::{collections::HashSet, fmt};

use opentelemetry_proto::tonic::trace::v1::{self as wire, span::SpanKind, status::StatusCode};
use prost::Message as _;

use super::{Attributes, attributes, hex, service};

/// A span as it was exported.
#[derive(Clone, Debug)]
pub struct Span {
    /// Which service it is of.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// The id of its trace, as hexadecimal digits.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// The id of its parent. Empty if it has none.
    pub parent: String,
    /// What other systems say of the trace.
    pub state: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// Whether it failed.
    pub outcome: Outcome,
    /// Its events: their names and attributes.
    pub events: Vec<(String, Attributes)>,
    /// How many bytes it has on the wire.
    pub bytes: usize,
    /// What was left out of it: attributes, events and links.
    pub dropped: u32,
    /// Nanoseconds from 1970 to its beginning.
    pub began: u64,
    /// Nanoseconds from 1970 to its end.
    pub ended: u64,
}

/// The kind of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of a call that is answered.
    Server,
    /// Of a call that is made.
    Client,
    /// Of neither.
    Internal,
    /// No span of ours is anything else.
    Other,
}

/// The status of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is said.
    Unset,
    /// Somebody says that it is well.
    Ok,
    /// It failed, for a reason that may be said.
    Error(String),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "SERVER",
            Self::Client => "CLIENT",
            Self::Internal => "INTERNAL",
            Self::Other => "OTHER",
        })
    }
}

impl Span {
    pub(super) fn read(resource: &Attributes, span: wire::Span) -> Self {
        let bytes = span.encoded_len();
        let status = span.status.clone().unwrap_or_default();
        let outcome = match status.code() {
            StatusCode::Unset => Outcome::Unset,
            StatusCode::Ok => Outcome::Ok,
            StatusCode::Error => Outcome::Error(status.message),
        };
        let kind = match span.kind() {
            SpanKind::Server => Kind::Server,
            SpanKind::Client => Kind::Client,
            SpanKind::Internal => Kind::Internal,
            SpanKind::Unspecified | SpanKind::Producer | SpanKind::Consumer => Kind::Other,
        };
        Self {
            service: service(resource),
            kind,
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            state: span.trace_state,
            attributes: attributes(span.attributes),
            outcome,
            events: span.events.into_iter().map(|event| (event.name, attributes(event.attributes))).collect(),
            bytes,
            dropped: span.dropped_attributes_count + span.dropped_events_count + span.dropped_links_count,
            began: span.start_time_unix_nano,
            ended: span.end_time_unix_nano,
            name: span.name,
        }
    }

    /// A text among its attributes. Empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.attributes.get(name).and_then(|value| value.as_str()).unwrap_or_default()
    }
}

/// The spans of one trace.
#[derive(Clone, Debug)]
pub struct Trace {
    id: String,
    /// In the order of their beginnings.
    spans: Vec<Span>,
}

impl Trace {
    pub(super) fn new(id: &str, mut spans: Vec<Span>) -> Self {
        spans.sort_by_key(|span| span.began);
        Self { id: id.to_owned(), spans }
    }

    /// Its spans, in the order of their beginnings.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The spans whose parent is `parent`, in the order of their beginnings.
    pub fn children(&self, parent: &str) -> impl Iterator<Item = &Span> {
        self.spans.iter().filter(move |span| span.parent == parent)
    }

    /// All spans of a kind whose names begin so.
    pub fn all(&self, kind: Kind, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.kind == kind && span.name.starts_with(name)).collect()
    }

    /// The only span of a kind whose name begins so.
    pub fn one(&self, kind: Kind, name: &str) -> &Span {
        match self.all(kind, name).as_slice() {
            [span] => span,
            others => panic!("{} spans {kind} {name} in trace {}:\n{}", others.len(), self.id, self.drawn()),
        }
    }

    /// All spans below `root`, which is a span of somebody else, or empty: each after its parent,
    /// siblings in the order of their beginnings.
    ///
    /// Panics if a span is not among them, so the trace is connected: whoever is its parent is
    /// one of its spans, or `root`.
    pub fn walk(&self, root: &str) -> Vec<&Span> {
        let walked: Vec<_> = self.below(root).into_iter().map(|(_, span)| span).collect();
        let ids: HashSet<_> = self.spans.iter().map(|span| span.id.as_str()).collect();
        assert_eq!(ids.len(), self.spans.len(), "each span comes once:\n{}", self.drawn());
        assert_eq!(walked.len(), ids.len(), "spans of {} stand apart from {root:?}:\n{}", self.id, self.drawn());
        walked
    }

    /// The same as lines: the service, the kind and the name of a span, with two spaces more than
    /// its parent.
    pub fn tree(&self, root: &str) -> String {
        self.walk(root);
        let line = |(depth, span): (usize, &Span)| {
            format!("{:indent$}{} {} {}\n", "", span.service, span.kind, span.name, indent = depth * 2)
        };
        self.below(root).into_iter().map(line).collect()
    }

    fn below(&self, root: &str) -> Vec<(usize, &Span)> {
        let mut below = Vec::new();
        let mut next: Vec<_> = self.children(root).map(|span| (0, span)).collect();
        next.reverse();
        while let Some((depth, span)) = next.pop() {
            below.push((depth, span));
            // A span that is its own ancestor would go on for ever.
            if below.len() > self.spans.len() {
                return below;
            }
            let mut children: Vec<_> = self.children(&span.id).map(|child| (depth + 1, child)).collect();
            children.reverse();
            next.extend(children);
        }
        below
    }

    /// All spans with their parents, for people.
    fn drawn(&self) -> String {
        let line = |span: &Span| {
            format!("{} {} {} (id {}, parent {:?})\n", span.service, span.kind, span.name, span.id, span.parent)
        };
        self.spans.iter().map(line).collect()
    }
}
