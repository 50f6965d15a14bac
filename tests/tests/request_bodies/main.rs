//! Every recorded request, said in the contract, leaves the gateway as it was recorded.
//!
//! Each endpoint has a translation of its own from the provider's JSON to the contract, which
//! knows nothing of the gateway's: what has a common form goes there, the rest into
//! `provider_options`. The request goes through both services, and the body that the provider
//! got is compared with the recorded one. What may differ is [`compare::EQUIVALENCES`]; what
//! the contract refuses is [`REFUSED`]; there is no other exception.
//!
//! Odd: how the provider answers does not matter. It refuses everything.

mod anthropic;
mod compare;
mod contract;
mod gemini;
mod openai_chat;
mod responses;

use std::{collections::BTreeMap, fs};

use proto::{
    chat::{DetectProviderRequest, StreamChatRequest},
    types::Provider,
};
use serde::Deserialize;
use serde_json::{Value, json};
use system_tests::{
    Links, ORGANIZATION, System,
    answer::{Answer, Failure},
    fake_provider::{Answer as Said, Received},
    fixtures::folder,
    skip_without,
};

/// Recordings of what the contract refuses, before a provider is asked.
const REFUSED: &[Refused] = &[
    Refused {
        id: "anthropic-004",
        class: INVALID_FIELD,
        field: "tools[0].parameters",
        reason: "a schema is an object; Anthropic refused `true` too",
    },
    Refused {
        id: "gemini-006",
        class: INVALID_FIELD,
        field: "messages[4].parts[0].tool_result.content[1].image.url",
        reason: "Gemini does not fetch what others host; it refused this one too",
    },
    Refused {
        id: "gemini-007",
        class: INVALID_FIELD,
        field: "provider_options.generationConfig.candidateCount",
        reason: "a stream has one answer",
    },
    Refused { id: "gemini-008", class: "InvalidArgument MODEL_UNSUPPORTED", field: "", reason: "the model speaks" },
    Refused {
        id: "openai-001",
        class: INVALID_FIELD,
        field: "temperature",
        reason: "it goes to 2; OpenAI refused 99 too",
    },
    Refused {
        id: "openai-002",
        class: INVALID_FIELD,
        field: "messages",
        reason: "there is nothing to answer; OpenAI refused it too",
    },
    Refused {
        id: "openai-036",
        class: INVALID_FIELD,
        field: "provider_options.background",
        reason: "the answer is streamed at once",
    },
    Refused {
        id: "openai-037",
        class: INVALID_FIELD,
        field: "provider_options.background",
        reason: "the answer is streamed at once",
    },
];

const INVALID_FIELD: &str = "InvalidArgument INVALID_FIELD";

struct Refused {
    id: &'static str,
    class: &'static str,
    /// As the contract names it. Empty if the failure is of no field.
    field: &'static str,
    reason: &'static str,
}

/// Values of a recorded body that make no difference: the places at which a change is not
/// seen, each with the equivalence that it is of. In brackets stands the type of an item.
const UNSEEN: &[(&str, &str)] = &[
    ("$.stream", "the gateway always streams"),
    ("$.stream_options.include_usage", "the gateway always asks for the usage"),
    ("$.input[function_call].id", "a call is found by call_id"),
    ("$.input[function_call].status", "a call is found by call_id"),
    ("$.systemInstruction.role", "an instruction has no speaker"),
];

#[tokio::test]
async fn recorded_requests_leave_as_they_were_recorded() {
    let Some((requests, mut stage)) = Stage::set().await else { return };
    let (mut problems, mut refused) = (Vec::new(), Vec::new());
    let mut applied: BTreeMap<&str, usize> = BTreeMap::new();
    for request in &requests {
        let outcome = stage.send(request).await;
        let found = match REFUSED.iter().find(|refused| refused.id == request.id) {
            Some(expected) => {
                refused.push(format!("{}: {} {}: {}", expected.id, expected.class, expected.field, expected.reason));
                expected.compare(&outcome)
            }
            None => request.compare(&outcome, |name| *applied.entry(name).or_default() += 1),
        };
        problems.extend(found.into_iter().map(|problem| format!("{}: {problem}", request.id)));
    }
    println!("{} requests; refused on purpose:\n{}", requests.len(), refused.join("\n"));
    for rule in compare::EQUIVALENCES {
        println!("{} times: {}", applied.get(rule.name).unwrap_or(&0), rule.name);
    }
    assert!(problems.is_empty(), "{} differences:\n{}", problems.len(), problems.join("\n"));
    assert!(!requests.is_empty(), "the folder has no request");
}

/// The comparison can fail: every value of every body, changed one at a time.
#[tokio::test]
async fn a_change_of_any_value_is_seen() {
    let Some((requests, mut stage)) = Stage::set().await else { return };
    let (mut unseen, mut count) = (Vec::new(), 0);
    for request in &requests {
        let Outcome::Sent(sent) = stage.send(request).await else { continue };
        let sent = sent.json();
        let differences = |body: &Value| compare::differences(&request.endpoint, body, &sent, |_| {});
        let as_recorded = differences(&request.body);
        for (pointer, place) in values(&request.body) {
            let mut changed = request.body.clone();
            change(changed.pointer_mut(&pointer).expect("a value stands there"));
            count += 1;
            let is_exempt = UNSEEN.iter().any(|(exempt, _)| *exempt == place);
            if !is_exempt && differences(&changed) == as_recorded {
                unseen.push(format!("{}: {place}", request.id));
            }
        }
    }
    println!("{count} changes");
    assert!(unseen.is_empty(), "{} changes were not seen:\n{}", unseen.len(), unseen.join("\n"));
    assert!(count > 0, "no request has a value to change");
}

/// A request that was recorded, and to which endpoint.
#[derive(Debug, Deserialize)]
struct Recorded {
    id: String,
    endpoint: String,
    request_uri: String,
    model: Option<String>,
    request_file: Option<String>,
    #[serde(skip)]
    body: Value,
}

/// What became of a request.
enum Outcome {
    Sent(Received),
    Refused(Failure),
}

impl Recorded {
    /// All of the folder. `None` if it is absent.
    fn load() -> Option<Vec<Self>> {
        let manifest = fs::read(folder().join("manifest.json")).ok()?;
        let all: Vec<Self> = serde_json::from_slice(&manifest).expect("manifest.json is of the known form");
        let read = |recorded: Self| {
            let body = fs::read(folder().join(recorded.request_file.as_ref()?)).expect("a recording's request exists");
            Some(Self { body: serde_json::from_slice(&body).expect("a request is JSON"), ..recorded })
        };
        Some(all.into_iter().filter_map(read).collect())
    }

    fn provider(&self) -> &str {
        self.endpoint.split('.').next().expect("an endpoint begins with its provider")
    }

    /// In the contract; all but who chats with which model.
    fn translated(&self) -> StreamChatRequest {
        match self.endpoint.as_str() {
            "anthropic.messages" => anthropic::request(&self.body),
            "openai.chat" => openai_chat::request(&self.body),
            "openai.responses" => responses::request(&self.body),
            "gemini.generateContent" | "gemini.streamGenerateContent" => gemini::request(&self.body),
            other => panic!("{other} has no translation; write one"),
        }
    }

    /// Path and query that the gateway should send it to. What stands before the operation is
    /// the base URL; clients add flags and keys to the query, which have no meaning here.
    fn path(&self) -> String {
        let path = self.request_uri.split('?').next().unwrap_or_default();
        for operation in ["/messages", "/chat/completions", "/responses"] {
            if path.ends_with(operation) {
                return format!("/v1{operation}");
            }
        }
        let (_, operation) = path.rsplit_once("/models/").expect("a path of a known operation");
        let (model, _) = operation.split_once(':').expect("the operation stands behind the model");
        format!("/v1beta/models/{model}:streamGenerateContent?alt=sse")
    }

    /// What Anthropic wants to be told outside of the body. Headers were not recorded; of the
    /// betas only that of uploaded files is the gateway's to know.
    fn headers(&self) -> Vec<(&'static str, &'static str)> {
        if self.provider() != "anthropic" {
            return Vec::new();
        }
        let names_a_file = values(&self.body).iter().any(|(pointer, _)| pointer.ends_with("/file_id"));
        let beta = if names_a_file { "files-api-2025-04-14" } else { "" };
        vec![("anthropic-version", "2023-06-01"), ("anthropic-beta", beta)]
    }

    fn compare(&self, outcome: &Outcome, applied: impl FnMut(&'static str)) -> Vec<String> {
        let sent = match outcome {
            Outcome::Sent(sent) => sent,
            Outcome::Refused(failure) => {
                return vec![format!("refused: {} {:?} {}", failure.class(), failure.fields, failure.message)];
            }
        };
        let differences = compare::differences(&self.endpoint, &self.body, &sent.json(), applied);
        let mut problems: Vec<_> = differences.iter().map(ToString::to_string).collect();
        if sent.path != self.path() {
            problems.push(format!("the path: expected {}, sent {}", self.path(), sent.path));
        }
        for (name, expected) in self.headers() {
            if sent.header(name) != expected {
                problems.push(format!("the header {name}: expected {expected:?}, sent {:?}", sent.header(name)));
            }
        }
        problems
    }
}

impl Refused {
    fn compare(&self, outcome: &Outcome) -> Vec<String> {
        match outcome {
            Outcome::Sent(_) => vec![format!("sent, and should be refused: {}", self.reason)],
            Outcome::Refused(failure) => {
                let fits = failure.class() == self.class
                    && (self.field.is_empty() || failure.fields.iter().any(|field| field == self.field));
                let said = format!("refused with {} {:?} {}", failure.class(), failure.fields, failure.message);
                if fits { Vec::new() } else { vec![format!("{said}; expected {} {}", self.class, self.field)] }
            }
        }
    }
}

/// A system with a key for each provider.
struct Stage {
    system: System,
}

impl Stage {
    async fn set() -> Option<(Vec<Recorded>, Self)> {
        let Some(requests) = Recorded::load() else {
            skip_without(&format!("the folder of recordings {}", folder().display()));
            return None;
        };
        let mut system = System::start().await;
        for provider in [Provider::Anthropic, Provider::Openai, Provider::Gemini] {
            system.add_key(provider, "key-of-the-recorded-requests", Links { default: true, profiles: &[] }).await;
        }
        system.provider.always_answers(Said::json(400, json!({"error": {"message": "No."}}).to_string()));
        Some((requests, Self { system }))
    }

    async fn send(&mut self, recorded: &Recorded) -> Outcome {
        let model = self.model(recorded).await;
        let request = StreamChatRequest { organization_id: ORGANIZATION.to_owned(), model, ..recorded.translated() };
        let before = self.system.provider.received().len();
        let answer = Answer::read(self.system.chat.stream_chat(request).await).await;
        let mut received = self.system.provider.received();
        match received.len() - before {
            0 => Outcome::Refused(answer.failed().clone()),
            1 => Outcome::Sent(received.pop().expect("one")),
            more => panic!("{} was sent {more} times", recorded.id),
        }
    }

    /// The recorded model; with its provider in front if the name alone does not tell.
    async fn model(&mut self, recorded: &Recorded) -> String {
        let in_body = || recorded.body["model"].as_str().map(str::to_owned);
        let model = recorded.model.clone().or_else(in_body).expect("a recorded request names its model");
        let request = DetectProviderRequest { model: model.clone() };
        let found = self.system.chat.detect_provider(request).await.expect("an answer").into_inner();
        if found.provider() == Provider::Unspecified { format!("{}/{model}", recorded.provider()) } else { model }
    }
}

/// The values of a body that are no objects and no lists: where they stand, as a pointer
/// (RFC 6901) and as a path that is the same for all items of a type.
fn values(body: &Value) -> Vec<(String, String)> {
    fn walk(value: &Value, pointer: String, place: String, found: &mut Vec<(String, String)>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let step = name.replace('~', "~0").replace('/', "~1");
                    walk(value, format!("{pointer}/{step}"), format!("{place}.{name}"), found);
                }
            }
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    let kind = item["type"].as_str().unwrap_or_default();
                    walk(item, format!("{pointer}/{at}"), format!("{place}[{kind}]"), found);
                }
            }
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) | Value::String(_) => found.push((pointer, place)),
        }
    }
    let mut found = Vec::new();
    walk(body, String::new(), "$".to_owned(), &mut found);
    found
}

fn change(value: &mut Value) {
    *value = match value.take() {
        Value::Bool(flag) => json!(!flag),
        Value::Number(number) => json!(number.as_f64().expect("a number that a double holds") + 1.0),
        Value::String(text) => json!(text + "x"),
        other => other,
    };
}
