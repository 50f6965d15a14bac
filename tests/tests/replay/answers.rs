//! Answers with as much in them as each endpoint can say, and what must come back of them.

mod anthropic;
mod chat_completions;
mod gemini;
mod responses;

use proto::chat::{Reasoning, StreamChatRequest, Tool, reasoning};
use serde_json::Value;

pub(crate) use self::{
    anthropic::scene as anthropic, chat_completions::scene as chat_completions, gemini::scene as gemini,
    responses::scene as responses,
};

/// A question, its answer, and what the provider must get back.
pub(crate) struct Scene {
    /// Without messages.
    pub(crate) request: StreamChatRequest,
    pub(crate) stream: String,
    pub(crate) path: &'static str,
    /// Reads the model's turn in the second body.
    pub(crate) turn: fn(&Value) -> Vec<Value>,
    pub(crate) expected_turn: Vec<Value>,
    /// Reads the results in the second body: whose they are, and what they say.
    pub(crate) results: fn(&Value) -> Vec<(String, String)>,
    pub(crate) expected_results: Vec<(String, String)>,
    /// What must be in the second body, to the byte.
    pub(crate) verbatim: Vec<&'static str>,
    /// How many parts of the answer have only the provider's own form.
    pub(crate) own_parts: usize,
}

fn pairs(results: &[(&str, &str)]) -> Vec<(String, String)> {
    results.iter().map(|(whose, said)| ((*whose).to_owned(), (*said).to_owned())).collect()
}

fn provider_tool(json: &str) -> Tool {
    Tool { provider_tool: json.to_owned(), ..Tool::default() }
}

fn thinking(amount: reasoning::Amount) -> Option<Reasoning> {
    Some(Reasoning { amount: Some(amount), summary: reasoning::Summary::Auto.into() })
}

const LOW: reasoning::Amount = reasoning::Amount::Effort(reasoning::Effort::Low as i32);

/// A stream of server-sent events.
fn events(data: &[String]) -> String {
    data.iter().map(|data| format!("data: {data}\n\n")).collect()
}

/// A stream whose events are named by their type.
fn named_events(data: &[String]) -> String {
    let event = |data: &String| {
        let read: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
        format!("event: {}\ndata: {data}\n\n", read["type"].as_str().expect("a type"))
    };
    data.iter().map(event).collect()
}
