//! The one place that speaks HTTP to providers.
//!
//! Opens a request, reads its answer event by event, and holds every wait to a timer and
//! every buffer to a limit. What the bytes mean is `provider`'s matter.
//!
//! Refuses: redirects (most HTTP clients forward `x-api-key` to the new host), plain
//! HTTP beyond loopback, hosts that a caller names. No error of this module has a URL.

mod base_urls;
mod call_span;
mod clients;
mod fault;
mod models;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderValue, header};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::{
    message::{Event, KeyMaterial, Provider as Name, Usage},
    metrics::Metrics,
    provider::{self, Broken, Decoder, Outbound, Output, Provider, Rejection, Surrogates},
    sse,
    usage::{Call, Outcome},
};
use base_urls::BaseUrls;
use call_span::CallSpan;
use clients::{Clients, Lease, Make};
pub(crate) use fault::{Class, Fault};

/// The longest event. Providers send images and signatures of several hundred KiB in
/// one event; generated images reach a few MiB.
const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A provider's error body. The largest recorded is 3 KiB; beyond this it is a proxy's
/// page and not worth keeping.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// How long an error body may take after its headers.
const ERROR_BODY_MAX: Duration = Duration::from_secs(5);

/// As much of a provider's message as a caller is shown, and as is looked at for it.
const MESSAGE_CHARS_MAX: usize = 500;
const SCRUBBED_BYTES_MAX: usize = 8 * 1024;

/// Idle connections kept per provider, and for how long: shorter than the providers' own
/// limits, so that a request rarely meets a connection that was just closed.
const IDLE_CONNECTIONS_MAX: usize = 32;
const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(50);

/// How often a connection on which calls are open is asked whether the provider is still
/// there, and how long the answer may take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where providers are, and how long they may take.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Providers")]
pub struct UpstreamOptions {
    /// Where each provider is.
    #[command(flatten)]
    pub base_urls: BaseUrls,

    /// The longest wait for a connection, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub connect_timeout: Duration,

    /// The longest wait for the provider's headers after the request, in seconds. Never longer
    /// than for the first output
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub headers_timeout: Duration,

    /// The longest wait for the provider's first output, in seconds. Reasoning models think
    /// for minutes
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub first_event_timeout: Duration,

    /// The longest silence of a provider after its first output, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "90", value_parser = seconds)]
    pub idle_timeout: Duration,

    /// The longest time for one answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1800", value_parser = seconds)]
    pub total_timeout: Duration,

    /// The longest time to check a key, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    pub key_check_timeout: Duration,

    /// The longest time to list the models of a provider, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    pub model_list_timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("must be a number of seconds above 0, at most 86400".to_owned()),
    }
}

/// A client of all providers.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// In the order of [`Name::ALL`].
    clients: [Clients; Name::ALL.len()],
    options: UpstreamOptions,
    metrics: Arc<Metrics>,
}

/// One request that is sent.
pub(crate) struct Sending<'a> {
    /// Notes what comes of it.
    pub(crate) call: Call,
    /// Unique to the request.
    pub(crate) call_seed: &'a str,
    /// How often the same was sent before.
    pub(crate) resent: u32,
    /// When the answer must be finished.
    pub(crate) deadline: Instant,
}

/// The base URL of a provider that is not to be used, and why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaseUrlError {
    #[error("{option} {url} is refused: {problem}")]
    Refused { option: String, url: Url, problem: &'static str },
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
    #[error("the certificate authorities of this machine cannot be read")]
    Authorities(#[source] rustls::Error),
}

impl Upstream {
    /// A client for the configured base URLs.
    pub(crate) fn new(mut options: UpstreamOptions, metrics: Arc<Metrics>) -> Result<Self, BaseUrlError> {
        service_runtime::tls::install_crypto_provider();
        options.base_urls.check()?;
        let tls = clients::tls().map_err(BaseUrlError::Authorities)?;
        let connect_timeout = options.connect_timeout;
        let make: Arc<Make> = Arc::new(move || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                // A request is sent again by whoever knows what for: `chat`.
                .retry(reqwest::retry::never())
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .no_proxy()
                .connect_timeout(connect_timeout)
                .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
                .pool_idle_timeout(IDLE_CONNECTION_MAX)
                .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
                .http2_keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .tcp_nodelay(true)
                .build()
        });
        let clients = || Clients::new(&make).map_err(BaseUrlError::Client);
        Ok(Self { clients: [clients()?, clients()?, clients()?], options, metrics })
    }

    /// When an answer that begins now must be finished.
    pub(crate) fn deadline(&self, callers: Option<Instant>) -> Instant {
        let ours = Instant::now() + self.options.total_timeout;
        callers.map_or(ours, |callers| callers.min(ours))
    }

    /// The host and the port of a provider.
    pub(crate) fn place(&self, name: Name) -> (&str, u16) {
        let url = self.options.base_urls.of(name);
        (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
    }

    /// Sends a request to the provider of its call and reads its answer up to the first output.
    /// What comes of it is noted in the call.
    ///
    /// # Errors
    ///
    /// A [`Fault`], and the provider's id of the request if its headers came.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection or resets the HTTP/2 stream.
    pub(crate) async fn open(
        &self,
        outbound: &Outbound,
        key: &KeyMaterial,
        sending: Sending<'_>,
    ) -> Result<Exchange, (Fault, String)> {
        let Sending { mut call, call_seed, resent, deadline } = sending;
        let name = call.provider();
        let provider = provider::of(name);
        if provider.credential(key).is_none() {
            call.was_not_sent();
            return Err((Fault::KeyNotSendable, String::new()));
        }
        let mut span = CallSpan::begin(&self.metrics, name, self.place(name), resent);
        let new_decoder = outbound.decoder;
        let first_output = Instant::now() + self.options.first_event_timeout;
        let (response, client) = self
            .send(outbound, key, deadline.min(first_output), &mut call)
            .await
            .map_err(|fault| self.timed(fault, deadline))
            .inspect_err(|fault| span.fails(fault))
            .map_err(|fault| (fault, String::new()))?;
        span.has_head(response.status().as_u16());
        let request_id = Scrubber::new(key).text(&request_id(provider, response.headers()));
        let failed = |fault: Fault, span: &mut CallSpan| {
            span.fails(&fault);
            (fault, request_id.clone())
        };
        let status = response.status();
        let is_stream = status.is_success() && is_event_stream(response.headers());
        if is_stream && is_encoded(response.headers()) {
            return Err(failed(Fault::Malformed("an encoding that was not asked for"), &mut span));
        }
        if !is_stream {
            let fault = refusal(provider, response, key, deadline).await;
            call.comes_to(fault.outcome());
            return Err(failed(fault, &mut span));
        }
        let mut exchange = Exchange {
            response,
            _client: client,
            reader: sse::Reader::new(EVENT_BYTES_MAX),
            decoder: new_decoder(call_seed),
            surrogates: Surrogates::default(),
            output: Output::default(),
            request_id: request_id.clone(),
            idle_max: self.options.idle_timeout,
            deadline,
            body_ended: false,
            secret: Scrubber::new(key),
            waited: Duration::ZERO,
            span,
            call,
        };
        match timeout_at(deadline.min(first_output), exchange.begin()).await {
            Ok(Ok(())) => {
                exchange.span.answers();
                Ok(exchange)
            }
            Ok(Err(fault)) => {
                exchange.call.comes_to(fault.outcome());
                Err(failed(fault, &mut exchange.span))
            }
            Err(_) => Err(failed(self.timed(Fault::TotalTimeout, deadline), &mut exchange.span)),
        }
    }

    fn lease(&self, name: Name) -> Result<Lease, Fault> {
        self.clients[name as usize].lease().map_err(|error| Fault::Unreachable(error.into()))
    }

    fn url(&self, name: Name, path: &str) -> String {
        let base = self.options.base_urls.of(name);
        format!("{}{path}", base.as_str().trim_end_matches('/'))
    }

    /// Which of the two limits on the first output has passed: the total one of `deadline`,
    /// or that of the first event.
    fn timed(&self, fault: Fault, deadline: Instant) -> Fault {
        match fault {
            Fault::TotalTimeout if Instant::now() < deadline => {
                Fault::FirstEventTimeout(self.options.first_event_timeout)
            }
            fault => fault,
        }
    }

    async fn send(
        &self,
        outbound: &Outbound,
        key: &KeyMaterial,
        deadline: Instant,
        call: &mut Call,
    ) -> Result<(reqwest::Response, Lease), Fault> {
        let name = call.provider();
        let Some((header, credential)) = provider::of(name).credential(key) else {
            call.was_not_sent();
            return Err(Fault::KeyNotSendable);
        };
        let mut headers = outbound.headers.clone();
        headers.insert(header, credential);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        let client = self.lease(name)?;
        let url = self.url(name, &outbound.path);
        let response = client.post(url).headers(headers).body(outbound.body.clone()).send();
        let headers_max = self.options.headers_timeout;
        match timeout_at(deadline.min(Instant::now() + headers_max), response).await {
            Ok(Ok(response)) => Ok((response, client)),
            Ok(Err(error)) => {
                if error.is_connect() {
                    call.was_not_sent();
                } else {
                    call.comes_to(Outcome::Failed);
                }
                Err(Fault::Unreachable(error.without_url().into()))
            }
            Err(_) if Instant::now() >= deadline => Err(Fault::TotalTimeout),
            Err(_) => Err(Fault::FirstEventTimeout(headers_max)),
        }
    }
}

/// One answer that is being read. Dropping it closes the connection or resets the
/// HTTP/2 stream.
pub(crate) struct Exchange {
    response: reqwest::Response,
    /// Its place on a connection.
    _client: Lease,
    reader: sse::Reader,
    decoder: Box<dyn Decoder>,
    surrogates: Surrogates,
    output: Output,
    request_id: String,
    idle_max: Duration,
    deadline: Instant,
    body_ended: bool,
    secret: Scrubber,
    /// Since the last answer of [`Exchange::take_waited`].
    waited: Duration,
    span: CallSpan,
    /// Notes what was used, also of an answer that nobody reads to its end.
    call: Call,
}

impl Exchange {
    /// The model that answers, if the provider has said it.
    pub(crate) fn model(&self) -> Option<&str> {
        self.output.model.as_deref()
    }

    /// The provider's id of the request or, without one, of the answer.
    pub(crate) fn request_id(&self) -> &str {
        match &self.output.response_id {
            Some(id) if self.request_id.is_empty() => id,
            _ => &self.request_id,
        }
    }

    /// The provider's id of the answer.
    pub(crate) fn response_id(&self) -> Option<&str> {
        self.output.response_id.as_deref()
    }

    /// It is read no further, for this.
    pub(crate) fn fails(&mut self, fault: &Fault) {
        self.span.fails(fault);
    }

    /// How long the provider was waited for since this was last asked.
    pub(crate) fn take_waited(&mut self) -> Duration {
        std::mem::take(&mut self.waited)
    }

    /// What is known to be used.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.output.usage
    }

    /// The next event of the answer. `None` after the last.
    ///
    /// # Cancel safety
    ///
    /// Nothing that was read is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Fault> {
        loop {
            if let Some(event) = self.output.events.pop_front() {
                return Ok(Some(event));
            }
            if self.output.finished {
                return Ok(None);
            }
            self.advance().await.inspect_err(|fault| self.span.fails(fault))?;
        }
    }

    /// Reads until the provider has produced output.
    async fn begin(&mut self) -> Result<(), Fault> {
        while !self.output.committed {
            self.advance().await?;
        }
        Ok(())
    }

    /// Decodes one event that is here, or reads more, and notes what was used.
    async fn advance(&mut self) -> Result<(), Fault> {
        let advanced = self.advance_by_one().await;
        self.call.used(self.output.usage);
        if self.output.finished {
            self.call.comes_to(Outcome::Complete);
            self.span.ends();
        }
        advanced
    }

    async fn advance_by_one(&mut self) -> Result<(), Fault> {
        let next = self.reader.next_event().map_err(|_| Fault::Malformed("an event is too large"))?;
        if let Some(data) = next {
            let data = self.surrogates.mend(data);
            return match self.decoder.event(&data, &mut self.output) {
                Ok(()) => Ok(()),
                // The end of the body may have cut its last event in two.
                Err(Broken::Malformed(_)) if self.body_ended => Err(Fault::EndedEarly),
                Err(broken) => Err(self.secret.fault(broken)),
            };
        }
        if self.body_ended {
            self.decoder.end(&mut self.output).map_err(|broken| self.secret.fault(broken))?;
            return if self.output.finished { Ok(()) } else { Err(Fault::EndedEarly) };
        }
        if let Some(bytes) = self.read().await? {
            self.reader.push(&bytes);
        } else {
            self.body_ended = true;
            self.reader.finish();
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Fault> {
        // Any byte is a sign of life, a ping included. Before the first output silence is what
        // models that think do; `open` has a longer timer for it.
        let silent_until = if self.output.committed { Instant::now() + self.idle_max } else { self.deadline };
        let begun = Instant::now();
        let read = timeout_at(silent_until.min(self.deadline), self.response.chunk()).await;
        self.waited += begun.elapsed();
        match read {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(Fault::Unreachable(error.without_url().into())),
            Err(_) if Instant::now() >= self.deadline => Err(Fault::TotalTimeout),
            Err(_) => Err(Fault::IdleTimeout(self.idle_max)),
        }
    }
}

/// Reads an answer that is not a stream, and says what it means.
async fn refusal(provider: &dyn Provider, response: reqwest::Response, key: &KeyMaterial, deadline: Instant) -> Fault {
    let status = response.status();
    let headers = response.headers().clone();
    let (body, _) = body(response, ERROR_BODY_BYTES_MAX, deadline.min(Instant::now() + ERROR_BODY_MAX)).await;
    if status.is_client_error() || status.is_server_error() || (status.is_success() && provider::is_error(&body)) {
        let rejection = provider.classify(status.as_u16(), &headers, &body);
        return Fault::Rejected { status: status.as_u16(), rejection: Scrubber::new(key).scrub(rejection) };
    }
    let content_type = Scrubber::new(key).text(&content_type(&headers));
    Fault::NotAStream { status: status.as_u16(), content_type }
}

fn content_type(headers: &HeaderMap) -> String {
    const LENGTH_MAX: usize = 100;
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().chars().take(LENGTH_MAX).collect()
}

/// As much of a body as is there in time, up to a limit; and whether it did not break off. A
/// refusal that breaks off is worth as much as its beginning.
async fn body(mut response: reqwest::Response, bytes_max: usize, until: Instant) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        match timeout_at(until, response.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                let room = bytes_max - body.len();
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                if body.len() == bytes_max {
                    return (body, true);
                }
            }
            Ok(Ok(None)) => return (body, true),
            Ok(Err(_)) | Err(_) => return (body, false),
        }
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    // Some proxies drop the type; what is not a stream then ends without an event.
    headers.get(header::CONTENT_TYPE).is_none_or(|value| {
        value.to_str().is_ok_and(|value| {
            value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
        })
    })
}

/// Whether the body is compressed. We never ask for it: an encoder would hold events back.
fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity")
}

fn request_id(provider: &dyn Provider, headers: &HeaderMap) -> String {
    const LENGTH_MAX: usize = 200;
    let value = provider.request_id_header().and_then(|name| headers.get(name)).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().chars().take(LENGTH_MAX).collect()
}

/// Takes a key out of what a provider says: some quote it, whole or in part.
struct Scrubber(KeyMaterial);

impl Scrubber {
    fn new(key: &KeyMaterial) -> Self {
        Self(KeyMaterial::new(key.expose().to_owned()))
    }

    fn fault(&self, broken: Broken) -> Fault {
        match broken {
            Broken::Cut => Fault::EndedEarly,
            Broken::Malformed(what) => Fault::Malformed(what),
            Broken::Rejected(rejection) => Fault::Rejected { status: 200, rejection: self.scrub(rejection) },
        }
    }

    fn scrub(&self, mut rejection: Rejection) -> Rejection {
        rejection.message = self.text(&rejection.message);
        rejection.code = self.text(&rejection.code);
        rejection
    }

    /// Replaces every word that has a piece of the key, or looks like a key.
    fn text(&self, text: &str) -> String {
        // Cut first: looking for pieces takes the product of both lengths. What is cut off
        // the last word here is not shown, because less than this is.
        let text = text.get(..text.floor_char_boundary(SCRUBBED_BYTES_MAX)).unwrap_or_default();
        let words = text.split_inclusive(char::is_whitespace).map(|word| {
            let bare = word.trim_end();
            if self.gives_away(bare) { format!("[removed]{}", &word[bare.len()..]) } else { word.to_owned() }
        });
        words.collect::<String>().chars().filter(|c| !c.is_control() || *c == '\n').take(MESSAGE_CHARS_MAX).collect()
    }

    fn gives_away(&self, word: &str) -> bool {
        /// Shorter pieces stand in ordinary words.
        const PIECE: usize = 6;
        const MASKED: &str = "***";
        let key = self.0.expose();
        let mut key_prefixes = Name::ALL.into_iter().filter_map(|name| provider::of(name).key_prefix());
        word.contains(MASKED)
            || key_prefixes.any(|prefix| word.contains(prefix))
            || key.as_bytes().windows(PIECE).any(|piece| word.as_bytes().windows(PIECE).any(|of| of == piece))
            || (!key.is_empty() && key.len() < PIECE && word.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::RejectionKind;

    #[test]
    fn no_piece_of_the_key_reaches_a_caller() {
        let scrubber = Scrubber::new(&KeyMaterial::new("sk-proj-abcdefghijklmnop1234".to_owned()));
        let said = |text: &str| {
            let message = text.to_owned();
            let kind = RejectionKind::Key;
            scrubber
                .scrub(Rejection { kind, code: String::new(), message, retry_after: None, should_retry: None })
                .message
        };
        assert_eq!(
            said("Incorrect API key provided: sk-proj-abcd***1234. See"),
            "Incorrect API key provided: [removed] See"
        );
        assert_eq!(said("key=hijklmn is bad"), "[removed] is bad");
        assert_eq!(said("Invalid 'temperature': 99 is above 2"), "Invalid 'temperature': 99 is above 2");
        assert_eq!(said(&"x".repeat(5_000)).len(), MESSAGE_CHARS_MAX);
    }
}
