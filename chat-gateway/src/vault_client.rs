//! The gateway's side of the key-vault: asks for a key, and says why there is none.

mod report;

use std::{error::Error as StdError, sync::Arc, time::Duration};

use proto::{
    keyvault::{
        ErrorReason, ResolveKeyRequest, WatchKeyChangesRequest,
        key_resolution_service_client::KeyResolutionServiceClient,
    },
    types,
};
use service_runtime::{client::Wire, reload::Reloading, telemetry};
use tokio::time::Instant;
use tonic::{Request, Status, transport::Endpoint};
use tonic_types::StatusExt as _;
use tracing::instrument;

use crate::{
    config::ServeOptions,
    message::{KeyMaterial, Label, Provider, Source},
};
pub(crate) use report::ReportError;

const CONNECT_MAX: Duration = Duration::from_secs(2);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest wait for a key. The vault answers in milliseconds, or it is ill.
const RESOLVE_MAX: Duration = Duration::from_secs(5);

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
    /// The vault does not answer, or not in a way we understand.
    #[error("the key-vault is unavailable")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
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

/// Connections to the vault: made at the first call, again when one is lost, and anew when
/// the gateway has another certificate or token.
#[derive(Clone, Debug)]
pub(crate) struct VaultClient {
    wire: Arc<Reloading<Wire>>,
}

impl VaultClient {
    /// Prepares a connection to the vault that the options name.
    pub(crate) fn new(options: &ServeOptions) -> anyhow::Result<Self> {
        let tune = |endpoint: Endpoint| {
            endpoint
                .connect_timeout(CONNECT_MAX)
                .tcp_nodelay(true)
                // A host that vanished without a word is noticed, not waited for.
                .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .keep_alive_while_idle(true)
        };
        let wire = options.vault.credentials().connect("the gateway's identity", &options.vault.vault_url, tune)?;
        Ok(Self { wire })
    }

    /// Follows the files that say who the gateway is. Never ends.
    pub(crate) async fn follow(&self) {
        self.wire.follow().await;
    }

    fn client(&self) -> KeyResolutionServiceClient<Wire> {
        KeyResolutionServiceClient::new(self.wire.load().value.clone())
    }

    /// Whether the vault answers this gateway: it begins to watch, and leaves.
    pub(crate) async fn knows_this_gateway(&self) -> Result<(), KeyError> {
        let mut request = Request::new(WatchKeyChangesRequest::default());
        request.set_timeout(RESOLVE_MAX);
        let watched = self.client().watch_key_changes(request).await;
        watched.map(|_| ()).map_err(|status| KeyError::Unavailable(cause(&status)))
    }

    /// Asks for the key of a call.
    #[instrument(
        name = "resolve_key",
        skip_all,
        fields(otel.name = "archestra.keyvault.v1.KeyResolutionService/ResolveKey", otel.kind = "client", provider = %provider)
    )]
    pub(crate) async fn resolve(
        &self,
        organization: &Label,
        profile: Option<&Label>,
        provider: Provider,
        deadline: Instant,
    ) -> Result<ResolvedKey, KeyError> {
        let mut request = Request::new(ResolveKeyRequest {
            organization_id: organization.to_string(),
            profile_id: profile.map(ToString::to_string),
            provider: types::Provider::from(provider).into(),
        });
        request.set_timeout(RESOLVE_MAX.min(deadline.saturating_duration_since(Instant::now())));
        telemetry::inject(request.metadata_mut());
        let key = self
            .client()
            .resolve_key(request)
            .await
            .map_err(|status| if Instant::now() >= deadline { KeyError::Deadline } else { refused(provider, &status) })?
            .into_inner();
        let source = match key.source() {
            types::Source::Profile => Source::Profile,
            types::Source::OrganizationDefault => Source::OrganizationDefault,
            types::Source::Environment => Source::Environment,
            types::Source::Unspecified => return Err(incomprehensible("a key without a source")),
        };
        let material = key.material.ok_or_else(|| incomprehensible("a key without material"))?;
        let material = KeyMaterial::new(material.api_key);
        Ok(ResolvedKey { material, api_key_id: key.api_key_id, version: key.version, source })
    }
}

fn incomprehensible(what: &'static str) -> KeyError {
    KeyError::Unavailable(format!("the vault sent {what}").into())
}

fn refused(provider: Provider, status: &Status) -> KeyError {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else { return KeyError::Unavailable(cause(status)) };
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
        KeyError::Unavailable(cause(status))
    }
}

/// The status in words. Not the status itself: its metadata is not ours to print.
fn cause(status: &Status) -> Box<dyn StdError + Send + Sync> {
    format!("{:?}: {}", status.code(), status.message()).into()
}
