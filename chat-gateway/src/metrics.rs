//! What a gateway measures of itself. Names of attributes are in `service_runtime::semconv`.
//!
//! What a caller can make up has no series of its own: models are named until there are many,
//! profiles and keys only if the operator asks for them.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use clap::Args;
use opentelemetry::{KeyValue, Value};
use service_runtime::{
    metrics::{Counter, Describe, Histogram, Level},
    semconv::{OTHER, attribute, buckets},
};

use crate::message::Provider;

/// The most models with series of their own.
const MODELS_MAX: usize = 100;

/// Of whom there are series.
#[derive(Args, Clone, Debug, Default)]
pub struct MetricsOptions {
    /// Profiles that chats are counted for one by one; all others are counted together
    #[arg(long, value_name = "PROFILES", value_delimiter = ',', help_heading = "Telemetry")]
    pub metrics_profiles: Vec<String>,

    /// Ids of keys that chats are counted for one by one; all others are counted together
    #[arg(long, value_name = "KEYS", value_delimiter = ',', help_heading = "Telemetry")]
    pub metrics_keys: Vec<String>,
}

/// The instruments of a gateway.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) operation_duration: Histogram,
    pub(crate) time_to_first_chunk: Histogram,
    pub(crate) time_per_output_chunk: Histogram,
    pub(crate) tokens: Histogram,
    pub(crate) chats: Counter,
    pub(crate) overhead: Histogram,
    pub(crate) streams: Level,
    pub(crate) cancelled: Counter,
    pub(crate) truncated: Counter,
    pub(crate) attempts: Counter,
    pub(crate) circuits_opened: Counter,
    pub(crate) keys_cooled: Counter,
    pub(crate) cache: Counter,
    profiles: HashSet<String>,
    keys: HashSet<String>,
    models: Mutex<HashSet<String>>,
}

impl Metrics {
    /// Counts one by one whom the options name.
    pub(crate) fn new(options: &MetricsOptions) -> Self {
        let seconds = |name, help| Describe { name, unit: "s", help };
        let counted = |name, unit, help| Counter::new(&Describe { name, unit, help });
        let of_gen_ai = |name, help| Histogram::new(&seconds(name, help), buckets::GEN_AI);
        let tokens = Describe { name: "gen_ai.client.token.usage", unit: "{token}", help: "Tokens of chats" };
        let streams = Describe { name: "chatgateway.streams.active", unit: "{chat}", help: "Chats that are under way" };
        let overhead = seconds("chatgateway.overhead.duration", "What the gateway adds to a chat, the vault included");
        Self {
            operation_duration: of_gen_ai("gen_ai.client.operation.duration", "How long a model was asked"),
            time_to_first_chunk: of_gen_ai(
                "gen_ai.client.operation.time_to_first_chunk",
                "How long until a model's first output",
            ),
            time_per_output_chunk: of_gen_ai(
                "gen_ai.client.operation.time_per_output_chunk",
                "How long between two pieces of output",
            ),
            tokens: Histogram::new(&tokens, buckets::TOKENS),
            chats: counted("chatgateway.chats", "{chat}", "Chats, by what came of them"),
            overhead: Histogram::new(&overhead, buckets::FAST),
            streams: Level::new(&streams),
            cancelled: counted("chatgateway.upstream.cancelled", "{call}", "Calls of providers whose callers left"),
            truncated: counted("chatgateway.stream.truncated", "{chat}", "Answers that broke off after they had begun"),
            attempts: counted("chatgateway.attempts", "{call}", "Calls of providers, by what came of them"),
            circuits_opened: counted(
                "chatgateway.circuit.opened",
                "{circuit}",
                "Providers that are not asked for a while after too many faults in a row",
            ),
            keys_cooled: counted(
                "keyvault.key.cooldown",
                "{key}",
                "Keys that are not used for a while because their provider refuses them",
            ),
            cache: counted("keyvault.cache", "{lookup}", "Keys of chats, by how they were found"),
            profiles: options.metrics_profiles.iter().cloned().collect(),
            keys: options.metrics_keys.iter().cloned().collect(),
            models: Mutex::default(),
        }
    }

    /// A model that is asked. It has a name here once it has answered: what callers make up never
    /// does.
    pub(crate) fn asked(&self, model: &str) -> Value {
        if self.models().contains(model) { model.to_owned().into() } else { OTHER.into() }
    }

    /// A model that answers, unless there are too many.
    pub(crate) fn answering(&self, model: &str) -> Value {
        let mut models = self.models();
        if models.contains(model) || (models.len() < MODELS_MAX && models.insert(model.to_owned())) {
            return model.to_owned().into();
        }
        OTHER.into()
    }

    fn models(&self) -> MutexGuard<'_, HashSet<String>> {
        // Nothing that holds the lock panics.
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A profile, if it is to be counted by itself.
    pub(crate) fn profile(&self, profile: &str) -> KeyValue {
        KeyValue::new(attribute::PROFILE_ID, listed(&self.profiles, profile))
    }

    /// A key, if it is to be counted by itself.
    pub(crate) fn key(&self, key: &str) -> KeyValue {
        KeyValue::new(attribute::KEY_ID, listed(&self.keys, key))
    }
}

fn listed(list: &HashSet<String>, name: &str) -> Value {
    if list.contains(name) { name.to_owned().into() } else { OTHER.into() }
}

/// A provider, as the conventions name it.
pub(crate) fn provider_name(provider: Provider) -> &'static str {
    match provider {
        Provider::Anthropic => "anthropic",
        Provider::OpenAi => "openai",
        Provider::Gemini => "gcp.gemini",
    }
}

/// A provider as an attribute.
pub(crate) fn of(provider: Provider) -> KeyValue {
    KeyValue::new(attribute::GEN_AI_PROVIDER_NAME, provider_name(provider))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_callers_make_up_share_one_series() {
        let options = MetricsOptions { metrics_profiles: vec!["team-a".to_owned()], metrics_keys: Vec::new() };
        let metrics = Metrics::new(&options);
        assert_eq!(metrics.profile("team-a").value.as_str(), "team-a");
        assert_eq!(metrics.profile("team-b").value.as_str(), OTHER);
        assert_eq!(metrics.key("018f").value.as_str(), OTHER);
        assert_eq!(metrics.asked("claude-0").as_str(), OTHER, "it has not answered");
        for n in 0..MODELS_MAX {
            assert_eq!(metrics.answering(&format!("claude-{n}")).as_str(), format!("claude-{n}"));
        }
        assert_eq!(metrics.answering("claude-one-more").as_str(), OTHER);
        assert_eq!(metrics.asked("claude-0").as_str(), "claude-0");
    }
}
