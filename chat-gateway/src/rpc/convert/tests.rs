use proto::chat::{content_part::Part, image_part, message::Role, tool_choice::Mode};

use super::*;

/// A request that is fine, to be spoiled.
fn request() -> pb::StreamChatRequest {
    pb::StreamChatRequest {
        organization_id: "acme".to_owned(),
        profile_id: Some("research".to_owned()),
        model: " claude-sonnet-4-5 ".to_owned(),
        messages: vec![message(Role::User, [text("Hello")])],
        tools: vec![pb::Tool {
            name: "weather".to_owned(),
            parameters: "{\"type\":\"object\"}".to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn message(role: Role, parts: impl IntoIterator<Item = Part>) -> pb::Message {
    let parts = parts.into_iter().map(|part| pb::ContentPart { part: Some(part), cache_control: None }).collect();
    pb::Message { role: role.into(), parts }
}

fn text(text: &str) -> Part {
    Part::Text(pb::TextPart { text: text.to_owned(), signature: String::new() })
}

fn call(id: &str, arguments: &str) -> Part {
    Part::ToolCall(pb::ToolCallPart {
        id: id.to_owned(),
        name: "weather".to_owned(),
        arguments: arguments.to_owned(),
        ..Default::default()
    })
}

fn result(id: &str) -> Part {
    Part::ToolResult(pb::ToolResultPart { tool_call_id: id.to_owned(), ..Default::default() })
}

fn image(source: image_part::Source, media_type: &str) -> Part {
    Part::Image(pb::ImagePart { source: Some(source), media_type: media_type.to_owned(), ..Default::default() })
}

fn url(url: &str) -> image_part::Source {
    image_part::Source::Url(url.to_owned())
}

/// The fields that are refused after `spoil`.
fn refused(spoil: impl FnOnce(&mut pb::StreamChatRequest)) -> Vec<String> {
    let mut request = request();
    spoil(&mut request);
    ask(request).map_or_else(|invalid| invalid.paths().into_iter().map(str::to_owned).collect(), |_| Vec::new())
}

#[test]
fn a_good_request_is_taken_and_its_model_trimmed() {
    assert_eq!(ask(request()).unwrap().model, "claude-sonnet-4-5");
}

#[test]
fn each_bad_field_is_named() {
    for (field, spoil) in [
        ("organization_id", (|r| r.organization_id.clear()) as fn(&mut pb::StreamChatRequest)),
        ("organization_id", |r| r.organization_id = "a b".to_owned()),
        ("profile_id", |r| r.profile_id = Some(String::new())),
        ("model", |r| r.model = "  ".to_owned()),
        ("model", |r| r.model = "a\nb".to_owned()),
        ("model", |r| r.model = "m".repeat(257)),
        ("messages", |r| r.messages.clear()),
        ("messages[0].parts", |r| r.messages[0].parts.clear()),
        ("messages[0].role", |r| r.messages[0].role = 0),
        ("messages[0].role", |r| r.messages[0].role = 99),
        ("messages[0].parts[0]", |r| r.messages[0].parts[0].part = None),
        ("messages[0].parts[0].text.text", |r| r.messages[0] = message(Role::User, [text("")])),
        ("messages[0].parts[1]", |r| r.messages[0] = message(Role::User, [text("a"), call("1", "")])),
        ("messages[0].parts[0]", |r| r.messages[0] = message(Role::Tool, [text("a")])),
        ("tools[0].name", |r| r.tools[0].name = "no spaces".to_owned()),
        ("tools[0].parameters", |r| r.tools[0].parameters = "[]".to_owned()),
        ("tools[0].parameters", |r| r.tools[0].parameters = "{".to_owned()),
        ("tools[1].name", |r| r.tools.push(r.tools[0].clone())),
        ("tool_choice.mode", |r| r.tool_choice = Some(pb::ToolChoice::default())),
        ("tool_choice.tool_name", |r| {
            r.tool_choice = Some(pb::ToolChoice { mode: Mode::Tool.into(), tool_name: "other".to_owned() });
        }),
        ("tool_choice.tool_name", |r| {
            r.tool_choice = Some(pb::ToolChoice { mode: Mode::Auto.into(), tool_name: "weather".to_owned() });
        }),
        ("max_output_tokens", |r| r.max_output_tokens = Some(0)),
        ("temperature", |r| r.temperature = Some(f64::NAN)),
        ("temperature", |r| r.temperature = Some(2.1)),
        ("top_p", |r| r.top_p = Some(-0.1)),
        ("top_k", |r| r.top_k = Some(0)),
        ("presence_penalty", |r| r.presence_penalty = Some(2.5)),
        ("frequency_penalty", |r| r.frequency_penalty = Some(f64::INFINITY)),
        ("stop_sequences[1]", |r| r.stop_sequences = vec!["a".to_owned(), String::new()]),
    ] {
        assert_eq!(refused(spoil), [field]);
    }
}

#[test]
fn all_bad_fields_are_named_together() {
    let fields = refused(|request| {
        request.organization_id.clear();
        request.model.clear();
        request.top_p = Some(7.0);
    });
    assert_eq!(fields, ["organization_id", "model", "top_p"]);
}

#[test]
fn a_tool_result_answers_an_earlier_call() {
    let turns = |id: &str, arguments: &str| {
        vec![
            message(Role::User, [text("Hello")]),
            message(Role::Assistant, [call("1", arguments)]),
            message(Role::Tool, [result(id)]),
        ]
    };
    assert!(refused(|r| r.messages = turns("1", "")).is_empty());
    assert_eq!(refused(|r| r.messages = turns("2", "")), ["messages[2].parts[0].tool_result.tool_call_id"]);
    assert_eq!(refused(|r| r.messages = turns("1", "nope")), ["messages[1].parts[0].tool_call.arguments"]);
}

#[test]
fn images_are_bytes_of_a_known_type_or_https() {
    let data = || image_part::Source::Data(vec![1].into());
    for (part, field) in [
        (image(data(), "image/png"), None),
        (image(url("https://example.com/a.png"), ""), None),
        (image(data(), ""), Some("media_type")),
        (image(data(), "image/tiff"), Some("media_type")),
        (image(image_part::Source::Data(Vec::new().into()), "image/png"), Some("data")),
        (image(url("http://example.com/a.png"), ""), Some("url")),
        (image(url("file:///etc/passwd"), ""), Some("url")),
        (Part::Image(pb::ImagePart::default()), Some("")),
    ] {
        let found = refused(|request| request.messages[0] = message(Role::User, [part]));
        let expected = field.map(|field| match field {
            "" => "messages[0].parts[0].image".to_owned(),
            field => format!("messages[0].parts[0].image.{field}"),
        });
        assert_eq!(found, Vec::from_iter(expected));
    }
}

#[test]
fn each_provider_has_its_value_in_the_contract_and_each_value_its_provider() {
    let values: Vec<_> = (1..).map_while(|number| types::Provider::try_from(number).ok()).collect();
    assert_eq!(Provider::ALL.map(types::Provider::from).as_slice(), values);
    for (known, value) in Provider::ALL.into_iter().zip(values) {
        assert_eq!(provider("provider", value).unwrap(), known);
    }
    let refused = provider("provider", types::Provider::Unspecified).unwrap_err();
    assert!(refused.to_string().contains("must be PROVIDER_ANTHROPIC, PROVIDER_OPENAI"), "{refused}");
}
