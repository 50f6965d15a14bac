//! The process of a server, its configuration and its certificate.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
};

/// The root token in development mode.
pub(super) const ROOT_TOKEN: &str = "root";

/// How long one request may take. Initializing is the slowest: 5 s with a single node.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// Where a server keeps what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// In memory; everything else is as simple, too.
    Memory,
    /// In a folder, as a cluster of one.
    Raft,
}

/// Starts the server in a folder of its own. It writes to `log` there.
pub(super) fn run(storage: Storage, port: u16, folder: &Path) -> Result<Child> {
    let mut command = Command::new("bao");
    command.arg("server");
    match storage {
        Storage::Memory => command
            .args(["-dev", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={ROOT_TOKEN}"))
            .arg(format!("-dev-listen-address=127.0.0.1:{port}")),
        Storage::Raft => command.arg("-config").arg(folder.join("bao.hcl")),
    };
    let log = File::create(folder.join("log"))?;
    command
        .env("HOME", folder)
        .stdin(Stdio::null())
        .stderr(log.try_clone()?)
        .stdout(log)
        .kill_on_drop(true)
        .spawn()
        .context("cannot run bao")
}

/// Writes the configuration of a cluster of one that speaks TLS.
pub(super) fn configure(folder: &Path, port: u16, cluster_port: u16) -> Result<()> {
    write_certificates(folder)?;
    let data = folder.join("data");
    fs::create_dir(&data)?;
    let path = |name| folder.join(name).display().to_string();
    let text = format!(
        r#"
        storage "raft" {{
          path    = "{data}"
          node_id = "only"
        }}
        listener "tcp" {{
          address         = "127.0.0.1:{port}"
          cluster_address = "127.0.0.1:{cluster_port}"
          tls_cert_file   = "{certificate}"
          tls_key_file    = "{key}"
        }}
        api_addr     = "https://127.0.0.1:{port}"
        cluster_addr = "https://127.0.0.1:{cluster_port}"
        "#,
        data = data.display(),
        certificate = path("certificate.pem"),
        key = path("key.pem"),
    );
    Ok(fs::write(folder.join("bao.hcl"), text)?)
}

/// A client that trusts the server's authority and no other.
pub(super) fn client(storage: Storage, folder: &Path) -> Result<reqwest::Client> {
    service_runtime::tls::install_crypto_provider();
    let builder = reqwest::Client::builder().no_proxy().timeout(REQUEST_MAX);
    let builder = match storage {
        Storage::Memory => builder,
        Storage::Raft => {
            let pem = fs::read(folder.join("authority.pem"))?;
            builder.tls_certs_only([reqwest::Certificate::from_pem(&pem)?])
        }
    };
    builder.build().context("a client")
}

/// A port that nobody had a moment ago.
pub(super) async fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

/// Writes a file that only its owner can read.
pub(super) fn private_file(path: &Path, text: &str) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

fn write_certificates(folder: &Path) -> Result<()> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &authority)?;
    fs::write(folder.join("authority.pem"), authority.pem())?;
    fs::write(folder.join("certificate.pem"), certificate.pem())?;
    private_file(&folder.join("key.pem"), &key.serialize_pem())
}
