use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{
    message::{
        AssistantPart, FileSource, FinishReason, Function, Image, Message, Part, Tool, ToolCall, ToolChoice,
        ToolResult, UserPart,
    },
    provider::{
        Broken, RejectionKind,
        transcript::{Transcript, line, read, stream, usage},
    },
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

fn call(id: &str, name: &str) -> Part<AssistantPart> {
    let arguments = r#"{"z": 1, "a": 2}"#.to_owned();
    AssistantPart::ToolCall(ToolCall { id: id.to_owned(), name: name.to_owned(), arguments, signature: String::new() })
        .into()
}

fn result(id: &str, content: Vec<Part<UserPart>>, is_error: bool) -> Part<ToolResult> {
    ToolResult { call_id: id.to_owned(), name: "tool".to_owned(), content, is_error }.into()
}

fn data() -> Part<UserPart> {
    UserPart::Image(Image {
        source: FileSource::Data("img".into()),
        media_type: "image/png".to_owned(),
        detail: String::new(),
    })
    .into()
}

fn url(url: &str, media_type: &str) -> Part<UserPart> {
    UserPart::Image(Image {
        source: FileSource::Url(url.to_owned()),
        media_type: media_type.to_owned(),
        detail: String::new(),
    })
    .into()
}

fn body(model: &str, chat: &Chat) -> Value {
    serde_json::from_slice(&Gemini.request(model, chat).unwrap().body).unwrap()
}

#[test]
fn the_model_stands_in_the_path() {
    for (model, path) in [
        ("gemini-2.5-pro", "/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
        ("models/gemini-2.5-pro", "/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
        ("tunedModels/mine-1", "/tunedModels/mine-1:streamGenerateContent?alt=sse"),
        ("../a b/c?d#é", "/models/..%2Fa%20b%2Fc%3Fd%23%C3%A9:streamGenerateContent?alt=sse"),
    ] {
        assert_eq!(Gemini.request(model, &chat()).unwrap().path, path);
    }
    assert_eq!(body("x", &chat()), json!({ "contents": [{ "role": "user", "parts": [{ "text": "Hi" }] }] }));
}

#[test]
fn every_parameter_has_its_place() {
    let chat = Chat {
        system: "Be brief.".to_owned(),
        max_output_tokens: Some(7),
        temperature: Some(2.0),
        top_p: Some(0.5),
        top_k: Some(40),
        stop_sequences: vec!["END".to_owned()],
        seed: Some(-3),
        presence_penalty: Some(1.0),
        frequency_penalty: Some(-1.0),
        ..chat()
    };
    let body = body("gemini-2.5-pro", &chat);
    assert_eq!(body["systemInstruction"], json!({ "parts": [{ "text": "Be brief." }] }));
    let expected = json!({
        "maxOutputTokens": 7, "temperature": 2.0, "topP": 0.5, "topK": 40, "stopSequences": ["END"], "seed": -3,
        "presencePenalty": 1.0, "frequencyPenalty": -1.0,
    });
    assert_eq!(body["generationConfig"], expected);
}

#[test]
fn results_follow_the_order_of_their_calls() {
    let made = format!("{MADE_ID}seed-1");
    let chat = Chat {
        messages: vec![
            Message::User(vec![text("Look"), data()]),
            Message::User(vec![url("gs://bucket/file", "image/png")]),
            Message::Assistant(vec![
                AssistantPart::Text { text: "Sure".to_owned(), signature: String::new() }.into(),
                call("own", "tool"),
                call(&made, "tool"),
            ]),
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
fn repeated_calls_stand_in_for_the_signatures_that_newer_models_want() {
    let messages = || {
        vec![
            Message::Assistant(vec![call("a", "tool"), call("b", "tool")]),
            user("Hi"),
            Message::Assistant(vec![call("c", "tool")]),
        ]
    };
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
fn tools_and_their_choice() {
    let tool = |parameters: &str| {
        Part::from(Tool::Function(Function {
            name: "tool".to_owned(),
            description: String::new(),
            parameters: parameters.to_owned(),
            strict: None,
        }))
    };
    for (tool_choice, expected) in [
        (None, Value::Null),
        (Some(ToolChoice::Auto), json!({ "functionCallingConfig": { "mode": "AUTO" } })),
        (Some(ToolChoice::None), json!({ "functionCallingConfig": { "mode": "NONE" } })),
        (Some(ToolChoice::Required), json!({ "functionCallingConfig": { "mode": "ANY" } })),
        (
            Some(ToolChoice::Tool("tool".to_owned())),
            json!({ "functionCallingConfig": { "mode": "ANY", "allowedFunctionNames": ["tool"] } }),
        ),
    ] {
        let chat = Chat { tools: vec![tool(""), tool(r#"{"type":"object"}"#)], tool_choice, ..chat() };
        let body = body("gemini-2.5-pro", &chat);
        let tools = json!([{ "functionDeclarations": [
            { "name": "tool" }, { "name": "tool", "parametersJsonSchema": { "type": "object" } },
        ]}]);
        assert_eq!((&body["tools"], &body["toolConfig"]), (&tools, &expected));
    }
}

#[test]
fn what_gemini_does_not_have_is_refused() {
    let says = |part| Chat { messages: vec![user("Hi"), Message::User(vec![text("see"), part])], ..Chat::default() };
    let elsewhere = || url("https://a.test/b", "image/png");
    for (chat, field) in [
        (Chat { parallel_tool_calls: Some(true), ..chat() }, "parallel_tool_calls"),
        (Chat { temperature: Some(2.1), ..chat() }, "temperature"),
        (Chat { top_p: Some(f64::NAN), ..chat() }, "top_p"),
        (Chat { presence_penalty: Some(2.1), ..chat() }, "presence_penalty"),
        (Chat { frequency_penalty: Some(-2.1), ..chat() }, "frequency_penalty"),
        (Chat { seed: Some(1 << 31), ..chat() }, "seed"),
        (Chat { stop_sequences: vec!["x".to_owned(); 6], ..chat() }, "stop_sequences"),
        (Chat { tool_choice: Some(ToolChoice::Required), ..chat() }, "tool_choice"),
        (says(elsewhere()), "messages[1].parts[1].image.url"),
        (says(url("gs://bucket/file", "")), "messages[1].parts[1].image.media_type"),
        (
            Chat { messages: vec![Message::Tool(vec![result("a", vec![elsewhere()], false)])], ..chat() },
            "messages[0].parts[0].tool_result.content[0].image.url",
        ),
    ] {
        let refused = Gemini.request("gemini-2.5-pro", &chat).map(|_| ()).unwrap_err();
        assert_eq!(refused.field, field, "{}", refused.problem);
    }
}

#[test]
fn the_key_goes_into_a_header_that_is_not_shown() {
    let (name, value) = Gemini.credential(&KeyMaterial::new("AIza1".to_owned())).unwrap();
    assert_eq!((name.as_str(), value.as_bytes(), value.is_sensitive()), ("x-goog-api-key", b"AIza1".as_slice(), true));
}

/// Gemini ends its lines with CRLF.
fn answer(data: &[&str]) -> Transcript {
    read(decoder, &stream(data).replace('\n', "\r\n"))
}

fn parts(parts: &str) -> String {
    format!(r#"{{"candidates":[{{"content":{{"role":"model","parts":[{parts}]}}}}]}}"#)
}

fn end(reason: &str) -> String {
    format!(r#"{{"candidates":[{{"content":{{}},"finishReason":{reason},"index":0}}]}}"#)
}

fn lines(answer: &Transcript) -> Vec<String> {
    answer.calls().into_iter().map(line).collect()
}

#[test]
fn text_commits_and_the_end_of_the_body_ends() {
    let counted = r#"{"candidates":[{"finishReason":"STOP"}],"modelVersion":"gemini-x","responseId":"r1","usageMetadata":{"promptTokenCount":10,"cachedContentTokenCount":4,"candidatesTokenCount":5,"thoughtsTokenCount":3,"toolUsePromptTokenCount":2,"totalTokenCount":20}}"#;
    let answer = answer(&[&parts(r#"{"text":""}"#), &parts(r#"{"text":"Hé"},{"text":"llo"}"#), counted]);
    assert_eq!((answer.text().as_str(), answer.before_commit), ("Héllo", 1));
    assert_eq!((answer.model.as_deref(), answer.response_id.as_deref()), (Some("gemini-x"), Some("r1")));
    assert_eq!((answer.finish().reason, answer.finish().provider_reason.as_str()), (FinishReason::Stop, "STOP"));
    let counts = usage([Some(12), Some(4), None, Some(8), Some(3), Some(20)]);
    assert_eq!(answer.finish().usage, Some(counts));
}

#[test]
fn the_last_count_counts() {
    let counted = |counts: &str| format!(r#"{{"usageMetadata":{{{counts}}}}}"#);
    let first = counted(r#""promptTokenCount":10,"candidatesTokenCount":9,"totalTokenCount":19"#);
    let less = counted(r#""promptTokenCount":10,"candidatesTokenCount":5,"totalTokenCount":15"#);
    let none = counted(r#""trafficType":"ON_DEMAND""#);
    let stop = end("\"STOP\"");
    let counts = usage([Some(10), None, None, Some(5), None, Some(15)]);
    assert_eq!(answer(&[&none, &first, &less, &none, &stop]).finish().usage, Some(counts));
    assert_eq!(answer(&[&none, &stop]).finish().usage, None);
    let blocked = counted(r#""promptTokenCount":10,"totalTokenCount":10"#);
    assert_eq!(answer(&[&blocked, &stop]).finish().usage, Some(usage([Some(10), None, None, Some(0), None, Some(10)])));
}

#[test]
fn each_finish_reason_has_its_meaning() {
    use FinishReason as Reason;
    for (word, reason) in [
        ("STOP", Reason::Stop),
        ("MAX_TOKENS", Reason::Length),
        ("SAFETY", Reason::ContentFilter),
        ("RECITATION", Reason::ContentFilter),
        ("LANGUAGE", Reason::ContentFilter),
        ("BLOCKLIST", Reason::ContentFilter),
        ("PROHIBITED_CONTENT", Reason::ContentFilter),
        ("SPII", Reason::ContentFilter),
        ("MODEL_ARMOR", Reason::ContentFilter),
        ("IMAGE_SAFETY", Reason::ContentFilter),
        ("IMAGE_BRAND_NEW", Reason::ContentFilter),
        ("CONTINUATION", Reason::Pause),
        ("MALFORMED_FUNCTION_CALL", Reason::MalformedToolCall),
        ("UNEXPECTED_TOOL_CALL", Reason::MalformedToolCall),
        ("TOO_MANY_TOOL_CALLS", Reason::MalformedToolCall),
        ("MISSING_THOUGHT_SIGNATURE", Reason::MalformedToolCall),
        ("OTHER", Reason::Other),
        ("MALFORMED_RESPONSE", Reason::Other),
        ("FUNCTION_CALL", Reason::Other),
    ] {
        let answer = answer(&[&end(&format!("\"{word}\""))]);
        assert_eq!((answer.finish().reason, answer.finish().provider_reason.as_str()), (reason, word));
    }
    for (number, reason) in
        [("1", Reason::Stop), ("2", Reason::Length), ("3", Reason::ContentFilter), ("99", Reason::Other)]
    {
        let answer = answer(&[&end(number)]);
        assert_eq!((answer.finish().reason, answer.finish().provider_reason.as_str()), (reason, number));
    }
}

#[test]
fn the_last_finish_reason_counts() {
    let more = parts(r#"{"text":"more"}"#);
    let answer = answer(&[&end("\"STOP\""), &more, &end("\"RECITATION\""), &end("\"FINISH_REASON_UNSPECIFIED\"")]);
    assert_eq!((answer.text().as_str(), answer.finish().reason), ("more", FinishReason::ContentFilter));
}

#[test]
fn a_blocked_prompt_ends_at_once() {
    let blocked = answer(&[r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":9}}"#]);
    let finish = blocked.finish();
    assert_eq!((finish.reason, finish.provider_reason.as_str()), (FinishReason::ContentFilter, "SAFETY"));
    assert_eq!(finish.usage.and_then(|usage| usage.input), Some(9));
}

#[test]
fn the_end_of_the_body_without_a_finish_reason_is_no_end() {
    let empty = r#"{"candidates":[{"content":{},"index":0}],"promptFeedback":{"safetyRatings":[]}}"#;
    for data in [&[][..], &[empty], &[&parts(r#"{"text":"x"}"#)], &[&parts(r#"{"functionCall":{"name":"t"}}"#)]] {
        let cut = answer(data);
        assert_eq!((cut.finished, cut.broken), (false, None));
    }
}

#[test]
fn a_call_is_one_part_and_has_an_id() {
    let calls = parts(
        r#"{"functionCall":{"name":"t","args":{"k": 1}},"thoughtSignature":"x"},{"functionCall":{"name":"t"}},{"functionCall":{"id":"own","name":"u","args":{}}}"#,
    );
    let answer = answer(&[&calls, &end("\"STOP\"")]);
    let expected = [r#"0 call-gateway-seed-0 t {"k": 1}"#, "1 call-gateway-seed-1 t {}", "2 own u {}"];
    assert_eq!(
        (lines(&answer), answer.finish().reason),
        (expected.map(str::to_owned).to_vec(), FinishReason::ToolCalls)
    );
}

#[test]
fn streamed_arguments_join_up_to_the_closing_part() {
    let begin = parts(r#"{"functionCall":{"name":"t","willContinue":true}}"#);
    let piece = parts(
        r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.a[0].b","stringValue":"x","willContinue":true}],"willContinue":true}}"#,
    );
    let more =
        parts(r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.a[0].b","stringValue":"y"}],"willContinue":true}}"#);
    let pause = parts(r#"{"functionCall":{"willContinue":true}}"#);
    let close = parts(r#"{"functionCall":{}}"#);
    let whole = r#"0 call-gateway-seed-0 t {"a":[{"b":"xy"}]}"#;

    let closed = answer(&[&begin, &piece, &pause, &more, &close, &begin, &close, &close, &end("\"STOP\"")]);
    assert_eq!(lines(&closed), [whole, "1 call-gateway-seed-1 t {}"]);
    let unclosed = answer(&[&begin, &piece, &more, &begin, &end("\"STOP\"")]);
    assert_eq!(lines(&unclosed), [whole, "1 call-gateway-seed-1 t {}"]);
    let cut = answer(&[&begin, &piece, &end("\"MAX_TOKENS\"")]);
    assert_eq!(lines(&cut), [r#"0 call-gateway-seed-0 t {"a":[{"b":"x"}] !"#]);
    assert_eq!(cut.finish().reason, FinishReason::Length);
}

#[test]
fn content_without_a_common_form_commits_and_shows_nothing() {
    for part in [
        r#"{"text":"hm","thought":true}"#,
        r#"{"text":"","thoughtSignature":"x"}"#,
        r#"{"executableCode":{"code":"x"}}"#,
        r#"{"codeExecutionResult":{"output":"x"}}"#,
        r#"{"inlineData":{"data":"x"}}"#,
    ] {
        let answer = answer(&[&parts(part), &end("\"STOP\"")]);
        assert_eq!((answer.before_commit, answer.text()), (0, String::new()), "{part}");
    }
    let other = r#"{"candidates":[{"index":1,"content":{"parts":[{"text":"other"}]}}],"brandNew":{}}"#;
    assert_eq!(answer(&[other, &end("\"STOP\"")]).text(), "");
}

#[test]
fn what_must_not_be_is_malformed() {
    for data in ["{", "7", "[]", r#"{"candidates":7}"#, r#"[{"candidates":[]}]"#] {
        assert!(matches!(answer(&[data]).broken, Some(Broken::Malformed(_))), "{data}");
    }
}

#[test]
fn an_error_in_the_stream_is_the_error_it_stands_for() {
    use RejectionKind as Kind;
    for (error, kind) in [
        (r#"{"code":503,"message":"M","status":"UNAVAILABLE"}"#, Kind::Overloaded),
        (r#"{"message":"M","status":"UNAVAILABLE"}"#, Kind::Overloaded),
        (r#"{"code":429,"message":"M","status":"RESOURCE_EXHAUSTED"}"#, Kind::RateLimited),
        (r#"{"code":400,"message":"M","details":[{"reason":"API_KEY_INVALID"}]}"#, Kind::Key),
        (r#"{"code":500,"message":"M","status":"INTERNAL"}"#, Kind::Internal),
        (r#"{"message":"M","status":"BRAND_NEW"}"#, Kind::Internal),
    ] {
        for data in [format!(r#"{{"error":{error}}}"#), format!(r#"[{{"error":{error}}}]"#)] {
            match answer(&[&data]).broken {
                Some(Broken::Rejected(rejection)) => {
                    assert_eq!((rejection.kind, rejection.message.as_str()), (kind, "M"), "{data}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn each_refusal_has_its_meaning() {
    use RejectionKind as Kind;
    let none = json!([]);
    let key = json!([{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID" }]);
    let per_day = json!([{ "violations": [{ "quotaId": "PerMinute" }, { "quotaId": "RequestsPerDay-FreeTier" }] }]);
    let long = "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).";
    let missing = "Method doesn't allow unregistered callers (callers without established identity).";
    for (status, word, message, details, kind) in [
        (400, "INVALID_ARGUMENT", "bad", &none, Kind::InvalidRequest),
        (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", &key, Kind::Key),
        (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", &none, Kind::Key),
        (400, "INVALID_ARGUMENT", long, &none, Kind::ContextLength),
        (400, "FAILED_PRECONDITION", "User location is not supported.", &none, Kind::InvalidRequest),
        (401, "UNAUTHENTICATED", "", &none, Kind::Key),
        (403, "PERMISSION_DENIED", "", &none, Kind::Permission),
        (403, "PERMISSION_DENIED", missing, &none, Kind::Key),
        (404, "NOT_FOUND", "models/x is not found", &none, Kind::ModelNotFound),
        (429, "RESOURCE_EXHAUSTED", "", &none, Kind::RateLimited),
        (429, "RESOURCE_EXHAUSTED", "", &per_day, Kind::Quota),
        (500, "INTERNAL", "", &none, Kind::Internal),
        (503, "UNAVAILABLE", "The model is overloaded.", &none, Kind::Overloaded),
        (504, "DEADLINE_EXCEEDED", "", &none, Kind::Timeout),
    ] {
        let error = json!({ "error": { "code": status, "message": message, "status": word, "details": details } });
        for body in [error.clone(), json!([error])] {
            let rejection = Gemini.classify(status, &HeaderMap::new(), body.to_string().as_bytes());
            assert_eq!((rejection.kind, rejection.message.as_str()), (kind, message));
            assert_eq!(rejection.code, if *details == key { "API_KEY_INVALID" } else { word });
        }
    }
    assert_eq!(Gemini.classify(503, &HeaderMap::new(), b"").kind, Kind::Overloaded);
}

#[test]
fn the_wait_stands_in_the_details() {
    let body = json!({ "error": { "code": 429, "details": [{ "retryDelay": "48.5s" }] } }).to_string();
    let rejection = Gemini.classify(429, &HeaderMap::new(), body.as_bytes());
    assert_eq!(rejection.retry_after, Some(Duration::from_millis(48_500)));
}

#[test]
fn a_streamed_call_that_a_filter_cuts_is_incomplete() {
    let begin = parts(r#"{"functionCall":{"name":"t","willContinue":true}}"#);
    let piece = parts(
        r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.path","stringValue":"/tmp","willContinue":true}],"willContinue":true}}"#,
    );
    let end = |reason: &str| format!(r#"{{"candidates":[{{"finishReason":"{reason}"}}]}}"#);
    let incomplete = |reason: &str| answer(&[&begin, &piece, &end(reason)]).calls()[0].incomplete;
    assert!(incomplete("SAFETY") && incomplete("MAX_TOKENS"));
    assert!(!incomplete("STOP"), "the closing part is sometimes missing");
}
