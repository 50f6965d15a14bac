//! `/livez`, `/readyz` and `/metrics`, over HTTP/1.1 on a port of their own.
//!
//! For whoever can reach the port, without identity: nothing that is answered is secret. A
//! connection has one request, of which only the head is read, and little time. The number of
//! connections is small, and the oldest gives way: whoever holds some open holds up no probe.
//!
//! - `/livez` is answered by a task of the runtime after a timer of it, and looks at nothing
//!   else: what a restart does not mend is no reason to restart.
//! - `/readyz` says how each component is; 503 if the process should get no calls.
//! - `/metrics` is for Prometheus.

use std::{collections::VecDeque, fmt::Write as _, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::{debug, info};

use crate::{
    metrics,
    readiness::{Known, Readiness, SHUTTING_DOWN},
};

/// Connections at once: an orchestrator and some scrapers need one each, for milliseconds.
const CONNECTIONS_MAX: usize = 64;

/// How long the head of a request may take. A probe sends it at once.
const HEAD_MAX: Duration = Duration::from_secs(2);

/// How long a connection may take with everything: a scraper reads slowly at times.
const CONNECTION_MAX: Duration = Duration::from_secs(10);

/// The largest head of a request, and what is kept of an answer that is not read.
const BUFFER_BYTES_MAX: usize = 16 * 1024;

/// The wait after the system refused a connection, for want of file descriptors mostly.
const ACCEPT_WAIT: Duration = Duration::from_millis(100);

/// The timer whose end `/livez` waits for: the shortest there is.
const TIMER_PROOF: Duration = Duration::from_millis(1);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// A port for probes, before anything is answered.
#[derive(Debug)]
pub struct Probes {
    listener: TcpListener,
}

impl Probes {
    /// Binds the port.
    ///
    /// # Errors
    ///
    /// Fails if the address cannot be bound, naming it and the option.
    pub async fn bind(listen: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!(
                "cannot listen on {listen} for probes: is another instance running? choose another with --probe-listen"
            )
        })?;
        Ok(Self { listener })
    }

    /// Answers probes. Never ends; dropped, it cuts those that are being answered.
    pub async fn answer(self, readiness: Readiness) {
        match self.listener.local_addr() {
            Ok(address) => info!(%address, "answering probes"),
            Err(error) => debug!(%error, "the listener of probes has no address"),
        }
        let router = router(readiness);
        let mut connections = Connections::default();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => connections.add(answer_one(stream, router.clone())),
                Err(error) => {
                    debug!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_WAIT).await;
                }
            }
        }
    }
}

/// Those that are open, the oldest first.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    handles: VecDeque<AbortHandle>,
}

impl Connections {
    fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.handles.retain(|handle| !handle.is_finished());
        if self.handles.len() >= CONNECTIONS_MAX
            && let Some(oldest) = self.handles.pop_front()
        {
            oldest.abort();
        }
        self.handles.push_back(self.tasks.spawn(connection));
    }
}

async fn answer_one(stream: TcpStream, router: Router) {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .keep_alive(false);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // What a stranger sends to the port is nobody's concern.
    let _ = timeout(CONNECTION_MAX, connection).await;
}

fn router(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(nothing)
        .with_state(readiness)
}

/// Answers as long as tasks are polled and timers fire.
async fn livez() -> Response {
    sleep(TIMER_PROOF).await;
    said(StatusCode::OK, TEXT, "ok\n".to_owned())
}

async fn readyz(State(readiness): State<Readiness>, headers: HeaderMap) -> Response {
    let known = readiness.known();
    let status = if known.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if accept(&headers).is_some_and(|accept| accept.contains(JSON)) {
        return said(status, JSON, as_json(&known));
    }
    said(status, TEXT, as_text(&known))
}

async fn metrics(headers: HeaderMap) -> Response {
    let (content_type, text) = metrics::exposition(accept(&headers));
    said(StatusCode::OK, content_type, text)
}

async fn nothing() -> Response {
    said(StatusCode::NOT_FOUND, TEXT, "there are /livez, /readyz and /metrics\n".to_owned())
}

fn accept(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ACCEPT)?.to_str().ok()
}

fn said(status: StatusCode, content_type: &'static str, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// A line for each component.
fn as_text(known: &Known) -> String {
    let mut text = String::new();
    if known.shutting_down {
        text.push_str(SHUTTING_DOWN);
        text.push('\n');
    }
    for told in &known.components {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}: {}", told.name, told.words());
    }
    text
}

fn as_json(known: &Known) -> String {
    let components: Vec<_> = known
        .components
        .iter()
        .map(|told| json!({ "name": told.name, "state": told.state.name(), "message": told.words() }))
        .collect();
    let whole = json!({
        "ready": known.is_ready(),
        "shutting_down": known.shutting_down,
        "components": components,
    });
    format!("{whole}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_is_wrong_with_each_component() {
        let readiness = Readiness::default();
        readiness.component("store", Duration::ZERO).well();
        readiness.component("keyring", Duration::ZERO).unwell("the keyring /k \"cannot\" be read");
        readiness.component("secrets_manager", Duration::ZERO).impaired("it is away");
        let expected = "store: ok\nkeyring: the keyring /k \"cannot\" be read\nsecrets_manager: it is away\n";
        assert_eq!(as_text(&readiness.known()), expected);
        let parsed: serde_json::Value = serde_json::from_str(&as_json(&readiness.known())).expect("JSON");
        let expected = json!({
            "ready": false,
            "shutting_down": false,
            "components": [
                { "name": "store", "state": "well", "message": "ok" },
                { "name": "keyring", "state": "unwell", "message": "the keyring /k \"cannot\" be read" },
                { "name": "secrets_manager", "state": "impaired", "message": "it is away" },
            ],
        });
        assert_eq!(parsed, expected);
        readiness.shutting_down();
        assert!(as_text(&readiness.known()).starts_with("shutting down\nstore: ok\n"));
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_option() {
        let first = Probes::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
        let address = first.listener.local_addr().expect("an address");
        let error = Probes::bind(address).await.expect_err("it is in use").to_string();
        assert!(error.contains(&address.to_string()) && error.contains("--probe-listen"), "{error}");
    }
}
