//! What came of a chat, counted once when it is over and said of its RPC.

use std::sync::Arc;

use opentelemetry::KeyValue;
use proto::chat::ErrorReason as Reason;
use service_runtime::{failure::Failure, metrics::Entered, semconv::attribute};
use tracing::Span;

use crate::{
    detect,
    message::{Ask, Provider, Started},
    metrics::{self, Metrics},
};

/// A chat that is under way. Dropped before it is told how it ended, its caller has left.
pub(super) struct Measured {
    metrics: Arc<Metrics>,
    rpc: Span,
    provider: Option<Provider>,
    profile: String,
    key: String,
    over: bool,
    _active: Entered,
}

impl Measured {
    /// Begins with a request that was understood. Says of the current RPC whose it is.
    pub(super) fn begin(metrics: &Arc<Metrics>, ask: &Ask) -> Self {
        let rpc = Span::current();
        let profile = ask.profile.as_ref().map(ToString::to_string).unwrap_or_default();
        rpc.record(attribute::ORGANIZATION_ID, tracing::field::display(&ask.organization));
        rpc.record(attribute::PROFILE_ID, ask.profile.as_ref().map(tracing::field::display));
        rpc.record(attribute::GEN_AI_REQUEST_MODEL, ask.model.as_str());
        let provider = detect::detect(&ask.model).ok().map(|detected| detected.provider);
        let (metrics, active) = (Arc::clone(metrics), metrics.streams.enter());
        Self { metrics, rpc, provider, profile, key: String::new(), over: false, _active: active }
    }

    /// The answer begins.
    pub(super) fn started(&mut self, started: &Started) {
        self.provider = Some(started.provider);
        self.key.clone_from(&started.api_key_id);
    }

    /// The answer is whole.
    pub(super) fn complete(&mut self) {
        self.ends("complete", None);
    }

    /// It came to this.
    pub(super) fn failed(&mut self, failure: &Failure) {
        if let Some(key) = failure.value("api_key_id") {
            key.clone_into(&mut self.key);
        }
        let reason = Reason::from_wire_name(failure.reason()).unwrap_or_default();
        if reason != Reason::StreamTruncated {
            return self.ends("failed", Some((reason, reason)));
        }
        let cause = failure.value("cause").and_then(Reason::from_wire_name).unwrap_or_default();
        let mut attributes = vec![KeyValue::new(attribute::CAUSE, cause.wire_name())];
        attributes.extend(self.provider.map(metrics::of));
        self.metrics.truncated.add(1, &attributes);
        self.ends("truncated", Some((reason, cause)));
    }

    fn ends(&mut self, finish: &'static str, why: Option<(Reason, Reason)>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.rpc.record(attribute::FINISH, finish);
        let mut attributes = vec![
            KeyValue::new(attribute::FINISH, finish),
            self.metrics.profile(&self.profile),
            self.metrics.key(&self.key),
        ];
        attributes.extend(self.provider.map(metrics::of));
        if let Some((reason, cause)) = why {
            attributes.push(KeyValue::new(attribute::ERROR_TYPE, reason.wire_name()));
            attributes.push(KeyValue::new(attribute::FAULT, cause.actor().name()));
        }
        self.metrics.chats.add(1, &attributes);
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.ends("cancelled", None);
    }
}

/// Whose fault a reason of the contract is.
pub(super) fn fault_of(reason: &str) -> Option<&'static str> {
    Reason::from_wire_name(reason).map(|reason| reason.actor().name())
}
