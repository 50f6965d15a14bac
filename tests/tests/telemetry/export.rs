//! Ways to a collector: gRPC and HTTP, in the clear and over TLS that a private authority vouches
//! for, with headers from a file.

use system_tests::{
    Setup, System,
    answer::ask,
    certs::{Authority, replace},
    collector::{Collector, Protocol},
    stage::wire::Api,
};

use super::desk::{Desk, exporting, new_trace, sampled};

const PROTOCOLS: [(&str, Protocol); 2] = [("grpc", Protocol::Grpc), ("http", Protocol::Http)];

/// A token that a collector asks for.
const TOKEN: &str = "Bearer CANARY-collector-token";

/// A setup whose services speak a protocol to a collector, with further options of both.
fn speaking(protocol: &str, url: &str, more: &[String]) -> Setup {
    let mut setup = exporting(Setup::default(), url);
    for options in [&mut setup.vault_options, &mut setup.gateway_options] {
        options.push(format!("--otlp-protocol={protocol}"));
        options.extend_from_slice(more);
    }
    setup
}

/// Chats once with both services before a collector. Returns the id of the trace, and what both
/// logged.
async fn chats(setup: Setup, collector: Collector) -> (String, String, Collector) {
    let mut desk = Desk { system: System::with(setup).await, collector };
    let trace = new_trace();
    // Nobody has a key: the vault is asked all the same.
    let request = ask(Api::ChatCompletions.model(), None, "Hi");
    let answer = desk.chat_as(request, &[("traceparent", &sampled(&trace))]).await;
    assert_eq!(answer.failed().class(), "FailedPrecondition NO_KEY_CONFIGURED");
    let seen = desk.ends().await;
    (trace, seen.gateway_log + &seen.vault_log, seen.collector)
}

#[tokio::test]
async fn spans_and_metrics_arrive_each_way() {
    for (name, protocol) in PROTOCOLS {
        let collector = Collector::start().await;
        let (trace, _, collector) = chats(speaking(name, &collector.url(), &[]), collector).await;
        assert_arrived(&collector, &trace, protocol);
    }
}

#[tokio::test]
async fn a_private_authority_vouches_for_a_collector_and_headers_go_along() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("collectors");
    let (ca, headers) = (folder.path().join("ca.pem"), folder.path().join("headers"));
    replace(&ca, &authority.pem());
    replace(&headers, &format!("authorization: {TOKEN}\nx-tenant: acme\n"));
    let more = [format!("--otlp-ca={}", ca.display()), format!("--otlp-headers-file={}", headers.display())];
    for (name, protocol) in PROTOCOLS {
        let collector = Collector::over_tls(&authority).await;
        let (trace, logs, collector) = chats(speaking(name, &collector.url(), &more), collector).await;
        assert_arrived(&collector, &trace, protocol);
        for arrival in collector.arrivals() {
            assert_eq!(arrival.headers["authorization"], TOKEN, "{arrival:?}");
            assert_eq!(arrival.headers["x-tenant"], "acme", "{arrival:?}");
        }
        assert!(!logs.contains("CANARY"), "the token is not logged");
    }
}

#[tokio::test]
async fn a_collector_that_nobody_vouches_for_gets_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    replace(&ca, &Authority::new("somebody else").pem());
    for (name, _) in PROTOCOLS {
        let collector = Collector::over_tls(&Authority::new("collectors")).await;
        let more = [format!("--otlp-ca={}", ca.display())];
        let (_, _, collector) = chats(speaking(name, &collector.url(), &more), collector).await;
        assert_eq!(collector.asked(), 0, "{name}");
    }
}

fn assert_arrived(collector: &Collector, trace: &str, protocol: Protocol) {
    let services: Vec<_> = collector.trace(trace).spans().iter().map(|span| span.service.clone()).collect();
    for service in ["chat-gateway", "key-vault"] {
        assert!(services.iter().any(|of| of == service), "{protocol:?}: spans of {services:?}");
        assert!(!collector.metrics(service).is_empty(), "{protocol:?}: metrics of {service}");
    }
    assert!(collector.arrivals().iter().all(|arrival| arrival.protocol == protocol), "{:?}", collector.arrivals());
    for resource in collector.resources() {
        for name in ["service.name", "service.version"] {
            assert!(resource.contains_key(name), "{name} of {resource:?}");
        }
    }
}
