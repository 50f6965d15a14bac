//! The servers beside the services, each a process of its own: this program again, or haproxy.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener as StdListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

/// How long a server may take to listen.
const START_MAX: Duration = Duration::from_secs(10);

/// How often it is looked whether haproxy listens.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The certificate of a server and its key, as files.
#[derive(Clone, Debug)]
pub struct Tls {
    /// In PEM.
    pub certificate: PathBuf,
    /// In PEM.
    pub key: PathBuf,
}

impl Tls {
    /// The certificate.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn certificate(&self) -> Result<Vec<u8>> {
        fs::read(&self.certificate).context("the certificate")
    }

    /// The private key.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn key(&self) -> Result<Vec<u8>> {
        fs::read(&self.key).context("the private key")
    }

    /// A server's side of TLS that speaks these protocols.
    ///
    /// # Errors
    ///
    /// Fails if the files are no certificate and key.
    pub fn acceptor(&self, protocols: &[&[u8]]) -> Result<TlsAcceptor> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate()?).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&self.key()?)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// A server of a measurement. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Starts this program as a server of a kind: `provider`, `bare` or `sink`.
    ///
    /// # Errors
    ///
    /// Fails if it does not listen.
    pub async fn of(kind: &str, tls: Option<&Tls>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["server", kind]);
        if let Some(Tls { certificate, key }) = tls {
            command.arg("--certificate").arg(certificate).arg("--key").arg(key);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("it is piped")?).lines();
        let address = timeout(START_MAX, lines.next_line()).await??;
        let address = address.with_context(|| format!("the {kind} does not listen"))?;
        Ok(Self { child, url: format!("{}://{address}", scheme(tls)) })
    }

    /// Starts haproxy in front of a provider, on as many threads as the machine has cores.
    ///
    /// # Errors
    ///
    /// Fails if it is missing or does not listen.
    pub async fn haproxy(folder: &Path, provider: &str, tls: Option<&Tls>, authority: &Path) -> Result<Self> {
        // Whoever takes it meanwhile makes haproxy fail, and the measurement with it.
        let port = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let (_, upstream) = provider.split_once("://").context("a URL")?;
        let (mut bind, mut server) = (String::new(), String::new());
        if let Some(tls) = tls {
            let both = folder.join("haproxy.pem");
            fs::write(&both, [tls.certificate()?, tls.key()?].concat())?;
            bind = format!(" ssl crt {} alpn h2,http/1.1", both.display());
            server = format!(" ssl verify required ca-file {} alpn h2", authority.display());
        }
        let configuration = format!(
            "global\n  maxconn 8192\n\
             defaults\n  mode http\n  timeout client 1h\n  timeout server 1h\n  timeout connect 5s\n  http-reuse always\n\
             frontend front\n  bind 127.0.0.1:{port}{bind}\n  default_backend back\n\
             backend back\n  server provider {upstream}{server}\n"
        );
        let file = folder.join("haproxy.cfg");
        fs::write(&file, configuration)?;
        let program = haproxy().context("haproxy is missing; to install it: apt-get install haproxy")?;
        let mut child = Command::new(program)
            .args(["-db", "-q", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            if begun.elapsed() > START_MAX || child.try_wait()?.is_some() {
                bail!("haproxy does not listen");
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(Self { child, url: format!("{}://127.0.0.1:{port}", scheme(tls)) })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process.
    ///
    /// # Errors
    ///
    /// Fails if it has ended.
    pub fn id(&self) -> Result<u32> {
        self.child.id().context("a server has ended")
    }
}

fn scheme(tls: Option<&Tls>) -> &'static str {
    if tls.is_some() { "https" } else { "http" }
}

/// Where haproxy is: Debian puts it where not everyone looks.
pub fn haproxy() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("haproxy")).find(|program| program.is_file())
}
