mod answer;
mod beside;
mod refusals;
mod request;
mod turns;

use serde_json::Value;

use super::*;
use crate::{
    message::{AssistantPart, FileSource, Image, Message, Part, ToolCall, ToolResult, UserPart},
    provider::transcript::{Transcript, read, stream},
};

fn text(text: &str) -> Part<UserPart> {
    UserPart::Text(text.to_owned()).into()
}

fn user(content: &str) -> Message {
    Message::User(vec![text(content)])
}

fn chat() -> Chat {
    Chat { messages: vec![user("Hi")], ..Chat::default() }
}

fn signed_call(id: &str, signature: &str) -> Part<AssistantPart> {
    let arguments = r#"{"z": 1, "a": 2}"#.to_owned();
    let call = ToolCall { id: id.to_owned(), name: "tool".to_owned(), arguments, signature: signature.to_owned() };
    AssistantPart::ToolCall(call).into()
}

fn call(id: &str) -> Part<AssistantPart> {
    signed_call(id, "")
}

fn result(id: &str, content: Vec<Part<UserPart>>, is_error: bool) -> Part<ToolResult> {
    ToolResult { call_id: id.to_owned(), name: "tool".to_owned(), content, is_error }.into()
}

fn image(source: FileSource, media_type: &str) -> Part<UserPart> {
    UserPart::Image(Image { source, media_type: media_type.to_owned(), detail: String::new() }).into()
}

fn data() -> Part<UserPart> {
    image(FileSource::Data("img".into()), "image/png")
}

fn url(url: &str, media_type: &str) -> Part<UserPart> {
    image(FileSource::Url(url.to_owned()), media_type)
}

fn body(model: &str, chat: &Chat) -> Value {
    serde_json::from_slice(&Gemini.request(model, chat).unwrap().body).unwrap()
}

fn refused(model: &str, chat: &Chat) -> String {
    Gemini.request(model, chat).map(|_| ()).unwrap_err().field
}

/// Gemini ends its lines with CRLF.
fn answer(data: &[&str]) -> Transcript {
    read(decoder, &stream(data).replace('\n', "\r\n"))
}

fn parts(parts: &str) -> String {
    format!(r#"{{"candidates":[{{"content":{{"role":"model","parts":[{parts}]}}}}]}}"#)
}

/// An event of which the candidate has these fields.
fn candidate(fields: &str) -> String {
    format!(r#"{{"candidates":[{{"content":{{}},{fields},"index":0}}]}}"#)
}

fn end(reason: &str) -> String {
    candidate(&format!(r#""finishReason":{reason}"#))
}
