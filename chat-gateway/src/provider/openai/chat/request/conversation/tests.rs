use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    message::{
        AssistantPart, Audio, CacheControl, Chat, Document, FileSource, Image, Message, Part, Provider, ProviderPart,
        Reasoning, ToolCall, ToolResult, UserPart,
    },
    provider::{Unsupported, openai::chat::body},
};

fn text(text: &str) -> Part<UserPart> {
    UserPart::Text(text.to_owned()).into()
}

fn user(content: &str) -> Message {
    Message::User(vec![text(content)])
}

fn image() -> Part<UserPart> {
    UserPart::Image(Image {
        source: FileSource::Data("img".into()),
        media_type: "image/png".to_owned(),
        detail: String::new(),
    })
    .into()
}

/// What is sent for these messages.
fn sent(messages: Vec<Message>) -> Value {
    let body = body("gpt-4o", &Chat { messages, ..Chat::default() }).unwrap();
    serde_json::from_slice::<Value>(&body).unwrap()["messages"].take()
}

fn refused(model: &str, chat: &Chat) -> Unsupported {
    body(model, chat).unwrap_err()
}

#[test]
fn each_result_is_a_message_of_its_own() {
    let call = |id: &str| {
        let arguments = r#"{"z": 1}"#.to_owned();
        AssistantPart::ToolCall(ToolCall {
            id: id.to_owned(),
            name: "tool".to_owned(),
            arguments,
            signature: String::new(),
        })
        .into()
    };
    let result = |id: &str, content, is_error| {
        ToolResult { call_id: id.to_owned(), name: "tool".to_owned(), content, is_error }.into()
    };
    let url = Image {
        source: FileSource::Url("https://a.test/b".to_owned()),
        media_type: String::new(),
        detail: String::new(),
    };
    let messages = vec![
        Message::User(vec![text("Look"), image(), UserPart::Image(url).into()]),
        Message::Assistant(vec![
            AssistantPart::Text { text: "Sure".to_owned(), signature: String::new() }.into(),
            call("a"),
            call("b"),
        ]),
        Message::Tool(vec![result("a", vec![text("4"), text("2")], false), result("b", vec![], true)]),
        Message::Assistant(vec![call("c")]),
    ];
    let calls =
        |id: &str| json!({ "id": id, "type": "function", "function": { "name": "tool", "arguments": "{\"z\": 1}" } });
    let expected = json!([
        { "role": "user", "content": [
            { "type": "text", "text": "Look" },
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,aW1n" } },
            { "type": "image_url", "image_url": { "url": "https://a.test/b" } },
        ]},
        { "role": "assistant", "content": "Sure", "tool_calls": [calls("a"), calls("b")] },
        { "role": "tool", "tool_call_id": "a", "content": [
            { "type": "text", "text": "4" }, { "type": "text", "text": "2" },
        ]},
        { "role": "tool", "tool_call_id": "b", "content": "" },
        { "role": "assistant", "tool_calls": [calls("c")] },
    ]);
    assert_eq!(sent(messages), expected);
}

fn file(source: FileSource, media_type: &str, title: &str) -> Document {
    let (media_type, title) = (media_type.to_owned(), title.to_owned());
    Document { source, media_type, title, context: String::new(), citations: false }
}

fn audio(media_type: &str) -> Part<UserPart> {
    UserPart::Audio(Audio { data: Bytes::from_static(b"abc"), media_type: media_type.to_owned() }).into()
}

fn own(provider: Provider, json: &str) -> ProviderPart {
    ProviderPart { provider, json: json.to_owned() }
}

#[test]
fn a_user_may_send_files_of_all_kinds() {
    let pdf = || FileSource::Data(Bytes::from_static(b"abc"));
    let url = FileSource::Url("https://a.test/b".to_owned());
    let image = Image { source: url, media_type: String::new(), detail: "low".to_owned() };
    let sound = |format: &str| json!({ "type": "input_audio", "input_audio": { "data": "YWJj", "format": format } });
    let data = "data:application/pdf;base64,YWJj";
    for (part, expected) in [
        (
            UserPart::Image(image).into(),
            json!({ "type": "image_url", "image_url": { "url": "https://a.test/b", "detail": "low" } }),
        ),
        (
            UserPart::Document(file(pdf(), "application/pdf", "")).into(),
            json!({ "type": "file", "file": { "filename": "document.pdf", "file_data": data } }),
        ),
        (
            UserPart::Document(file(pdf(), "application/pdf", "a.pdf")).into(),
            json!({ "type": "file", "file": { "filename": "a.pdf", "file_data": data } }),
        ),
        (
            UserPart::Document(file(FileSource::FileId("file-1".to_owned()), "", "")).into(),
            json!({ "type": "file", "file": { "file_id": "file-1" } }),
        ),
        (audio("audio/wav"), sound("wav")),
        (audio("audio/x-wav"), sound("wav")),
        (audio("audio/mpeg"), sound("mp3")),
        (audio("audio/mp3"), sound("mp3")),
        (
            UserPart::Provider(own(Provider::OpenAi, r#"{"type":"new","big":12345678901234567890}"#)).into(),
            json!({ "type": "new", "big": 12_345_678_901_234_567_890_u64 }),
        ),
    ] {
        assert_eq!(sent(vec![Message::User(vec![part])])[0]["content"], json!([expected]));
    }
}

fn said(text: &str) -> Part<AssistantPart> {
    AssistantPart::Text { text: text.to_owned(), signature: String::new() }.into()
}

fn refusal(words: &str) -> Part<AssistantPart> {
    AssistantPart::Refusal(words.to_owned()).into()
}

fn called() -> Part<AssistantPart> {
    let (id, name, arguments) = ("a".to_owned(), "t".to_owned(), "{}".to_owned());
    AssistantPart::ToolCall(ToolCall { id, name, arguments, signature: "s".to_owned() }).into()
}

fn thought(provider: Option<Provider>, signature: &str) -> Part<AssistantPart> {
    let reasoning =
        Reasoning { provider, text: "hm".to_owned(), signature: signature.to_owned(), ..Reasoning::default() };
    AssistantPart::Reasoning(reasoning).into()
}

#[test]
fn an_answer_is_sent_back() {
    let call = json!({ "id": "a", "type": "function", "function": { "name": "t", "arguments": "{}" } });
    let texts = json!([{ "type": "text", "text": "A" }, { "type": "text", "text": "B" }]);
    for (parts, expected) in [
        (vec![said("A"), said(""), said("B")], json!({ "role": "assistant", "content": texts })),
        (vec![refusal("No"), refusal(", no.")], json!({ "role": "assistant", "content": null, "refusal": "No, no." })),
        (vec![said("A"), refusal("No")], json!({ "role": "assistant", "content": "A", "refusal": "No" })),
        (
            vec![thought(None, ""), called(), refusal("No")],
            json!({ "role": "assistant", "refusal": "No", "tool_calls": [call] }),
        ),
        (vec![thought(Some(Provider::Anthropic), "s"), said("A")], json!({ "role": "assistant", "content": "A" })),
        (vec![thought(Some(Provider::OpenAi), "")], json!({ "role": "assistant", "content": "" })),
    ] {
        assert_eq!(sent(vec![Message::Assistant(parts)]), json!([expected]));
    }
}

#[test]
fn a_part_that_has_no_place_is_refused() {
    let pdf = || FileSource::Data(Bytes::from_static(b"abc"));
    let id = || FileSource::FileId("file-1".to_owned());
    let image = Image { source: id(), media_type: String::new(), detail: String::new() };
    let cited = Document { citations: true, ..file(pdf(), "application/pdf", "") };
    let explained = Document { context: "c".to_owned(), ..file(pdf(), "application/pdf", "") };
    let cached = Part { content: UserPart::Text("Hi".to_owned()), cache: Some(CacheControl::FiveMinutes) };
    let url = FileSource::Url("https://a.test/b".to_owned());
    for (part, field) in [
        (UserPart::Image(image).into(), "image.file_id"),
        (UserPart::Document(file(url, "", "")).into(), "document.url"),
        (UserPart::Document(file(pdf(), "text/plain", "")).into(), "document.media_type"),
        (UserPart::Document(file(id(), "", "a.pdf")).into(), "document.title"),
        (UserPart::Document(cited).into(), "document.citations"),
        (UserPart::Document(explained).into(), "document.context"),
        (audio("audio/ogg"), "audio.media_type"),
        (UserPart::Provider(own(Provider::Gemini, "{}")).into(), "provider"),
        (cached, "cache_control"),
    ] {
        let chat = Chat { messages: vec![user("Hi"), Message::User(vec![text("See"), part])], ..Chat::default() };
        assert_eq!(refused("gpt-4o", &chat).field, format!("messages[1].parts[1].{field}"));
    }
    let named = Reasoning { id: "rs_1".to_owned(), ..Reasoning::default() };
    let hidden = Reasoning { redacted_data: "x".to_owned(), ..Reasoning::default() };
    for (part, field) in [
        (thought(Some(Provider::OpenAi), "s"), "reasoning"),
        (thought(None, "s"), "reasoning"),
        (AssistantPart::Reasoning(named).into(), "reasoning"),
        (AssistantPart::Reasoning(hidden).into(), "reasoning"),
        (AssistantPart::Provider(own(Provider::OpenAi, "{}")).into(), "provider"),
        (AssistantPart::Provider(own(Provider::Anthropic, "{}")).into(), "provider"),
    ] {
        let chat = Chat { messages: vec![user("Hi"), Message::Assistant(vec![said("A"), part])], ..Chat::default() };
        assert_eq!(refused("gpt-5", &chat).field, format!("messages[1].parts[1].{field}"));
    }
}

#[test]
fn a_result_is_text() {
    let result = |part| {
        let content = vec![text("see"), part];
        ToolResult { call_id: "a".to_owned(), name: "t".to_owned(), content, is_error: true }
    };
    let own_text = own(Provider::OpenAi, r#"{"type":"text","text":"x"}"#);
    let turns = vec![Message::Tool(vec![result(UserPart::Provider(own_text).into()).into()])];
    assert_eq!(sent(turns)[0]["content"][1], json!({ "type": "text", "text": "x" }));
    let pdf = file(FileSource::Data(Bytes::from_static(b"abc")), "application/pdf", "");
    for (part, field) in [
        (image(), "image"),
        (UserPart::Document(pdf).into(), "document"),
        (audio("audio/wav"), "audio"),
        (UserPart::Provider(own(Provider::Anthropic, "{}")).into(), "provider"),
    ] {
        let chat = Chat { messages: vec![Message::Tool(vec![result(part).into()])], ..Chat::default() };
        let path = format!("messages[0].parts[0].tool_result.content[1].{field}");
        assert_eq!(refused("gpt-4o", &chat).field, path);
    }
}
