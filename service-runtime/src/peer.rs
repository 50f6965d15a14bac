//! Who is calling. What a caller may do is each service's own matter.

use std::sync::Arc;

use crate::failure::{Code, Failure};

/// The authenticated caller of an RPC.
///
/// A layer of the server puts it into the request; a handler takes it out with
/// [`Peer::of`]. There is no way to make one from a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    principal: Arc<str>,
}

impl Peer {
    /// The one principal of a server in development mode. It has every role.
    pub fn dev() -> Self {
        Self { principal: Arc::from("dev") }
    }

    /// The name by which logs, audit records and keys remember the caller.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// The caller of `request`, or `None` if no layer has authenticated it.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<&Self> {
        request.extensions().get()
    }
}

/// The failure of a call whose caller is unknown.
pub fn unauthenticated(domain: &'static str, reason: &'static str) -> Failure {
    Failure::new(Code::Unauthenticated, domain, reason)
        .says("The caller is not authenticated. Present a certificate or a token.")
}
