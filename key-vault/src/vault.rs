//! What the vault does: keeps keys, links them, resolves them.
//!
//! Knows no transport and no SQL. Every mutation is one transaction of the store; what
//! returns an error has changed nothing.

mod audit;
mod error;
mod keks;
mod mutation;
mod policy;
mod resolve;
mod status;
mod unseal;
mod upkeep;
mod usage;
mod watch;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use service_runtime::semconv::{OTHER, attribute};
use tokio::{sync::Semaphore, time::Instant};
use tracing::{Span, error, field};
use uuid::Uuid;

use crate::{
    access::Caller,
    change::ChangeKind,
    environment::{Environment, Fallback},
    key::{ApiKey, DisplayName, KeyId, KeyMaterial, OrganizationId, ProfileId, Provider, Source, State},
    limits::{Exceeded, Limits, Rates},
    metrics::Metrics,
    seal::{self, Binding, Sealer, secrets_manager::Managers},
    store::{Candidate, Candidates, Filter, Store},
};

pub(crate) use audit::{Cursor, Place, Problem, ProblemKind, Verified};
pub(crate) use error::{Error, OperationError, Unusable};
pub(crate) use keks::{KekStatus, RewrapState, RewrapStatus};
pub(crate) use mutation::{Mutation, Repeatable};
pub(crate) use resolve::Outcome;
pub(crate) use status::{AUDIT, Condition, KEYRING, STORE, SealStatus};
pub(crate) use upkeep::Upkeep;
pub(crate) use watch::{News, WATCHERS_MAX, Watcher};

use audit::AuditLog;
use mutation::{Affected, Answer, begun};
use resolve::{Found, outcomes};

/// How many profiles one key may have. Bounds a listing's row to about 130 KiB.
pub(crate) const PROFILES_MAX: usize = 1_000;

/// A page of a listing ends at about this size, well below gRPC's default limit of
/// 4 MiB for a message.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// How many keys are read at once for a page: the most that are read in vain when the
/// page ends early.
const PAGE_STEP: usize = 25;

/// How long a resolved key may be used without asking again.
pub(crate) const LEASE: Duration = Duration::from_mins(1);

/// How long the previous material of a key is kept unless the caller says otherwise.
pub(crate) const KEEP_PREVIOUS_FOR: Duration = Duration::from_hours(24);

/// Keys of organizations, and what uses them. One replica of perhaps several.
#[derive(Debug)]
pub(crate) struct Vault {
    store: Store,
    managers: Managers,
    environment: Environment,
    upkeep: Upkeep,
    limits: Limits,
    /// Another one at each start.
    replica: Uuid,
    /// Nothing while the vault is sealed.
    sealer: ArcSwapOption<Sealer>,
    learning: keks::Learning,
    condition: Condition,
    metrics: Metrics,
    history: watch::Shared,
    watchers: Arc<Semaphore>,
    audit: AuditLog,
}

/// A key to be created.
#[derive(Debug)]
pub(crate) struct NewKey {
    pub(crate) organization: OrganizationId,
    pub(crate) provider: Provider,
    pub(crate) display_name: DisplayName,
    pub(crate) material: KeyMaterial,
    pub(crate) organization_default: bool,
    pub(crate) profiles: Vec<ProfileId>,
}

/// A part of a listing.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) keys: Vec<ApiKey>,
    /// The last key of the page, if others follow.
    pub(crate) next_after: Option<KeyId>,
}

/// Whose key is wanted.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) organization: OrganizationId,
    pub(crate) profile: Option<ProfileId>,
    pub(crate) provider: Provider,
}

/// The key for a call.
#[derive(Debug)]
pub(crate) struct ResolvedKey {
    pub(crate) material: KeyMaterial,
    /// `None` for the environment's.
    pub(crate) id: Option<KeyId>,
    pub(crate) version: i64,
    pub(crate) source: Source,
    /// The revision that it is of.
    pub(crate) revision: i64,
}

/// One step of a resolution, explained.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) source: Source,
    pub(crate) id: Option<KeyId>,
    pub(crate) outcome: Outcome,
    pub(crate) detail: String,
}

/// What a profile's calls of one provider use.
#[derive(Debug)]
pub(crate) struct ProfileKey {
    pub(crate) provider: Provider,
    pub(crate) source: Source,
    /// `None` for the environment's.
    pub(crate) key: Option<ApiKey>,
}

impl Vault {
    /// A sealed vault. Its upkeep unseals it.
    pub(crate) fn new(
        store: Store,
        managers: Managers,
        environment: Environment,
        upkeep: Upkeep,
        rates: Rates,
        condition: Condition,
    ) -> Self {
        Self {
            store,
            managers,
            environment,
            upkeep,
            limits: Limits::new(rates),
            replica: Uuid::now_v7(),
            sealer: ArcSwapOption::empty(),
            learning: keks::Learning::default(),
            condition,
            metrics: Metrics::default(),
            history: watch::Shared::default(),
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            audit: AuditLog::default(),
        }
    }

    fn sealer(&self) -> Result<Arc<Sealer>, Error> {
        self.sealer.load_full().ok_or_else(|| Error::Sealed { reason: self.condition.sealed_because() })
    }

    /// Stores a key and its links.
    pub(crate) async fn create(&self, mutation: &Mutation, new: NewKey) -> Result<ApiKey, Error> {
        let mut work = begun!(self, mutation, key);
        let id = KeyId::new();
        let version = 1;
        let binding = Binding { organization: &new.organization, key: id, provider: new.provider, version };
        let sealed = work.seal(&binding, &new.material).await?;
        let key = ApiKey {
            id,
            provider: new.provider,
            display_name: new.display_name,
            state: State::Enabled,
            hint: new.material.hint(),
            fingerprint: work.sealer().fingerprint(&new.organization, new.provider, &new.material),
            organization: new.organization,
            version,
            organization_default: false,
            profiles: Vec::new(),
            create_time: work.tx.now(),
            update_time: work.tx.now(),
            creator: work.principal().to_owned(),
            revision: work.tx.revision(),
            previous: None,
            last_used_time: None,
            last_rejected_time: None,
        };
        work.tx.insert_key(&key, &sealed).await?;
        if new.organization_default {
            work.tx.set_default(&key).await?;
        }
        work.tx.assign(&key, &new.profiles).await?;
        work.finish_key(&key, ChangeKind::Created, &new.profiles).await
    }

    /// One key.
    pub(crate) async fn get(&self, organization: &OrganizationId, id: KeyId) -> Result<ApiKey, Error> {
        self.store.key(organization, id).await?.ok_or(Error::KeyNotFound { id })
    }

    /// Keys in the order of their creation, at most `size`, after `after`.
    pub(crate) async fn list(
        &self,
        organization: &OrganizationId,
        filter: Filter<'_>,
        mut after: Option<KeyId>,
        size: usize,
    ) -> Result<Page, Error> {
        let mut keys: Vec<ApiKey> = Vec::new();
        let mut bytes = 0;
        loop {
            // One more than is wanted, to see whether any follows.
            let wanted = PAGE_STEP.min(size - keys.len());
            let step = self.store.keys(organization, filter, after, wanted + 1).await?;
            let more = step.len() > wanted;
            let taken = step.len().min(wanted);
            for (n, key) in step.into_iter().take(taken).enumerate() {
                bytes += size_in_listing(&key);
                after = Some(key.id);
                keys.push(key);
                let full = keys.len() >= size || bytes >= PAGE_BYTES_MAX;
                if full {
                    let next_after = (more || n + 1 < taken).then_some(after).flatten();
                    return Ok(Page { keys, next_after });
                }
            }
            if !more {
                return Ok(Page { keys, next_after: None });
            }
        }
    }

    /// Changes a key's name, its state, or both.
    pub(crate) async fn update(
        &self,
        mutation: &Mutation,
        organization: &OrganizationId,
        id: KeyId,
        name: Option<&DisplayName>,
        state: Option<State>,
    ) -> Result<ApiKey, Error> {
        let mut work = begun!(self, mutation, key);
        let key = work.existing(organization, id).await?;
        work.tx.update_key(id, name, state).await?;
        work.finish_key(&key, ChangeKind::Updated, &[]).await
    }

    /// Replaces a key's material, and keeps what was for a while, sealed and unused.
    pub(crate) async fn rotate(
        &self,
        mutation: &Mutation,
        organization: &OrganizationId,
        id: KeyId,
        material: &KeyMaterial,
        keep_previous_for: Duration,
    ) -> Result<ApiKey, Error> {
        let mut work = begun!(self, mutation, key);
        let key = work.existing(organization, id).await?;
        work.replace_material(&key, material, keep_previous_for).await?;
        let key = work.finish_key(&key, ChangeKind::Rotated, &[]).await?;
        self.metrics.rotated("key");
        Ok(key)
    }

    /// Brings the kept previous material of a key back, as a new version.
    pub(crate) async fn roll_back(
        &self,
        mutation: &Mutation,
        organization: &OrganizationId,
        id: KeyId,
    ) -> Result<ApiKey, Error> {
        let mut work = begun!(self, mutation, key);
        let key = work.existing(organization, id).await?;
        let material = work.previous_material(&key).await?;
        work.replace_material(&key, &material, KEEP_PREVIOUS_FOR).await?;
        work.finish_key(&key, ChangeKind::Rotated, &[]).await
    }

    /// Destroys a key and its links. Returns it as it was.
    pub(crate) async fn delete(
        &self,
        mutation: &Mutation,
        organization: &OrganizationId,
        id: KeyId,
    ) -> Result<ApiKey, Error> {
        let mut work = begun!(self, mutation, key);
        let key = work.existing(organization, id).await?;
        work.tx.delete_key(&key).await?;
        let affected = [Affected::key(&key, &key.profiles)];
        let answer = Answer::Key(Box::new(key));
        work.finish(organization, ChangeKind::Deleted, &affected, answer).await?.key()
    }

    /// Makes a key the default of its provider.
    pub(crate) async fn set_default(
        &self,
        mutation: &Mutation,
        organization: &OrganizationId,
        id: KeyId,
    ) -> Result<ApiKey, Error> {
        let mut work = begun!(self, mutation, key);
        let key = work.enabled(organization, id).await?;
        work.tx.set_default(&key).await?;
        work.finish_key(&key, ChangeKind::DefaultChanged, &[]).await
    }

    /// Leaves an organization without a default of a provider. Returns which it was.
    pub(crate) async fn clear_default(
        &self,
        mutation: &Mutation,
        organization: &OrganizationId,
        provider: Provider,
    ) -> Result<Option<KeyId>, Error> {
        let mut work = begun!(self, mutation, cleared);
        let before = work.tx.clear_default(organization, provider).await?;
        let affected = [Affected { key: before, ..Affected::provider(provider) }];
        work.finish(organization, ChangeKind::DefaultChanged, &affected, Answer::Cleared(before)).await?.cleared()
    }

    /// Gives a key to profiles.
    pub(crate) async fn assign(
        &self,
        mutation: &Mutation,
        organization: &OrganizationId,
        id: KeyId,
        profiles: &[ProfileId],
    ) -> Result<ApiKey, Error> {
        let mut work = begun!(self, mutation, key);
        let key = work.enabled(organization, id).await?;
        work.tx.assign(&key, profiles).await?;
        work.finish_key(&key, ChangeKind::ProfilesChanged, &without(profiles, &key.profiles)).await
    }

    /// Takes a key away from profiles.
    pub(crate) async fn unassign(
        &self,
        mutation: &Mutation,
        organization: &OrganizationId,
        id: KeyId,
        profiles: &[ProfileId],
    ) -> Result<ApiKey, Error> {
        let mut work = begun!(self, mutation, key);
        let key = work.existing(organization, id).await?;
        work.tx.unassign(&key, profiles).await?;
        let gone: Vec<_> = profiles.iter().filter(|profile| key.profiles.contains(profile)).cloned().collect();
        work.finish_key(&key, ChangeKind::ProfilesChanged, &gone).await
    }

    /// Sets the whole list of a key's profiles.
    pub(crate) async fn replace_profiles(
        &self,
        mutation: &Mutation,
        organization: &OrganizationId,
        id: KeyId,
        profiles: &[ProfileId],
    ) -> Result<ApiKey, Error> {
        let mut work = begun!(self, mutation, key);
        let key = work.existing(organization, id).await?;
        // A disabled key may be taken away, and not be given.
        if key.state == State::Disabled && profiles.iter().any(|profile| !key.profiles.contains(profile)) {
            return Err(Error::Disabled { id, provider: key.provider });
        }
        let gone = without(&key.profiles, profiles);
        work.tx.unassign(&key, &gone).await?;
        work.tx.assign(&key, profiles).await?;
        let affected = [gone, without(profiles, &key.profiles)].concat();
        work.finish_key(&key, ChangeKind::ProfilesChanged, &affected).await
    }

    /// Gives keys of distinct providers to profiles, all or nothing. Returns how many
    /// (profile, provider) pairs have their key now.
    pub(crate) async fn batch_assign(
        &self,
        mutation: &Mutation,
        organization: &OrganizationId,
        ids: &[KeyId],
        profiles: &[ProfileId],
    ) -> Result<usize, Error> {
        let mut work = begun!(self, mutation, assigned);
        let mut affected: Vec<Affected> = Vec::new();
        for id in ids {
            let key = work.enabled(organization, *id).await?;
            if affected.iter().any(|before| before.providers.contains(&key.provider)) {
                return Err(Error::SameProvider { provider: key.provider });
            }
            affected.push(Affected::key(&key, &without(profiles, &key.profiles)));
            work.tx.assign(&key, profiles).await?;
            work.after(&key).await?;
        }
        let answer = Answer::Assigned(affected.len() * profiles.len());
        work.finish(organization, ChangeKind::ProfilesChanged, &affected, answer).await?.assigned()
    }

    /// What a profile's calls would use, per provider.
    pub(crate) async fn profile_keys(
        &self,
        organization: &OrganizationId,
        profile: &ProfileId,
    ) -> Result<Vec<ProfileKey>, Error> {
        let mut found = Vec::new();
        for provider in Provider::ALL {
            let candidates = self.store.candidates(organization, Some(profile), provider).await?;
            if let Some(candidate) = deciding(&candidates) {
                // A key that vanished between the two reads is as good as not there.
                let key = self.store.key(organization, candidate.id).await?;
                found.extend(key.map(|key| ProfileKey { provider, source: candidate.source, key: Some(key) }));
            } else if candidates.policies.allows(Source::Environment)
                && let Fallback::Key(_) = self.environment.find(organization, provider)
            {
                found.push(ProfileKey { provider, source: Source::Environment, key: None });
            }
        }
        Ok(found)
    }

    /// Returns the key that a call should use, opened, once there is a permanent record of it.
    ///
    /// # Cancel safety
    ///
    /// Changes no key. Dropping the future may leave a record of a key that nobody was given.
    pub(crate) async fn resolve(&self, caller: &Caller, ask: &Ask) -> Result<ResolvedKey, Error> {
        let begun = Instant::now();
        let rpc = Span::current();
        rpc.record(attribute::ORGANIZATION_ID, ask.organization.as_str());
        rpc.record(attribute::PROFILE_ID, ask.profile.as_ref().map(ProfileId::as_str));
        let result = self.resolve_recorded(caller, ask).await;
        let (source, word) = match &result {
            Ok(key) => {
                rpc.record(attribute::RESOLUTION_SOURCE, key.source.name());
                rpc.record(attribute::KEY_ID, key.id.map(field::display));
                rpc.record(attribute::KEY_VERSION, key.version);
                (Some(key.source), "ok")
            }
            Err(Error::Unusable { source_step, .. }) => (Some(*source_step), "KEY_UNUSABLE"),
            Err(error) => (None, error.decided().unwrap_or(OTHER)),
        };
        self.metrics.resolved(source.map(Source::name), word, begun.elapsed());
        result
    }

    async fn resolve_recorded(&self, caller: &Caller, ask: &Ask) -> Result<ResolvedKey, Error> {
        if let Err(exceeded) = self.limits.resolve(&caller.principal) {
            return Err(self.limited(caller, ask.organization.as_str(), exceeded).await);
        }
        let Examined { candidates, result, .. } = self.examine(ask).await?;
        if let Ok(ResolvedKey { id: Some(id), .. }) = &result
            && let Err(exceeded) = self.limits.release(&caller.principal, *id, caller.since)
        {
            return Err(self.limited(caller, ask.organization.as_str(), exceeded).await);
        }
        self.record_resolution(caller, ask, (candidates.epoch, candidates.revision), &result).await?;
        result
    }

    /// Counts a change that a caller asks for.
    ///
    /// # Errors
    ///
    /// [`Error::Limited`] if it asks for too many.
    pub(crate) async fn count_mutation(&self, caller: &Caller, organization: &str) -> Result<(), Error> {
        let Err(exceeded) = self.limits.mutation(&caller.principal) else { return Ok(()) };
        Err(self.limited(caller, organization, exceeded).await)
    }

    /// Records that a caller asked for too much, and says so to the operator.
    async fn limited(&self, caller: &Caller, organization: &str, exceeded: Exceeded) -> Error {
        if exceeded.is_news {
            let (principal, limit) = (&caller.principal, exceeded.limit);
            error!(%principal, limit, "a principal asks for unusually many distinct keys: is its identity stolen?");
            self.metrics.exfiltration_alarm();
        }
        // The call is refused, whether the log takes it or not.
        let _ = self.record_refusal(caller, Some(organization), "RATE_LIMITED").await;
        Error::Limited(exceeded)
    }

    /// Explains what [`Vault::resolve`] does for the same question.
    pub(crate) async fn explain(&self, ask: &Ask) -> Result<Vec<Step>, Error> {
        Ok(self.examine(ask).await?.steps().into())
    }

    /// The one path behind [`Vault::resolve`] and [`Vault::explain`], so that the
    /// explanation cannot differ from what happens.
    async fn examine<'a>(&'a self, ask: &'a Ask) -> Result<Examined<'a>, Error> {
        let sealer = self.sealer()?;
        let candidates = self.store.candidates(&ask.organization, ask.profile.as_ref(), ask.provider).await?;
        let (revision, policies) = (candidates.revision, candidates.policies);
        let fallback = self.environment.find(&ask.organization, ask.provider);
        let open = |sealer: &Sealer, candidate: &Candidate| {
            let begun = Instant::now();
            let opened = open(sealer, ask, candidate, revision);
            self.metrics.opened_one(begun.elapsed());
            opened
        };
        let result = match (deciding(&candidates), &fallback) {
            (Some(candidate), _) => match open(&sealer, candidate) {
                // Another replica seals with a KEK that this one has not heard of yet.
                Err(Error::Unusable { cause: Unusable::Undecryptable(seal::Error::UnknownKek), .. }) => {
                    open(self.learn_keks_soon().await?.as_ref(), candidate)
                }
                opened => opened,
            },
            (None, Fallback::Key(material)) if policies.allows(Source::Environment) => Ok(ResolvedKey {
                material: (*material).clone(),
                id: None,
                version: 0,
                source: Source::Environment,
                revision,
            }),
            (None, _) => Err(Error::NoKey {
                provider: ask.provider,
                environment_withheld: matches!(fallback, Fallback::NotAllowed),
                policies,
            }),
        };
        Ok(Examined { ask, candidates, fallback, result })
    }
}

/// The stored key that decides: of the first step that may be taken and has one. The key of a
/// forbidden step is not looked at.
fn deciding(candidates: &Candidates) -> Option<&Candidate> {
    candidates.found.iter().find(|candidate| candidates.policies.allows(candidate.source))
}

fn open(sealer: &Sealer, ask: &Ask, candidate: &Candidate, revision: i64) -> Result<ResolvedKey, Error> {
    let (id, provider, source) = (candidate.id, ask.provider, candidate.source);
    let unusable = |cause| Error::Unusable { id, provider, source_step: source, cause };
    if candidate.state == State::Disabled {
        return Err(unusable(Unusable::Disabled));
    }
    let binding = Binding { organization: &ask.organization, key: id, provider, version: candidate.version };
    let opened = match &candidate.sealed {
        Some(version) => sealer.open(&binding, version),
        None => Err(seal::Error::UnknownForm),
    };
    let material = opened.map_err(|error| unusable(Unusable::Undecryptable(error)))?;
    Ok(ResolvedKey { material, id: Some(id), version: candidate.version, source, revision })
}

/// What the steps of a resolution found, and what came of it.
struct Examined<'a> {
    ask: &'a Ask,
    candidates: Candidates,
    fallback: Fallback<'a>,
    result: Result<ResolvedKey, Error>,
}

impl Examined<'_> {
    fn steps(&self) -> [Step; 3] {
        let of = |source| self.candidates.found.iter().find(|candidate| candidate.source == source);
        let stored = [of(Source::Profile), of(Source::OrganizationDefault)];
        let found = |source: Source, has_key: bool, usable: bool| match (has_key, usable) {
            _ if !self.candidates.policies.allows(source) => Found::Forbidden,
            (false, _) => Found::Nothing,
            (true, true) => Found::Usable,
            (true, false) => Found::Unusable,
        };
        // Only the key that decides was opened, and only its outcome depends on it.
        let opened = self.result.is_ok();
        let [profile, default, environment] = outcomes([
            found(Source::Profile, stored[0].is_some(), opened),
            found(Source::OrganizationDefault, stored[1].is_some(), opened),
            found(Source::Environment, matches!(self.fallback, Fallback::Key(_)), true),
        ]);
        let step = |source, candidate: Option<&Candidate>, outcome| Step {
            source,
            id: candidate.map(|candidate| candidate.id),
            outcome,
            detail: self.detail(source, candidate, outcome),
        };
        [
            step(Source::Profile, stored[0], profile),
            step(Source::OrganizationDefault, stored[1], default),
            step(Source::Environment, None, environment),
        ]
    }

    fn detail(&self, source: Source, candidate: Option<&Candidate>, outcome: Outcome) -> String {
        let provider = self.ask.provider;
        match outcome {
            Outcome::NotReached => "an earlier step decided".to_owned(),
            Outcome::Forbidden => {
                let by = self.candidates.policies.forbids(source);
                by.map_or_else(String::new, |by| format!("forbidden by {by}"))
            }
            Outcome::Chosen => match candidate {
                Some(candidate) => format!("key {}, version {}", candidate.id, candidate.version),
                None => format!("{} of the vault", provider.environment_variable()),
            },
            Outcome::Unusable => match &self.result {
                Err(Error::Unusable { id, cause: Unusable::Disabled, .. }) => {
                    format!("key {id} is disabled: enable it, or take its link away")
                }
                _ => "the stored key does not open: rotate it, or ask the operator of the vault".to_owned(),
            },
            Outcome::NotConfigured => match source {
                Source::Profile if self.ask.profile.is_none() => "no profile was named".to_owned(),
                Source::Profile => format!("no {provider} key is assigned to the profile"),
                Source::OrganizationDefault => format!("the organization has no default {provider} key"),
                Source::Environment if matches!(self.fallback, Fallback::NotAllowed) => {
                    format!("{} is not for this organization", provider.environment_variable())
                }
                Source::Environment => format!("{} is not set in the vault", provider.environment_variable()),
            },
        }
    }
}

/// Those of `profiles` that are not among `others`.
fn without(profiles: &[ProfileId], others: &[ProfileId]) -> Vec<ProfileId> {
    profiles.iter().filter(|profile| !others.contains(profile)).cloned().collect()
}

/// About how many bytes a key takes in a listing.
fn size_in_listing(key: &ApiKey) -> usize {
    const FIXED_FIELDS: usize = 256;
    let profiles: usize = key.profiles.iter().map(|profile| profile.as_str().len() + 3).sum();
    FIXED_FIELDS + key.display_name.as_str().len() + key.organization.as_str().len() + profiles
}
