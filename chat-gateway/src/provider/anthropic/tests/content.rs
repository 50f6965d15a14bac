//! The content of a conversation.

use super::*;
use crate::message::{
    AssistantPart, Audio, CacheControl, Document, FileSource, Image, Provider as Name, ProviderPart, Reasoning,
    ToolCall, ToolResult,
};

fn document(source: FileSource, media_type: &str) -> Document {
    let (title, context) = (String::new(), String::new());
    Document { source, media_type: media_type.to_owned(), title, context, citations: false }
}

fn image(source: FileSource, detail: &str) -> Part<UserPart> {
    UserPart::Image(Image { source, media_type: "image/png".to_owned(), detail: detail.to_owned() }).into()
}

fn from_user(part: impl Into<Part<UserPart>>) -> Chat {
    Chat { messages: vec![Message::User(vec![part.into()])], ..Chat::default() }
}

fn from_model(parts: Vec<Part<AssistantPart>>) -> Chat {
    Chat { messages: vec![user("Hi"), Message::Assistant(parts)], ..Chat::default() }
}

fn reasoning(reasoning: Reasoning) -> Part<AssistantPart> {
    AssistantPart::Reasoning(reasoning).into()
}

fn own<T>(part: impl FnOnce(ProviderPart) -> T, provider: Name, json: &str) -> Part<T> {
    part(ProviderPart { provider, json: json.to_owned() }).into()
}

fn cached<T>(part: impl Into<Part<T>>, cache: CacheControl) -> Part<T> {
    Part { cache: Some(cache), ..part.into() }
}

const MODEL: &str = "claude-sonnet-4-5";

#[test]
fn images_and_documents_come_from_three_places() {
    let file = || FileSource::FileId("file_1".to_owned());
    let url = || FileSource::Url("https://a.test/b".to_owned());
    let whole = Document {
        title: "T".to_owned(),
        context: "C".to_owned(),
        citations: true,
        ..document(FileSource::Data("Hé".into()), "text/plain")
    };
    for (part, expected) in [
        (image(file(), ""), json!({ "type": "image", "source": { "type": "file", "file_id": "file_1" } })),
        (image(url(), ""), json!({ "type": "image", "source": { "type": "url", "url": "https://a.test/b" } })),
        (
            UserPart::Document(document(FileSource::Data("%PDF".into()), "application/pdf")).into(),
            json!({ "type": "document",
                "source": { "type": "base64", "media_type": "application/pdf", "data": "JVBERg==" } }),
        ),
        (
            UserPart::Document(whole).into(),
            json!({ "type": "document", "title": "T", "context": "C", "citations": { "enabled": true },
                "source": { "type": "text", "media_type": "text/plain", "data": "Hé" } }),
        ),
        (
            UserPart::Document(document(url(), "")).into(),
            json!({ "type": "document", "source": { "type": "url", "url": "https://a.test/b" } }),
        ),
        (
            UserPart::Document(document(file(), "text/plain")).into(),
            json!({ "type": "document", "source": { "type": "file", "file_id": "file_1" } }),
        ),
    ] {
        assert_eq!(body(MODEL, &from_user(part))["messages"][0]["content"], json!([expected]));
    }
}

#[test]
fn a_file_that_was_uploaded_needs_a_header() {
    let file = || image(FileSource::FileId("file_1".to_owned()), "");
    let result = ToolResult { call_id: "a".to_owned(), name: "t".to_owned(), content: vec![file()], is_error: false };
    let own_file = own(UserPart::Provider, Name::Anthropic, r#"{"type":"container_upload","file_id":"file_1"}"#);
    for (chat, beta) in [
        (from_user(file()), Some("files-api-2025-04-14")),
        (Chat { messages: vec![Message::Tool(vec![result.into()])], ..Chat::default() }, Some("files-api-2025-04-14")),
        (from_user(own_file), Some("files-api-2025-04-14")),
        (from_user(text("file_id")), None),
        (from_model(vec![]), None),
    ] {
        let headers = Anthropic.request(MODEL, &chat).unwrap().headers;
        assert_eq!(headers.get("anthropic-beta").map(|beta| beta.to_str().unwrap()), beta);
    }
}

#[test]
fn what_was_thought_goes_back_to_the_byte_and_in_order() {
    let signed = |provider, text: &str, signature: &str| {
        let (text, signature) = (text.to_owned(), signature.to_owned());
        reasoning(Reasoning { provider, text, signature, ..Reasoning::default() })
    };
    let hidden = |provider| reasoning(Reasoning { provider, redacted_data: "d==".to_owned(), ..Reasoning::default() });
    let chat = from_model(vec![
        signed(Some(Name::Anthropic), " a\n\u{e9} ", "s=="),
        signed(Some(Name::OpenAi), "b", "t"),
        hidden(None),
        hidden(Some(Name::Gemini)),
        signed(Some(Name::Anthropic), "cut within", ""),
        signed(None, "not signed", ""),
        signed(None, "", "u"),
        AssistantPart::Refusal("No.".to_owned()).into(),
        AssistantPart::Text { text: "Hi".to_owned(), signature: "of Gemini".to_owned() }.into(),
        own(AssistantPart::Provider, Name::Anthropic, r#"{"type":"server_tool_use", "input":{"q":1.0}}"#),
    ]);
    let expected = json!([
        { "type": "thinking", "thinking": " a\n\u{e9} ", "signature": "s==" },
        { "type": "redacted_thinking", "data": "d==" },
        { "type": "thinking", "thinking": "", "signature": "u" },
        { "type": "text", "text": "No." },
        { "type": "text", "text": "Hi" },
        { "type": "server_tool_use", "input": { "q": 1.0 } },
    ]);
    assert_eq!(body(MODEL, &chat)["messages"][1], json!({ "role": "assistant", "content": expected }));
    let raw = String::from_utf8(Anthropic.request(MODEL, &chat).unwrap().body.to_vec()).unwrap();
    assert!(raw.contains(r#",{"type":"server_tool_use", "input":{"q":1.0}}]"#), "{raw}");
}

#[test]
fn each_part_can_be_cached_up_to() {
    let hour = json!({ "type": "ephemeral", "ttl": "1h" });
    let call =
        ToolCall { id: "a".to_owned(), name: "t".to_owned(), arguments: "{}".to_owned(), signature: String::new() };
    let content = vec![
        cached(text("42"), CacheControl::OneHour),
        cached(image(FileSource::FileId("f".to_owned()), ""), CacheControl::OneHour),
        cached(UserPart::Document(document(FileSource::FileId("f".to_owned()), "")), CacheControl::OneHour),
    ];
    let result = ToolResult { call_id: "a".to_owned(), name: "t".to_owned(), content, is_error: true };
    let chat = Chat {
        messages: vec![
            Message::User(vec![cached(text("Hi"), CacheControl::Usual)]),
            Message::Assistant(vec![cached(AssistantPart::ToolCall(call), CacheControl::FiveMinutes)]),
            Message::Tool(vec![cached(result, CacheControl::OneHour)]),
        ],
        ..Chat::default()
    };
    let messages = body(MODEL, &chat)["messages"].clone();
    assert_eq!(messages[0]["content"][0]["cache_control"], json!({ "type": "ephemeral" }));
    assert_eq!(messages[1]["content"][0]["cache_control"], json!({ "type": "ephemeral", "ttl": "5m" }));
    assert_eq!(messages[2]["content"][0]["cache_control"], hour);
    for part in messages[2]["content"][0]["content"].as_array().unwrap() {
        assert_eq!(part["cache_control"], hour, "{part}");
    }
}

#[test]
fn content_that_anthropic_does_not_have_is_refused() {
    let audio = || UserPart::Audio(Audio { data: "a".into(), media_type: "audio/wav".to_owned() });
    let data = |bytes: &'static [u8]| FileSource::Data(bytes.into());
    let of = |document| from_user(UserPart::Document(document));
    let result = |part| ToolResult {
        call_id: "a".to_owned(),
        name: "t".to_owned(),
        content: vec![text("x"), part],
        is_error: false,
    };
    let in_result = |part| Chat { messages: vec![Message::Tool(vec![result(part).into()])], ..Chat::default() };
    let named = Reasoning { signature: "s".to_owned(), id: "rs_1".to_owned(), ..Reasoning::default() };
    let signed = Reasoning { signature: "s".to_owned(), ..Reasoning::default() };
    let empty = AssistantPart::Text { text: String::new(), signature: "s".to_owned() };
    let usual = CacheControl::Usual;
    for (chat, field) in [
        (from_user(audio()), "messages[0].parts[0].audio"),
        (in_result(audio().into()), "messages[0].parts[0].tool_result.content[1].audio"),
        (from_user(image(data(b"i"), "low")), "messages[0].parts[0].image.detail"),
        (from_user(image(FileSource::Url("gs://b/i".to_owned()), "")), "messages[0].parts[0].image.url"),
        (of(document(data(b"\xff"), "text/plain")), "messages[0].parts[0].document.data"),
        (of(document(data(b"a"), "text/csv")), "messages[0].parts[0].document.media_type"),
        (
            of(document(FileSource::Url("https://a.test".to_owned()), "text/plain")),
            "messages[0].parts[0].document.media_type",
        ),
        (of(document(FileSource::Url("gs://b/d".to_owned()), "")), "messages[0].parts[0].document.url"),
        (from_user(own(UserPart::Provider, Name::Gemini, "{}")), "messages[0].parts[0].provider"),
        (
            from_user(cached(own(UserPart::Provider, Name::Anthropic, "{}"), usual)),
            "messages[0].parts[0].cache_control",
        ),
        (
            in_result(cached(own(UserPart::Provider, Name::Anthropic, "{}"), usual)),
            "messages[0].parts[0].tool_result.content[1].cache_control",
        ),
        (from_user(own(UserPart::Provider, Name::Anthropic, "{")), "messages[0].parts[0].provider.json"),
        (from_model(vec![own(AssistantPart::Provider, Name::OpenAi, "{}")]), "messages[1].parts[0].provider"),
        (from_model(vec![reasoning(named)]), "messages[1].parts[0].reasoning.id"),
        (from_model(vec![cached(reasoning(signed), usual)]), "messages[1].parts[0].cache_control"),
        (from_model(vec![cached(empty, usual)]), "messages[1].parts[0].cache_control"),
    ] {
        assert_eq!(refused(MODEL, &chat), field);
    }
}
