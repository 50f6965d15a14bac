//! Who calls, and what they may do. Pure: no transport, no clock, no policy file.

use std::{net::SocketAddr, sync::Arc, time::Instant};

/// The caller of one method: what records say of it.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Its name in the policy.
    pub(crate) principal: Arc<str>,
    /// How it said who it is, as records say it: `certificate`, `token:ID`, `dev`.
    pub(crate) authentication: String,
    /// Where it called from.
    pub(crate) address: Option<SocketAddr>,
    /// The method, such as `ResolveKey`.
    pub(crate) method: &'static str,
    /// The trace that the call is part of, 32 hexadecimal digits.
    pub(crate) trace_id: String,
    /// When the call came.
    pub(crate) since: Instant,
}

impl Caller {
    /// A caller that did not say who it is.
    pub(crate) fn unknown(method: &'static str, trace_id: String, since: Instant) -> Self {
        Self { principal: Arc::from(""), authentication: "none".to_owned(), address: None, method, trace_id, since }
    }

    /// The vault itself, for what it does without being asked.
    pub(crate) fn upkeep(method: &'static str) -> Self {
        Self {
            principal: Arc::from("key-vault"),
            authentication: "upkeep".to_owned(),
            address: None,
            method,
            trace_id: String::new(),
            since: Instant::now(),
        }
    }
}
