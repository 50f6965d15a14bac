//! What a recorded request to `generateContent` says, in the contract.
//!
//! The names are read in camel case: see [`crate::compare`].

use proto::{
    chat::{
        AudioPart, ContentPart, Message, Reasoning, ReasoningPart, ResponseFormat, StreamChatRequest, TextPart, Tool,
        ToolCallPart, ToolChoice, content_part::Part, document_part, image_part, message::Role, reasoning,
        response_format::Type, tool_choice::Mode,
    },
    types::Provider,
};
use serde_json::Value;

use crate::{
    compare,
    contract::{Fields, Turns, all_of, bytes, call, document, effort, image, own, part, replaced, result, text},
};

/// How the ids begin that the gateway makes where Gemini has none, and takes off again.
const MADE_ID: &str = "call-gateway-";

/// Where Google's own files are; what lies elsewhere has no common form.
const FILE_HOSTS: [&str; 2] = ["https://generativelanguage.googleapis.com/", "gs://"];

const IMAGE_TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

pub(crate) fn request(body: &Value) -> StreamChatRequest {
    let mut body = body.clone();
    compare::to_camel_case(&mut body);
    let mut fields = Fields::of(&body).expect("a request is an object");
    let mut request = StreamChatRequest::default();
    // Said by the path.
    fields.text("model");
    request.system = fields.take("systemInstruction", system).unwrap_or_default();
    request.messages = fields.take("contents", conversation).unwrap_or_else(replaced);
    request.tools = fields.list("tools").unwrap_or_default().iter().flat_map(tools).collect();
    if !request.tools.is_empty() {
        fields.within("toolConfig", |config| {
            request.tool_choice = config.object("functionCallingConfig", tool_choice);
            Some(())
        });
    }
    fields.within("generationConfig", |config| {
        request.max_output_tokens = config.whole_number("maxOutputTokens");
        request.temperature = config.number("temperature");
        request.top_p = config.number("topP");
        request.top_k = config.whole_number("topK");
        request.seed = config.take("seed", Value::as_i64);
        request.presence_penalty = config.number("presencePenalty");
        request.frequency_penalty = config.number("frequencyPenalty");
        request.stop_sequences = config.take("stopSequences", texts).unwrap_or_default();
        request.reasoning = config.object("thinkingConfig", thinking);
        if let Some((format, rest)) = response_format(config.clone()) {
            (request.response_format, *config) = (Some(format), rest);
        }
        Some(())
    });
    request.provider_options = fields.options();
    request
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

/// One part of text; more have no common form.
fn system(instruction: &Value) -> Option<String> {
    let [part] = instruction["parts"].as_array()?.as_slice() else { return None };
    all_of(part, |part| {
        not_a_thought(part);
        part.text("text")
    })
}

/// Most parts of some clients say that they are none.
fn not_a_thought(part: &mut Fields) {
    part.take("thought", |thought| (*thought == false).then_some(()));
}

/// Calls by id, to find those that a result without an id answers: the first of its name
/// that has no result yet.
#[derive(Debug, Default)]
struct Calls(Vec<(String, String, bool)>);

impl Calls {
    fn begin(&mut self, id: Option<String>, name: &str) -> String {
        let id = id.unwrap_or_else(|| format!("{MADE_ID}{}", self.0.len()));
        self.0.push((id.clone(), name.to_owned(), false));
        id
    }

    fn answer(&mut self, id: Option<&str>, name: &str) -> Option<String> {
        let asked = |call: &&mut (String, String, bool)| match id {
            Some(id) => call.0 == id,
            None => call.1 == name && !call.2,
        };
        let call = self.0.iter_mut().find(asked)?;
        call.2 = true;
        Some(call.0.clone())
    }
}

fn conversation(contents: &Value) -> Option<Vec<Message>> {
    let (mut turns, mut calls) = (Turns::default(), Calls::default());
    for content in contents.as_array()? {
        for part in content["parts"].as_array()? {
            match content["role"].as_str()? {
                "user" if part.get("functionResponse").is_some_and(Value::is_object) => {
                    turns.add(Role::Tool, all_of(part, |part| response(part, &mut calls))?);
                }
                "user" => turns.add(Role::User, all_of(part, user_part).unwrap_or_else(|| own(Provider::Gemini, part))),
                "model" => {
                    let read = all_of(part, |part| model_part(part, &mut calls));
                    turns.add(Role::Assistant, read.unwrap_or_else(|| own(Provider::Gemini, part)));
                }
                _ => return None,
            }
        }
    }
    Some(turns.into_messages())
}

fn user_part(part: &mut Fields) -> Option<ContentPart> {
    not_a_thought(part);
    if let Some(said) = part.text("text") {
        return Some(text(said));
    }
    part.object("inlineData", inline).or_else(|| part.object("fileData", |file| self::file(file, &FILE_HOSTS)))
}

fn inline(blob: &mut Fields) -> Option<ContentPart> {
    let (media_type, data) = (blob.text("mimeType")?, bytes(&blob.text("data")?)?);
    Some(if IMAGE_TYPES.contains(&media_type.as_str()) {
        image(image_part::Source::Data(data), media_type, String::new())
    } else if media_type.starts_with("audio/") {
        part(Part::Audio(AudioPart { data, media_type }))
    } else {
        part(Part::Document(document(document_part::Source::Data(data), media_type, String::new())))
    })
}

/// A file at one of `hosts`.
fn file(file: &mut Fields, hosts: &[&str]) -> Option<ContentPart> {
    let (media_type, url) = (file.text("mimeType")?, file.text("fileUri")?);
    if !hosts.iter().any(|host| url.starts_with(host)) {
        return None;
    }
    Some(if IMAGE_TYPES.contains(&media_type.as_str()) {
        image(image_part::Source::Url(url), media_type, String::new())
    } else {
        part(Part::Document(document(document_part::Source::Url(url), media_type, String::new())))
    })
}

fn model_part(fields: &mut Fields, calls: &mut Calls) -> Option<ContentPart> {
    not_a_thought(fields);
    let signature = fields.text("thoughtSignature").unwrap_or_default();
    if let Some(text) = fields.text("text") {
        if fields.flag("thought").is_some() {
            let provider = Provider::Gemini.into();
            return Some(part(Part::Reasoning(ReasoningPart { provider, text, signature, ..Default::default() })));
        }
        return Some(part(Part::Text(TextPart { text, signature })));
    }
    let call = fields.object("functionCall", |asked| {
        let (id, name) = (asked.text("id"), asked.text("name")?);
        let arguments = asked.json("args").unwrap_or_default();
        Some(call(calls.begin(id, &name), name, arguments))
    })?;
    Some(part(Part::ToolCall(ToolCallPart { signature, ..call })))
}

fn response(fields: &mut Fields, calls: &mut Calls) -> Option<ContentPart> {
    not_a_thought(fields);
    fields.object("functionResponse", |response| {
        let (id, name) = (response.text("id"), response.text("name")?);
        let mut content = vec![text(response.json("response")?)];
        for part in response.list("parts").unwrap_or_default() {
            // Files of other sites too: the contract has no part of the provider's own here.
            content.push(all_of(&part, |part| {
                part.object("inlineData", inline).or_else(|| part.object("fileData", |file| self::file(file, &[""])))
            })?);
        }
        Some(part(Part::ToolResult(result(calls.answer(id.as_deref(), &name)?, content))))
    })
}

/// An entry may hold functions and tools of the provider's, which are one each here.
fn tools(entry: &Value) -> Vec<Tool> {
    let entry = entry.as_object().expect("a tool is an object").iter().filter(|(_, tool)| !tool.is_null());
    entry
        .flat_map(|(kind, tool)| match tool.as_array() {
            Some(functions) if kind == "functionDeclarations" => functions.iter().map(function).collect(),
            Some(_) | None => {
                let provider_tool = serde_json::json!({ kind: tool }).to_string();
                vec![Tool { provider_tool, ..Tool::default() }]
            }
        })
        .collect()
}

fn function(value: &Value) -> Tool {
    let described = all_of(value, |function| {
        let schema = function.take("parameters", |schema| Some(compare::json_schema(schema)));
        Some(Tool {
            name: function.text("name")?,
            description: function.text("description").unwrap_or_default(),
            parameters: match schema {
                Some(schema) => schema.to_string(),
                None => function.json("parametersJsonSchema").unwrap_or_default(),
            },
            ..Tool::default()
        })
    });
    described.unwrap_or_else(|| Tool {
        provider_tool: serde_json::json!({"functionDeclarations": [value]}).to_string(),
        ..Tool::default()
    })
}

fn tool_choice(config: &mut Fields) -> Option<ToolChoice> {
    let mode = config.text("mode")?;
    let names = config.take("allowedFunctionNames", texts);
    let (mode, tool_name) = match (mode.as_str(), names.as_deref()) {
        ("AUTO", None) => (Mode::Auto, String::new()),
        ("NONE", None) => (Mode::None, String::new()),
        ("ANY", None) => (Mode::Required, String::new()),
        ("ANY", Some([name])) => (Mode::Tool, name.clone()),
        _ => return None,
    };
    Some(ToolChoice { mode: mode.into(), tool_name })
}

fn thinking(config: &mut Fields) -> Option<Reasoning> {
    let summary = match config.flag("includeThoughts") {
        None => reasoning::Summary::Unspecified,
        Some(false) => reasoning::Summary::None,
        Some(true) => reasoning::Summary::Auto,
    };
    let effort = |effort: reasoning::Effort| reasoning::Amount::Effort(effort.into());
    let amount = match (config.whole_number("thinkingBudget"), config.text("thinkingLevel")) {
        (Some(0), None) => Some(effort(reasoning::Effort::None)),
        (Some(tokens), None) => Some(reasoning::Amount::BudgetTokens(tokens)),
        (None, Some(level)) => Some(effort(self::effort(&level)?)),
        (None, None) => None,
        (Some(_), Some(_)) => return None,
    };
    Some(Reasoning { amount, summary: summary.into() })
}

/// The format, and what else the configuration has. Media types without a common form are
/// left in it.
fn response_format(mut config: Fields) -> Option<(ResponseFormat, Fields)> {
    let media_type = config.text("responseMimeType")?;
    let given = config.take("responseSchema", |schema| Some(compare::json_schema(schema).to_string()));
    let schema = given.or_else(|| config.json("responseJsonSchema"));
    let kind = match (media_type.as_str(), &schema) {
        ("application/json", Some(_)) => Type::JsonSchema,
        ("application/json", None) => Type::Json,
        ("text/plain", None) => Type::Text,
        _ => return None,
    };
    let schema = schema.unwrap_or_default();
    Some((ResponseFormat { r#type: kind.into(), schema, ..ResponseFormat::default() }, config))
}
