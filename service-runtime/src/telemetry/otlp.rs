//! Where spans and metrics go: a collector that speaks OTLP, over gRPC or HTTP.
//!
//! Exporters work on threads of their own and drop what does not fit: a collector that is away,
//! hangs or is slow costs no request anything.

use std::{collections::HashMap, fs, net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{HeaderName, HeaderValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    MetricExporter, SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::{
    metrics::PeriodicReader,
    trace::{BatchConfigBuilder, BatchSpanProcessor},
};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::runtime::Handle;
use tonic::{
    metadata::MetadataMap,
    transport::{Certificate, ClientTlsConfig},
};

use crate::tls;

/// How long one export may take. A collector that hangs longer loses the batch.
const EXPORT_MAX: Duration = Duration::from_secs(5);

/// How often metrics are sent.
const METRICS_INTERVAL: Duration = Duration::from_secs(15);

/// Spans that wait to be sent. Those beyond are dropped. Some MiB.
const SPANS_WAITING_MAX: usize = 4_096;

/// Spans in one export, and how long they wait for company.
const SPANS_BATCH_MAX: usize = 512;
const SPANS_INTERVAL: Duration = Duration::from_secs(2);

/// The largest answer of a collector that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The collector of a process.
#[derive(Args, Clone, Debug, Default)]
pub struct OtlpOptions {
    /// Sends spans and metrics to this OTLP collector, for example `http://127.0.0.1:4317`
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// How the collector is spoken to. HTTP sends protobuf to /v1/traces and /v1/metrics
    #[arg(long, value_enum, default_value_t = OtlpProtocol::Grpc)]
    pub otlp_protocol: OtlpProtocol,

    /// The authorities that may vouch for the collector, in PEM. The machine's own unless set
    #[arg(long, value_name = "PATH")]
    pub otlp_ca: Option<PathBuf>,

    /// A file with headers for the collector, one `name: value` a line, for example its token
    #[arg(long, value_name = "PATH")]
    pub otlp_headers_file: Option<PathBuf>,
}

/// A form of OTLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OtlpProtocol {
    /// OTLP/gRPC, usually at port 4317.
    #[default]
    Grpc,
    /// OTLP/HTTP with protobuf, usually at port 4318.
    Http,
}

/// What sends spans and metrics.
pub(super) struct Exporters {
    pub(super) spans: BatchSpanProcessor,
    pub(super) metrics: PeriodicReader<MetricExporter>,
}

/// What the options come to. `None` without a collector.
///
/// # Errors
///
/// Says which option to change.
pub(super) fn exporters(options: &OtlpOptions) -> anyhow::Result<Option<Exporters>> {
    let Some(endpoint) = options.otlp_endpoint.as_deref() else {
        ensure!(
            options.otlp_ca.is_none() && options.otlp_headers_file.is_none(),
            "--otlp-ca and --otlp-headers-file are for --otlp-endpoint, which is not set"
        );
        return Ok(None);
    };
    ensure!(
        endpoint.starts_with("https://") || (endpoint.starts_with("http://") && options.otlp_ca.is_none()),
        "--otlp-endpoint {endpoint:?} must begin with http:// or, with --otlp-ca, https://"
    );
    ensure!(
        options.otlp_headers_file.is_none() || endpoint.starts_with("https://") || is_loopback(endpoint),
        "--otlp-headers-file is refused with {endpoint}: what is secret in it needs https://, except on this machine"
    );
    let (spans, metrics) = match options.otlp_protocol {
        OtlpProtocol::Grpc => over_grpc(endpoint, options),
        OtlpProtocol::Http => over_http(endpoint, options),
    }
    .with_context(|| format!("--otlp-endpoint {endpoint:?} cannot be used"))?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(SPANS_WAITING_MAX)
        .with_max_export_batch_size(SPANS_BATCH_MAX)
        .with_scheduled_delay(SPANS_INTERVAL)
        .build();
    Ok(Some(Exporters {
        spans: BatchSpanProcessor::builder(spans).with_batch_config(batches).build(),
        metrics: PeriodicReader::builder(metrics).with_interval(METRICS_INTERVAL).build(),
    }))
}

fn is_loopback(endpoint: &str) -> bool {
    let uri: http::Uri = endpoint.parse().unwrap_or_default();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn over_grpc(endpoint: &str, options: &OtlpOptions) -> anyhow::Result<(SpanExporter, MetricExporter)> {
    let metadata = MetadataMap::from_headers(headers(options)?);
    let mut spans = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_metadata(metadata.clone());
    let mut metrics = MetricExporter::builder().with_tonic().with_endpoint(endpoint).with_metadata(metadata);
    if endpoint.starts_with("https://") {
        let tls = match ca(options)? {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        spans = spans.with_tls_config(tls.clone());
        metrics = metrics.with_tls_config(tls);
    }
    Ok((spans.with_timeout(EXPORT_MAX).build()?, metrics.with_timeout(EXPORT_MAX).build()?))
}

fn over_http(endpoint: &str, options: &OtlpOptions) -> anyhow::Result<(SpanExporter, MetricExporter)> {
    let client = Post { client: client(options)?, runtime: Handle::current() };
    let headers = headers(options)?;
    let headers: HashMap<_, _> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect();
    let at = |path| format!("{}{path}", endpoint.trim_end_matches('/'));
    let spans = SpanExporter::builder().with_http().with_endpoint(at("/v1/traces")).with_http_client(client.clone());
    let metrics = MetricExporter::builder().with_http().with_endpoint(at("/v1/metrics")).with_http_client(client);
    let spans = spans.with_headers(headers.clone()).with_timeout(EXPORT_MAX).build()?;
    Ok((spans, metrics.with_headers(headers).with_timeout(EXPORT_MAX).build()?))
}

fn client(options: &OtlpOptions) -> anyhow::Result<reqwest::Client> {
    tls::install_crypto_provider();
    let config = match ca(options)? {
        Some(ca) => {
            rustls::ClientConfig::builder().with_root_certificates(tls::authorities(&ca)?).with_no_client_auth()
        }
        None => rustls::ClientConfig::builder().with_platform_verifier()?.with_no_client_auth(),
    };
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(EXPORT_MAX)
        .build()?)
}

fn ca(options: &OtlpOptions) -> anyhow::Result<Option<Vec<u8>>> {
    let read = |path: &PathBuf| fs::read(path).with_context(|| format!("--otlp-ca {} cannot be read", path.display()));
    options.otlp_ca.as_ref().map(read).transpose()
}

/// The headers of the file. Their values are secrets and stand in no error.
fn headers(options: &OtlpOptions) -> anyhow::Result<http::HeaderMap> {
    let mut headers = http::HeaderMap::new();
    let Some(path) = &options.otlp_headers_file else { return Ok(headers) };
    let named = || format!("--otlp-headers-file {} cannot be used", path.display());
    let text = fs::read_to_string(path).with_context(named)?;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            bail!("{}: line {} is not `name: value`", named(), number + 1);
        };
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok();
        let value = HeaderValue::from_str(value.trim()).ok();
        let (Some(name), Some(mut value)) = (name, value) else {
            bail!("{}: line {} is no header", named(), number + 1);
        };
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Posts on the runtime of the process: exporters call from threads without one.
#[derive(Clone, Debug)]
struct Post {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(post(client, request)).await?
    }
}

async fn post(client: reqwest::Client, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
    let mut response = client.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        if body.len() + piece.len() > ANSWER_BYTES_MAX {
            return Err("the collector's answer is too large".into());
        }
        body.extend_from_slice(&piece);
    }
    Ok(http::Response::builder().status(response.status()).body(body.into())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_a_bad_line_is_named_without_its_value() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("headers");
        let options = OtlpOptions { otlp_headers_file: Some(path.clone()), ..OtlpOptions::default() };
        fs::write(&path, "authorization: Bearer abc:def\n\nX-Tenant: team\n").expect("written");
        let read = headers(&options).expect("headers");
        assert_eq!(read["authorization"], "Bearer abc:def");
        assert_eq!(read["x-tenant"], "team");
        assert!(!format!("{read:?}").contains("abc"));

        fs::write(&path, "x-tenant: team\nsecret-without-a-name\n").expect("written");
        let error = format!("{:#}", headers(&options).expect_err("a bad line"));
        assert!(error.contains("line 2") && !error.contains("secret-without"), "{error}");
    }

    #[tokio::test]
    async fn options_that_contradict_each_other_are_refused() {
        let options = |endpoint: Option<&str>, ca: Option<&str>| OtlpOptions {
            otlp_endpoint: endpoint.map(str::to_owned),
            otlp_ca: ca.map(PathBuf::from),
            ..OtlpOptions::default()
        };
        for (options, says) in [
            (options(None, Some("/ca")), "--otlp-endpoint"),
            (options(Some("http://127.0.0.1:1"), Some("/ca")), "https://"),
            (options(Some("127.0.0.1:4317"), None), "http://"),
            (options(Some("https://127.0.0.1:1"), Some("/nowhere/ca")), "/nowhere/ca"),
            (
                OtlpOptions { otlp_headers_file: Some("/headers".into()), ..options(Some("http://collector:1"), None) },
                "needs https://",
            ),
        ] {
            let error = format!("{:#}", exporters(&options).err().expect(says));
            assert!(error.contains(says), "{error}");
        }
    }
}
