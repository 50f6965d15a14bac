//! Who asks: over gRPC, as callers of a gateway do, or over HTTP, as clients of a provider do.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use memchr::memmem;
use proto::{
    chat::{ChatRequest, StreamChatRequest, chat_service_client::ChatServiceClient, stream_chat_response::Event},
    keyvault::{ResolveKeyRequest, key_resolution_service_client::KeyResolutionServiceClient},
    types::Provider,
};

use super::{
    platform::{MATERIAL, Trust},
    question::{PROFILE, Plan},
};
use crate::{ORGANIZATION, secured::Wire};

/// Connections over which callers come: more than one, as from several services.
pub const CONNECTIONS: usize = 4;

/// What stands before the text of a piece in the body of an answer.
const TEXT: &[u8] = br#""delta":{"content":""#;

/// Asks for chats.
#[derive(Clone, Debug)]
pub enum Chats {
    /// Over gRPC. Callers take turns on the connections.
    Grpc(Vec<ChatServiceClient<Wire>>),
    /// Over HTTP: the client, and the URL.
    Http(reqwest::Client, String),
}

/// A question as it is sent, made once.
#[derive(Clone, Debug)]
pub struct Question {
    plan: Plan,
    whole: ChatRequest,
    stream: StreamChatRequest,
    body: Bytes,
}

impl From<Plan> for Question {
    fn from(plan: Plan) -> Self {
        Self { whole: plan.chat(), stream: plan.stream(), body: plan.body(), plan }
    }
}

impl Chats {
    /// Callers of a server of gRPC, on several connections.
    pub fn grpc(connect: impl Fn() -> ChatServiceClient<Wire>) -> Self {
        Self::Grpc((0..CONNECTIONS).map(|_| connect()).collect())
    }

    /// Clients of a provider, or of what stands before it.
    ///
    /// # Errors
    ///
    /// Fails if the client cannot be made.
    pub fn http(url: &str, trust: &Trust) -> Result<Self> {
        let authority = reqwest::Certificate::from_pem(&fs::read(&trust.authority)?)?;
        let client = reqwest::Client::builder()
            .tls_certs_only([authority])
            .no_proxy()
            .tcp_nodelay(true)
            .build()
            .context("a client of HTTP")?;
        Ok(Self::Http(client, format!("{url}/v1/chat/completions")))
    }

    /// Asks for a whole answer.
    ///
    /// # Errors
    ///
    /// Fails if it is not there.
    pub async fn whole(&self, caller: usize, question: &Question) -> Result<()> {
        match self {
            Self::Grpc(clients) => {
                let mut client = clients[caller % clients.len()].clone();
                let answer = client.chat(question.whole.clone()).await?.into_inner();
                ensure!(answer.message.is_some(), "an answer without a message");
            }
            Self::Http(..) => {
                let mut pieces = self.post(&question.body).await?;
                let mut bytes = 0;
                while let Some(piece) = pieces.chunk().await? {
                    bytes += piece.len();
                }
                ensure!(bytes > 0, "an empty answer");
            }
        }
        Ok(())
    }

    /// Asks for a stream, and tells of each piece when it was written.
    ///
    /// # Errors
    ///
    /// Fails if a piece is missing.
    pub async fn stream(&self, caller: usize, question: &Question, mut arrived: impl FnMut(Duration)) -> Result<()> {
        let mut pieces = 0;
        let mut count = |text: &[u8]| {
            pieces += 1;
            arrived(written(text));
        };
        match self {
            Self::Grpc(clients) => {
                let mut client = clients[caller % clients.len()].clone();
                let mut events = client.stream_chat(question.stream.clone()).await?.into_inner();
                let mut finished = false;
                while let Some(event) = events.message().await? {
                    match event.event {
                        Some(Event::TextDelta(delta)) => count(delta.text.as_bytes()),
                        Some(Event::Finished(_)) => finished = true,
                        _ => {}
                    }
                }
                ensure!(finished, "a stream without an end");
            }
            Self::Http(..) => {
                let mut body = self.post(&question.body).await?;
                while let Some(bytes) = body.chunk().await? {
                    memmem::find_iter(&bytes, TEXT).for_each(|at| count(&bytes[at + TEXT.len()..]));
                }
            }
        }
        // A chunk of HTTP may end within the mark: only paced ones are written piece by piece.
        let whole = pieces == question.plan.pieces || question.plan.pace.is_zero();
        ensure!(whole, "{pieces} pieces of {}", question.plan.pieces);
        Ok(())
    }

    async fn post(&self, body: &Bytes) -> Result<reqwest::Response> {
        let Self::Http(client, url) = self else { unreachable!("only HTTP posts") };
        let request = client
            .post(url)
            .header("authorization", format!("Bearer {MATERIAL}"))
            .header("content-type", "application/json")
            .body(body.clone());
        Ok(request.send().await?.error_for_status()?)
    }
}

/// When a piece was written, as its text says.
fn written(text: &[u8]) -> Duration {
    let digits = text.get(..19).and_then(|digits| std::str::from_utf8(digits).ok());
    Duration::from_nanos(digits.and_then(|digits| digits.parse().ok()).unwrap_or_default())
}

/// Asks a vault for the key of [`PROFILE`].
#[derive(Clone, Debug)]
pub struct Resolutions(Vec<KeyResolutionServiceClient<Wire>>);

impl Resolutions {
    /// Callers of a vault, on several connections.
    pub fn new(connect: impl Fn() -> KeyResolutionServiceClient<Wire>) -> Self {
        Self((0..CONNECTIONS).map(|_| connect()).collect())
    }

    /// Asks for a key.
    ///
    /// # Errors
    ///
    /// Fails if it is not released.
    pub async fn resolve(&self, caller: usize, profile: &str) -> Result<()> {
        let mut client = self.0[caller % self.0.len()].clone();
        let request = ResolveKeyRequest {
            organization_id: ORGANIZATION.to_owned(),
            profile_id: Some(profile.to_owned()),
            provider: Provider::Openai.into(),
        };
        let answer = client.resolve_key(request).await?.into_inner();
        ensure!(answer.material.is_some(), "an answer without a key");
        Ok(())
    }

    /// Asks for the key of [`PROFILE`].
    ///
    /// # Errors
    ///
    /// Fails if it is not released.
    pub async fn resolve_own(&self, caller: usize) -> Result<()> {
        self.resolve(caller, PROFILE).await
    }
}
