//! What a chat has that Chat Completions has not.

use super::{request::OUTPUT_TOKENS_MIN, type_of};
use crate::{
    message::{
        Amount, AssistantPart, Chat, Effort, FileSource, Message, Part, Provider, ProviderPart, Reasoning, Summary,
        Tool, UserPart,
    },
    provider::openai::models::thinks_without_functions,
};

/// Whether a chat can only be asked through this API.
pub(in super::super) fn is_needed(model: &str, chat: &Chat) -> bool {
    let shows_reasoning = matches!(
        chat.thinking.and_then(|thinking| thinking.summary),
        Some(Summary::Auto | Summary::Concise | Summary::Detailed)
    );
    shows_reasoning
        || chat.tools.iter().any(|tool| needs_tool(&tool.content))
        || chat.messages.iter().any(needs)
        || (thinks_with_functions(model, chat) && !has_what_is_not_here(chat))
}

/// Whether the model would refuse the functions of a chat because it thinks. It may do so
/// without being asked to.
fn thinks_with_functions(model: &str, chat: &Chat) -> bool {
    let has_functions = chat.tools.iter().any(|tool| matches!(tool.content, Tool::Function(_)));
    let amount = chat.thinking.and_then(|thinking| thinking.amount);
    has_functions && thinks_without_functions(model) && amount != Some(Amount::Effort(Effort::None))
}

/// Options of Chat Completions that this API does not know, or under another name.
const OPTIONS_NOT_HERE: [&str; 8] = [
    "audio",
    "logit_bias",
    "logprobs",
    "modalities",
    "prediction",
    "reasoning_effort",
    "verbosity",
    "web_search_options",
];

/// Whether a chat has what only Chat Completions has.
fn has_what_is_not_here(chat: &Chat) -> bool {
    let says = |part: &UserPart| match part {
        UserPart::Audio(_) => true,
        UserPart::Provider(part) => part.provider == Provider::OpenAi && !is_input(part),
        UserPart::Text(_) | UserPart::Image(_) | UserPart::Document(_) => false,
    };
    !chat.stop_sequences.is_empty()
        || chat.seed.is_some()
        || chat.presence_penalty.is_some()
        || chat.frequency_penalty.is_some()
        || chat.max_output_tokens.is_some_and(|few| few < OUTPUT_TOKENS_MIN)
        || OPTIONS_NOT_HERE.iter().any(|option| chat.provider_options.contains_key(*option))
        // What does not need this API is in the form of the other.
        || chat.tools.iter().any(|tool| matches!(tool.content, Tool::Provider(_)) && !needs_tool(&tool.content))
        || chat.messages.iter().any(|message| match message {
            Message::User(parts) => parts.iter().any(|part| says(&part.content)),
            Message::Assistant(_) | Message::Tool(_) => false,
        })
}

/// Chat Completions has functions and custom tools, and none that it runs itself.
fn needs_tool(tool: &Tool) -> bool {
    match tool {
        Tool::Function(_) => false,
        Tool::Provider(json) => !matches!(type_of(json).as_ref(), "function" | "custom"),
    }
}

fn needs(message: &Message) -> bool {
    match message {
        Message::User(parts) => parts.iter().any(|part| needs_user(&part.content)),
        Message::Assistant(parts) => parts.iter().any(|part| needs_assistant(&part.content)),
        Message::Tool(results) => results.iter().any(|result| result.content.content.iter().any(is_more_than_text)),
    }
}

fn needs_user(part: &UserPart) -> bool {
    match part {
        UserPart::Image(image) => matches!(image.source, FileSource::FileId(_)),
        UserPart::Document(document) => matches!(document.source, FileSource::Url(_)),
        UserPart::Provider(part) => part.provider == Provider::OpenAi && is_input(part),
        UserPart::Text(_) | UserPart::Audio(_) => false,
    }
}

/// Whether a part is in the form of this API and not of the other.
fn is_input(part: &ProviderPart) -> bool {
    is_item(part) || matches!(type_of(&part.json).as_ref(), "input_text" | "input_image" | "input_file")
}

/// Whether a part of a user stands by itself, not in a message: what answers an item of the
/// model, such as `computer_call_output` or `mcp_approval_response`.
pub(super) fn is_item(part: &ProviderPart) -> bool {
    let kind = type_of(&part.json);
    kind.ends_with("_output") || kind.ends_with("_response")
}

fn needs_assistant(part: &AssistantPart) -> bool {
    match part {
        AssistantPart::Reasoning(reasoning) => reasoning.is_of(Provider::OpenAi) && is_kept(reasoning),
        AssistantPart::Provider(part) => part.provider == Provider::OpenAi,
        AssistantPart::Text { .. } | AssistantPart::ToolCall(_) | AssistantPart::Refusal(_) => false,
    }
}

/// Whether there is more of it than words, which the model does not take for its own.
fn is_kept(reasoning: &Reasoning) -> bool {
    [&reasoning.signature, &reasoning.redacted_data, &reasoning.id].iter().any(|field| !field.is_empty())
}

fn is_more_than_text(part: &Part<UserPart>) -> bool {
    match part.content {
        UserPart::Text(_) => false,
        UserPart::Image(_) | UserPart::Document(_) | UserPart::Audio(_) | UserPart::Provider(_) => true,
    }
}
