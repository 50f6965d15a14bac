//! The one TLS and crypto backend: rustls on ring. TLS 1.3 only, on both ends.
//!
//! What a server presents and whom it trusts is read anew when the files change; open
//! connections go on, and their certificates are held against the new authorities.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Once,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::{
    identity::Refusal,
    reload::{Contents, Loaded, Reloading},
};

/// Makes ring the process' default crypto provider for rustls. Idempotent.
///
/// reqwest is built without a provider of its own and panics when a client is built
/// before this ran. It is called where clients are built, not in `main`: tests never
/// run `main`.
pub fn install_crypto_provider() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // An error means that a provider is installed already, which is all we want.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// The certificate of a server, and whose clients it trusts.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Identity")]
pub struct ServerTlsOptions {
    /// The server's certificate and those between it and its authority, in PEM. Read anew when
    /// it changes
    #[arg(long, value_name = "PATH", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,

    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "PATH", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,

    /// The authorities whose certificates callers may present, in PEM: each of them can make
    /// any caller of the policy. Without it callers need tokens
    #[arg(long, value_name = "PATH", requires = "tls_certificate")]
    pub tls_client_ca: Option<PathBuf>,
}

/// What a server presents, and whom it trusts.
pub struct ServerTls {
    /// For connections that begin now.
    pub(crate) config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// When the server's own certificate ends.
    pub not_after: SystemTime,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl ServerTlsOptions {
    /// Reads the files. `None` if none is named.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read or used, or if the key is not the certificate's.
    pub fn open(&self) -> anyhow::Result<Option<Arc<Reloading<ServerTls>>>> {
        let (Some(certificate), Some(key)) = (&self.tls_certificate, &self.tls_key) else { return Ok(None) };
        let files = [Some(certificate), Some(key), self.tls_client_ca.as_ref()];
        let files = files.into_iter().flatten().cloned().collect();
        Reloading::open("the server's certificate", files, ServerTls::read).map(Some)
    }
}

impl ServerTls {
    fn read(contents: &Contents) -> anyhow::Result<Self> {
        let [certificate, key, authorities @ ..] = contents else { bail!("a certificate and a key are needed") };
        let chain = certificates(certificate).context("the certificate")?;
        let not_after = leaf(&chain)?.not_after;
        let key = PrivateKeyDer::from_pem_slice(key).context("the private key is not PEM")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = authorities.first().map(|pem| verifier(pem, &provider)).transpose()?;
        let builder =
            ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).context("the certificate and the key")?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A session that is taken up again is not asked for its certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), verifier, not_after })
    }
}

/// Trusts the authorities in `pem`. Callers without a certificate may connect: they may have
/// a token, and are refused with a reason if they do not.
fn verifier(pem: &[u8], provider: &Arc<CryptoProvider>) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let roots = authorities(pem).context("the client authorities")?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    Ok(builder.allow_unauthenticated().build()?)
}

/// The authorities in `pem`.
pub(crate) fn authorities(pem: &[u8]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(pem)? {
        roots.add(authority).context("an authority's certificate cannot be used")?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().context("not PEM")?;
    ensure!(!chain.is_empty(), "there is no certificate in it");
    Ok(chain)
}

/// The certificate that a caller presented when it connected.
#[derive(Debug)]
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    uri: Result<Arc<str>, Refusal>,
    not_after: SystemTime,
    /// The generation of the authorities that it was last held against with success.
    verified: AtomicU64,
}

impl ClientCertificate {
    /// Reads a certificate that a handshake has verified.
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        let (uri, not_after) = match leaf(&chain) {
            Ok(leaf) => (leaf.uri.map(Arc::from), leaf.not_after),
            Err(_) => (Err(Refusal::CertificateUnusable("it cannot be read")), SystemTime::UNIX_EPOCH),
        };
        Self { chain, uri, not_after, verified: AtomicU64::new(0) }
    }

    /// The one URI name of the certificate, if it is still valid and still trusted. Cheap
    /// unless the authorities have changed since it was last asked.
    ///
    /// # Errors
    ///
    /// Why it says nothing about who calls.
    pub(crate) fn uri(&self, trusted: &Loaded<ServerTls>) -> Result<&Arc<str>, Refusal> {
        let now = SystemTime::now();
        if self.not_after < now {
            return Err(Refusal::CertificateExpired);
        }
        if self.verified.load(Ordering::Relaxed) != trusted.generation {
            self.verify(&trusted.value, now)?;
            self.verified.store(trusted.generation, Ordering::Relaxed);
        }
        self.uri.as_ref().map_err(Clone::clone)
    }

    fn verify(&self, trusted: &ServerTls, now: SystemTime) -> Result<(), Refusal> {
        let verifier = trusted.verifier.as_ref().ok_or(Refusal::CertificateUntrusted)?;
        let (leaf, between) = self.chain.split_first().ok_or(Refusal::CertificateUntrusted)?;
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let outcome = verifier.verify_client_cert(leaf, between, UnixTime::since_unix_epoch(since));
        outcome.map(|_| ()).map_err(|_| Refusal::CertificateUntrusted)
    }
}

/// What matters of a certificate that stands at the end of a chain.
struct Leaf {
    uri: Result<String, Refusal>,
    not_after: SystemTime,
}

fn leaf(chain: &[CertificateDer<'_>]) -> anyhow::Result<Leaf> {
    let der = chain.first().context("there is no certificate")?;
    let (_, certificate) = X509Certificate::from_der(der).context("the certificate cannot be read")?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Ok(Leaf { uri: uri(&certificate), not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) })
}

/// The identity of a certificate, as <https://spiffe.io/docs/latest/spiffe-specs/x509-svid/>
/// has it: exactly one URI name, no authority, a key that may sign. Other names, the subject
/// above all, are never an identity.
fn uri(certificate: &X509Certificate<'_>) -> Result<String, Refusal> {
    let unusable = |why| Err(Refusal::CertificateUnusable(why));
    if certificate.is_ca() {
        return unusable("it is an authority's");
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if !usage.value.digital_signature() => return unusable("its key may not sign"),
        Ok(_) => {}
        Err(_) => return unusable("it cannot be read"),
    }
    let names = match certificate.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.as_slice(),
        Ok(None) => &[],
        Err(_) => return unusable("it cannot be read"),
    };
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri.to_owned()),
        (None, _) => unusable("it has no URI name"),
        (Some(_), Some(_)) => unusable("it has more than one URI name"),
    }
}
