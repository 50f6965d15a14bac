//! What a recorded request to Messages says, in the contract.

use bytes::Bytes;
use proto::{
    chat::{
        CacheControl, ContentPart, Reasoning, ReasoningPart, ResponseFormat, StreamChatRequest, Tool, ToolChoice,
        content_part::Part, document_part, image_part, message::Role, reasoning, response_format, tool_choice::Mode,
    },
    types::Provider,
};
use serde_json::Value;

use crate::contract::{Fields, Turns, all_of, bytes, call, document, effort, image, own, part, replaced, result, text};

pub(crate) fn request(body: &Value) -> StreamChatRequest {
    let mut fields = Fields::of(body).expect("a request is an object");
    let mut request = StreamChatRequest::default();
    // Said by the call itself.
    fields.text("model");
    fields.flag("stream");
    if let Some((system, cache)) = fields.take("system", system) {
        (request.system, request.system_cache_control) = (system, cache);
    }
    request.messages = fields.take("messages", messages).unwrap_or_else(replaced);
    request.tools = fields.list("tools").unwrap_or_default().iter().map(tool).collect();
    let names: Vec<_> = request.tools.iter().map(|tool| tool.name.clone()).collect();
    if let Some((choice, parallel)) = fields.object("tool_choice", |choice| tool_choice(choice, &names)) {
        (request.tool_choice, request.parallel_tool_calls) = (Some(choice), parallel);
    }
    request.max_output_tokens = fields.whole_number("max_tokens");
    request.temperature = fields.number("temperature");
    request.top_p = fields.number("top_p");
    request.top_k = fields.whole_number("top_k");
    request.stop_sequences = fields.take("stop_sequences", texts).unwrap_or_default();
    request.reasoning = fields.object("thinking", thinking);
    fields.within("output_config", |config| {
        request.response_format = config.object("format", response_format);
        // Beside a budget there is no place for it.
        if let Some(thought) = request.reasoning.as_mut().filter(|it| it.amount == Some(ANY_TOKENS)) {
            let effort = config.take("effort", |word| effort(word.as_str()?));
            thought.amount = effort.map_or(thought.amount, |effort| Some(reasoning::Amount::Effort(effort.into())));
        }
        Some(())
    });
    fields.within("metadata", |metadata| {
        request.metadata.insert("user_id".to_owned(), metadata.text("user_id")?);
        Some(())
    });
    request.cache_control = cache(&mut fields);
    request.provider_options = fields.options();
    request
}

const ANY_TOKENS: reasoning::Amount = reasoning::Amount::BudgetTokens(-1);

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

/// A string, or one block; several have no common form.
fn system(value: &Value) -> Option<(String, Option<CacheControl>)> {
    if let Some(text) = value.as_str() {
        return Some((text.to_owned(), None));
    }
    let [block] = value.as_array()?.as_slice() else { return None };
    all_of(block, |block| {
        let cache = cache(block);
        block.text("type").filter(|kind| kind == "text")?;
        Some((block.text("text")?, cache))
    })
}

fn cache(fields: &mut Fields) -> Option<CacheControl> {
    fields.object("cache_control", |cache| {
        cache.text("type").filter(|kind| kind == "ephemeral")?;
        let seconds = match cache.text("ttl").as_deref() {
            None => return Some(CacheControl { ttl: None }),
            Some("5m") => 300,
            Some("1h") => 3600,
            Some(_) => return None,
        };
        Some(CacheControl { ttl: Some(prost_types::Duration { seconds, nanos: 0 }) })
    })
}

fn messages(value: &Value) -> Option<Vec<proto::chat::Message>> {
    let mut turns = Turns::default();
    for message in value.as_array()? {
        let blocks = match &message["content"] {
            Value::String(said) => vec![serde_json::json!({"type": "text", "text": said})],
            blocks => blocks.as_array()?.clone(),
        };
        for block in &blocks {
            match message["role"].as_str()? {
                "user" if block["type"] == "tool_result" => turns.add(Role::Tool, all_of(block, tool_result)?),
                "user" => turns.add(Role::User, user_part(block)),
                "assistant" => turns.add(Role::Assistant, assistant_part(block)),
                _ => return None,
            }
        }
    }
    Some(turns.into_messages())
}

fn user_part(block: &Value) -> ContentPart {
    let common = all_of(block, |block| {
        let cache_control = cache(block);
        let part = match block.text("type")?.as_str() {
            "text" => text(block.text("text")?),
            "image" => block.object("source", image_source)?,
            "document" => document_part(block)?,
            _ => return None,
        };
        Some(ContentPart { cache_control, ..part })
    });
    common.unwrap_or_else(|| own(Provider::Anthropic, block))
}

fn image_source(source: &mut Fields) -> Option<ContentPart> {
    let (from, media_type) = match source.text("type")?.as_str() {
        "base64" => {
            let media_type = source.text("media_type")?;
            (image_part::Source::Data(bytes(&source.text("data")?)?), media_type)
        }
        "url" => (image_part::Source::Url(source.text("url")?), String::new()),
        "file" => (image_part::Source::FileId(source.text("file_id")?), String::new()),
        _ => return None,
    };
    Some(image(from, media_type, String::new()))
}

fn document_part(block: &mut Fields) -> Option<ContentPart> {
    let (from, media_type) = block.object("source", |source| {
        Some(match source.text("type")?.as_str() {
            "base64" => {
                let media_type = source.text("media_type")?;
                (document_part::Source::Data(bytes(&source.text("data")?)?), media_type)
            }
            "text" => {
                let media_type = source.text("media_type")?;
                (document_part::Source::Data(Bytes::from(source.text("data")?)), media_type)
            }
            "url" => (document_part::Source::Url(source.text("url")?), String::new()),
            "file" => (document_part::Source::FileId(source.text("file_id")?), String::new()),
            _ => return None,
        })
    })?;
    let mut document = document(from, media_type, block.text("title").unwrap_or_default());
    document.context = block.text("context").unwrap_or_default();
    document.citations = block.object("citations", |citations| citations.flag("enabled")).unwrap_or_default();
    Some(part(Part::Document(document)))
}

fn tool_result(block: &mut Fields) -> Option<ContentPart> {
    let cache_control = cache(block);
    block.text("type")?;
    let content = match block.text("content") {
        Some(said) if said.is_empty() => Vec::new(),
        Some(said) => vec![text(said)],
        None => block.list("content").unwrap_or_default().iter().map(user_part).collect(),
    };
    let mut result = result(block.text("tool_use_id")?, content);
    result.is_error = block.flag("is_error").unwrap_or_default();
    Some(ContentPart { cache_control, ..part(Part::ToolResult(result)) })
}

fn assistant_part(block: &Value) -> ContentPart {
    let thought = |said| part(Part::Reasoning(ReasoningPart { provider: Provider::Anthropic.into(), ..said }));
    let common = all_of(block, |block| {
        let cache_control = cache(block);
        let part = match block.text("type")?.as_str() {
            "text" => text(block.text("text")?),
            "thinking" => {
                let (text, signature) = (block.text("thinking")?, block.text("signature")?);
                thought(ReasoningPart { text, signature, ..ReasoningPart::default() })
            }
            "redacted_thinking" => {
                thought(ReasoningPart { redacted_data: block.text("data")?, ..ReasoningPart::default() })
            }
            "tool_use" => part(Part::ToolCall(call(block.text("id")?, block.text("name")?, block.json("input")?))),
            _ => return None,
        };
        Some(ContentPart { cache_control, ..part })
    });
    common.unwrap_or_else(|| own(Provider::Anthropic, block))
}

fn tool(tool: &Value) -> Tool {
    let function = all_of(tool, |tool| {
        if tool.text("type").is_some_and(|kind| kind != "custom") {
            return None;
        }
        Some(Tool {
            name: tool.text("name")?,
            description: tool.text("description").unwrap_or_default(),
            parameters: tool.json("input_schema")?,
            strict: tool.flag("strict"),
            cache_control: cache(tool),
            provider_tool: String::new(),
        })
    });
    function.unwrap_or_else(|| Tool { provider_tool: tool.to_string(), ..Tool::default() })
}

fn tool_choice(choice: &mut Fields, names: &[String]) -> Option<(ToolChoice, Option<bool>)> {
    let (mode, tool_name) = match choice.text("type")?.as_str() {
        "auto" => (Mode::Auto, String::new()),
        "any" => (Mode::Required, String::new()),
        "none" => (Mode::None, String::new()),
        "tool" => (Mode::Tool, choice.text("name").filter(|name| names.contains(name))?),
        _ => return None,
    };
    let parallel = choice.flag("disable_parallel_tool_use").map(|disabled| !disabled);
    Some((ToolChoice { mode: mode.into(), tool_name }, parallel))
}

fn thinking(thinking: &mut Fields) -> Option<Reasoning> {
    let amount = match thinking.text("type")?.as_str() {
        "enabled" => reasoning::Amount::BudgetTokens(thinking.whole_number("budget_tokens")?),
        "adaptive" => ANY_TOKENS,
        "disabled" => reasoning::Amount::Effort(reasoning::Effort::None.into()),
        _ => return None,
    };
    let summary = match thinking.text("display").as_deref() {
        None => reasoning::Summary::Unspecified,
        Some("summarized") => reasoning::Summary::Auto,
        Some("omitted") => reasoning::Summary::None,
        Some(_) => return None,
    };
    Some(Reasoning { amount: Some(amount), summary: summary.into() })
}

fn response_format(format: &mut Fields) -> Option<ResponseFormat> {
    format.text("type").filter(|kind| kind == "json_schema")?;
    let schema = format.json("schema")?;
    Some(ResponseFormat { r#type: response_format::Type::JsonSchema.into(), schema, ..ResponseFormat::default() })
}
