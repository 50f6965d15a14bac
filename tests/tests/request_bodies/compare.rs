//! Two bodies of a request, the recorded and the sent, and where they differ.
//!
//! Numbers are compared by their value: `1` and `1.0` are one number of JSON. All else that
//! may differ is an [`Equivalence`], with its reason.

mod forms;

use std::fmt::{self, Write as _};

use serde_json::{Value, json};

use self::forms::{
    calls_without_item_ids, developers_are_systems, drop_silent, includes_encrypted_reasoning, listed, merge_turns,
    one_tool_an_entry, rename, schemas_are_json_schemas, strings_are_blocks, summaries_are_texts, thoughts_say_so,
};
pub(crate) use self::forms::{json_schema, to_camel_case};

/// A difference that means nothing.
pub(crate) struct Equivalence {
    /// Of which endpoints. All, if it is empty.
    endpoints: &'static [&'static str],
    pub(crate) name: &'static str,
    /// Brings both bodies, first the recorded, to one form.
    apply: fn(&mut Value, &mut Value),
}

const ANTHROPIC: &str = "anthropic.messages";
const CHAT: &str = "openai.chat";
const RESPONSES: &str = "openai.responses";
const GEMINI: [&str; 2] = ["gemini.generateContent", "gemini.streamGenerateContent"];

/// Applied in this order. What each says is its reason.
pub(crate) const EQUIVALENCES: &[Equivalence] = &[
    Equivalence {
        endpoints: &GEMINI,
        name: "Gemini reads its names in snake case and in camel case",
        apply: |recorded, sent| both(recorded, sent, to_camel_case),
    },
    Equivalence {
        endpoints: &[],
        name: "an explicit null, an empty description, an empty object of settings say nothing",
        apply: |recorded, sent| both(recorded, sent, drop_silent),
    },
    Equivalence {
        endpoints: &[ANTHROPIC, CHAT, RESPONSES],
        name: "the gateway always streams",
        apply: |recorded, _| recorded["stream"] = json!(true),
    },
    Equivalence {
        endpoints: &[CHAT],
        name: "the gateway always asks for the usage, which Chat Completions else leaves out of a stream",
        apply: |recorded, _| recorded["stream_options"]["include_usage"] = json!(true),
    },
    Equivalence {
        endpoints: &[CHAT],
        name: "max_completion_tokens is the newer name of max_tokens, and the only one for reasoning models",
        apply: |recorded, sent| both(recorded, sent, |body| rename(body, "max_tokens", "max_completion_tokens")),
    },
    Equivalence {
        endpoints: &[CHAT],
        name: "`developer` is the name of `system` for reasoning models; each is taken for the other",
        apply: |recorded, sent| both(recorded, sent, developers_are_systems),
    },
    Equivalence {
        endpoints: &[CHAT],
        name: "one stop sequence may be a string",
        apply: |recorded, sent| both(recorded, sent, |body| listed(&mut body["stop"])),
    },
    Equivalence {
        endpoints: &[ANTHROPIC, CHAT, RESPONSES],
        name: "a string is one block of text, and an empty one none",
        apply: |recorded, sent| both(recorded, sent, strings_are_blocks),
    },
    Equivalence {
        endpoints: &[ANTHROPIC, CHAT, RESPONSES, GEMINI[0], GEMINI[1]],
        name: "turns of one role that follow each other are one turn",
        apply: |recorded, sent| both(recorded, sent, merge_turns),
    },
    Equivalence {
        endpoints: &[RESPONSES],
        name: "the gateway keeps nothing at OpenAI: it sends reasoning back encrypted",
        apply: |recorded, sent| {
            recorded.as_object_mut().expect("an object").entry("store").or_insert(json!(false));
            both(recorded, sent, includes_encrypted_reasoning);
        },
    },
    Equivalence {
        endpoints: &[RESPONSES],
        name: "a call and its result are found by call_id; id and status are of OpenAI's stored item",
        apply: |recorded, sent| both(recorded, sent, calls_without_item_ids),
    },
    Equivalence {
        endpoints: &[RESPONSES],
        name: "the parts of a summary are one text with blank lines between",
        apply: |recorded, sent| both(recorded, sent, summaries_are_texts),
    },
    Equivalence {
        endpoints: &GEMINI,
        name: "a part is no thought unless it says so",
        apply: |recorded, sent| both(recorded, sent, thoughts_say_so),
    },
    Equivalence {
        endpoints: &GEMINI,
        name: "an instruction has no speaker: its role is not read",
        apply: |recorded, sent| {
            both(recorded, sent, |body| {
                body["systemInstruction"].as_object_mut().map(|instruction| instruction.remove("role"));
            });
        },
    },
    Equivalence {
        endpoints: &GEMINI,
        name: "tools may stand in one entry or in many",
        apply: |recorded, sent| both(recorded, sent, one_tool_an_entry),
    },
    Equivalence {
        endpoints: &GEMINI,
        name: "Gemini's form of a schema is a JSON Schema with its types in capitals",
        apply: |recorded, sent| both(recorded, sent, schemas_are_json_schemas),
    },
];

fn both(recorded: &mut Value, sent: &mut Value, change: impl Fn(&mut Value)) {
    change(recorded);
    change(sent);
}

/// A place at which two bodies differ. `None` is nothing.
#[derive(PartialEq)]
pub(crate) struct Difference {
    /// A JSON path.
    place: String,
    recorded: Option<Value>,
    sent: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: recorded {}, sent {}", self.place, shown(self.recorded.as_ref()), shown(self.sent.as_ref()))
    }
}

/// Where two bodies differ after all equivalences. `applied` hears of each equivalence that changed something.
pub(crate) fn differences(
    endpoint: &str,
    recorded: &Value,
    sent: &Value,
    mut applied: impl FnMut(&'static str),
) -> Vec<Difference> {
    let (mut recorded, mut sent) = (recorded.clone(), sent.clone());
    for rule in EQUIVALENCES.iter().filter(|rule| rule.endpoints.is_empty() || rule.endpoints.contains(&endpoint)) {
        let before = (recorded.clone(), sent.clone());
        (rule.apply)(&mut recorded, &mut sent);
        // To look at a field that is not there makes a null of it.
        both(&mut recorded, &mut sent, drop_silent);
        if before.0 != recorded || before.1 != sent {
            applied(rule.name);
        }
    }
    let mut found = Vec::new();
    differ("$", Some(&recorded), Some(&sent), &mut found);
    found
}

fn differ(path: &str, recorded: Option<&Value>, sent: Option<&Value>, found: &mut Vec<Difference>) {
    match (recorded, sent) {
        (Some(Value::Object(recorded)), Some(Value::Object(sent))) => {
            let only_sent = sent.keys().filter(|name| !recorded.contains_key(*name));
            for name in recorded.keys().chain(only_sent) {
                differ(&format!("{path}.{name}"), recorded.get(name), sent.get(name), found);
            }
        }
        (Some(Value::Array(recorded)), Some(Value::Array(sent))) => {
            for at in 0..recorded.len().max(sent.len()) {
                differ(&format!("{path}[{at}]"), recorded.get(at), sent.get(at), found);
            }
        }
        (Some(Value::Number(recorded)), Some(Value::Number(sent))) if recorded.as_f64() == sent.as_f64() => {}
        (recorded, sent) if recorded == sent => {}
        (recorded, sent) => {
            let place = path.to_owned();
            found.push(Difference { place, recorded: recorded.cloned(), sent: sent.cloned() });
        }
    }
}

fn shown(value: Option<&Value>) -> String {
    const SHOWN_MAX: usize = 200;
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_string();
    let mut shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < text.len() {
        let _ = write!(shown, "... ({} bytes)", text.len());
    }
    shown
}
