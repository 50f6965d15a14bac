//! What probes and gRPC health say when something is wrong: that it is, what, and for whom.
//!
//! Every answer of a probe is looked through for what must not be in it.

mod gateway;
mod port;
mod vault;

use std::time::Duration;

use system_tests::{Process, postgres, replicas::eventually};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// What a probe may take. An orchestrator gives it a second by default.
const PROBE_MAX: Duration = Duration::from_secs(1);

const KEY: &str = "sk-MARKED-health-0123456789abcdef";

/// An answer over HTTP.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Sends a request as it is, and reads until the connection ends.
async fn exchange(url: &str, request: &str) -> std::io::Result<String> {
    let address = url.strip_prefix("http://").expect("a URL");
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    timeout(PROBE_MAX, asked).await.unwrap_or_else(|_| panic!("no answer in {PROBE_MAX:?}: {request}"))
}

async fn send(url: &str, request: &str) -> Answer {
    let answer = exchange(url, request).await.unwrap_or_else(|error| panic!("{error}: {request}"));
    for secret in [KEY, postgres::PASSWORD] {
        assert!(!answer.contains(secret), "{answer}");
    }
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

async fn get(process: &Process, path: &str) -> Answer {
    send(&process.probe_url(), &format!("GET {path} HTTP/1.1\r\nhost: probes\r\n\r\n")).await
}

/// Waits until `/readyz` has this status and says these words. Whatever it says, the process lives.
async fn says(process: &Process, status: u16, words: &str) -> String {
    eventually(words, async || {
        let live = get(process, "/livez").await;
        assert_eq!((live.status, live.body.as_str()), (200, "ok\n"));
        let ready = get(process, "/readyz").await;
        (ready.status == status && ready.body.contains(words)).then_some(ready.body)
    })
    .await
}

async fn is_ready(process: &Process) -> String {
    says(process, 200, "ok\n").await
}

fn health(process: &Process) -> HealthClient<Channel> {
    HealthClient::new(Endpoint::from_shared(process.url()).expect("a URL").connect_lazy())
}

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

/// What gRPC health says of each service, and of the whole.
async fn assert_health(process: &Process, expected: &[(&str, ServingStatus)]) {
    for (service, status) in expected {
        let said = health(process).check(of(service)).await.expect("it is known").into_inner().status();
        assert_eq!(said, *status, "{service:?}");
    }
}
