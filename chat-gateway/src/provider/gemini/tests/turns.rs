//! The conversation as Gemini is sent it.

use serde_json::json;

use super::*;
use crate::message::{Audio, Document, Provider, ProviderPart, Reasoning};

fn said(text: &str, signature: &str) -> Part<AssistantPart> {
    AssistantPart::Text { text: text.to_owned(), signature: signature.to_owned() }.into()
}

fn thought(text: &str, signature: &str) -> Reasoning {
    Reasoning { text: text.to_owned(), signature: signature.to_owned(), ..Reasoning::default() }
}

fn own(json: &str) -> ProviderPart {
    ProviderPart { provider: Provider::Gemini, json: json.to_owned() }
}

fn document() -> Document {
    Document {
        source: FileSource::Data("pdf".into()),
        media_type: "application/pdf".to_owned(),
        title: String::new(),
        context: String::new(),
        citations: false,
    }
}

fn contents(model: &str, messages: Vec<Message>) -> Value {
    body(model, &Chat { messages, ..Chat::default() })["contents"].clone()
}

#[test]
fn results_follow_the_order_of_their_calls() {
    let made = format!("{MADE_ID}seed-1");
    let chat = Chat {
        messages: vec![
            Message::User(vec![text("Look"), data()]),
            Message::User(vec![url("gs://bucket/file", "image/png")]),
            Message::Assistant(vec![said("Sure", ""), call("own"), call(&made)]),
            user("By the way"),
            Message::Tool(vec![result(&made, vec![text("it "), text("broke")], true)]),
            Message::Tool(vec![result("own", vec![text(r#" {"b": 1, "a": 2}"#), data()], false)]),
        ],
        ..Chat::default()
    };
    let image = json!({ "inlineData": { "mimeType": "image/png", "data": "aW1n" } });
    let expected = json!([
        { "role": "user", "parts": [
            { "text": "Look" }, image, { "fileData": { "mimeType": "image/png", "fileUri": "gs://bucket/file" } },
        ]},
        { "role": "model", "parts": [
            { "text": "Sure" },
            { "functionCall": { "id": "own", "name": "tool", "args": { "z": 1, "a": 2 } } },
            { "functionCall": { "name": "tool", "args": { "z": 1, "a": 2 } } },
        ]},
        { "role": "user", "parts": [
            { "functionResponse": { "id": "own", "name": "tool", "response": { "b": 1, "a": 2 } } },
            image,
            { "functionResponse": { "name": "tool", "response": { "error": "it \nbroke" } } },
            { "text": "By the way" },
        ]},
    ]);
    assert_eq!(body("gemini-2.5-pro", &chat)["contents"], expected);
}

#[test]
fn a_result_is_an_object() {
    for (content, is_error, expected) in [
        ("42", false, json!({ "result": "42" })),
        ("[1]", false, json!({ "result": "[1]" })),
        ("{\"a\"", false, json!({ "result": "{\"a\"" })),
        ("", false, json!({ "result": "" })),
        ("{\"a\":1}", false, json!({ "a": 1 })),
        ("{\"a\":1}", true, json!({ "error": "{\"a\":1}" })),
    ] {
        let results = Message::Tool(vec![result("a", vec![text(content)], is_error)]);
        let chat = Chat { messages: vec![results], ..Chat::default() };
        let response = &body("x", &chat)["contents"][0]["parts"][0]["functionResponse"]["response"];
        assert_eq!(*response, expected, "{content}");
    }
}

#[test]
fn files_have_their_place() {
    let hosted = "https://generativelanguage.googleapis.com/v1beta/files/x";
    let messages = vec![Message::User(vec![
        UserPart::Document(document()).into(),
        UserPart::Document(Document { source: FileSource::Url(hosted.to_owned()), ..document() }).into(),
        UserPart::Audio(Audio { data: "wav".into(), media_type: "audio/wav".to_owned() }).into(),
        UserPart::Provider(own(r#"{"fileData": {"fileUri": "https://youtu.be/x"}}"#)).into(),
    ])];
    let expected = json!([
        { "inlineData": { "mimeType": "application/pdf", "data": "cGRm" } },
        { "fileData": { "mimeType": "application/pdf", "fileUri": hosted } },
        { "inlineData": { "mimeType": "audio/wav", "data": "d2F2" } },
        { "fileData": { "fileUri": "https://youtu.be/x" } },
    ]);
    assert_eq!(contents("gemini-2.5-pro", messages)[0]["parts"], expected);
}

#[test]
fn files_of_a_result_stand_within_it_from_version_3_on() {
    let messages = || {
        let content =
            vec![text("{}"), data(), url("gs://bucket/file", "image/png"), UserPart::Document(document()).into()];
        vec![Message::Tool(vec![result("a", content, false)])]
    };
    let image = json!({ "inlineData": { "mimeType": "image/png", "data": "aW1n" } });
    let hosted = json!({ "fileData": { "mimeType": "image/png", "fileUri": "gs://bucket/file" } });
    let pdf = json!({ "inlineData": { "mimeType": "application/pdf", "data": "cGRm" } });
    let within = json!({ "id": "a", "name": "tool", "response": {}, "parts": [image, pdf] });
    let expected = json!([{ "functionResponse": within }, hosted]);
    assert_eq!(contents("gemini-3-flash-preview", messages())[0]["parts"], expected);
    let bare = json!({ "functionResponse": { "id": "a", "name": "tool", "response": {} } });
    assert_eq!(contents("gemini-2.5-flash", messages())[0]["parts"], json!([bare, image, hosted, pdf]));
}

#[test]
fn an_answer_goes_back_as_it_came() {
    let foreign = Reasoning { provider: Some(Provider::Anthropic), ..thought("other", "other") };
    let parts = vec![
        AssistantPart::Reasoning(Reasoning { provider: Some(Provider::Gemini), ..thought("Let me", "") }).into(),
        AssistantPart::Reasoning(foreign).into(),
        AssistantPart::Reasoning(thought("see", "s1")).into(),
        AssistantPart::Provider(own(r#"{"executableCode": {"code": "x"}, "thoughtSignature": "s2"}"#)).into(),
        said("So", ""),
        said("it is", "s3"),
        said("", "s4"),
        signed_call("a", "s5"),
        call("b"),
        AssistantPart::Refusal("No.".to_owned()).into(),
    ];
    let args = json!({ "z": 1, "a": 2 });
    let expected = json!([
        { "text": "Let me", "thought": true },
        { "text": "see", "thought": true, "thoughtSignature": "s1" },
        { "executableCode": { "code": "x" }, "thoughtSignature": "s2" },
        { "text": "So" },
        { "text": "it is", "thoughtSignature": "s3" },
        { "text": "", "thoughtSignature": "s4" },
        { "functionCall": { "id": "a", "name": "tool", "args": args }, "thoughtSignature": "s5" },
        { "functionCall": { "id": "b", "name": "tool", "args": args } },
        { "text": "No." },
    ]);
    let turn = &contents("gemini-3-pro", vec![user("Hi"), Message::Assistant(parts)])[1];
    assert_eq!((&turn["role"], &turn["parts"]), (&json!("model"), &expected));
}

#[test]
fn repeated_calls_stand_in_for_the_signatures_that_newer_models_want() {
    let messages =
        || vec![Message::Assistant(vec![call("a"), call("b")]), user("Hi"), Message::Assistant(vec![call("c")])];
    for (model, signs) in [
        ("gemini-2.5-pro", false),
        ("gemini-1.5-pro-latest", false),
        ("gemini-exp-1206", false),
        ("gemma-3-27b-it", false),
        ("gemini-3-pro-preview", true),
        ("models/Gemini-3.1-pro", true),
        ("gemini-4-argon", true),
        ("gemini-flash-latest", true),
    ] {
        let contents = &body(model, &Chat { messages: messages(), ..Chat::default() })["contents"];
        let signature = |turn: usize, part: usize| &contents[turn]["parts"][part]["thoughtSignature"];
        let expected = if signs { json!("skip_thought_signature_validator") } else { Value::Null };
        assert_eq!((signature(0, 0), signature(2, 0)), (&expected, &expected), "{model}");
        assert_eq!(*signature(0, 1), Value::Null);
    }
}

#[test]
fn a_turn_with_any_signature_needs_no_other() {
    for other in [
        said("", "s"),
        AssistantPart::Reasoning(thought("hm", "s")).into(),
        AssistantPart::Provider(own(r#"{"text": "x", "thoughtSignature": "s"}"#)).into(),
        AssistantPart::Provider(own(r#"{"text": "x", "thought_signature": "s"}"#)).into(),
        signed_call("b", "s"),
    ] {
        let case = format!("{other:?}");
        let unsigned = || Message::Assistant(vec![call("a")]);
        let messages = vec![unsigned(), Message::Assistant(vec![other]), user("Hi"), unsigned()];
        let contents = contents("gemini-3-pro", messages);
        assert_eq!(contents[0]["parts"][0].get("thoughtSignature"), None, "{case}");
        assert!(contents[2]["parts"][0]["thoughtSignature"].is_string(), "each turn by itself");
    }
}

#[test]
fn what_a_message_cannot_say_is_refused() {
    let says = |part| vec![user("Hi"), Message::User(vec![text("see"), part])];
    let shows = |document: Document| says(UserPart::Document(document).into());
    let answers = |part: AssistantPart| vec![user("Hi"), Message::Assistant(vec![said("x", ""), part.into()])];
    let elsewhere = || url("https://a.test/b", "image/png");
    let look =
        Image { source: FileSource::Data("x".into()), media_type: "image/png".to_owned(), detail: "auto".to_owned() };
    let foreign = || ProviderPart { provider: Provider::OpenAi, json: "{}".to_owned() };
    for (messages, field) in [
        (says(elsewhere()), "messages[1].parts[1].image.url"),
        (says(url("gs://bucket/file", "")), "messages[1].parts[1].image.media_type"),
        (says(image(FileSource::FileId("x".to_owned()), "image/png")), "messages[1].parts[1].image.file_id"),
        (says(UserPart::Image(look).into()), "messages[1].parts[1].image.detail"),
        (shows(Document { title: "x".to_owned(), ..document() }), "messages[1].parts[1].document.title"),
        (shows(Document { context: "x".to_owned(), ..document() }), "messages[1].parts[1].document.context"),
        (shows(Document { citations: true, ..document() }), "messages[1].parts[1].document.citations"),
        (
            shows(Document { source: FileSource::FileId("x".to_owned()), ..document() }),
            "messages[1].parts[1].document.file_id",
        ),
        (says(UserPart::Provider(foreign()).into()), "messages[1].parts[1].provider"),
        (answers(AssistantPart::Provider(foreign())), "messages[1].parts[1].provider"),
        (
            answers(AssistantPart::Reasoning(Reasoning { redacted_data: "x".to_owned(), ..Reasoning::default() })),
            "messages[1].parts[1].reasoning.redacted_data",
        ),
        (
            answers(AssistantPart::Reasoning(Reasoning { id: "x".to_owned(), ..thought("x", "") })),
            "messages[1].parts[1].reasoning.id",
        ),
        (
            vec![Message::Tool(vec![result("a", vec![elsewhere()], false)])],
            "messages[0].parts[0].tool_result.content[0].image.url",
        ),
    ] {
        assert_eq!(refused("gemini-2.5-pro", &Chat { messages, ..Chat::default() }), field);
    }
}
