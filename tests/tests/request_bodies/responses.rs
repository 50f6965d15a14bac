//! What a recorded request to Responses says, in the contract.

use proto::{
    chat::{
        ContentPart, Message, OpenAiApi, Reasoning, ReasoningPart, RefusalPart, StreamChatRequest, Tool, ToolChoice,
        content_part::Part, document_part, image_part, message::Role, reasoning, tool_choice::Mode,
    },
    types::Provider,
};
use serde_json::Value;

use crate::{
    contract::{Fields, Turns, all_of, call, document, effort, image, own, part, replaced, result, text},
    openai_chat::{file, function, image_of, labels, mode, plain_format, schema},
};

pub(crate) fn request(body: &Value) -> StreamChatRequest {
    let mut fields = Fields::of(body).expect("a request is an object");
    let mut request = StreamChatRequest { openai_api: OpenAiApi::Responses.into(), ..Default::default() };
    // Said by the call itself, or by every call of the gateway.
    fields.text("model");
    fields.flag("stream");
    fields.take("store", |store| (*store == false).then_some(()));
    fields.take("include", |include| all_are(include, "reasoning.encrypted_content").then_some(()));
    request.system = fields.text("instructions").unwrap_or_default();
    request.messages = fields.take("input", conversation).unwrap_or_else(replaced);
    request.tools = fields.list("tools").unwrap_or_default().iter().map(tool).collect();
    if !request.tools.is_empty() {
        request.tool_choice = fields.take("tool_choice", tool_choice);
    }
    request.parallel_tool_calls = fields.flag("parallel_tool_calls");
    request.max_output_tokens = fields.whole_number("max_output_tokens");
    request.temperature = fields.number("temperature");
    request.top_p = fields.number("top_p");
    request.metadata = fields.take("metadata", labels).unwrap_or_default();
    fields.within("text", |text| {
        request.response_format = text.object("format", |format| match format.text("type")?.as_str() {
            "json_schema" => schema(format),
            kind => plain_format(kind),
        });
        Some(())
    });
    request.reasoning = fields.object("reasoning", |asked| {
        let amount = asked.take("effort", |word| effort(word.as_str()?));
        let summary = match asked.text("summary").as_deref() {
            None => reasoning::Summary::Unspecified,
            Some("auto") => reasoning::Summary::Auto,
            Some("concise") => reasoning::Summary::Concise,
            Some("detailed") => reasoning::Summary::Detailed,
            Some(_) => return None,
        };
        let amount = amount.map(|effort| reasoning::Amount::Effort(effort.into()));
        Some(Reasoning { amount, summary: summary.into() })
    });
    request.provider_options = fields.options();
    request
}

fn all_are(list: &Value, word: &str) -> bool {
    list.as_array().is_some_and(|items| items.iter().all(|item| item == word))
}

fn conversation(value: &Value) -> Option<Vec<Message>> {
    let mut turns = Turns::default();
    if let Some(said) = value.as_str() {
        turns.add(Role::User, text(said));
        return Some(turns.into_messages());
    }
    for item in value.as_array()? {
        match (item["type"].as_str(), item["role"].as_str()) {
            (None | Some("message"), Some("user")) => {
                for block in all_of(item, |item| blocks(item, "input_text"))? {
                    turns.add(Role::User, user_part(&block));
                }
            }
            (None | Some("message"), Some("assistant")) => {
                let parts = all_of(item, said).unwrap_or_else(|| vec![own(Provider::Openai, item)]);
                for part in parts {
                    turns.add(Role::Assistant, part);
                }
            }
            (None | Some("message"), _) => return None,
            (Some("function_call_output"), _) => turns.add(Role::Tool, all_of(item, output)?),
            // The results of other calls come from the caller.
            (Some(kind), _) if kind.ends_with("_output") || kind == "mcp_approval_response" => {
                turns.add(Role::User, own(Provider::Openai, item));
            }
            (Some(_), _) => {
                turns.add(Role::Assistant, all_of(item, assistant_part).unwrap_or_else(|| own(Provider::Openai, item)));
            }
        }
    }
    Some(turns.into_messages())
}

/// The content of a message, which may be a string: a block of the kind `kind`.
fn blocks(item: &mut Fields, kind: &str) -> Option<Vec<Value>> {
    item.text("type");
    item.text("role");
    match item.text("content") {
        Some(said) => Some(vec![serde_json::json!({"type": kind, "text": said})]),
        None => item.list("content"),
    }
}

fn user_part(block: &Value) -> ContentPart {
    let common = all_of(block, |block| match block.text("type")?.as_str() {
        "input_text" => Some(text(block.text("text")?)),
        "input_image" => {
            let detail = block.text("detail").unwrap_or_default();
            match block.text("file_id") {
                Some(id) => Some(image(image_part::Source::FileId(id), String::new(), detail)),
                None => Some(image_of(&block.text("image_url")?, detail)),
            }
        }
        "input_file" => match block.text("file_url") {
            Some(url) => {
                let title = block.text("filename").unwrap_or_default();
                Some(part(Part::Document(document(document_part::Source::Url(url), String::new(), title))))
            }
            None => file(block),
        },
        _ => None,
    });
    common.unwrap_or_else(|| own(Provider::Openai, block))
}

/// A message of the assistant without an id, a phase and the like.
fn said(item: &mut Fields) -> Option<Vec<ContentPart>> {
    let block = |block: &Value| {
        all_of(block, |block| match block.text("type")?.as_str() {
            "output_text" => {
                block.take("annotations", |list| list.as_array()?.is_empty().then_some(()));
                Some(text(block.text("text")?))
            }
            "refusal" => Some(part(Part::Refusal(RefusalPart { text: block.text("refusal")? }))),
            _ => None,
        })
    };
    blocks(item, "output_text")?.iter().map(block).collect()
}

fn assistant_part(item: &mut Fields) -> Option<ContentPart> {
    match item.text("type")?.as_str() {
        "reasoning" => {
            let summary = item.list("summary").unwrap_or_default();
            let texts: Option<Vec<String>> = summary.iter().map(|part| all_of(part, summary_text)).collect();
            Some(part(Part::Reasoning(ReasoningPart {
                provider: Provider::Openai.into(),
                text: texts?.join("\n\n"),
                signature: item.text("encrypted_content").unwrap_or_default(),
                id: item.text("id").unwrap_or_default(),
                redacted_data: String::new(),
            })))
        }
        "function_call" => {
            // Of the item, not of the call.
            item.text("id");
            item.text("status");
            let call = call(item.text("call_id")?, item.text("name")?, item.text("arguments")?);
            Some(part(Part::ToolCall(call)))
        }
        _ => None,
    }
}

fn summary_text(part: &mut Fields) -> Option<String> {
    part.text("type").filter(|kind| kind == "summary_text")?;
    part.text("text")
}

fn output(item: &mut Fields) -> Option<ContentPart> {
    item.text("type");
    let content = match item.text("output") {
        Some(said) if said.is_empty() => Vec::new(),
        Some(said) => vec![text(said)],
        None => item.list("output")?.iter().map(user_part).collect(),
    };
    Some(part(Part::ToolResult(result(item.text("call_id")?, content))))
}

fn tool(tool: &Value) -> Tool {
    let described = all_of(tool, |tool| {
        tool.text("type").filter(|kind| kind == "function")?;
        function(tool)
    });
    described.unwrap_or_else(|| Tool { provider_tool: tool.to_string(), ..Tool::default() })
}

fn tool_choice(value: &Value) -> Option<ToolChoice> {
    mode(value).or_else(|| {
        all_of(value, |choice| {
            choice.text("type").filter(|kind| kind == "function")?;
            Some(ToolChoice { mode: Mode::Tool.into(), tool_name: choice.text("name")? })
        })
    })
}
