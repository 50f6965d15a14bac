//! What an answer to the request for the list of models says about the key that was sent.
//!
//! The list costs nothing, and every provider refuses it to a key that it does not know. What a
//! refusal means is said by its kind; what is particular to a provider, by its module.

use http::HeaderMap;

use super::{ModelPage, Provider, Rejection, RejectionKind, rejection};

/// How a key stands with a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is accepted.
    Accepted,
    /// It is accepted, and may not do all that one might expect.
    AcceptedWith(Reservation),
    /// It is not known, or was closed.
    Rejected,
    /// It is known, and has had too many requests.
    RateLimited,
    /// Nothing is known of it: the provider did not answer, or failed.
    Unknown,
    /// Nothing is known of it: what answers is not the provider's API.
    WrongEndpoint,
}

/// What an accepted key may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reservation {
    /// List the models: a key that is restricted to other uses.
    NoList,
    /// Chat for now: its account has no credit or quota left.
    NoQuota,
}

/// An answer, judged.
#[derive(Debug, PartialEq)]
pub(crate) struct Checked {
    pub(crate) standing: Standing,
    /// What the provider refused with, if it did.
    pub(crate) rejection: Option<Rejection>,
    /// What it lists, if it is a list.
    pub(crate) page: Option<ModelPage>,
}

/// Judges an answer. `whole` says that the body did not break off.
pub(crate) fn judge(provider: &dyn Provider, status: u16, headers: &HeaderMap, body: &[u8], whole: bool) -> Checked {
    let plain = |standing| Checked { standing, rejection: None, page: None };
    match status {
        200..300 if rejection::is_error(body) => refused(provider, status, headers, body),
        200..300 => match provider.models_page(body) {
            Some(page) => Checked { page: Some(page), ..plain(Standing::Accepted) },
            None if whole => plain(Standing::WrongEndpoint),
            None => plain(Standing::Unknown),
        },
        // Redirects are not followed. A provider has this path, and it is read with GET.
        0..400 | 404 | 405 => plain(Standing::WrongEndpoint),
        // A page for people is of something in between, which has not looked at the key.
        400..500 if rejection::is_page(body) => plain(Standing::WrongEndpoint),
        _ => refused(provider, status, headers, body),
    }
}

fn refused(provider: &dyn Provider, status: u16, headers: &HeaderMap, body: &[u8]) -> Checked {
    let rejection = provider.classify(status, headers, body);
    let standing = provider.standing(&rejection).unwrap_or_else(|| usual(rejection.kind));
    Checked { standing, rejection: Some(rejection), page: None }
}

fn usual(kind: RejectionKind) -> Standing {
    match kind {
        RejectionKind::Key => Standing::Rejected,
        // To say what a key may not do, a provider must know it.
        RejectionKind::Permission => Standing::AcceptedWith(Reservation::NoList),
        RejectionKind::Quota => Standing::AcceptedWith(Reservation::NoQuota),
        RejectionKind::RateLimited => Standing::RateLimited,
        RejectionKind::InvalidRequest
        | RejectionKind::ContextLength
        | RejectionKind::ModelNotFound
        | RejectionKind::Overloaded
        | RejectionKind::Internal
        | RejectionKind::Timeout => Standing::Unknown,
    }
}

#[cfg(test)]
mod tests;
