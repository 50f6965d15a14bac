//! What spans must have, as tables: the names of their attributes, and values that are known.

use std::collections::BTreeMap;

use serde_json::Value;
use system_tests::collector::{Kind, Outcome, Span, Trace};

/// What an attribute must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Want {
    /// This text.
    Is(&'static str),
    /// This number.
    Int(i64),
    /// True.
    Yes,
    /// These texts.
    List(&'static [&'static str]),
    /// Some text.
    Text,
    /// A port of this machine.
    Port,
    /// Seconds of a short time.
    Seconds,
}
use Want::{Int, Is, List, Port, Seconds, Text, Yes};

/// Attributes of a span.
pub(crate) type Rows = &'static [(&'static str, Want)];

/// A span of a trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// How many spans it is below the caller's.
    pub(crate) depth: usize,
    pub(crate) service: &'static str,
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    /// Whether its status is that of an error. Otherwise it has none.
    pub(crate) fails: bool,
    /// All its attributes, in groups. The last row of a name counts.
    pub(crate) rows: &'static [Rows],
}

pub(crate) const STREAM_CHAT: &str = "archestra.chat.v1.ChatService/StreamChat";
pub(crate) const REPORT_KEY_USE: &str = "archestra.keyvault.v1.KeyResolutionService/ReportKeyUse";
pub(crate) const RESOLVE_KEY: &str = "archestra.keyvault.v1.KeyResolutionService/ResolveKey";

/// Of every call that is answered.
pub(crate) const SERVER: Rows = &[
    ("rpc.system.name", Is("grpc")),
    ("rpc.status_code", Is("OK")),
    ("server.address", Is("127.0.0.1")),
    ("server.port", Port),
    ("network.peer.address", Is("127.0.0.1")),
    ("network.peer.port", Port),
];

/// Of every chat, from what its request says.
pub(crate) const ASKED: Rows = &[
    ("rpc.method", Is(STREAM_CHAT)),
    ("organization.id", Is("acme")),
    ("gen_ai.request.model", Text),
    ("chatgateway.profile.id", Text),
];

/// Of the call of a chat whose key is known, with [`KEY`].
pub(crate) const LED: Rows = &[("gen_ai.provider.name", Text)];

/// Of a chat whose key is known, on the span of the call and on that of the operation.
pub(crate) const KEY: Rows = &[
    ("keyvault.cache", Is("hit")),
    ("keyvault.key.id", Text),
    ("keyvault.key.version", Int(1)),
    ("keyvault.resolution.source", Is("organization_default")),
    ("chatgateway.profile.id", Text),
    ("chatgateway.detect.rule", Text),
    ("chatgateway.attempt.count", Int(1)),
    ("chatgateway.finish", Is("complete")),
];

/// Of every operation of a model.
pub(crate) const OPERATION: Rows = &[
    ("gen_ai.operation.name", Is("chat")),
    ("gen_ai.provider.name", Text),
    ("gen_ai.request.model", Text),
    ("gen_ai.request.stream", Yes),
    ("server.address", Is("127.0.0.1")),
    ("server.port", Port),
];

/// Of an operation that began to answer.
pub(crate) const BEGAN: Rows =
    &[("gen_ai.response.id", Text), ("gen_ai.response.model", Text), ("gen_ai.response.time_to_first_chunk", Seconds)];

/// Of an operation that answered, with [`BEGAN`].
pub(crate) const ANSWERED: Rows = &[
    ("gen_ai.response.finish_reasons", List(&["stop"])),
    ("gen_ai.usage.input_tokens", Int(3)),
    ("gen_ai.usage.output_tokens", Int(2)),
];

/// Of every attempt.
pub(crate) const ATTEMPT: Rows =
    &[("http.request.method", Is("POST")), ("server.address", Is("127.0.0.1")), ("server.port", Port)];

/// Of an attempt that has a whole answer, with [`ATTEMPT`].
pub(crate) const OK: Rows = &[("http.response.status_code", Int(200))];

/// The span of a chat's call.
pub(crate) const fn call(rows: &'static [Rows]) -> Expected {
    Expected { depth: 0, service: "chat-gateway", kind: Kind::Server, name: STREAM_CHAT, fails: false, rows }
}

/// The span of an operation of a model.
pub(crate) const fn operation(name: &'static str, rows: &'static [Rows]) -> Expected {
    Expected { depth: 1, service: "chat-gateway", kind: Kind::Client, name, fails: false, rows }
}

/// The span of an attempt.
pub(crate) const fn attempt(rows: &'static [Rows]) -> Expected {
    Expected { depth: 2, service: "chat-gateway", kind: Kind::Client, name: "POST", fails: false, rows }
}

/// The spans of a question for a key: of who asks, and of who answers.
pub(crate) const RESOLUTION: [Expected; 2] = [
    Expected {
        depth: 1,
        service: "chat-gateway",
        kind: Kind::Client,
        name: RESOLVE_KEY,
        fails: false,
        rows: &[ASKS_VAULT, &[("rpc.status_code", Is("OK"))]],
    },
    Expected {
        depth: 2,
        service: "key-vault",
        kind: Kind::Server,
        name: RESOLVE_KEY,
        fails: false,
        rows: &[SERVER, RESOLVED],
    },
];

/// Of every question to the vault.
pub(crate) const ASKS_VAULT: Rows = &[
    ("rpc.system.name", Is("grpc")),
    ("rpc.method", Is(RESOLVE_KEY)),
    ("server.address", Is("127.0.0.1")),
    ("server.port", Port),
];

/// Of a key that the vault found, with [`SERVER`].
const RESOLVED: Rows = &[
    ("rpc.method", Is(RESOLVE_KEY)),
    ("organization.id", Is("acme")),
    ("chatgateway.profile.id", Text),
    ("keyvault.key.id", Text),
    ("keyvault.key.version", Int(1)),
    ("keyvault.resolution.source", Is("organization_default")),
];

impl Expected {
    pub(crate) const fn failing(self) -> Self {
        Self { fails: true, ..self }
    }

    fn line(&self) -> String {
        format!("{:indent$}{} {} {}", "", self.service, self.kind, self.name, indent = self.depth * 2)
    }

    /// What is wrong with a span.
    fn problems(&self, span: &Span) -> Vec<String> {
        let wanted: BTreeMap<&str, Want> = self.rows.iter().flat_map(|rows| rows.iter().copied()).collect();
        let mut problems = Vec::new();
        for (name, want) in &wanted {
            match span.attributes.get(*name) {
                None => problems.push(format!("has no {name}")),
                Some(value) if !want.is(value) => problems.push(format!("{name} is {value} and not {want:?}")),
                Some(_) => {}
            }
        }
        let more = span.attributes.iter().filter(|(name, _)| !wanted.contains_key(name.as_str()));
        problems.extend(more.map(|(name, value)| format!("has {name}={value}, of which nothing is said")));
        if matches!(span.outcome, Outcome::Error(_)) != self.fails || span.outcome == Outcome::Ok {
            problems.push(format!("has the status {:?}, and fails: {}", span.outcome, self.fails));
        }
        if span.dropped != 0 {
            problems.push(format!("lost {} parts", span.dropped));
        }
        if span.ended < span.began {
            problems.push("ends before it begins".to_owned());
        }
        problems.into_iter().map(|problem| format!("{} {problem}", self.line().trim_start())).collect()
    }
}

impl Want {
    fn is(self, value: &Value) -> bool {
        match self {
            Is(text) => value == text,
            Int(number) => value == number,
            Yes => value == true,
            List(texts) => value.as_array().is_some_and(|list| list.iter().eq(texts.iter().copied())),
            Text => value.as_str().is_some_and(|text| !text.is_empty()),
            Port => value.as_i64().is_some_and(|port| (1024..=65535).contains(&port)),
            Seconds => value.as_f64().is_some_and(|seconds| seconds > 0.0 && seconds < 30.0),
        }
    }
}

/// What is wrong with a trace below the caller's span.
pub(crate) fn problems(trace: &Trace, caller: &str, expected: &[Expected]) -> Vec<String> {
    let drawn: String = expected.iter().map(|span| span.line() + "\n").collect();
    let tree = trace.tree(caller);
    if tree != drawn {
        return vec![format!("is\n{tree}and not\n{drawn}")];
    }
    trace.walk(caller).into_iter().zip(expected).flat_map(|(span, expected)| expected.problems(span)).collect()
}
