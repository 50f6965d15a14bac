//! One request to the transit server, and how much of an answer is believed.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Method,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use reqwest::{Certificate, RequestBuilder, Response};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{options::Endpoint, session::Token};
use crate::seal::secrets_manager::Error;

/// A server in the same network answers a handshake in milliseconds.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Connection, request and whole answer. Encrypting 32 bytes takes milliseconds; a
/// server that needs longer than this is not there.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The largest answer that we ask for is a login's, with a few hundred policies.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// One connection is enough for a handful of requests a minute.
const IDLE_CONNECTIONS_MAX: usize = 1;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// An agent in between may ask for it: it keeps forged requests of browsers out.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// Speaks to one server.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    /// Scheme, host and port, without a slash at the end.
    origin: String,
    namespace: Option<HeaderValue>,
}

/// An answer that is neither a redirect nor the server's failure: 2xx or 4xx.
pub(super) struct Answer {
    pub(super) status: u16,
    body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, Error> {
        service_runtime::tls::install_crypto_provider();
        let builder = reqwest::Client::builder()
            // The token would be sent to whatever host the answer names.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .https_only(endpoint.address.scheme() == "https")
            .connect_timeout(CONNECT_MAX)
            .timeout(ANSWER_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
        let builder = match &endpoint.ca_file {
            Some(path) => builder.tls_certs_only(authorities(path)?),
            None => builder,
        };
        let http = builder.build().map_err(|error| Error::Unreachable(Arc::new(error.without_url())))?;
        let origin = endpoint.address.as_str().trim_end_matches('/').to_owned();
        Ok(Self { http, origin, namespace: endpoint.namespace.clone() })
    }

    pub(super) async fn get(&self, path: &str, token: &Token) -> Result<Answer, Error> {
        self.answer(self.request(Method::GET, path, Some(token))?).await
    }

    pub(super) async fn post(&self, path: &str, token: Option<&Token>, body: &impl Serialize) -> Result<Answer, Error> {
        // Room for all of it, so that no copy of a part of a key is left behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(BODY_BYTES_MAX));
        serde_json::to_writer(&mut *bytes, body)
            .map_err(|_| Error::Unintelligible { problem: "the request cannot be written" })?;
        let request = self.request(Method::POST, path, token)?;
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.answer(request.body(Bytes::from_owner(bytes))).await
    }

    /// Asks how the server is. A standby passes on what it is asked, so it is well.
    pub(super) async fn health(&self) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Health {
            initialized: bool,
            sealed: bool,
        }

        // Without the namespace: only the server as a whole has a health.
        let response = send(self.http.get(format!("{}/v1/sys/health", self.origin))).await?;
        let answer = read(response).await?;
        match (answer.status, answer.parse::<Health>()) {
            (_, Ok(Health { initialized: false, .. })) => Err(Error::Uninitialized),
            (_, Ok(Health { sealed: true, .. })) => Err(Error::Sealed),
            (200 | 429 | 472 | 473, Ok(_)) => Ok(()),
            (200, Err(unintelligible)) => Err(unintelligible),
            (status, _) => Err(Error::Unavailable { status }),
        }
    }

    fn request(&self, method: Method, path: &str, token: Option<&Token>) -> Result<RequestBuilder, Error> {
        let request = self.http.request(method, format!("{}/v1/{path}", self.origin));
        let mut request = request.header(REQUEST, HeaderValue::from_static("true"));
        if let Some(namespace) = &self.namespace {
            request = request.header(NAMESPACE, namespace.clone());
        }
        if let Some(token) = token {
            request = request.header(TOKEN, token.header()?);
        }
        Ok(request)
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Answer, Error> {
        let answer = read(send(request).await?).await?;
        match answer.status {
            503 if answer.says("sealed") => Err(Error::Sealed),
            // 412: a standby has not caught up. 429: a quota.
            status @ (412 | 429 | 500..) => Err(Error::Unavailable { status }),
            _ => Ok(answer),
        }
    }
}

impl Answer {
    /// The JSON of the body. What does not fit is not told: it would quote the body.
    pub(super) fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|_| Error::Unintelligible { problem: "it is not the JSON that was expected" })
    }

    /// Whether the body has `words` in it.
    pub(super) fn says(&self, words: &str) -> bool {
        self.body.windows(words.len()).any(|window| window == words.as_bytes())
    }
}

async fn send(request: RequestBuilder) -> Result<Response, Error> {
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    if status.is_redirection() { Err(Error::Redirected { status: status.as_u16() }) } else { Ok(response) }
}

async fn read(mut response: Response) -> Result<Answer, Error> {
    let status = response.status().as_u16();
    let mut body = Zeroizing::new(Vec::with_capacity(BODY_BYTES_MAX));
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(Error::Unintelligible { problem: "it is larger than 64 KiB" });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body })
}

fn unreachable(error: reqwest::Error) -> Error {
    Error::Unreachable(Arc::new(error.without_url()))
}

/// The certificates of a private authority, which then is the only one.
fn authorities(path: &std::path::Path) -> Result<Vec<Certificate>, Error> {
    let file = |problem| Error::File { option: "--transit-ca-file", path: path.display().to_string(), problem };
    let pem = std::fs::read(path).map_err(|_| file("cannot be read"))?;
    let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certificates.is_empty() { Err(file("has no certificate in PEM form")) } else { Ok(certificates) }
}
