//! From what a caller presents to who it is: for each call anew, by the policy and the
//! authorities of that moment.
//!
//! A bearer token says more than the connection that it comes on, so it is looked at first;
//! a token that is not valid is refused, whatever the connection has.

use std::{fmt, sync::Arc};

use chrono::Utc;
use http::{HeaderMap, header::AUTHORIZATION};
use subtle::ConstantTimeEq as _;

use crate::{
    incoming::Connection,
    peer::{Authentication, Peer},
    policy::{Policy, Principal, Role},
    reload::Reloading,
    tls::{ClientCertificate, ServerTls},
    token::{Token, TokenHash},
};

/// Why it is not known who calls, or that nobody knows them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither a certificate nor a token.
    #[error("Present a certificate or a token.")]
    Nothing,
    /// Not a bearer token of ours.
    #[error("The token is malformed: it must be `Bearer akv1_…`, whole and once.")]
    TokenMalformed,
    /// The policy has no such token. A wrong secret looks the same as a wrong id.
    #[error("The token is not known: it was revoked, or is another service's.")]
    TokenUnknown,
    /// Its time is over.
    #[error("The token has expired. Have a new one made.")]
    TokenExpired,
    /// Its time is over.
    #[error("The certificate has expired.")]
    CertificateExpired,
    /// No authority of ours vouches for it any more.
    #[error("The certificate's authority is not trusted any more.")]
    CertificateUntrusted,
    /// It says nothing about who calls.
    #[error("The certificate cannot be used: {0}.")]
    CertificateUnusable(&'static str),
    /// It is known who calls, and the policy does not name them.
    #[error("The policy does not know {uri}.")]
    PrincipalUnknown {
        /// The URI name of the certificate.
        uri: Arc<str>,
    },
}

impl Refusal {
    /// A word for records: one of a fixed set.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing_presented",
            Self::TokenMalformed => "token_malformed",
            Self::TokenUnknown => "token_unknown",
            Self::TokenExpired => "token_expired",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateUntrusted => "certificate_untrusted",
            Self::CertificateUnusable(_) => "certificate_unusable",
            Self::PrincipalUnknown { .. } => "principal_unknown",
        }
    }
}

/// Knows callers.
pub struct Identities<R> {
    /// `None` on a server for development, which everyone may use.
    policy: Option<Arc<Reloading<Policy<R>>>>,
    tls: Option<Arc<Reloading<ServerTls>>>,
    dev: Arc<str>,
    all: Arc<[R]>,
}

impl<R> fmt::Debug for Identities<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities").field("policy", &self.policy).field("tls", &self.tls).finish_non_exhaustive()
    }
}

/// What a caller presented.
#[derive(Clone, Debug)]
enum Evidence {
    Token { id: Arc<str>, hash: TokenHash },
    Certificate(Arc<ClientCertificate>),
}

/// The roles of the caller of a request.
#[derive(Clone, Debug)]
pub struct Roles<R>(pub Arc<[R]>);

/// What the caller of a long call presented, to ask again whether it is still good.
#[derive(Clone, Debug)]
pub struct Standing<R> {
    identities: Arc<Identities<R>>,
    evidence: Option<Evidence>,
}

impl<R: Role> Standing<R> {
    /// The caller's roles now.
    ///
    /// # Errors
    ///
    /// Why it is not known any more who calls.
    pub fn roles(&self) -> Result<Arc<[R]>, Refusal> {
        let Some(evidence) = &self.evidence else { return Ok(Arc::clone(&self.identities.all)) };
        self.identities.find(evidence).map(|(principal, _)| Arc::clone(&principal.roles))
    }
}

impl<R: Role> Identities<R> {
    /// Knows everyone as the one principal of a development server.
    pub fn dev() -> Self {
        Self { policy: None, tls: None, dev: Arc::from("dev"), all: R::all().into() }
    }

    /// Knows whom the policy names.
    pub fn new(policy: Arc<Reloading<Policy<R>>>, tls: Arc<Reloading<ServerTls>>) -> Self {
        Self { policy: Some(policy), tls: Some(tls), ..Self::dev() }
    }

    /// What connections begin with. `None` without TLS.
    pub(crate) fn tls(&self) -> Option<&Arc<Reloading<ServerTls>>> {
        self.tls.as_ref()
    }

    /// Follows the files of the policy and of the certificates. Never ends.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves what is known as it is.
    pub(crate) async fn follow(&self) {
        let policy = async {
            match &self.policy {
                Some(policy) => policy.follow().await,
                None => std::future::pending().await,
            }
        };
        let tls = async {
            match &self.tls {
                Some(tls) => tls.follow().await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(policy, tls);
    }

    /// Who sends a request with these headers on this connection. Takes the token out of the
    /// headers: nothing behind this can print it.
    ///
    /// # Errors
    ///
    /// Why it is not known.
    pub(crate) fn identify(
        self: &Arc<Self>,
        headers: &mut HeaderMap,
        connection: &Connection,
    ) -> Result<(Peer, Roles<R>, Standing<R>), Refusal> {
        let token = token(headers);
        let standing = |evidence| Standing { identities: Arc::clone(self), evidence };
        if self.policy.is_none() {
            let peer = Peer::new(Arc::clone(&self.dev), Authentication::Dev, connection.address);
            return Ok((peer, Roles(Arc::clone(&self.all)), standing(None)));
        }
        let evidence = match (token?, &connection.certificate) {
            (Some(token), _) => Evidence::Token { id: token.id().into(), hash: token.hash() },
            (None, Some(certificate)) => Evidence::Certificate(Arc::clone(certificate)),
            (None, None) => return Err(Refusal::Nothing),
        };
        let (principal, authentication) = self.find(&evidence)?;
        let peer = Peer::new(Arc::clone(&principal.name), authentication, connection.address);
        Ok((peer, Roles(Arc::clone(&principal.roles)), standing(Some(evidence))))
    }

    fn find(&self, evidence: &Evidence) -> Result<(Arc<Principal<R>>, Authentication), Refusal> {
        let (Some(policy), Some(tls)) = (&self.policy, &self.tls) else { return Err(Refusal::Nothing) };
        let policy = &policy.load().value;
        match evidence {
            Evidence::Token { id, hash } => {
                let known = policy.by_token(id);
                // An unknown id takes as long as a wrong secret.
                let kept = known.map_or(&[0; 32], |known| &known.hash);
                let same = bool::from(kept.ct_eq(hash));
                let known = known.filter(|_| same).ok_or(Refusal::TokenUnknown)?;
                if known.expire_time <= Utc::now() {
                    return Err(Refusal::TokenExpired);
                }
                Ok((Arc::clone(&known.principal), Authentication::Token(Arc::clone(id))))
            }
            Evidence::Certificate(certificate) => {
                let uri = certificate.uri(&tls.load())?;
                let principal = policy.by_uri(uri).ok_or_else(|| Refusal::PrincipalUnknown { uri: Arc::clone(uri) })?;
                Ok((Arc::clone(principal), Authentication::Certificate))
            }
        }
    }
}

/// The bearer token of a request (<https://www.rfc-editor.org/rfc/rfc6750#section-2.1>).
fn token(headers: &mut HeaderMap) -> Result<Option<Token>, Refusal> {
    let values: Vec<_> = match headers.entry(AUTHORIZATION) {
        http::header::Entry::Occupied(entry) => entry.remove_entry_mult().1.collect(),
        http::header::Entry::Vacant(_) => return Ok(None),
    };
    let [value] = values.as_slice() else { return Err(Refusal::TokenMalformed) };
    let token = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .and_then(|(scheme, token)| if scheme.eq_ignore_ascii_case("bearer") { Token::parse(token) } else { None });
    token.map(Some).ok_or(Refusal::TokenMalformed)
}
