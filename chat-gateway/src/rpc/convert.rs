//! Messages to plain data and back: the only place that sees both, and the only one that
//! refuses a message for what stands in it, whatever the provider.

mod conversation;

use proto::{
    chat::{self as pb, stream_chat_response::Event as Sent},
    types,
};
use service_runtime::fields::{Check, Invalid};

use crate::{
    chat::Whole,
    detect::{Detected, NoMatch},
    message::{Ask, Chat, Event, Finish, FinishReason, Label, Provider, Source, Started, Usage},
};

/// Longer than any model's name, with room for a fine-tuned one's.
const MODEL_CHARS_MAX: usize = 256;

/// Beyond every provider's own limit, which says so itself.
const STOP_SEQUENCES_MAX: usize = 64;

type Result<T> = std::result::Result<T, Invalid>;

/// A `Chat` request is a `StreamChat` request whose answer is waited for.
pub(super) fn as_stream(request: pb::ChatRequest) -> pb::StreamChatRequest {
    pb::StreamChatRequest {
        organization_id: request.organization_id,
        profile_id: request.profile_id,
        model: request.model,
        system: request.system,
        messages: request.messages,
        tools: request.tools,
        tool_choice: request.tool_choice,
        parallel_tool_calls: request.parallel_tool_calls,
        max_output_tokens: request.max_output_tokens,
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        stop_sequences: request.stop_sequences,
        seed: request.seed,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
    }
}

pub(super) fn ask(request: pb::StreamChatRequest) -> Result<Ask> {
    let mut check = Check::default();
    let organization = check.take(label("organization_id", request.organization_id));
    let profile = match request.profile_id {
        None => Some(None),
        Some(text) => check.take(label("profile_id", text)).map(Some),
    };
    let model = check.take(model(&request.model));
    let tools = check.take(conversation::tools(request.tools));
    let tool_choice = match (request.tool_choice, &tools) {
        (Some(choice), Some(tools)) => check.take(conversation::tool_choice(choice, tools)).map(Some),
        (Some(_), None) | (None, _) => Some(None),
    };
    let messages = check.take(conversation::messages(request.messages));
    check.number("max_output_tokens", request.max_output_tokens, 1, i32::MAX);
    check.number("temperature", request.temperature, 0.0, 2.0);
    check.number("top_p", request.top_p, 0.0, 1.0);
    check.number("top_k", request.top_k, 1, i32::MAX);
    check.number("presence_penalty", request.presence_penalty, -2.0, 2.0);
    check.number("frequency_penalty", request.frequency_penalty, -2.0, 2.0);
    check.take(stop_sequences(&request.stop_sequences));
    let (Some(organization), Some(profile), Some(model), Some(tools), Some(tool_choice), Some(messages), true) =
        (organization, profile, model, tools, tool_choice, messages, check.passed())
    else {
        return Err(check.failed());
    };
    let chat = Chat {
        system: request.system,
        messages,
        tools,
        tool_choice,
        parallel_tool_calls: request.parallel_tool_calls,
        max_output_tokens: request.max_output_tokens.map(i32::unsigned_abs),
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k.map(i32::unsigned_abs),
        stop_sequences: request.stop_sequences,
        seed: request.seed,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
    };
    Ok(Ask { organization, profile, model, chat })
}

/// A model's name without white space around it.
pub(super) fn model(text: &str) -> Result<String> {
    let name = text.trim();
    if !(1..=MODEL_CHARS_MAX).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        let problem =
            format_args!("must be a model's name: 1 to {MODEL_CHARS_MAX} characters without control characters");
        return Err(Invalid::new("model", problem));
    }
    Ok(name.to_owned())
}

fn label(path: &str, text: String) -> Result<Label> {
    Label::new(text)
        .ok_or_else(|| Invalid::new(path, format_args!("must be 1 to {} of A-Z a-z 0-9 . _ : @ -", Label::LENGTH_MAX)))
}

fn stop_sequences(texts: &[String]) -> Result<()> {
    if texts.len() > STOP_SEQUENCES_MAX {
        return Err(Invalid::new("stop_sequences", format_args!("may have {STOP_SEQUENCES_MAX} texts at most")));
    }
    match texts.iter().position(String::is_empty) {
        Some(n) => Err(Invalid::new(format!("stop_sequences[{n}]"), "must not be empty")),
        None => Ok(()),
    }
}

pub(super) fn started(started: Started) -> pb::StreamChatResponse {
    sent(Sent::Started(started.into()))
}

pub(super) fn event(event: Event) -> pb::StreamChatResponse {
    sent(match event {
        Event::Text(text) => Sent::TextDelta(pb::TextDelta { text }),
        Event::Refusal(text) => Sent::RefusalDelta(pb::RefusalDelta { text }),
        Event::ToolCallStarted { index, id, name } => {
            Sent::ToolCallStarted(pb::ToolCallStarted { index: number(index), id, name })
        }
        Event::ToolCallDelta { index, arguments } => {
            Sent::ToolCallDelta(pb::ToolCallDelta { index: number(index), arguments })
        }
        Event::ToolCallFinished(call) => Sent::ToolCallFinished(pb::ToolCallFinished {
            index: number(call.index),
            id: call.id,
            name: call.name,
            arguments: call.arguments,
            incomplete: call.incomplete,
        }),
        Event::Usage(reported) => Sent::Usage(usage(reported)),
        Event::Finished(finish) => Sent::Finished(finish.into()),
    })
}

fn sent(event: Sent) -> pb::StreamChatResponse {
    pb::StreamChatResponse { event: Some(event) }
}

pub(super) fn whole(started: Started, whole: Whole) -> pb::ChatResponse {
    let mut parts = Vec::with_capacity(whole.calls.len() + 1);
    if !whole.text.is_empty() {
        parts.push(pb::content_part::Part::Text(pb::TextPart { text: whole.text }));
    }
    parts.extend(whole.calls.into_iter().map(|call| {
        pb::content_part::Part::ToolCall(pb::ToolCallPart {
            id: call.id,
            name: call.name,
            arguments: call.arguments,
            incomplete: call.incomplete,
        })
    }));
    let parts = parts.into_iter().map(|part| pb::ContentPart { part: Some(part) }).collect();
    pb::ChatResponse {
        started: Some(started.into()),
        message: Some(pb::Message { role: pb::message::Role::Assistant.into(), parts }),
        refusal: whole.refusal,
        finished: Some(whole.finish.into()),
    }
}

pub(super) fn detection(outcome: std::result::Result<Detected, NoMatch>) -> pb::DetectProviderResponse {
    match outcome {
        Ok(detected) => pb::DetectProviderResponse {
            provider: types::Provider::from(detected.provider).into(),
            provider_model: detected.provider_model,
            rule: detected.rule,
            no_match_reason: String::new(),
            chat_supported: detected.chats,
        },
        Err(none) => pb::DetectProviderResponse { no_match_reason: none.reason, ..Default::default() },
    }
}

pub(super) fn usage(usage: Usage) -> pb::Usage {
    let count = |tokens: Option<u64>| tokens.map(|tokens| i64::try_from(tokens).unwrap_or(i64::MAX));
    pb::Usage {
        input_tokens: count(usage.input),
        cached_input_tokens: count(usage.cached_input),
        cache_write_tokens: count(usage.cache_write),
        output_tokens: count(usage.output),
        reasoning_tokens: count(usage.reasoning),
        total_tokens: count(usage.total),
    }
}

fn number(index: u32) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

impl From<Started> for pb::Started {
    fn from(started: Started) -> Self {
        Self {
            provider: types::Provider::from(started.provider).into(),
            model: started.model,
            api_key_id: started.api_key_id,
            source: types::Source::from(started.source).into(),
            provider_request_id: started.provider_request_id,
        }
    }
}

impl From<Finish> for pb::Finished {
    fn from(finish: Finish) -> Self {
        let reason = match finish.reason {
            FinishReason::Stop => pb::FinishReason::Stop,
            FinishReason::StopSequence => pb::FinishReason::StopSequence,
            FinishReason::Length => pb::FinishReason::Length,
            FinishReason::ToolCalls => pb::FinishReason::ToolCalls,
            FinishReason::ContentFilter => pb::FinishReason::ContentFilter,
            FinishReason::Refusal => pb::FinishReason::Refusal,
            FinishReason::Pause => pb::FinishReason::Pause,
            FinishReason::MalformedToolCall => pb::FinishReason::MalformedToolCall,
            FinishReason::Other => pb::FinishReason::Other,
        };
        Self {
            finish_reason: reason.into(),
            provider_finish_reason: finish.provider_reason,
            usage: finish.usage.map(usage),
            stop_sequence: finish.stop_sequence,
        }
    }
}

impl From<Provider> for types::Provider {
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::Anthropic => Self::Anthropic,
            Provider::OpenAi => Self::Openai,
            Provider::Gemini => Self::Gemini,
        }
    }
}

impl From<Source> for types::Source {
    fn from(source: Source) -> Self {
        match source {
            Source::Profile => Self::Profile,
            Source::OrganizationDefault => Self::OrganizationDefault,
            Source::Environment => Self::Environment,
        }
    }
}

#[cfg(test)]
mod tests;
