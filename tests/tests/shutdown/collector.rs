//! Receives spans, and counts them by their names.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// A collector on a port of the system's choice.
pub(crate) struct Collector {
    pub(crate) url: String,
    received: mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
    server: JoinHandle<()>,
}

struct Receiving(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Receiving {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        // A test that has ended receives no more.
        let _ = self.0.send(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let (sender, received) = mpsc::unbounded_channel();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let server = tokio::spawn(async move {
            let server = Server::builder().add_service(TraceServiceServer::new(Receiving(sender)));
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("it serves");
        });
        Self { url, received, server }
    }

    /// How many spans there were of each name, from those who have ended.
    pub(crate) fn counts(mut self) -> HashMap<String, usize> {
        self.server.abort();
        let mut counts = HashMap::new();
        while let Ok(batch) = self.received.try_recv() {
            let scopes = batch.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            for span in scopes.flat_map(|scope| scope.spans) {
                *counts.entry(span.name).or_default() += 1;
            }
        }
        counts
    }
}
