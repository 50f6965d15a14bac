//! One call of the vault, as it is seen from here: a span and a measurement, repeats at other
//! replicas included.

use http::Uri;
use opentelemetry::{KeyValue, trace::Status};
use service_runtime::{
    metrics::{Describe, Histogram},
    semconv::{attribute, buckets, seconds},
    server::code_name,
};
use tokio::time::Instant;
use tonic::Code;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// What calls of the vault have in common.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    duration: Histogram,
    host: String,
    port: u16,
}

/// One call. Dropped before it is told how it ended, nobody waits for it any more.
pub(super) struct CallSpan<'a> {
    calls: &'a Calls,
    method: &'static str,
    span: Span,
    begun: Instant,
    over: bool,
}

impl Calls {
    /// Calls of the vault at `url`.
    pub(super) fn new(url: &str) -> Self {
        let describe = Describe {
            name: "rpc.client.call.duration",
            unit: "s",
            help: "How long calls of the key-vault took, all of its replicas together",
        };
        let uri: Uri = url.parse().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let host = uri.host().unwrap_or_default().to_owned();
        Self { duration: Histogram::new(&describe, buckets::RPC), host, port }
    }

    /// Begins a call of `package.Service/Method`.
    pub(super) fn begin(&self, method: &'static str) -> CallSpan<'_> {
        let span = info_span!("vault", otel.name = method, otel.kind = "client");
        span.set_attribute(attribute::RPC_SYSTEM_NAME, "grpc");
        span.set_attribute(attribute::RPC_METHOD, method);
        span.set_attribute(attribute::SERVER_ADDRESS, self.host.clone());
        span.set_attribute(attribute::SERVER_PORT, i64::from(self.port));
        CallSpan { calls: self, method, span, begun: Instant::now(), over: false }
    }
}

impl CallSpan<'_> {
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// It came to this, and why if it failed.
    pub(super) fn ends(&mut self, code: Code, reason: Option<String>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let name = code_name(code);
        let mut attributes = vec![
            KeyValue::new(attribute::RPC_SYSTEM_NAME, "grpc"),
            KeyValue::new(attribute::RPC_METHOD, self.method),
            KeyValue::new(attribute::RPC_STATUS_CODE, name),
            KeyValue::new(attribute::SERVER_ADDRESS, self.calls.host.clone()),
        ];
        self.span.set_attribute(attribute::RPC_STATUS_CODE, name);
        if code != Code::Ok {
            let reason = reason.unwrap_or_else(|| name.to_owned());
            self.span.set_attribute(attribute::ERROR_TYPE, reason.clone());
            self.span.set_status(Status::error(""));
            attributes.push(KeyValue::new(attribute::ERROR_TYPE, reason));
        }
        self.calls.duration.record_of(&self.span, seconds(self.begun.elapsed()), &attributes);
    }
}

impl Drop for CallSpan<'_> {
    fn drop(&mut self) {
        self.ends(Code::Cancelled, None);
    }
}
