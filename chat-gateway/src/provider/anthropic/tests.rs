mod blocks;
mod content;
mod refusals;
mod request;
mod stream;
mod thinking;

use serde_json::{Value, json};

use super::*;
use crate::{
    message::{Message, Part, Provider as Name, UserPart},
    provider::{
        outbound,
        transcript::{Transcript, read, stream},
    },
};

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","model":"claude-x","role":"assistant","content":[],"usage":{"input_tokens":10,"cache_read_input_tokens":3,"cache_creation_input_tokens":2,"output_tokens":1}}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

fn delta(reason: &str) -> String {
    format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}","stop_sequence":null}},"usage":{{"output_tokens":9}}}}"#
    )
}

fn answer(blocks: &[&str], reason: &str) -> Transcript {
    let end = delta(reason);
    read(decoder, &stream(&[&[START], blocks, &[&end, STOP]].concat()))
}

fn text(text: &str) -> Part<UserPart> {
    UserPart::Text(text.to_owned()).into()
}

fn user(content: &str) -> Message {
    Message::User(vec![text(content)])
}

fn body(model: &str, chat: &Chat) -> Value {
    serde_json::from_slice(&Anthropic.request(model, chat).unwrap().body).unwrap()
}

/// The field that is refused.
fn refused(model: &str, chat: &Chat) -> String {
    let refused = Anthropic.request(model, chat).map(|_| ()).unwrap_err();
    assert!(!refused.problem.is_empty());
    refused.field
}

#[test]
fn the_model_and_the_streaming_are_not_the_callers_to_set() {
    for option in ["model", "stream", "fallbacks"] {
        let provider_options = json!({ option: [{ "model": "claude-x" }] }).as_object().unwrap().clone();
        let chat = Chat { messages: vec![user("Hi")], provider_options, ..Chat::default() };
        let refused = outbound(Name::Anthropic, "claude-sonnet-4-5", &chat).map(|_| ()).unwrap_err();
        assert_eq!(refused.field, format!("provider_options.{option}"));
    }
}

#[test]
fn the_key_goes_into_a_header_that_is_not_shown() {
    let (name, value) = Anthropic.credential(&KeyMaterial::new("sk-ant-1".to_owned())).unwrap();
    assert_eq!((name.as_str(), value.as_bytes(), value.is_sensitive()), ("x-api-key", b"sk-ant-1".as_slice(), true));
    assert_eq!(Anthropic.credential(&KeyMaterial::new("sk\n".to_owned())), None);
}
