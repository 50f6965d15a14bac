//! One change of an organization's keys: begun once however often it is asked for, checked
//! against what the caller read, recorded, and made permanent whole.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tracing::warn;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Error, PROFILES_MAX, Vault, audit};
use crate::{
    access::Caller,
    audit::{Event, joined},
    change::ChangeKind,
    fallback_policy::FallbackPolicy,
    key::{ApiKey, KeyId, KeyMaterial, OrganizationId, ProfileId, Provider, State},
    seal::{Binding, Sealed, Sealer, WRAPS_MAX, WRAPS_WARN},
    store::{self, Remembered, Tx},
};

/// Who asks for a change, how a repeat of it is known, and what it is based on.
#[derive(Debug)]
pub(crate) struct Mutation {
    pub(crate) caller: Caller,
    pub(crate) request: Option<Repeatable>,
    /// The state of the key that the caller read.
    pub(crate) etag: Option<String>,
}

/// A request that may come again.
pub(crate) struct Repeatable {
    pub(crate) id: Uuid,
    /// What is asked for.
    pub(crate) method: &'static str,
    /// All that is said of it, but for the id. May hold key material.
    pub(crate) content: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Repeatable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repeatable").field("id", &self.id).field("method", &self.method).finish_non_exhaustive()
    }
}

impl Repeatable {
    fn digest(&self, sealer: &Sealer) -> Vec<u8> {
        sealer.digest([self.method.as_bytes(), &self.content])
    }
}

/// What a change is answered with, and a repeat of it again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Key(Box<ApiKey>),
    Cleared(Option<KeyId>),
    Assigned(usize),
    Policy(FallbackPolicy),
}

/// What a change did to a key, as its record says.
#[derive(Clone, Debug)]
pub(super) struct Affected {
    /// Whose resolutions may differ now.
    pub(super) providers: Vec<Provider>,
    /// The one profile that was meant, if it was one.
    pub(super) profile: Option<ProfileId>,
    /// `None` if no key was meant.
    pub(super) key: Option<KeyId>,
    pub(super) version: i64,
    /// Those that it was given to or taken from.
    pub(super) profiles: Vec<ProfileId>,
}

impl Affected {
    pub(super) fn provider(provider: Provider) -> Self {
        Self { providers: vec![provider], profile: None, key: None, version: 0, profiles: Vec::new() }
    }

    /// A key, as it is now or was before it was destroyed.
    pub(super) fn key(key: &ApiKey, profiles: &[ProfileId]) -> Self {
        let profiles = profiles.to_vec();
        Self { key: Some(key.id), version: key.version, profiles, ..Self::provider(key.provider) }
    }

    /// What an organization's or a profile's resolutions may fall back to.
    pub(super) fn policy(profile: Option<&ProfileId>) -> Self {
        let providers = Provider::ALL.to_vec();
        Self { providers, profile: profile.cloned(), key: None, version: 0, profiles: Vec::new() }
    }
}

/// A change is begun, or was made before.
pub(super) enum Begun<'a> {
    Now(Work<'a>),
    Before(Answer),
}

/// Begins a change, or returns from the function with what was answered before: a key, what
/// was cleared, how many were assigned, a policy.
macro_rules! begun {
    ($vault:expr, $mutation:expr, $answer:ident) => {
        match $vault.begin($mutation).await? {
            $crate::vault::mutation::Begun::Now(work) => work,
            $crate::vault::mutation::Begun::Before(answer) => return answer.$answer(),
        }
    };
}
pub(super) use begun;

/// A change in the making. Dropped before its end, it leaves no trace.
pub(super) struct Work<'a> {
    vault: &'a Vault,
    mutation: &'a Mutation,
    sealer: Arc<Sealer>,
    pub(super) tx: Tx,
}

impl Vault {
    pub(super) async fn begin<'a>(&'a self, mutation: &'a Mutation) -> Result<Begun<'a>, Error> {
        let sealer = self.sealer()?;
        let tx = self.store.begin().await?;
        if let Some(request) = &mutation.request
            && let Some(before) = tx.remembered(&mutation.caller.principal, request.id).await?
        {
            if !bool::from(before.digest.ct_eq(&request.digest(&sealer))) {
                return Err(Error::RequestIdReused { id: request.id });
            }
            let answer = serde_json::from_str(&before.answer).map_err(|_| store::Error::Damaged("an answer"))?;
            return Ok(Begun::Before(answer));
        }
        Ok(Begun::Now(Work { vault: self, mutation, sealer, tx }))
    }
}

impl Work<'_> {
    pub(super) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// The principal that asks.
    pub(super) fn principal(&self) -> &str {
        &self.mutation.caller.principal
    }

    /// The key that is to be changed, as the caller read it.
    pub(super) async fn existing(&self, organization: &OrganizationId, id: KeyId) -> Result<ApiKey, Error> {
        let key = self.tx.key(organization, id).await?.ok_or(Error::KeyNotFound { id })?;
        match &self.mutation.etag {
            Some(etag) if *etag != key.etag() => Err(Error::EtagMismatch { id, etag: key.etag() }),
            Some(_) | None => Ok(key),
        }
    }

    /// The same, for a change that gives it links.
    pub(super) async fn enabled(&self, organization: &OrganizationId, id: KeyId) -> Result<ApiKey, Error> {
        let key = self.existing(organization, id).await?;
        match key.state {
            State::Enabled => Ok(key),
            State::Disabled => Err(Error::Disabled { id, provider: key.provider }),
        }
    }

    /// Seals with the KEK that the database says seals now: what this replica believed
    /// before the transaction does not count.
    pub(super) async fn seal(&mut self, binding: &Binding<'_>, material: &KeyMaterial) -> Result<Sealed, Error> {
        let (kek_id, wraps) = self.tx.primary_kek().await?;
        if wraps > WRAPS_MAX {
            return Err(Error::KekUsedUp { kek_id });
        }
        if wraps >= WRAPS_WARN && wraps % 1_000 == 0 {
            warn!(kek.id = kek_id, wraps, "a key encryption key nears its limit: rotate it");
        }
        if !self.sealer.knows(&kek_id) {
            self.sealer = self.vault.learn_keks().await?;
        }
        let begun = Instant::now();
        let sealed = self.sealer.seal(&kek_id, binding, material).map_err(Error::CannotSeal);
        self.vault.metrics.sealed_one(begun.elapsed());
        sealed
    }

    /// Gives a key other material, as a new version.
    pub(super) async fn replace_material(
        &mut self,
        key: &ApiKey,
        material: &KeyMaterial,
        keep_previous_for: Duration,
    ) -> Result<(), Error> {
        let (organization, provider) = (&key.organization, key.provider);
        let binding = Binding { organization, key: key.id, provider, version: key.version + 1 };
        let sealed = self.seal(&binding, material).await?;
        let fingerprint = self.sealer.fingerprint(organization, provider, material);
        let keep_until = (!keep_previous_for.is_zero()).then(|| self.tx.now() + keep_previous_for);
        Ok(self.tx.replace_version(key, &sealed, &material.hint(), &fingerprint, keep_until).await?)
    }

    /// The kept previous material of a key.
    pub(super) async fn previous_material(&mut self, key: &ApiKey) -> Result<KeyMaterial, Error> {
        let (id, provider) = (key.id, key.provider);
        let previous = key.previous.as_ref().filter(|previous| previous.keep_until > self.tx.now());
        let version = previous.ok_or(Error::NoPrevious { id })?.version;
        let sealed = self.tx.sealed(id, version).await?.ok_or(Error::NoPrevious { id })?;
        if !self.sealer.knows(&sealed.kek_id) {
            self.sealer = self.vault.learn_keks().await?;
        }
        let binding = Binding { organization: &key.organization, key: id, provider, version };
        self.sealer.open(&binding, &sealed).map_err(|cause| Error::PreviousUnusable { id, provider, cause })
    }

    /// Reads a key back as the transaction leaves it, and refuses what it may not be.
    pub(super) async fn after(&self, key: &ApiKey) -> Result<ApiKey, Error> {
        let id = key.id;
        let now = self.tx.key(&key.organization, id).await?.ok_or(Error::KeyNotFound { id })?;
        if now.profiles.len() > PROFILES_MAX { Err(Error::TooManyProfiles { id }) } else { Ok(now) }
    }

    /// Ends a change of one key, and answers with it. `profiles` are those that it was given to
    /// or taken from.
    pub(super) async fn finish_key(
        self,
        key: &ApiKey,
        kind: ChangeKind,
        profiles: &[ProfileId],
    ) -> Result<ApiKey, Error> {
        let now = self.after(key).await?;
        let affected = [Affected::key(&now, profiles)];
        self.finish(&key.organization, kind, &affected, Answer::Key(Box::new(now))).await?.key()
    }

    /// Ends a change.
    pub(super) async fn finish(
        self,
        organization: &OrganizationId,
        kind: ChangeKind,
        affected: &[Affected],
        answer: Answer,
    ) -> Result<Answer, Error> {
        if let Some(request) = &self.mutation.request {
            let text = serde_json::to_string(&answer).map_err(|_| store::Error::Damaged("an answer"))?;
            let remembered = Remembered { digest: request.digest(&self.sealer), answer: text };
            self.tx.remember(&self.mutation.caller.principal, request.id, remembered).await?;
        }
        self.commit(organization, kind, affected).await?;
        Ok(answer)
    }

    /// Ends a change that nobody asked for.
    pub(super) async fn finish_silent(
        self,
        organization: &OrganizationId,
        kind: ChangeKind,
        affected: &Affected,
    ) -> Result<(), Error> {
        self.commit(organization, kind, std::slice::from_ref(affected)).await
    }

    async fn commit(self, organization: &OrganizationId, kind: ChangeKind, affected: &[Affected]) -> Result<(), Error> {
        let events: Vec<_> = affected.iter().map(|affected| self.event(organization, affected)).collect();
        audit::record_in(self.tx.audit(), self.sealer.audit_key(), &events).await?;
        let providers: Vec<_> = affected.iter().flat_map(|affected| affected.providers.iter().copied()).collect();
        let revision = self.tx.commit(organization, kind, &providers).await?;
        self.vault.committed(revision);
        Ok(())
    }

    fn event(&self, organization: &OrganizationId, affected: &Affected) -> Event {
        let provider = if let [one] = affected.providers.as_slice() { one.name() } else { "" };
        Event {
            organization: organization.as_str().to_owned(),
            profile: affected.profile.as_ref().map(|profile| profile.as_str().to_owned()).unwrap_or_default(),
            provider: provider.into(),
            key: affected.key,
            key_version: affected.version,
            profiles: joined(&affected.profiles),
            epoch: Some(self.tx.epoch()),
            revision: self.tx.revision(),
            request: self.mutation.request.as_ref().map(|request| request.id),
            ..audit::event(&self.mutation.caller)
        }
    }
}

/// Only a damaged row answers a request with what another method answers: the method is in
/// the digest.
const OTHER_ANSWER: Error = Error::Store(store::Error::Damaged("an answer of another method"));

impl Answer {
    pub(super) fn key(self) -> Result<ApiKey, Error> {
        match self {
            Self::Key(key) => Ok(*key),
            Self::Cleared(_) | Self::Assigned(_) | Self::Policy(_) => Err(OTHER_ANSWER),
        }
    }

    pub(super) fn cleared(self) -> Result<Option<KeyId>, Error> {
        match self {
            Self::Cleared(id) => Ok(id),
            Self::Key(_) | Self::Assigned(_) | Self::Policy(_) => Err(OTHER_ANSWER),
        }
    }

    pub(super) fn assigned(self) -> Result<usize, Error> {
        match self {
            Self::Assigned(count) => Ok(count),
            Self::Key(_) | Self::Cleared(_) | Self::Policy(_) => Err(OTHER_ANSWER),
        }
    }

    pub(super) fn policy(self) -> Result<FallbackPolicy, Error> {
        match self {
            Self::Policy(policy) => Ok(policy),
            Self::Key(_) | Self::Cleared(_) | Self::Assigned(_) => Err(OTHER_ANSWER),
        }
    }
}
