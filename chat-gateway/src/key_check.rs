//! Says whether a provider accepts a key, before anything depends on it.
//!
//! Stores nothing of the key, and logs what came of it without the key.

use std::sync::Arc;

use service_runtime::{failure::Chain, semconv::attribute};
use tokio::time::Instant;
use tracing::{Span, info};

use crate::{
    message::{KeyMaterial, Provider},
    metrics::provider_name,
    provider::{Checked, Rejection, Reservation, Standing},
    upstream::{Fault, Upstream},
};

/// Checks keys.
#[derive(Debug)]
pub(crate) struct KeyChecks {
    upstream: Arc<Upstream>,
}

/// What a check came to.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) standing: Standing,
    /// The same for people. Never holds a piece of the key.
    pub(crate) detail: String,
    /// The status of the provider's answer, if there was one.
    pub(crate) status: Option<u16>,
    /// The provider's own code of its refusal. Empty if it gave none.
    pub(crate) code: String,
}

impl KeyChecks {
    pub(crate) fn new(upstream: Arc<Upstream>) -> Self {
        Self { upstream }
    }

    /// Asks a provider for its list of models with a key.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the provider's connection.
    pub(crate) async fn check(
        &self,
        provider: Provider,
        key: &KeyMaterial,
        callers_deadline: Option<Instant>,
    ) -> Verdict {
        Span::current().record(attribute::GEN_AI_PROVIDER_NAME, provider_name(provider));
        match self.upstream.check_key(provider, key, callers_deadline).await {
            Ok((status, checked)) => {
                info!(standing = ?checked.standing, upstream.status = status, "key checked");
                answered(provider, status, checked)
            }
            Err(fault) => {
                info!(error = %Chain(&fault), "key not checked");
                unanswered(provider, &fault)
            }
        }
    }
}

fn answered(provider: Provider, status: u16, Checked { standing, rejection, .. }: Checked) -> Verdict {
    let says = match standing {
        Standing::Accepted => format!("{provider} accepts the key"),
        Standing::AcceptedWith(Reservation::NoList) => {
            format!("{provider} accepts the key, which may not list models")
        }
        Standing::AcceptedWith(Reservation::NoQuota) => {
            format!("{provider} accepts the key, but its account has no credit or quota left")
        }
        Standing::Rejected => format!("{provider} does not accept the key"),
        Standing::RateLimited => format!("{provider} knows the key and has had too many requests with it"),
        Standing::Unknown if rejection.is_none() => {
            format!("{provider} ended its answer early, so nothing is known of the key")
        }
        Standing::Unknown => format!("{provider} failed with status {status}, so nothing is known of the key"),
        Standing::WrongEndpoint => format!(
            "what answers with status {status} is not the API of {provider}: the operator of the gateway must check \
             --{provider}-base-url"
        ),
    };
    let (code, words) = rejection.map(|Rejection { code, message, .. }| (code, message)).unwrap_or_default();
    let detail = if words.is_empty() { format!("{says}.") } else { format!("{says}: {words}") };
    Verdict { standing, detail, status: Some(status), code }
}

fn unanswered(provider: Provider, fault: &Fault) -> Verdict {
    let (standing, detail) = match fault {
        Fault::KeyNotSendable => (Standing::Rejected, "the key cannot be sent in a header.".to_owned()),
        Fault::TotalTimeout => {
            (Standing::Unknown, format!("{provider} did not answer in time, so nothing is known of the key."))
        }
        _ => (Standing::Unknown, format!("{provider} cannot be reached, so nothing is known of the key.")),
    };
    Verdict { standing, detail, status: None, code: String::new() }
}
