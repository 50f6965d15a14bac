//! A gRPC server of the same messages that does nothing: what no service on tonic can be faster than.

use std::{pin::Pin, time::Duration};

use anyhow::Result;
use futures_util::{Stream, StreamExt as _, stream};
use proto::{
    chat::{
        ChatRequest, ChatResponse, ContentPart, DetectProviderRequest, DetectProviderResponse, Finished,
        ListModelsRequest, ListModelsResponse, Message, Started, StreamChatRequest, StreamChatResponse, TextDelta,
        TextPart,
        chat_service_server::{ChatService, ChatServiceServer},
        content_part::Part,
        message::Role,
        stream_chat_response::Event,
    },
    keyvault::{
        ExplainResolutionRequest, ExplainResolutionResponse, KeyMaterial, ReportKeyUseRequest, ReportKeyUseResponse,
        ResolveKeyRequest, ResolveKeyResponse, WatchKeyChangesRequest, WatchKeyChangesResponse,
        key_resolution_service_server::{KeyResolutionService, KeyResolutionServiceServer},
    },
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Identity, Server, ServerTlsConfig},
};

use super::{provider::now, question::Plan, servers::Tls};

/// Serves. Never ends.
///
/// # Errors
///
/// Fails if its certificate cannot be used.
pub async fn serve(listener: TcpListener, tls: Option<&Tls>) -> Result<()> {
    let mut server = Server::builder().max_concurrent_streams(1024);
    if let Some(tls) = tls {
        server =
            server.tls_config(ServerTlsConfig::new().identity(Identity::from_pem(tls.certificate()?, tls.key()?)))?;
    }
    let incoming = TcpListenerStream::new(listener).inspect(|connection| {
        if let Ok(connection) = connection {
            let _ = connection.set_nodelay(true);
        }
    });
    let routes = server.add_service(KeyResolutionServiceServer::new(Bare)).add_service(ChatServiceServer::new(Bare));
    Ok(routes.serve_with_incoming(incoming).await?)
}

#[derive(Debug)]
struct Bare;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl KeyResolutionService for Bare {
    type WatchKeyChangesStream = Answers<WatchKeyChangesResponse>;

    async fn resolve_key(&self, _: Request<ResolveKeyRequest>) -> Result<Response<ResolveKeyResponse>, Status> {
        Ok(Response::new(ResolveKeyResponse {
            material: Some(KeyMaterial { api_key: super::platform::MATERIAL.to_owned() }),
            api_key_id: "0198e6c2-0000-7000-8000-000000000000".to_owned(),
            version: 1,
            source: 1,
            revision: 1,
            lease_duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        }))
    }

    async fn explain_resolution(
        &self,
        _: Request<ExplainResolutionRequest>,
    ) -> Result<Response<ExplainResolutionResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn report_key_use(&self, _: Request<ReportKeyUseRequest>) -> Result<Response<ReportKeyUseResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn watch_key_changes(
        &self,
        _: Request<WatchKeyChangesRequest>,
    ) -> Result<Response<Self::WatchKeyChangesStream>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}

#[async_trait]
impl ChatService for Bare {
    type StreamChatStream = Answers<StreamChatResponse>;

    async fn stream_chat(
        &self,
        request: Request<StreamChatRequest>,
    ) -> Result<Response<Self::StreamChatStream>, Status> {
        let plan = plan(&request.get_ref().messages)?;
        let begin = Instant::now();
        let events = stream::iter(0..plan.pieces).then(move |number| async move {
            if !plan.pace.is_zero() {
                sleep_until(begin + plan.pace * number).await;
            }
            Ok(said(Event::TextDelta(TextDelta { text: text(&plan, now()), ..TextDelta::default() })))
        });
        let started = stream::iter([Ok(said(Event::Started(Started::default())))]);
        let finished = stream::iter([Ok(said(Event::Finished(Finished::default())))]);
        Ok(Response::new(Box::pin(started.chain(events).chain(finished))))
    }

    async fn chat(&self, request: Request<ChatRequest>) -> Result<Response<ChatResponse>, Status> {
        let plan = plan(&request.get_ref().messages)?;
        let text = text(&plan, Duration::ZERO).repeat(usize::try_from(plan.pieces).unwrap_or_default());
        let part =
            ContentPart { part: Some(Part::Text(TextPart { text, ..TextPart::default() })), ..Default::default() };
        let message = Message { role: Role::Assistant.into(), parts: vec![part] };
        Ok(Response::new(ChatResponse { message: Some(message), ..ChatResponse::default() }))
    }

    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn detect_provider(
        &self,
        _: Request<DetectProviderRequest>,
    ) -> Result<Response<DetectProviderResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}

fn plan(messages: &[Message]) -> Result<Plan, Status> {
    let Some(Part::Text(text)) = messages.first().and_then(|message| message.parts.first()?.part.as_ref()) else {
        return Err(Status::invalid_argument("no question"));
    };
    Plan::of(text.text.as_bytes()).ok_or_else(|| Status::invalid_argument("no plan"))
}

fn text(plan: &Plan, time: Duration) -> String {
    let mut text = format!("{:019}", time.as_nanos());
    text.extend(std::iter::repeat_n('x', plan.piece_bytes.saturating_sub(text.len())));
    text
}

fn said(event: Event) -> StreamChatResponse {
    StreamChatResponse { event: Some(event) }
}
