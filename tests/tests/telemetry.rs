//! Spans reach a collector, and a chat is one trace through both processes.

use std::{
    collections::HashMap,
    fmt::Write as _,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use proto::{
    keyvault::{
        GetRewrapStatusRequest, RotateKeyEncryptionKeyRequest, vault_admin_service_client::VaultAdminServiceClient,
    },
    types::Provider,
};
use system_tests::{
    Links, Setup, System,
    answer::{Answer, ask},
    fake_provider::Answer as Said,
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

const KEY: &str = "sk-traced-0123456789abcdef";
const PROMPT: &str = "a prompt that no span may have";

/// Receives what services export.
struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        // A test that has ended receives no more.
        let _ = self.0.send(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test]
async fn a_chat_is_one_trace_from_the_caller_through_both_services() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";
    let (sender, mut received) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let incoming = TcpListenerStream::new(listener);
    let collector = tokio::spawn(
        Server::builder().add_service(TraceServiceServer::new(Collector(sender))).serve_with_incoming(incoming),
    );
    let options = vec!["--otlp-endpoint".to_owned(), endpoint];
    let setup = Setup { vault_options: options.clone(), gateway_options: options, ..Setup::default() };
    let mut system = System::with(setup).await;
    system.add_key(Provider::Openai, KEY, Links { default: true, profiles: &[] }).await;
    system.provider.always_answers(Said::stream(
        "data: {\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
    ));
    let mut request = Request::new(ask("gpt-4o", None, PROMPT));
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{PARENT}-01").parse().expect("a header"));

    let answer = Answer::read(system.chat.stream_chat(request).await).await;

    assert_eq!(answer.text, "Hi");
    // The last spans leave when the processes stop.
    system.gateway.stop().await;
    system.vault.stop().await;
    collector.abort();
    let mut spans = HashMap::new();
    let mut exported = String::new();
    while let Ok(batch) = received.try_recv() {
        write!(exported, "{batch:?}").expect("a String takes all");
        for resource in batch.resource_spans {
            let service = service_name(&resource.resource.expect("a resource").attributes);
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                if hex(&span.trace_id) == TRACE {
                    spans.insert((service.clone(), span.name.clone()), span);
                }
            }
        }
    }
    let find = |service: &str, name: &str| -> &Span {
        spans
            .get(&(service.to_owned(), name.to_owned()))
            .unwrap_or_else(|| panic!("no {name} of {service} in {:?}", spans.keys()))
    };
    let chat = find("chat-gateway", "archestra.chat.v1.ChatService/StreamChat");
    let client = find("chat-gateway", "archestra.keyvault.v1.KeyResolutionService/ResolveKey");
    let server = find("key-vault", "archestra.keyvault.v1.KeyResolutionService/ResolveKey");
    assert_eq!(hex(&chat.parent_span_id), PARENT, "the caller's span is the parent");
    assert_eq!(server.parent_span_id, client.span_id, "the vault goes on where the gateway called");
    assert!(!exported.contains(KEY) && !exported.contains(PROMPT), "no span has a key or a prompt");
}

#[tokio::test]
async fn a_replica_says_how_sealed_it_is_and_how_far_a_rotation_is() {
    let (sender, mut received) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let incoming = TcpListenerStream::new(listener);
    let metrics = MetricsServiceServer::new(Meters(sender));
    let collector = tokio::spawn(Server::builder().add_service(metrics).serve_with_incoming(incoming));
    let vault_options = vec!["--otlp-endpoint".to_owned(), endpoint];
    let mut system = System::with(Setup { vault_options, ..Setup::default() }).await;
    system.add_key(Provider::Openai, KEY, Links { default: true, profiles: &[] }).await;
    let mut admin = VaultAdminServiceClient::connect(system.vault.url()).await.expect("a connection");
    admin.rotate_key_encryption_key(RotateKeyEncryptionKeyRequest::default()).await.expect("rotated");
    let deadline = Instant::now() + Duration::from_secs(20);
    while admin.get_rewrap_status(GetRewrapStatusRequest {}).await.expect("a status").into_inner().remaining_count > 0 {
        assert!(Instant::now() < deadline, "the rewrap does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // The last of them leave when the process stops.
    system.vault.stop().await;
    collector.abort();
    let mut exported = String::new();
    while let Ok(batch) = received.try_recv() {
        write!(exported, "{batch:?}").expect("a String takes all");
    }
    for name in
        ["keyvault.records_on_old_kek", "keyvault.sealed", "keyvault.revision", "keyvault.secrets_manager.healthy"]
    {
        assert!(exported.contains(name), "{name} is not exported");
    }
    assert!(!exported.contains(KEY), "no metric has a key");
}

/// Receives what services measure.
struct Meters(mpsc::UnboundedSender<ExportMetricsServiceRequest>);

#[tonic::async_trait]
impl MetricsService for Meters {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        // A test that has ended receives no more.
        let _ = self.0.send(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn service_name(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == "service.name").and_then(|name| name.value.clone());
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(name)) => name,
        other => panic!("service.name is {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
