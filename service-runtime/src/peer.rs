//! Who is calling. What a caller may do is each service's own matter.

use std::{fmt, net::SocketAddr, sync::Arc};

use crate::{
    failure::{Code, Failure},
    identity::Refusal,
};

/// The authenticated caller of an RPC.
///
/// A layer of the server puts it into the request; a handler takes it out with
/// [`Peer::of`]. There is no way to make one from a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    principal: Arc<str>,
    authentication: Authentication,
    address: Option<SocketAddr>,
}

/// How a caller said who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Not at all: the server is for development.
    Dev,
    /// With the certificate of its connection.
    Certificate,
    /// With a bearer token of this id.
    Token(Arc<str>),
}

impl fmt::Display for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dev => f.write_str("dev"),
            Self::Certificate => f.write_str("certificate"),
            Self::Token(id) => write!(f, "token:{id}"),
        }
    }
}

impl Peer {
    /// A caller that a layer has authenticated.
    pub(crate) fn new(principal: Arc<str>, authentication: Authentication, address: Option<SocketAddr>) -> Self {
        Self { principal, authentication, address }
    }

    /// The name by which logs, audit records and keys remember the caller.
    pub fn principal(&self) -> &Arc<str> {
        &self.principal
    }

    /// How it said who it is.
    pub fn authentication(&self) -> &Authentication {
        &self.authentication
    }

    /// Where it called from.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The caller of `request`, or `None` if no layer has authenticated it.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<&Self> {
        request.extensions().get()
    }
}

/// The failure of a call whose caller is not known, or is nobody's: the reasons are those of
/// the service.
pub fn refused(
    domain: &'static str,
    unauthenticated: &'static str,
    not_allowed: &'static str,
    refusal: &Refusal,
) -> Failure {
    match refusal {
        Refusal::PrincipalUnknown { uri } => Failure::new(Code::PermissionDenied, domain, not_allowed)
            .says(format!("{refusal} It may do nothing here; the operator adds principals."))
            .with("principal", uri),
        _ => Failure::new(Code::Unauthenticated, domain, unauthenticated)
            .says(format!("The caller is not authenticated. {refusal}"))
            .with("cause", refusal.name()),
    }
}
