//! Every log line of a request names its trace, and so does the answer to its caller.

use serde_json::Value;
use system_tests::{Setup, answer::ask, stage::wire::Api};

use super::desk::{Desk, new_trace, sampled};

/// What a line of a finished call has, beside what its handler noted.
const FINISHED: [&str; 9] =
    ["timestamp", "level", "target", "message", "trace_id", "span_id", "rpc.method", "rpc.status_code", "duration_ms"];

fn lines(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

#[tokio::test]
async fn every_line_of_a_request_names_its_trace() {
    let setup = Setup { log_filter: Some("info,key_vault=debug,chat_gateway=debug".to_owned()), ..Setup::default() };
    let mut desk = Desk::with(setup).await;
    desk.system.provider.always_answers(Api::ChatCompletions.error(500));
    desk.system.provider.answers(Api::ChatCompletions.error(400));
    let trace = new_trace();
    let parent = sampled(&trace);
    let answer = desk.chat_as(ask("gpt-4o", Some("research"), "Hi"), &[("traceparent", &parent)]).await;
    assert_eq!(answer.failed().class(), "InvalidArgument PROVIDER_INVALID_REQUEST");
    assert_eq!(answer.failed().trace_id, trace, "the caller can name it");
    let seen = desk.ends().await;
    let spans = seen.trace(&trace);
    for (service, log, method) in [
        ("chat-gateway", &seen.gateway_log, super::spans::STREAM_CHAT),
        ("key-vault", &seen.vault_log, super::spans::RESOLVE_KEY),
    ] {
        for line in log.lines() {
            for name in ["trace_id", "error.type", "keyvault.cache", "keyvault.key.id", "chatgateway.attempt.count"] {
                assert!(line.matches(&format!("\"{name}\":")).count() < 2, "{name} is there twice: {line}");
            }
        }
        let lines = lines(log);
        let of_request: Vec<_> = lines.iter().filter(|line| line["trace_id"] == trace.as_str()).collect();
        let finished: Vec<_> = of_request.iter().filter(|line| line["message"] == "RPC finished").collect();
        let [finished] = finished.as_slice() else { panic!("{} lines of {method}", finished.len()) };
        assert_eq!(finished["rpc.method"], method);
        for name in FINISHED {
            assert!(finished.get(name).is_some(), "no {name} in {finished}");
        }
        assert_eq!(finished["organization.id"], "acme", "{finished}");
        let ids: Vec<_> = spans.spans().iter().filter(|span| span.service == service).map(|span| &span.id).collect();
        for line in of_request {
            assert!(ids.iter().any(|id| line["span_id"] == id.as_str()), "a span that was exported: {line}");
        }
        // Whatever names a call or a profile belongs to a request, and those have traces.
        for line in &lines {
            let is_of_a_request = line.get("rpc.method").is_some() || line.get("chatgateway.profile.id").is_some();
            assert!(!is_of_a_request || line.get("trace_id").is_some(), "no trace: {line}");
        }
    }
    let gateway = lines(&seen.gateway_log);
    let finished = gateway.iter().find(|line| line["message"] == "RPC finished" && line["trace_id"] == trace.as_str());
    let finished = finished.expect("found above");
    for (name, value) in [
        ("rpc.status_code", "INVALID_ARGUMENT"),
        ("error.type", "PROVIDER_INVALID_REQUEST"),
        ("archestra.fault", "caller"),
        ("chatgateway.profile.id", "research"),
        ("gen_ai.request.model", "gpt-4o"),
    ] {
        assert_eq!(finished[name], value, "{finished}");
    }
    let vault = lines(&seen.vault_log);
    let is_report = |line: &&Value| line["rpc.method"] == super::spans::REPORT_KEY_USE;
    let reports: Vec<_> = vault.iter().filter(is_report).filter(|line| line["message"] == "RPC finished").collect();
    assert!(reports.is_empty(), "a gateway reports every two seconds, and that goes well: {reports:?}");
}
