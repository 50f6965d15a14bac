//! The gateway's side of the key-vault: asks for a key, and says why there is none.
//!
//! Asks whichever replica is well. Keeps no key: that is for `keys`.

mod call_span;
#[cfg(test)]
pub(crate) mod fake;
mod replicas;
mod report;
mod watch;

use std::{error::Error as StdError, sync::Arc, time::Duration};

use proto::{
    keyvault::{
        ErrorReason, ResolveKeyRequest, ResolveKeyResponse, WatchKeyChangesRequest,
        key_resolution_service_client::KeyResolutionServiceClient,
    },
    types,
};
use service_runtime::{
    client::{Dialer, Wire},
    reload::Reloading,
    telemetry,
};
use tonic::{Code, Request, Status, transport::Endpoint};
use tonic_types::StatusExt as _;
use tracing::Instrument as _;

use crate::{
    config::ServeOptions,
    message::{KeyMaterial, Label, Provider, Source},
};
use call_span::Calls;
use replicas::{Failed, Limits, Replicas};
pub(crate) use report::ReportError;
pub(crate) use watch::{Position, Told, WatchError};

const CONNECT_MAX: Duration = Duration::from_secs(2);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest wait for a key. The vault answers in milliseconds, or it is ill.
pub(crate) const RESOLVE_MAX: Duration = Duration::from_secs(5);

/// The longest wait for a key at one address while there is another one to ask.
const ADDRESS_MAX: Duration = Duration::from_millis(1500);

/// A key for a call, in the clear.
#[derive(Debug)]
pub(crate) struct ResolvedKey {
    pub(crate) material: KeyMaterial,
    /// Empty for [`Source::Environment`].
    pub(crate) api_key_id: String,
    /// 0 for [`Source::Environment`].
    pub(crate) version: i64,
    pub(crate) source: Source,
}

/// A key, and for how long.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) key: ResolvedKey,
    /// The revision of the vault that the answer is of.
    pub(crate) revision: i64,
    /// How long the key may be used without asking again.
    pub(crate) lease: Duration,
}

/// Why the vault gave no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// No step of the resolution that may be taken has a key.
    #[error("no {provider} key is configured")]
    NotConfigured {
        provider: Provider,
        /// The names of the steps that fallback policies forbid. Empty if there are none.
        forbidden: String,
        says: String,
    },
    /// The key that decides cannot be used.
    #[error("key {api_key_id} cannot be used")]
    Unusable { provider: Provider, api_key_id: String, source_step: String, cause: String, says: String },
    /// The deadline passed before the vault answered.
    #[error("no key by the deadline")]
    Deadline,
    /// The vault does not answer.
    #[error("the key-vault is unavailable")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// The vault answers, and does not serve this gateway, or not in a way we understand.
    #[error("the key-vault refuses this gateway")]
    Refused(#[source] Box<dyn StdError + Send + Sync>),
    /// The vault's database does not answer.
    #[error("the key-vault's store is unavailable")]
    StoreUnavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// The vault cannot record that it releases a key.
    #[error("the key-vault cannot record that it releases a key")]
    NotRecorded(#[source] Box<dyn StdError + Send + Sync>),
    /// The gateway asks for too much.
    #[error("the key-vault limits this gateway")]
    Limited {
        /// When it may be worth trying again, if the vault said.
        retry_after: Option<Duration>,
        #[source]
        cause: Box<dyn StdError + Send + Sync>,
    },
    /// The vault cannot open keys.
    #[error("the key-vault is sealed")]
    Sealed(#[source] Box<dyn StdError + Send + Sync>),
}

impl KeyError {
    /// Whether the vault could not answer. Otherwise it has: there is no key to use.
    pub(crate) fn vault_could_not_answer(&self) -> bool {
        match self {
            Self::Deadline
            | Self::Unavailable(_)
            | Self::StoreUnavailable(_)
            | Self::NotRecorded(_)
            | Self::Sealed(_) => true,
            Self::NotConfigured { .. } | Self::Unusable { .. } | Self::Limited { .. } | Self::Refused(_) => false,
        }
    }
}

/// Connections to the vault: made at the first call, again when one is lost, and anew when
/// the gateway has another certificate or token.
#[derive(Clone, Debug)]
pub(crate) struct VaultClient {
    dialer: Arc<Reloading<Dialer>>,
    replicas: Arc<Replicas>,
    calls: Calls,
}

impl VaultClient {
    /// Prepares connections to the vault that the options name.
    pub(crate) fn new(options: &ServeOptions) -> anyhow::Result<Self> {
        let tune = |endpoint: Endpoint| {
            endpoint
                .connect_timeout(CONNECT_MAX)
                // A host that vanished without a word is noticed, not waited for.
                .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .keep_alive_while_idle(true)
        };
        let url = &options.vault.vault_url;
        let dialer = options.vault.credentials().dialer("the gateway's identity", url, tune)?;
        let replicas = Replicas::new(url, &options.vault.vault_address, Arc::clone(&dialer))?;
        Ok(Self { dialer, replicas: Arc::new(replicas), calls: Calls::new(url) })
    }

    /// Follows the files that say who the gateway is, and where the vault's name leads. Never
    /// ends.
    pub(crate) async fn follow(&self) {
        tokio::join!(self.dialer.follow(), self.replicas.follow());
    }

    /// Whether the vault answers this gateway: it begins to watch, and leaves.
    pub(crate) async fn knows_this_gateway(&self) -> Result<(), KeyError> {
        let begin = |mut client: KeyResolutionServiceClient<Wire>, limit| async move {
            let mut request = Request::new(WatchKeyChangesRequest::default());
            request.set_timeout(limit);
            client.watch_key_changes(request).await.map(|_| ())
        };
        let limits = Limits { whole: RESOLVE_MAX, address: ADDRESS_MAX };
        self.replicas.ask(limits, begin).await.map_err(|failed| KeyError::Unavailable(failed.cause()))
    }

    /// Asks for a key, within `limit`.
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels the call.
    pub(crate) async fn resolve(
        &self,
        organization: &Label,
        profile: Option<&Label>,
        provider: Provider,
        limit: Duration,
    ) -> Result<Leased, KeyError> {
        let message = ResolveKeyRequest {
            organization_id: organization.to_string(),
            profile_id: profile.map(ToString::to_string),
            provider: types::Provider::from(provider).into(),
        };
        let mut call = self.calls.begin("archestra.keyvault.v1.KeyResolutionService/ResolveKey");
        let resolve = |mut client: KeyResolutionServiceClient<Wire>, limit| {
            let mut request = Request::new(message.clone());
            request.set_timeout(limit);
            telemetry::inject(request.metadata_mut());
            async move { client.resolve_key(request).await }
        };
        // An address that takes all of a short limit is left out the next time.
        let limits = Limits { whole: limit, address: ADDRESS_MAX.min(limit) };
        match self.replicas.ask(limits, resolve).instrument(call.span().clone()).await {
            Ok(answer) => {
                call.ends(Code::Ok, None);
                leased(answer.into_inner())
            }
            Err(Failed::Status(status)) => {
                let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
                // The vault's vocabulary, and nothing that something in between makes up.
                // A vault cancels nothing: that is how a connection looks that broke.
                let broke = status.code() == Code::Cancelled || replicas::is_of_the_connection(&status);
                call.ends(
                    if broke { Code::Unavailable } else { status.code() },
                    reason.filter(|reason| ErrorReason::from_wire_name(reason).is_some()),
                );
                Err(refused(provider, &status))
            }
            Err(failed) => {
                call.ends(failed.code(), None);
                Err(KeyError::Unavailable(failed.cause()))
            }
        }
    }
}

fn leased(answer: ResolveKeyResponse) -> Result<Leased, KeyError> {
    let source = match answer.source() {
        types::Source::Profile => Source::Profile,
        types::Source::OrganizationDefault => Source::OrganizationDefault,
        types::Source::Environment => Source::Environment,
        types::Source::Unspecified => return Err(incomprehensible("a key without a source")),
    };
    let material = answer.material.ok_or_else(|| incomprehensible("a key without material"))?;
    let material = KeyMaterial::new(material.api_key);
    let key = ResolvedKey { material, api_key_id: answer.api_key_id, version: answer.version, source };
    // One that is absent or negative is none.
    let lease = answer.lease_duration.and_then(|lease| lease.try_into().ok()).unwrap_or_default();
    Ok(Leased { key, revision: answer.revision, lease })
}

fn incomprehensible(what: &'static str) -> KeyError {
    KeyError::Refused(format!("the vault sent {what}").into())
}

fn refused(provider: Provider, status: &Status) -> KeyError {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else { return unexplained(status) };
    let value = |name: &str| info.metadata.get(name).cloned().unwrap_or_default();
    let is = |reason: ErrorReason| info.reason == reason.wire_name();
    if is(ErrorReason::NoKeyConfigured) {
        KeyError::NotConfigured { provider, forbidden: value("forbidden"), says: status.message().to_owned() }
    } else if is(ErrorReason::KeyUnusable) {
        KeyError::Unusable {
            provider,
            api_key_id: value("api_key_id"),
            source_step: value("source"),
            cause: value("cause"),
            says: status.message().to_owned(),
        }
    } else if is(ErrorReason::StoreUnavailable) {
        KeyError::StoreUnavailable(cause(status))
    } else if is(ErrorReason::AuditUnavailable) {
        KeyError::NotRecorded(cause(status))
    } else if is(ErrorReason::RateLimited) {
        let retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
        KeyError::Limited { retry_after, cause: cause(status) }
    } else if is(ErrorReason::VaultSealed) {
        KeyError::Sealed(cause(status))
    } else {
        unexplained(status)
    }
}

/// What a status without a reason that is known here means.
fn unexplained(status: &Status) -> KeyError {
    let unanswered = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled);
    if unanswered || replicas::is_of_the_connection(status) {
        KeyError::Unavailable(cause(status))
    } else {
        KeyError::Refused(cause(status))
    }
}

/// The status in words. Not the status itself: its metadata is not ours to print.
fn cause(status: &Status) -> Box<dyn StdError + Send + Sync> {
    format!("{:?}: {}", status.code(), status.message()).into()
}
