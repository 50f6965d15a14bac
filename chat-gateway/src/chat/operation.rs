//! One model that is asked, as it is seen from outside: a span from the first request to the end
//! of the answer, repeats included, and what is measured of it.
//!
//! What is asked and what is answered never stands in a span.

use std::sync::Arc;

use opentelemetry::{Array, KeyValue, StringValue, Value, trace::Status};
use service_runtime::{
    metrics::Series,
    semconv::{attribute, seconds},
    telemetry,
};
use tokio::time::Instant;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::plan::Target;
use crate::{
    keys::Held,
    message::{Chat, Finish, Label, Provider, ResponseFormat, Usage},
    metrics::{self, Metrics, provider_name},
    upstream::{Exchange, Fault},
};

/// A model that is asked. Dropped before it is told how it ended, its caller has left.
pub(super) struct Operation {
    metrics: Arc<Metrics>,
    span: Span,
    model: String,
    begun: Instant,
    /// The key that it was asked with last.
    held: Option<Held>,
    /// How many requests were sent.
    sent: u32,
    labels: Vec<KeyValue>,
    chunks: Option<Chunks>,
    usage: Option<Usage>,
    over: bool,
}

/// The pieces of an answer after the first.
struct Chunks {
    series: Series,
    last: Option<Instant>,
}

impl Operation {
    /// Begins to ask. `place` is the host and the port of the provider.
    pub(super) fn begin(metrics: &Arc<Metrics>, target: &Target, profile: Option<&Label>, place: (&str, u16)) -> Self {
        let name = operation_name(target.provider);
        let span = info_span!("chat", otel.name = format!("{name} {}", target.model), otel.kind = "client");
        let labels = vec![
            KeyValue::new(attribute::GEN_AI_OPERATION_NAME, name),
            metrics::of(target.provider),
            KeyValue::new(attribute::GEN_AI_REQUEST_MODEL, metrics.asked(&target.model)),
            KeyValue::new(attribute::SERVER_ADDRESS, place.0.to_owned()),
            KeyValue::new(attribute::SERVER_PORT, i64::from(place.1)),
        ];
        span.set_attribute(attribute::GEN_AI_OPERATION_NAME, name);
        span.set_attribute(attribute::GEN_AI_PROVIDER_NAME, provider_name(target.provider));
        span.set_attribute(attribute::GEN_AI_REQUEST_MODEL, target.model.clone());
        span.set_attribute(attribute::SERVER_ADDRESS, place.0.to_owned());
        span.set_attribute(attribute::SERVER_PORT, i64::from(place.1));
        // Providers are always asked for streams, also for an answer in one message.
        span.set_attribute(attribute::GEN_AI_REQUEST_STREAM, true);
        span.set_attribute(attribute::DETECT_RULE, target.rule.clone());
        if let Some(profile) = profile {
            span.set_attribute(attribute::PROFILE_ID, profile.to_string());
        }
        for KeyValue { key, value, .. } in &target.parameters {
            span.set_attribute(key.clone(), value.clone());
        }
        Self {
            metrics: Arc::clone(metrics),
            span,
            model: target.model.clone(),
            begun: Instant::now(),
            held: None,
            sent: 0,
            labels,
            chunks: None,
            usage: None,
            over: false,
        }
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// How many requests were sent.
    pub(super) fn sent(&self) -> u32 {
        self.sent
    }

    /// It was asked with this key, by as many further requests.
    pub(super) fn used_key(&mut self, held: &Held, sent: u32) {
        self.sent += sent;
        self.held = Some(held.clone());
    }

    /// Its answer begins.
    pub(super) fn answers(&mut self, exchange: &Exchange) {
        let now = Instant::now();
        let waited = seconds(now - self.begun);
        let asked = self.metrics.answering(&self.model);
        self.labels.retain(|label| label.key.as_str() != attribute::GEN_AI_REQUEST_MODEL);
        self.labels.push(KeyValue::new(attribute::GEN_AI_REQUEST_MODEL, asked));
        if let Some(model) = exchange.model().map(telemetry::words) {
            self.labels.push(KeyValue::new(attribute::GEN_AI_RESPONSE_MODEL, self.metrics.answering(&model)));
            self.span.set_attribute(attribute::GEN_AI_RESPONSE_MODEL, model);
        }
        if let Some(id) = exchange.response_id() {
            self.span.set_attribute(attribute::GEN_AI_RESPONSE_ID, telemetry::words(id));
        }
        self.span.set_attribute(attribute::GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, waited);
        self.metrics.time_to_first_chunk.record_of(&self.span, waited, &self.labels);
        let series = self.metrics.time_per_output_chunk.series(self.labels.clone());
        self.chunks = Some(Chunks { series, last: None });
    }

    /// A piece of the answer is there.
    pub(super) fn chunk(&mut self) {
        if let Some(chunks) = &mut self.chunks {
            let now = Instant::now();
            if let Some(last) = chunks.last.replace(now) {
                chunks.series.record(seconds(now - last));
            }
        }
    }

    /// What was used so far.
    pub(super) fn used(&mut self, usage: Option<Usage>) {
        self.usage = usage;
    }

    /// The answer is whole.
    pub(super) fn finishes(&mut self, finish: &Finish) {
        let reason = StringValue::from(finish.reason.name());
        self.span.set_attribute(attribute::GEN_AI_RESPONSE_FINISH_REASONS, Value::Array(Array::String(vec![reason])));
        self.usage = finish.usage.or(self.usage);
        self.ends("complete");
    }

    /// It did not answer, or not to the end.
    pub(super) fn fails(&mut self, fault: &Fault) {
        let class = fault.error_type();
        self.labels.push(KeyValue::new(attribute::ERROR_TYPE, class.clone()));
        self.span.set_attribute(attribute::ERROR_TYPE, class);
        self.span.set_status(Status::error(""));
        let begun = self.chunks.is_some();
        self.ends(if begun { "truncated" } else { "failed" });
    }

    fn ends(&mut self, finish: &'static str) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        // A span ends when it was last left.
        self.span.in_scope(|| {});
        self.span.set_attribute(attribute::FINISH, finish);
        self.span.set_attribute(attribute::ATTEMPT_COUNT, i64::from(self.sent));
        self.say_key();
        self.metrics.operation_duration.record_of(&self.span, seconds(self.begun.elapsed()), &self.labels);
        if let Some(usage) = self.usage {
            self.say_usage(&usage);
        }
    }

    fn say_key(&self) {
        let Some(held) = &self.held else { return };
        // That of the environment has none.
        if !held.api_key_id.is_empty() {
            self.span.set_attribute(attribute::KEY_ID, held.api_key_id.clone());
        }
        self.span.set_attribute(attribute::KEY_VERSION, held.version);
        self.span.set_attribute(attribute::RESOLUTION_SOURCE, held.source.name());
        self.span.set_attribute(attribute::CACHE, held.found.name());
    }

    fn say_usage(&self, usage: &Usage) {
        for (name, tokens) in [
            (attribute::GEN_AI_USAGE_INPUT_TOKENS, usage.input),
            (attribute::GEN_AI_USAGE_OUTPUT_TOKENS, usage.output),
            (attribute::GEN_AI_USAGE_CACHE_READ, usage.cached_input),
            (attribute::GEN_AI_USAGE_CACHE_CREATION, usage.cache_write),
            (attribute::GEN_AI_USAGE_REASONING, usage.reasoning),
        ] {
            if let Some(tokens) = tokens {
                self.span.set_attribute(name, i64::try_from(tokens).unwrap_or(i64::MAX));
            }
        }
        for (kind, tokens) in [("input", usage.input), ("output", usage.output)] {
            // A provider that says more than fits loses the last digits.
            let Some(tokens) = tokens.map(|tokens| f64::from(u32::try_from(tokens).unwrap_or(u32::MAX))) else {
                continue;
            };
            let mut labels = self.labels.clone();
            labels.push(KeyValue::new(attribute::GEN_AI_TOKEN_TYPE, kind));
            self.metrics.tokens.record_of(&self.span, tokens, &labels);
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.ends("cancelled");
    }
}

/// What the conventions call asking a model.
fn operation_name(provider: Provider) -> &'static str {
    match provider {
        Provider::Anthropic | Provider::OpenAi => "chat",
        Provider::Gemini => "generate_content",
    }
}

/// The parameters of a chat that a span may have: none of its content.
pub(super) fn parameters(chat: &Chat) -> Vec<KeyValue> {
    let whole = |name, value: Option<i64>| value.map(|value| KeyValue::new(name, value));
    let real = |name, value: Option<f64>| value.map(|value| KeyValue::new(name, value));
    let json = matches!(chat.response_format, Some(ResponseFormat::Json | ResponseFormat::Schema(_)));
    [
        whole(attribute::GEN_AI_REQUEST_MAX_TOKENS, chat.max_output_tokens.map(i64::from)),
        real(attribute::GEN_AI_REQUEST_TEMPERATURE, chat.temperature),
        real(attribute::GEN_AI_REQUEST_TOP_P, chat.top_p),
        whole(attribute::GEN_AI_REQUEST_TOP_K, chat.top_k.map(i64::from)),
        whole(attribute::GEN_AI_REQUEST_SEED, chat.seed),
        real(attribute::GEN_AI_REQUEST_FREQUENCY_PENALTY, chat.frequency_penalty),
        real(attribute::GEN_AI_REQUEST_PRESENCE_PENALTY, chat.presence_penalty),
        json.then(|| KeyValue::new(attribute::GEN_AI_OUTPUT_TYPE, "json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}
