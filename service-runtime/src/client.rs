//! Connections to a service of ours: whom they trust, and as whom they call.
//!
//! Certificates and tokens are read anew when their files change; calls that begin then
//! take a new connection, and those that are running end on the old one.

use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tower::service_fn;
use zeroize::Zeroizing;

use crate::{
    reload::{Contents, Reloading},
    token::Token,
};

/// A connection that says who calls.
pub type Wire = InterceptedService<Channel, Bearer>;

/// Whom a command of the client trusts, and as whom it calls.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Client")]
pub struct ClientIdentityOptions {
    /// The authorities that may vouch for the server, in PEM. Needed for https://
    #[arg(long, value_name = "PATH", global = true)]
    pub ca: Option<PathBuf>,

    /// The certificate to call with, in PEM
    #[arg(long, value_name = "PATH", global = true)]
    pub client_certificate: Option<PathBuf>,

    /// The private key of --client-certificate, in PEM
    #[arg(long, value_name = "PATH", global = true)]
    pub client_key: Option<PathBuf>,

    /// A file with the bearer token to call with
    #[arg(long, value_name = "PATH", global = true)]
    pub token_file: Option<PathBuf>,

    /// The name in the server's certificate, if it is not the URL's
    #[arg(long, value_name = "NAME", global = true)]
    pub server_name: Option<String>,
}

impl ClientIdentityOptions {
    /// What they come to.
    pub fn credentials(&self) -> Credentials {
        Credentials {
            prefix: "--",
            ca: self.ca.clone(),
            certificate: self.client_certificate.clone(),
            key: self.client_key.clone(),
            token: self.token_file.clone(),
            server_name: self.server_name.clone(),
        }
    }
}

/// Whom a connection trusts, and as whom it calls.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// What stands before the names of their options: `--` or `--vault-`.
    pub prefix: &'static str,
    /// The authorities that may vouch for the server.
    pub ca: Option<PathBuf>,
    /// The certificate to call with.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// The bearer token to call with.
    pub token: Option<PathBuf>,
    /// The name in the server's certificate, if it is not the URL's.
    pub server_name: Option<String>,
}

impl Credentials {
    /// Prepares connections to the service at `url`; each is made by its first call. `tune`
    /// sets timers. `what` names the files in logs.
    ///
    /// # Errors
    ///
    /// Says which option to change. A key or a token is never sent without TLS.
    pub fn connect(
        &self,
        what: &'static str,
        url: &str,
        tune: impl Fn(Endpoint) -> Endpoint + Send + Sync + 'static,
    ) -> anyhow::Result<Arc<Reloading<Wire>>> {
        self.reloading(what, url, tune, |dialer| dialer.wire())
    }

    /// Prepares to connect to several addresses of the service at `url`. Like
    /// [`connect`](Self::connect) otherwise.
    ///
    /// # Errors
    ///
    /// Says which option to change.
    pub fn dialer(
        &self,
        what: &'static str,
        url: &str,
        tune: impl Fn(Endpoint) -> Endpoint + Send + Sync + 'static,
    ) -> anyhow::Result<Arc<Reloading<Dialer>>> {
        self.reloading(what, url, tune, |dialer| dialer)
    }

    fn reloading<T: Send + Sync>(
        &self,
        what: &'static str,
        url: &str,
        tune: impl Fn(Endpoint) -> Endpoint + Send + Sync + 'static,
        become_of: impl Fn(Dialer) -> T + Send + Sync + 'static,
    ) -> anyhow::Result<Arc<Reloading<T>>> {
        self.check(url)?;
        let endpoint = Endpoint::from_shared(url.to_owned()).with_context(|| format!("{url:?} is not a URL"))?;
        let files = [&self.ca, &self.certificate, &self.key, &self.token];
        let given = files.map(Option::is_some);
        let server_name = self.server_name.clone();
        let make = move |contents: &Contents| {
            let mut contents = contents.iter();
            let [ca, certificate, key, token] = given.map(|given| given.then(|| contents.next()).flatten());
            let mut endpoint = tune(endpoint.clone());
            if let Some(ca) = ca {
                let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
                if let (Some(certificate), Some(key)) = (certificate, key) {
                    tls = tls.identity(Identity::from_pem(certificate, key));
                }
                if let Some(name) = &server_name {
                    tls = tls.domain_name(name);
                }
                endpoint = endpoint.tls_config(tls).context("the certificates cannot be used")?;
            }
            Ok(become_of(Dialer { endpoint, bearer: Bearer::read(token)? }))
        };
        Reloading::open(what, files.into_iter().flatten().cloned().collect(), make)
    }

    fn check(&self, url: &str) -> anyhow::Result<()> {
        let prefix = self.prefix;
        if url.starts_with("https://") {
            ensure!(self.ca.is_some(), "{url} needs {prefix}ca: the authorities that may vouch for the server");
        } else if self.ca.is_some() || self.certificate.is_some() || self.token.is_some() {
            bail!("{url} has no TLS, and certificates and tokens are for https:// only");
        }
        ensure!(
            self.certificate.is_some() == self.key.is_some(),
            "{prefix}client-certificate and {prefix}client-key go together"
        );
        Ok(())
    }
}

/// Makes connections to a service, at any of its addresses.
///
/// Whichever address is taken, the server must have the certificate of the URL's name, and is
/// told the URL's authority.
#[derive(Clone, Debug)]
pub struct Dialer {
    endpoint: Endpoint,
    bearer: Bearer,
}

impl Dialer {
    /// A connection to wherever the URL's name leads. Made by its first call, and again by the
    /// first call after it was lost.
    #[must_use]
    pub fn wire(&self) -> Wire {
        InterceptedService::new(self.endpoint.connect_lazy(), self.bearer.clone())
    }

    /// A connection to this address, whatever the URL's name leads to.
    #[must_use]
    pub fn wire_to(&self, address: SocketAddr) -> Wire {
        let connect = service_fn(move |_: Uri| async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        });
        InterceptedService::new(self.endpoint.connect_with_connector_lazy(connect), self.bearer.clone())
    }
}

/// Adds the bearer token to each call, if there is one.
#[derive(Clone)]
pub struct Bearer(Option<AsciiMetadataValue>);

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(..)")
    }
}

impl Bearer {
    fn read(file: Option<&Zeroizing<Vec<u8>>>) -> anyhow::Result<Self> {
        let Some(bytes) = file else { return Ok(Self(None)) };
        let text = std::str::from_utf8(bytes).map(str::trim).ok();
        let token = text.and_then(Token::parse).context("there is no token in the file: `tokens create` makes one")?;
        let text = Zeroizing::new(format!("Bearer {}", token.expose()));
        let mut value = AsciiMetadataValue::try_from(text.as_str()).context("the token cannot stand in a header")?;
        // Not in logs of the libraries below, and not in the tables of HTTP/2's compression.
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_that_says_who_calls_is_sent_without_tls() {
        let path = |name: &str| Some(PathBuf::from(name));
        let none = Credentials { prefix: "--vault-", ..Credentials::default() };
        let connect = |url, credentials: Credentials| {
            credentials.connect("a test", url, |endpoint| endpoint).map(|_| ()).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(connect("http://127.0.0.1:1", none.clone()), Ok(()));
        for (url, credentials, says) in [
            ("https://vault:1", none.clone(), "--vault-ca"),
            ("http://vault:1", Credentials { token: path("t"), ..none.clone() }, "no TLS"),
            ("http://vault:1", Credentials { certificate: path("c"), key: path("k"), ..none.clone() }, "no TLS"),
            ("https://vault:1", Credentials { ca: path("a"), key: path("k"), ..none.clone() }, "go together"),
            ("https://vault:1", Credentials { ca: path("/nowhere/a"), ..none.clone() }, "/nowhere/a"),
        ] {
            let error = connect(url, credentials).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
    }
}
