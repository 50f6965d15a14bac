//! What Chat Completions does not have, or not for every model.

use crate::{
    message::{Chat, Provider, Summary},
    provider::{
        Unsupported, limits,
        openai::models::{self, base, takes_no_system},
    },
};

const WHO: Provider = Provider::OpenAi;

const STOP_SEQUENCES_MAX: usize = 4;

/// Refuses what the body of a request to `model` has no place for. The conversation is
/// checked where it is written.
pub(super) fn check(model: &str, chat: &Chat) -> Result<(), Unsupported> {
    limits::no_cache(WHO, chat)?;
    limits::tool_choice(chat)?;
    limits::absent(limits::title(WHO), "top_k", chat.top_k.as_ref())?;
    thinking(model, chat)?;
    sampling(model, chat)?;
    if !chat.system.is_empty() && takes_no_system(model) {
        return Err(Unsupported {
            field: "system".to_owned(),
            problem: format!("{model} takes no instructions; put them into the first message"),
        });
    }
    Ok(())
}

fn thinking(model: &str, chat: &Chat) -> Result<(), Unsupported> {
    models::check_amount(model, chat)?;
    match chat.thinking.and_then(|thinking| thinking.summary) {
        None | Some(Summary::None) => Ok(()),
        Some(Summary::Auto | Summary::Concise | Summary::Detailed) => Err(Unsupported {
            field: "reasoning.summary".to_owned(),
            problem: "Chat Completions shows no reasoning; set openai_api to OPEN_AI_API_RESPONSES".to_owned(),
        }),
    }
}

fn sampling(model: &str, chat: &Chat) -> Result<(), Unsupported> {
    let first_stop = chat.stop_sequences.first();
    models::check_sampling(model, chat)?;
    if !models::is_sampled(model, chat) {
        limits::absent(model, "presence_penalty", chat.presence_penalty.as_ref())?;
        limits::absent(model, "frequency_penalty", chat.frequency_penalty.as_ref())?;
        limits::absent(model, "stop_sequences", first_stop.filter(|_| !can_be_stopped(model)))?;
    }
    if models::is_search_preview(model) {
        limits::absent(model, "temperature", chat.temperature.as_ref())?;
    }
    limits::within(WHO, "temperature", chat.temperature, &(0.0..=2.0))?;
    limits::within(WHO, "top_p", chat.top_p, &limits::TOP_P)?;
    limits::within(WHO, "presence_penalty", chat.presence_penalty, &limits::PENALTY)?;
    limits::within(WHO, "frequency_penalty", chat.frequency_penalty, &limits::PENALTY)?;
    limits::stop_sequences(WHO, chat, STOP_SEQUENCES_MAX)
}

/// Whether a model that thinks takes stop sequences: `o1` and `o3-mini`, no later one.
fn can_be_stopped(model: &str) -> bool {
    let base = base(model);
    let is = |name: &str| base == name || base.starts_with(&format!("{name}-"));
    (is("o1") && !takes_no_system(model)) || is("o3-mini")
}
