//! The connections of a collector: gRPC, and protobuf over HTTP.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use opentelemetry_proto::tonic::collector::{
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use tonic::{Status, service::Routes};

use super::{Manner, Protocol, Shared};
use crate::certs::Authority;

/// What a collector answers a form that it does not speak.
const PROTOBUF: &str = "application/x-protobuf";

/// TLS with a certificate of this machine, for both protocols.
pub(super) fn acceptor(authority: &Authority) -> TlsAcceptor {
    let issued = authority.server();
    let chain = vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate with its key");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

pub(super) async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((connection, _)) = listener.accept().await {
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => speak(connection, shared).await,
                Some(tls) => {
                    // Otherwise it is a service that does not trust us.
                    if let Ok(stream) = tls.accept(connection).await {
                        speak(stream, shared).await;
                    }
                }
            }
        });
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shared: Arc<Shared>) {
    let routes = Routes::new(TraceServiceServer::new(Grpc(Arc::clone(&shared))))
        .add_service(MetricsServiceServer::new(Grpc(Arc::clone(&shared))));
    let routes = TowerToHyperService::new(routes.prepare());
    let service = service_fn(move |request: Request<Incoming>| {
        let (routes, shared) = (routes.clone(), Arc::clone(&shared));
        async move {
            if request.uri().path().starts_with("/v1/") {
                Ok::<_, Infallible>(post(request, &shared).await.map(tonic::body::Body::new))
            } else {
                routes.call(request).await
            }
        }
    });
    // A service that is killed leaves its connection.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// An export over HTTP.
async fn post(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return answer(StatusCode::BAD_REQUEST, Vec::new());
    };
    let is_protobuf = head.headers.get(CONTENT_TYPE).is_some_and(|value| value == PROTOBUF);
    if head.method != Method::POST || !is_protobuf {
        return answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, Vec::new());
    }
    let spans = match head.uri.path() {
        "/v1/traces" => true,
        "/v1/metrics" => false,
        _ => return answer(StatusCode::NOT_FOUND, Vec::new()),
    };
    if shared.meets(Protocol::Http, spans, head.headers).await.is_err() {
        return answer(StatusCode::SERVICE_UNAVAILABLE, Vec::new());
    }
    let taken = if spans {
        ExportTraceServiceRequest::decode(body).map(|request| {
            shared.take_spans(request);
            ExportTraceServiceResponse::default().encode_to_vec()
        })
    } else {
        ExportMetricsServiceRequest::decode(body).map(|request| {
            shared.take_metrics(request);
            ExportMetricsServiceResponse::default().encode_to_vec()
        })
    };
    taken.map_or_else(|_| answer(StatusCode::BAD_REQUEST, Vec::new()), |body| answer(StatusCode::OK, body))
}

fn answer(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header(CONTENT_TYPE, PROTOBUF);
    response.body(Full::new(body.into())).expect("a response")
}

struct Grpc(Arc<Shared>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.0.meets(Protocol::Grpc, true, metadata.into_headers()).await?;
        self.0.take_spans(request);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.0.meets(Protocol::Grpc, false, metadata.into_headers()).await?;
        self.0.take_metrics(request);
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

impl Shared {
    /// Notes an export, and meets it as it is told to.
    async fn meets(&self, protocol: Protocol, spans: bool, headers: HeaderMap) -> Result<(), Status> {
        self.arrived(protocol, spans, headers);
        let mut manner = self.manner.subscribe();
        let manner = *manner.wait_for(|manner| *manner != Manner::Hangs).await.expect("the collector is here");
        match manner {
            Manner::Slow(time) => tokio::time::sleep(time).await,
            Manner::Refuses => return Err(Status::unavailable("as it was told")),
            Manner::Takes | Manner::Hangs => {}
        }
        Ok(())
    }
}
