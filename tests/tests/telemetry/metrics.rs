//! What metrics must have, as tables: names, kinds, units, buckets, and the names of their
//! attributes, of which there are never many sets.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt as _, stream};
use proto::{
    keyvault::{
        GetRewrapStatusRequest, RotateKeyEncryptionKeyRequest, vault_admin_service_client::VaultAdminServiceClient,
    },
    types::Provider,
};
use system_tests::{
    Links, Setup, System,
    answer::{Answer, ask},
    collector::{Collector, Metric, MetricKind},
    fake_provider::{Answer as Said, End},
    replicas::eventually,
    stage::wire::{Api, INPUT_TOKENS, data},
};
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use super::desk::{Desk, exporting};

/// A metric of a table.
struct Row {
    name: &'static str,
    kind: MetricKind,
    unit: &'static str,
    /// The upper bounds of a histogram's buckets. Empty where they are ours to choose.
    buckets: &'static [f64],
    /// Attributes that each set has.
    always: &'static [&'static str],
    /// Attributes that a set may have.
    sometimes: &'static [&'static str],
}

const OPERATIONS: &[f64] = &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

const CALLS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

const OPERATION: &[&str] = &["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"];
const SERVED: &[&str] = &["rpc.system.name", "rpc.method", "rpc.status_code"];

const fn histogram(
    name: &'static str,
    unit: &'static str,
    buckets: &'static [f64],
    always: &'static [&'static str],
    sometimes: &'static [&'static str],
) -> Row {
    Row { name, kind: MetricKind::Histogram, unit, buckets, always, sometimes }
}

const fn counter(name: &'static str, always: &'static [&'static str], sometimes: &'static [&'static str]) -> Row {
    Row { name, kind: MetricKind::Counter, unit: "", buckets: &[], always, sometimes }
}

const fn gauge(name: &'static str, always: &'static [&'static str]) -> Row {
    Row { name, kind: MetricKind::Gauge, unit: "", buckets: &[], always, sometimes: &[] }
}

const GATEWAY: &[Row] = &[
    histogram("rpc.server.call.duration", "s", CALLS, SERVED, &["error.type", "archestra.fault"]),
    histogram(
        "rpc.client.call.duration",
        "s",
        CALLS,
        &["rpc.system.name", "rpc.method", "rpc.status_code", "server.address"],
        &["error.type", "server.port"],
    ),
    histogram(
        "gen_ai.client.operation.duration",
        "s",
        OPERATIONS,
        OPERATION,
        &["gen_ai.response.model", "error.type", "server.address", "server.port"],
    ),
    histogram(
        "gen_ai.client.token.usage",
        "{token}",
        TOKENS,
        &["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.type"],
        &["gen_ai.response.model", "server.address", "server.port"],
    ),
    histogram(
        "gen_ai.client.operation.time_to_first_chunk",
        "s",
        OPERATIONS,
        OPERATION,
        &["gen_ai.response.model", "server.address", "server.port"],
    ),
    histogram(
        "gen_ai.client.operation.time_per_output_chunk",
        "s",
        OPERATIONS,
        OPERATION,
        &["gen_ai.response.model", "server.address", "server.port"],
    ),
    counter(
        "chatgateway.chats",
        &["gen_ai.provider.name", "chatgateway.finish"],
        &["error.type", "archestra.fault", "chatgateway.profile.id", "keyvault.key.id"],
    ),
    histogram("chatgateway.overhead.duration", "s", &[], &[], &[]),
    counter("chatgateway.attempts", &["gen_ai.provider.name", "chatgateway.attempt.result"], &[]),
    counter("chatgateway.upstream.cancelled", &["gen_ai.provider.name", "chatgateway.window"], &[]),
    counter("chatgateway.stream.truncated", &["gen_ai.provider.name", "chatgateway.cause"], &[]),
    counter("keyvault.cache", &["keyvault.cache"], &[]),
    counter("chatgateway.usage.dropped", &[], &[]),
];

const VAULT: &[Row] = &[
    histogram("rpc.server.call.duration", "s", CALLS, SERVED, &["error.type", "archestra.fault"]),
    counter("keyvault.resolve", &["keyvault.resolution.source", "keyvault.result"], &[]),
    histogram("keyvault.resolve.duration", "s", &[], &[], &["keyvault.resolution.source", "keyvault.result"]),
    histogram("keyvault.seal.duration", "s", &[], &["keyvault.seal.operation"], &[]),
    counter("keyvault.decrypt.failures", &[], &[]),
    gauge("keyvault.kek.active_version", &[]),
    gauge("keyvault.records_on_old_kek", &[]),
    gauge("keyvault.secrets_manager.healthy", &["keyvault.secrets_manager.kind"]),
    gauge("keyvault.sealed", &[]),
    gauge("keyvault.revision", &[]),
    counter("keyvault.exfiltration.alarms", &[], &[]),
    counter("keyvault.audit.failures", &[], &[]),
    histogram("keyvault.audit.batch", "", &[], &[], &[]),
    histogram("keyvault.audit.duration", "s", &[], &[], &[]),
    counter("keyvault.rotations", &["keyvault.rotation"], &[]),
];

impl Row {
    fn problems(&self, metric: Option<Metric>) -> Vec<String> {
        let Some(metric) = metric else { return vec![format!("{} does not arrive", self.name)] };
        let mut problems = Vec::new();
        if metric.kind != self.kind || (!self.unit.is_empty() && metric.unit != self.unit) {
            problems.push(format!("is a {:?} of {:?}", metric.kind, metric.unit));
        }
        for point in &metric.points {
            let bounds = &point.bounds;
            if !self.buckets.is_empty() && bounds != self.buckets {
                problems.push(format!("has buckets {bounds:?}"));
            }
            problems.extend(
                self.always
                    .iter()
                    .filter(|name| !point.attributes.contains_key(**name))
                    .map(|name| format!("has no {name}")),
            );
        }
        let known: BTreeSet<&str> = self.always.iter().chain(self.sometimes).copied().collect();
        problems.extend(metric.names().difference(&known).map(|name| format!("has {name}")));
        if metric.description.is_empty() {
            problems.push("says nothing to people".to_owned());
        }
        problems.sort();
        problems.dedup();
        problems.into_iter().map(|problem| format!("{} {problem}", self.name)).collect()
    }
}

#[tokio::test]
async fn metrics_hold_to_the_tables() {
    let mut desk = Desk::start().await;
    let mut admin = VaultAdminServiceClient::connect(desk.system.vault.url()).await.expect("a connection");
    admin.rotate_key_encryption_key(RotateKeyEncryptionKeyRequest::default()).await.expect("rotated");
    desk.warms(Api::ChatCompletions, Some("research")).await;
    desk.system.provider.always_answers(Api::ChatCompletions.whole(5));
    desk.chat(ask("gpt-4o", Some("research"), "Hi")).await;
    let begun = Api::ChatCompletions.opening() + &Api::ChatCompletions.tokens(0..3);
    desk.system.provider.always_answers(Said::stream(begun.clone()).ending(End::Cut));
    desk.chat(ask("gpt-4o", Some("research"), "Hi")).await;
    desk.system.provider.always_answers(Said::stream(begun).ending(End::Silence));
    desk.leaves_mid_stream(ask("gpt-4o", Some("research"), "Hi")).await;
    is_rewrapped(&admin).await;
    let seen = desk.ends().await;
    let mut problems = Vec::new();
    for (service, rows) in [("chat-gateway", GATEWAY), ("key-vault", VAULT)] {
        let of = |row: &Row| row.problems(seen.collector.metric(service, row.name));
        problems.extend(rows.iter().flat_map(of).map(|problem| format!("{service}: {problem}")));
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    let chats = seen.collector.metric("chat-gateway", "chatgateway.chats").expect("checked above");
    for (finish, count) in [("complete", 2.0), ("truncated", 1.0), ("cancelled", 1.0)] {
        let points = chats.with(&[("chatgateway.finish", finish), ("gen_ai.provider.name", "openai")]);
        let sum: f64 = points.iter().map(|point| point.value).sum();
        assert!((sum - count).abs() < 0.5, "{finish}: {points:?}");
    }
    let tokens = seen.collector.metric("chat-gateway", "gen_ai.client.token.usage").expect("checked above");
    let input: f64 = tokens
        .with(&[("gen_ai.token.type", "input"), ("gen_ai.provider.name", "openai")])
        .iter()
        .map(|point| point.value)
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let known = (INPUT_TOKENS * 2) as f64;
    assert!((input - known).abs() < 0.5, "of the two that are whole: {input}");
}

#[tokio::test]
async fn components_say_whether_they_are_ready() {
    const READY: Row = gauge("service.ready", &["service.component"]);
    let seen = Desk::start().await.ends().await;
    for (service, components) in
        [("chat-gateway", &["vault"][..]), ("key-vault", &["audit", "keyring", "secrets_manager", "store"])]
    {
        let metric = seen.collector.metric(service, READY.name);
        assert_eq!(READY.problems(metric.clone()), Vec::<String>::new(), "{service}");
        let metric = metric.expect("checked above");
        let mut named: Vec<_> = metric.points.iter().map(|point| point.text("service.component")).collect();
        named.sort_unstable();
        assert_eq!(named, components, "{service}");
        assert!(metric.points.iter().all(|point| (point.value - 1.0).abs() < f64::EPSILON), "{metric:?}");
    }
}

/// Distinct names that callers choose.
const NAMES: usize = 5_000;

/// Most sets of attributes of one metric.
const SETS_MAX: usize = 250;

/// Chats at once.
const AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_callers_choose_make_few_series() {
    let setup = Setup { folder_in_memory: true, ..Setup::default() };
    let desk = Desk::with(setup).await;
    // It says the model that it was asked for, as careless providers do.
    desk.system.provider.answers_by(|received| {
        let model = received.json()["model"].clone();
        let chunk = serde_json::json!({"id": "c", "model": model, "choices": [
            {"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}});
        Said::stream(data(&[chunk]) + "data: [DONE]\n\n")
    });
    let chats = stream::iter(0..NAMES).map(|number| {
        let mut client = desk.system.chat.clone();
        async move {
            let request = ask(&format!("openai/model-{number}"), Some(&format!("profile-{number}")), "Hi");
            let answer = Answer::read(client.stream_chat(request).await).await;
            assert_eq!(answer.failure.map(|failure| failure.class()), None);
        }
    });
    chats.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    desk.system.provider.forgets();
    let mut client = desk.system.chat.clone();
    for number in 0..50 {
        let answer = Answer::read(client.stream_chat(ask(&format!("nobodys-{number}"), None, "Hi")).await).await;
        assert_eq!(answer.failed().class(), "InvalidArgument MODEL_UNKNOWN");
    }
    for url in [desk.system.gateway.url(), desk.system.vault.url()] {
        asks_what_is_not_served(&url, 50).await;
    }
    let seen = desk.ends().await;
    for service in ["chat-gateway", "key-vault"] {
        for metric in seen.collector.metrics(service) {
            let count = metric.points.len();
            assert!(count <= SETS_MAX, "{count} sets of attributes of {} of {service}", metric.name);
            println!("{service} {}: {count}", metric.name);
            if metric.name.starts_with("rpc.server.") {
                assert!(!metric.with(&[("rpc.method", "_OTHER")]).is_empty(), "{service} names what it does not serve");
                assert!(metric.points.iter().all(|point| !point.text("rpc.method").contains("Unserved")));
            }
        }
    }
    let chats = seen.collector.metric("chat-gateway", "chatgateway.chats").expect("chats are counted");
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let known = NAMES as f64;
    assert!(chats.with(&[("chatgateway.finish", "complete")]).iter().map(|point| point.value).sum::<f64>() >= known);
}

/// Calls so many methods that no service has.
async fn asks_what_is_not_served(url: &str, count: usize) {
    let channel = Endpoint::from_shared(url.to_owned()).expect("a URL").connect().await.expect("it serves");
    let mut client = tonic::client::Grpc::new(channel);
    for number in 0..count {
        client.ready().await.expect("it serves");
        let path = format!("/archestra.chat.v1.ChatService/Unserved{number}").parse().expect("a path");
        let codec = tonic_prost::ProstCodec::<GetRewrapStatusRequest, GetRewrapStatusRequest>::default();
        let answer = client.unary(Request::new(GetRewrapStatusRequest {}), path, codec).await;
        assert_eq!(answer.expect_err("nobody serves it").code(), tonic::Code::Unimplemented);
    }
}

#[tokio::test]
async fn a_replica_says_how_sealed_it_is_and_how_far_a_rotation_is() {
    let collector = Collector::start().await;
    let mut system = System::with(exporting(Setup::default(), &collector.url())).await;
    system.add_key(Provider::Openai, "sk-of-nobody", Links { default: true, profiles: &[] }).await;
    let mut admin = VaultAdminServiceClient::connect(system.vault.url()).await.expect("a connection");
    admin.rotate_key_encryption_key(RotateKeyEncryptionKeyRequest::default()).await.expect("rotated");
    is_rewrapped(&admin).await;
    let started = tokio::time::Instant::now();
    let (status, _) = system.vault.stop().await;
    assert!(status.success() && started.elapsed() < Duration::from_secs(20));
    for (name, value) in [
        ("keyvault.records_on_old_kek", 0.0),
        ("keyvault.sealed", 0.0),
        ("keyvault.kek.active_version", 2.0),
        ("keyvault.secrets_manager.healthy", 1.0),
    ] {
        let metric = collector.metric("key-vault", name).unwrap_or_else(|| panic!("{name} is not exported"));
        assert!((metric.total() - value).abs() < 0.5, "{metric:?}");
    }
    let revision = collector.metric("key-vault", "keyvault.revision").expect("it is exported");
    assert!(revision.total() >= 1.0, "{revision:?}");
}

/// Waits until all records are on the key encryption key of now. By then the vault has looked
/// after everything once.
async fn is_rewrapped(admin: &VaultAdminServiceClient<Channel>) {
    eventually("the rewrap", async || {
        let status = admin.clone().get_rewrap_status(GetRewrapStatusRequest {}).await.expect("a status").into_inner();
        (status.remaining_count == 0).then_some(())
    })
    .await;
}
