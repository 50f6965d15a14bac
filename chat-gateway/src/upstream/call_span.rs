//! One request to a provider, as it is seen from outside: a span, and a count of what came of it.

use std::sync::Arc;

use opentelemetry::{KeyValue, trace::Status};
use service_runtime::semconv::attribute;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::Fault;
use crate::{
    message::Provider,
    metrics::{self, Metrics},
};

/// One request. Dropped before it is told how it ended, its caller has left.
pub(super) struct CallSpan {
    metrics: Arc<Metrics>,
    span: Span,
    provider: Provider,
    /// When a caller would leave that leaves now.
    window: &'static str,
    over: bool,
}

impl CallSpan {
    /// A request that was sent `resent` times before.
    pub(super) fn begin(metrics: &Arc<Metrics>, provider: Provider, place: (&str, u16), resent: u32) -> Self {
        let span = info_span!("call", otel.name = "POST", otel.kind = "client");
        span.set_attribute(attribute::HTTP_REQUEST_METHOD, "POST");
        span.set_attribute(attribute::SERVER_ADDRESS, place.0.to_owned());
        span.set_attribute(attribute::SERVER_PORT, i64::from(place.1));
        if resent > 0 {
            span.set_attribute(attribute::HTTP_REQUEST_RESEND_COUNT, i64::from(resent));
        }
        Self { metrics: Arc::clone(metrics), span, provider, window: "before_headers", over: false }
    }

    /// The head of the answer is there.
    pub(super) fn has_head(&mut self, status: u16) {
        self.span.set_attribute(attribute::HTTP_RESPONSE_STATUS_CODE, i64::from(status));
        self.window = "before_first_output";
    }

    /// The answer begins.
    pub(super) fn answers(&mut self) {
        self.window = "streaming";
    }

    /// The answer is whole.
    pub(super) fn ends(&mut self) {
        self.count("answered");
    }

    /// It came to this.
    pub(super) fn fails(&mut self, fault: &Fault) {
        if self.over {
            return;
        }
        self.span.set_attribute(attribute::ERROR_TYPE, fault.error_type());
        self.span.set_status(Status::error(""));
        self.count(fault.class().name());
    }

    fn count(&mut self, result: &'static str) {
        if !std::mem::replace(&mut self.over, true) {
            // A span ends when it was last left.
            self.span.in_scope(|| {});
            let attributes = [metrics::of(self.provider), KeyValue::new(attribute::ATTEMPT_RESULT, result)];
            self.metrics.attempts.add(1, &attributes);
        }
    }
}

impl Drop for CallSpan {
    fn drop(&mut self) {
        if !self.over {
            let attributes = [metrics::of(self.provider), KeyValue::new(attribute::WINDOW, self.window)];
            self.metrics.cancelled.add(1, &attributes);
            self.count("cancelled");
        }
    }
}
