//! Messages to plain data and back: the only place that sees both, and the only one that
//! refuses a message for what stands in it, whatever the provider.

mod answer;
mod conversation;
mod options;

use proto::{chat as pb, types};
use service_runtime::fields::{Check, Invalid};

use crate::{
    detect::{Detected, NoMatch},
    message::{Ask, Chat, Label, Provider, Source},
};

pub(super) use answer::{event, started, usage, whole};

/// Longer than any model's name, with room for a fine-tuned one's.
const MODEL_CHARS_MAX: usize = 256;

/// A caller that has more to try has a choice to make, and the first failure waits for all.
const FALLBACK_MODELS_MAX: usize = 4;

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
        response_format: request.response_format,
        reasoning: request.reasoning,
        metadata: request.metadata,
        provider_options: request.provider_options,
        cache_control: request.cache_control,
        system_cache_control: request.system_cache_control,
        openai_api: request.openai_api,
        fallback_models: request.fallback_models,
        on_disconnect: request.on_disconnect,
    }
}

pub(super) fn ask(request: pb::StreamChatRequest) -> Result<Ask> {
    let mut check = Check::default();
    let organization = check.take(label("organization_id", request.organization_id.clone()));
    let profile = check.take(request.profile_id.clone().map(|text| label("profile_id", text)).transpose());
    let model = check.take(model("model", &request.model));
    let fallback_models = check.take(fallback_models(&request.fallback_models));
    let drains = request.on_disconnect() == pb::OnDisconnect::Drain;
    let chat = check.take(chat(request));
    let (Some(organization), Some(profile), Some(model), Some(fallback_models), Some(chat)) =
        (organization, profile, model, fallback_models, chat)
    else {
        return Err(check.failed());
    };
    Ok(Ask { organization, profile, model, fallback_models, drains, chat })
}

fn chat(request: pb::StreamChatRequest) -> Result<Chat> {
    let mut check = Check::default();
    check_numbers(&mut check, &request);
    check.take(stop_sequences(&request.stop_sequences));
    check.take(options::metadata(&request.metadata));
    let openai_api = options::openai_api(request.openai_api());
    let tools = check.take(options::tools(request.tools));
    let tool_choice = match (request.tool_choice, &tools) {
        (Some(choice), Some(tools)) => check.take(options::tool_choice(choice, tools)),
        (Some(_), None) | (None, _) => None,
    };
    let messages = check.take(conversation::messages(request.messages));
    let response_format = request.response_format.and_then(|format| check.take(options::response_format(format)));
    let thinking = request.reasoning.and_then(|reasoning| check.take(options::thinking(reasoning)));
    let provider_options = check.take(request.provider_options.map(options::json).transpose());
    let mut cache =
        |path: &str, cache: Option<_>| cache.and_then(|cache| check.take(options::cache_control(path, cache)));
    let system_cache = cache("system_cache_control", request.system_cache_control);
    let cache = cache("cache_control", request.cache_control);
    let (Some(tools), Some(messages), Some(provider_options), true) =
        (tools, messages, provider_options, check.passed())
    else {
        return Err(check.failed());
    };
    Ok(Chat {
        system: request.system,
        system_cache,
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
        response_format,
        thinking,
        metadata: request.metadata.into_iter().collect(),
        provider_options: provider_options.unwrap_or_default(),
        cache,
        openai_api,
    })
}

fn check_numbers(check: &mut Check, request: &pb::StreamChatRequest) {
    check.number("max_output_tokens", request.max_output_tokens, 1, i32::MAX);
    check.number("temperature", request.temperature, 0.0, 2.0);
    check.number("top_p", request.top_p, 0.0, 1.0);
    check.number("top_k", request.top_k, 1, i32::MAX);
    check.number("presence_penalty", request.presence_penalty, -2.0, 2.0);
    check.number("frequency_penalty", request.frequency_penalty, -2.0, 2.0);
}

fn fallback_models(names: &[String]) -> Result<Vec<String>> {
    if names.len() > FALLBACK_MODELS_MAX {
        return Err(Invalid::new("fallback_models", format_args!("may have {FALLBACK_MODELS_MAX} models at most")));
    }
    names.iter().enumerate().map(|(n, name)| model(&format!("fallback_models[{n}]"), name)).collect()
}

/// The name of the model that stands at `path`, without white space around it.
pub(super) fn model(path: &str, text: &str) -> Result<String> {
    let name = text.trim();
    if !(1..=MODEL_CHARS_MAX).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        let problem =
            format_args!("must be a model's name: 1 to {MODEL_CHARS_MAX} characters without control characters");
        return Err(Invalid::new(path, problem));
    }
    Ok(name.to_owned())
}

pub(super) fn label(path: &str, text: String) -> Result<Label> {
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

/// The provider that stands at `path`.
pub(super) fn provider(path: &str, provider: types::Provider) -> Result<Provider> {
    let known = Provider::ALL.into_iter().find(|known| types::Provider::from(*known) == provider);
    known.ok_or_else(|| {
        let [others @ .., last] = Provider::ALL.map(|known| types::Provider::from(known).as_str_name());
        Invalid::new(path, format_args!("must be {} or {last}", others.join(", ")))
    })
}

/// By name: the contract has a value for each line of the table, and the table a line for each
/// value.
impl From<Provider> for types::Provider {
    fn from(provider: Provider) -> Self {
        Self::from_str_name(&format!("PROVIDER_{}", provider.name().to_uppercase())).unwrap_or_default()
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
