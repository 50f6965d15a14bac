//! Authorities and certificates for tests.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

/// An authority that vouches for certificates.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What stands in a certificate.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    /// Its URI names.
    pub uris: &'a [&'a str],
    /// How long it is good for, from a minute ago on. Zero has expired.
    pub life: Duration,
    /// Whether it says that it is an authority's.
    pub authority: bool,
}

impl Default for Leaf<'_> {
    fn default() -> Self {
        Self { uris: &[], life: Duration::from_hours(1), authority: false }
    }
}

/// What a certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// To serve.
    Server,
    /// To call.
    Client,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Issued {
    /// Writes both, the key first: whoever reads between the two sees a pair that does not fit,
    /// and waits.
    pub fn write(&self, certificate: &Path, key: &Path) {
        replace(key, &self.key);
        replace(certificate, &self.certificate);
    }
}

/// Writes a file in one step, as those who rotate files do.
pub fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).expect("the file is written");
    std::fs::rename(&beside, path).expect("the file is replaced");
}

impl Authority {
    /// A new authority.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority"))
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a caller.
    pub fn issue(&self, leaf: &Leaf<'_>) -> Issued {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // Never an identity, whatever it says.
        params.distinguished_name.push(DnType::CommonName, "admin");
        let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("a URI"));
        params.subject_alt_names = leaf.uris.iter().map(uri).collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if leaf.authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        self.sign(params, leaf.life)
    }

    /// A certificate for a server on this machine.
    pub fn server(&self) -> Issued {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, Duration::from_hours(1))
    }

    /// A certificate with these names for these uses, and no others.
    pub fn certify(&self, dns_names: &[String], uris: &[String], uses: &[Use]) -> Issued {
        let mut params = CertificateParams::new(dns_names).expect("names");
        let uri = |uri: &String| SanType::URI(uri.as_str().try_into().expect("a URI"));
        params.subject_alt_names.extend(uris.iter().map(uri));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let purpose = |used: &Use| match used {
            Use::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Use::Client => ExtendedKeyUsagePurpose::ClientAuth,
        };
        params.extended_key_usages = uses.iter().map(purpose).collect();
        self.sign(params, Duration::from_hours(1))
    }

    fn sign(&self, mut params: CertificateParams, life: Duration) -> Issued {
        let begin = std::time::SystemTime::now() - Duration::from_mins(1);
        params.not_before = begin.into();
        params.not_after =
            if life.is_zero() { begin + Duration::from_secs(1) } else { begin + Duration::from_mins(1) + life }.into();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}
