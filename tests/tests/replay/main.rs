//! An answer sent back is the answer that was given: thoughts with their signatures, what is
//! hidden, calls with their results, and all that has only the provider's own form.
//!
//! Each endpoint answers a question with as much as it can. The answer is taken once from
//! `Chat`, as it is, and once put together from the events of `StreamChat`; the results of its
//! calls are added in another order, and the second body that the provider gets must be
//! what it would have wanted from a client of its own.
//!
//! Odd: what the endpoints answer is made here, with signatures that say what they sign.

mod answers;
mod assembly;
mod foreign;
mod options;
mod sent;

use proto::{
    chat::{
        ChatRequest, ChatResponse, ContentPart, Message, OpenAiApi, StreamChatRequest, TextPart, Tool, ToolResultPart,
        content_part::Part, message::Role,
    },
    types::Provider,
};
use serde_json::Value;
use system_tests::{
    Links, ORGANIZATION, System,
    answer::{Answer, Failure},
    fake_provider::{Answer as Said, Received},
};

use answers::Scene;

#[tokio::test]
async fn anthropic_gets_back_what_it_thought_and_did() {
    replays(&answers::anthropic()).await;
}

#[tokio::test]
async fn chat_completions_gets_back_its_calls() {
    replays(&answers::chat_completions()).await;
}

#[tokio::test]
async fn responses_gets_back_its_items() {
    replays(&answers::responses()).await;
}

#[tokio::test]
async fn gemini_gets_back_its_signatures_on_their_parts() {
    replays(&answers::gemini()).await;
}

async fn replays(scene: &Scene) {
    let mut stage = Stage::set().await;
    stage.system.provider.always_answers(Said::stream(scene.stream.clone()));
    let first = StreamChatRequest { messages: vec![user("Where is it warm?")], ..scene.request.clone() };

    let whole = stage.system.chat.chat(as_whole(first.clone())).await.expect("an answer").into_inner();
    let streamed = assembly::message(stage.system.chat.stream_chat(first.clone()).await.expect("an answer")).await;

    let whole = as_is(whole);
    assert_eq!(without_made_ids(&streamed), without_made_ids(&whole), "the events come to what `Chat` returns");
    for answer in [whole, streamed] {
        let results = results(&answer);
        let messages = [first.messages.clone(), vec![answer.clone(), results]].concat();
        let second = StreamChatRequest { messages, ..first.clone() };
        let sent = stage.sends(second).await.expect("the answer is accepted");
        assert_eq!(sent.path, scene.path);
        let body = sent.json();
        assert_eq!(Value::from((scene.turn)(&body)), Value::from(scene.expected_turn.clone()));
        assert_eq!((scene.results)(&body), scene.expected_results);
        check_verbatim(scene, &answer, &String::from_utf8(sent.body).expect("JSON is UTF-8"));
    }
}

/// The answer, which is a turn of the assistant and ready to be appended.
fn as_is(response: ChatResponse) -> Message {
    let message = response.message.expect("a message");
    assert_eq!(message.role(), Role::Assistant);
    message
}

/// What came at once goes back to the byte; what the gateway joined goes back as it gave it.
fn check_verbatim(scene: &Scene, answer: &Message, body: &str) {
    for verbatim in &scene.verbatim {
        assert!(body.contains(verbatim), "{verbatim} is not in {body}");
    }
    let mut own = 0;
    for part in &answer.parts {
        if let Some(Part::Provider(part)) = &part.part {
            assert!(body.contains(&part.json), "{} is not in {body}", part.json);
            own += 1;
        }
    }
    assert_eq!(own, scene.own_parts);
}

/// One result for each call, the last call first: each says whose it is.
fn results(answer: &Message) -> Message {
    let result = |part: &ContentPart| match &part.part {
        Some(Part::ToolCall(call)) => {
            let said = format!("{} of {}", call.name, call.arguments);
            let result = ToolResultPart { tool_call_id: call.id.clone(), content: vec![text(&said)], is_error: false };
            Some(ContentPart { part: Some(Part::ToolResult(result)), cache_control: None })
        }
        _ => None,
    };
    Message { role: Role::Tool.into(), parts: answer.parts.iter().rev().filter_map(result).collect() }
}

/// The ids that the gateway makes are others in every answer.
fn without_made_ids(message: &Message) -> Message {
    let mut message = message.clone();
    for part in &mut message.parts {
        if let Some(Part::ToolCall(call)) = &mut part.part
            && call.id.starts_with(foreign::MADE_ID)
        {
            foreign::MADE_ID.clone_into(&mut call.id);
        }
    }
    message
}

pub(crate) fn text(said: &str) -> ContentPart {
    let text = TextPart { text: said.to_owned(), signature: String::new() };
    ContentPart { part: Some(Part::Text(text)), cache_control: None }
}

pub(crate) fn user(said: &str) -> Message {
    Message { role: Role::User.into(), parts: vec![text(said)] }
}

/// A request without messages, with the tools that all answers call.
pub(crate) fn request(model: &str, api: OpenAiApi) -> StreamChatRequest {
    const PLACE: &str = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;
    let tool = |name: &str, parameters: &str| Tool {
        name: name.to_owned(),
        parameters: parameters.to_owned(),
        ..Tool::default()
    };
    StreamChatRequest {
        organization_id: ORGANIZATION.to_owned(),
        model: model.to_owned(),
        tools: vec![tool("get_weather", PLACE), tool("now", "")],
        openai_api: api.into(),
        ..StreamChatRequest::default()
    }
}

/// The same question, whose answer is waited for.
fn as_whole(request: StreamChatRequest) -> ChatRequest {
    ChatRequest {
        organization_id: request.organization_id,
        model: request.model,
        messages: request.messages,
        tools: request.tools,
        reasoning: request.reasoning,
        openai_api: request.openai_api,
        ..ChatRequest::default()
    }
}

/// A system with a key for each provider.
pub(crate) struct Stage {
    pub(crate) system: System,
}

/// The key of all providers.
pub(crate) const KEY: &str = "key-of-the-replay-tests";

impl Stage {
    pub(crate) async fn set() -> Self {
        let mut system = System::start().await;
        for provider in [Provider::Anthropic, Provider::Openai, Provider::Gemini] {
            system.add_key(provider, KEY, Links { default: true, profiles: &[] }).await;
        }
        // Until a test says otherwise: the answer does not matter.
        system.provider.always_answers(Said::json(400, r#"{"error":{"message":"No."}}"#));
        Self { system }
    }

    /// What the provider got, or why it got nothing.
    pub(crate) async fn sends(&mut self, request: StreamChatRequest) -> Result<Received, Failure> {
        let before = self.system.provider.received().len();
        let answer = Answer::read(self.system.chat.stream_chat(request).await).await;
        let mut received = self.system.provider.received();
        match received.len() - before {
            0 => Err(answer.failed().clone()),
            1 => Ok(received.pop().expect("one")),
            more => panic!("it was sent {more} times"),
        }
    }
}
