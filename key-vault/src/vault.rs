//! What the vault does: keeps keys, links them, resolves them.
//!
//! Knows no transport and no SQL. Every mutation is one transaction of the store; what
//! returns an error has changed nothing.

mod error;
mod resolve;
pub(crate) mod unseal;

use tracing::{Span, field, instrument, warn};

use crate::{
    environment::{Environment, Fallback},
    key::{ApiKey, DisplayName, KeyId, KeyMaterial, OrganizationId, ProfileId, Provider, Source, State},
    seal::{self, Binding, Sealer, WRAPS_MAX, WRAPS_WARN},
    store::{Candidate, Filter, Store, Tx},
};

pub(crate) use error::{Error, Unusable};
pub(crate) use resolve::Outcome;
use resolve::{Found, outcomes};

/// How many profiles one key may have. Bounds a listing's row to about 130 KiB.
pub(crate) const PROFILES_MAX: usize = 1_000;

/// A page of a listing ends at about this size, well below gRPC's default limit of
/// 4 MiB for a message.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// How many keys are read at once for a page: the most that are read in vain when the
/// page ends early.
const PAGE_STEP: usize = 25;

/// Keys of organizations, and what uses them.
#[derive(Debug)]
pub(crate) struct Vault {
    store: Store,
    sealer: Sealer,
    environment: Environment,
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
    pub(crate) creator: String,
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
    /// A vault over an unsealed store.
    pub(crate) fn new(store: Store, sealer: Sealer, environment: Environment) -> Self {
        Self { store, sealer, environment }
    }

    /// Stores a key and its links.
    pub(crate) async fn create(&self, new: NewKey) -> Result<ApiKey, Error> {
        let id = KeyId::new();
        let version = 1;
        let binding = Binding { organization: &new.organization, key: id, provider: new.provider, version };
        let sealed = self.sealer.seal(&binding, &new.material).map_err(Error::CannotSeal)?;
        let tx = self.store.begin().await?;
        self.count_wrap(&tx).await?;
        let key = ApiKey {
            id,
            provider: new.provider,
            display_name: new.display_name,
            state: State::Enabled,
            hint: new.material.hint(),
            fingerprint: self.sealer.fingerprint(&new.organization, new.provider, &new.material),
            organization: new.organization,
            version,
            organization_default: false,
            profiles: Vec::new(),
            create_time: tx.now(),
            update_time: tx.now(),
            creator: new.creator,
        };
        tx.insert_key(&key, &sealed).await?;
        if new.organization_default {
            tx.set_default(&key).await?;
        }
        tx.assign(&key, &new.profiles).await?;
        finish(tx, &key).await
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

    /// The environment's keys that calls of an organization can reach.
    pub(crate) fn environment_fallbacks(&self, organization: &OrganizationId) -> Vec<Provider> {
        Provider::ALL
            .into_iter()
            .filter(|provider| matches!(self.environment.find(organization, *provider), Fallback::Key(_)))
            .collect()
    }

    /// Changes a key's name, its state, or both.
    pub(crate) async fn update(
        &self,
        organization: &OrganizationId,
        id: KeyId,
        name: Option<&DisplayName>,
        state: Option<State>,
    ) -> Result<ApiKey, Error> {
        let tx = self.store.begin().await?;
        let key = existing(&tx, organization, id).await?;
        tx.update_key(id, name, state).await?;
        finish(tx, &key).await
    }

    /// Replaces a key's material and destroys what was.
    pub(crate) async fn rotate(
        &self,
        organization: &OrganizationId,
        id: KeyId,
        material: &KeyMaterial,
    ) -> Result<ApiKey, Error> {
        let tx = self.store.begin().await?;
        let key = existing(&tx, organization, id).await?;
        self.count_wrap(&tx).await?;
        let version = key.version + 1;
        let binding = Binding { organization, key: id, provider: key.provider, version };
        let sealed = self.sealer.seal(&binding, material).map_err(Error::CannotSeal)?;
        let fingerprint = self.sealer.fingerprint(organization, key.provider, material);
        tx.replace_version(&key, version, &sealed, &material.hint(), &fingerprint).await?;
        finish(tx, &key).await
    }

    /// Destroys a key and its links. Returns it as it was.
    pub(crate) async fn delete(&self, organization: &OrganizationId, id: KeyId) -> Result<ApiKey, Error> {
        let tx = self.store.begin().await?;
        let key = existing(&tx, organization, id).await?;
        tx.delete_key(&key).await?;
        tx.commit().await?;
        Ok(key)
    }

    /// Makes a key the default of its provider.
    pub(crate) async fn set_default(&self, organization: &OrganizationId, id: KeyId) -> Result<ApiKey, Error> {
        let tx = self.store.begin().await?;
        let key = enabled(&tx, organization, id).await?;
        tx.set_default(&key).await?;
        finish(tx, &key).await
    }

    /// Leaves an organization without a default of a provider. Returns which it was.
    pub(crate) async fn clear_default(
        &self,
        organization: &OrganizationId,
        provider: Provider,
    ) -> Result<Option<KeyId>, Error> {
        let tx = self.store.begin().await?;
        let before = tx.clear_default(organization, provider).await?;
        tx.commit().await?;
        Ok(before)
    }

    /// Gives a key to profiles.
    pub(crate) async fn assign(
        &self,
        organization: &OrganizationId,
        id: KeyId,
        profiles: &[ProfileId],
    ) -> Result<ApiKey, Error> {
        let tx = self.store.begin().await?;
        let key = enabled(&tx, organization, id).await?;
        tx.assign(&key, profiles).await?;
        finish(tx, &key).await
    }

    /// Takes a key away from profiles.
    pub(crate) async fn unassign(
        &self,
        organization: &OrganizationId,
        id: KeyId,
        profiles: &[ProfileId],
    ) -> Result<ApiKey, Error> {
        let tx = self.store.begin().await?;
        let key = existing(&tx, organization, id).await?;
        tx.unassign(&key, profiles).await?;
        finish(tx, &key).await
    }

    /// Sets the whole list of a key's profiles.
    pub(crate) async fn replace_profiles(
        &self,
        organization: &OrganizationId,
        id: KeyId,
        profiles: &[ProfileId],
    ) -> Result<ApiKey, Error> {
        let tx = self.store.begin().await?;
        let key = existing(&tx, organization, id).await?;
        // A disabled key may be taken away, and not be given.
        if key.state == State::Disabled && profiles.iter().any(|profile| !key.profiles.contains(profile)) {
            return Err(Error::Disabled { id, provider: key.provider });
        }
        let gone: Vec<_> = key.profiles.iter().filter(|profile| !profiles.contains(profile)).cloned().collect();
        tx.unassign(&key, &gone).await?;
        tx.assign(&key, profiles).await?;
        finish(tx, &key).await
    }

    /// Gives keys of distinct providers to profiles, all or nothing. Returns how many
    /// (profile, provider) pairs have their key now.
    pub(crate) async fn batch_assign(
        &self,
        organization: &OrganizationId,
        ids: &[KeyId],
        profiles: &[ProfileId],
    ) -> Result<usize, Error> {
        let tx = self.store.begin().await?;
        let mut seen: Vec<Provider> = Vec::new();
        for id in ids {
            let key = enabled(&tx, organization, *id).await?;
            if seen.contains(&key.provider) {
                return Err(Error::SameProvider { provider: key.provider });
            }
            seen.push(key.provider);
            tx.assign(&key, profiles).await?;
            after(&tx, &key).await?;
        }
        tx.commit().await?;
        Ok(seen.len() * profiles.len())
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
            if let Some(candidate) = candidates.first() {
                // A key that vanished between the two reads is as good as not there.
                let key = self.store.key(organization, candidate.id).await?;
                found.extend(key.map(|key| ProfileKey { provider, source: candidate.source, key: Some(key) }));
            } else if let Fallback::Key(_) = self.environment.find(organization, provider) {
                found.push(ProfileKey { provider, source: Source::Environment, key: None });
            }
        }
        Ok(found)
    }

    /// Returns the key that a call should use, opened.
    ///
    /// # Cancel safety
    ///
    /// Reads only. Dropping the future has no effect on the store.
    #[instrument(
        skip_all,
        fields(
            org.id = %ask.organization,
            profile.id = ask.profile.as_ref().map(field::display),
            provider = %ask.provider,
            keyvault.key.id = field::Empty,
            keyvault.resolution.source = field::Empty,
        )
    )]
    pub(crate) async fn resolve(&self, ask: &Ask) -> Result<ResolvedKey, Error> {
        let key = self.examine(ask).await?.result?;
        let span = Span::current();
        span.record("keyvault.resolution.source", key.source.name());
        if let Some(id) = key.id {
            span.record("keyvault.key.id", field::display(id));
        }
        Ok(key)
    }

    /// Explains what [`Vault::resolve`] does for the same question.
    pub(crate) async fn explain(&self, ask: &Ask) -> Result<Vec<Step>, Error> {
        Ok(self.examine(ask).await?.steps().into())
    }

    /// The one path behind [`Vault::resolve`] and [`Vault::explain`], so that the
    /// explanation cannot differ from what happens.
    async fn examine<'a>(&'a self, ask: &'a Ask) -> Result<Examined<'a>, Error> {
        let candidates = self.store.candidates(&ask.organization, ask.profile.as_ref(), ask.provider).await?;
        let fallback = self.environment.find(&ask.organization, ask.provider);
        let result = match (candidates.first(), &fallback) {
            (Some(candidate), _) => self.open(ask, candidate),
            (None, Fallback::Key(material)) => {
                Ok(ResolvedKey { material: (*material).clone(), id: None, version: 0, source: Source::Environment })
            }
            (None, Fallback::Unset | Fallback::NotAllowed) => Err(Error::NoKey {
                provider: ask.provider,
                environment_withheld: matches!(fallback, Fallback::NotAllowed),
            }),
        };
        Ok(Examined { ask, candidates, fallback, result })
    }

    fn open(&self, ask: &Ask, candidate: &Candidate) -> Result<ResolvedKey, Error> {
        let unusable =
            |cause| Error::Unusable { id: candidate.id, provider: ask.provider, source_step: candidate.source, cause };
        if candidate.state == State::Disabled {
            return Err(unusable(Unusable::Disabled));
        }
        let binding = Binding {
            organization: &ask.organization,
            key: candidate.id,
            provider: ask.provider,
            version: candidate.version,
        };
        let opened = match &candidate.sealed {
            Some(sealed) => self.sealer.open(&binding, sealed),
            None => Err(seal::Error::UnknownForm),
        };
        let material = opened.map_err(|error| unusable(Unusable::Undecryptable(error)))?;
        Ok(ResolvedKey { material, id: Some(candidate.id), version: candidate.version, source: candidate.source })
    }

    async fn count_wrap(&self, tx: &Tx) -> Result<(), Error> {
        let kek_id = self.sealer.primary();
        match tx.count_wrap(kek_id).await? {
            Some(count) if count <= WRAPS_MAX => {
                if count >= WRAPS_WARN && count % 1_000 == 0 {
                    warn!(kek.id = kek_id, count, "a key encryption key nears its limit: rotate it");
                }
                Ok(())
            }
            Some(_) | None => Err(Error::KekUsedUp { kek_id: kek_id.to_owned() }),
        }
    }
}

/// What the steps of a resolution found, and what came of it.
struct Examined<'a> {
    ask: &'a Ask,
    candidates: Vec<Candidate>,
    fallback: Fallback<'a>,
    result: Result<ResolvedKey, Error>,
}

impl Examined<'_> {
    fn steps(&self) -> [Step; 3] {
        let of = |source| self.candidates.iter().find(|candidate| candidate.source == source);
        let stored = [of(Source::Profile), of(Source::OrganizationDefault)];
        let usable = self.result.is_ok();
        let found_in = |candidate: Option<&Candidate>| match candidate {
            None => Found::Nothing,
            // Only the first of them was opened, and only its outcome depends on it.
            Some(_) if usable => Found::Usable,
            Some(_) => Found::Unusable,
        };
        let environment = if matches!(self.fallback, Fallback::Key(_)) { Found::Usable } else { Found::Nothing };
        let [profile, default, environment] = outcomes([found_in(stored[0]), found_in(stored[1]), environment]);
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

async fn existing(tx: &Tx, organization: &OrganizationId, id: KeyId) -> Result<ApiKey, Error> {
    tx.key(organization, id).await?.ok_or(Error::KeyNotFound { id })
}

async fn enabled(tx: &Tx, organization: &OrganizationId, id: KeyId) -> Result<ApiKey, Error> {
    let key = existing(tx, organization, id).await?;
    match key.state {
        State::Enabled => Ok(key),
        State::Disabled => Err(Error::Disabled { id, provider: key.provider }),
    }
}

/// Reads a key back as the transaction leaves it, and refuses what it may not be.
async fn after(tx: &Tx, key: &ApiKey) -> Result<ApiKey, Error> {
    let now = existing(tx, &key.organization, key.id).await?;
    if now.profiles.len() > PROFILES_MAX { Err(Error::TooManyProfiles { id: key.id }) } else { Ok(now) }
}

async fn finish(tx: Tx, key: &ApiKey) -> Result<ApiKey, Error> {
    let key = after(&tx, key).await?;
    tx.commit().await?;
    Ok(key)
}

/// About how many bytes a key takes in a listing.
fn size_in_listing(key: &ApiKey) -> usize {
    const FIXED_FIELDS: usize = 256;
    let profiles: usize = key.profiles.iter().map(|profile| profile.as_str().len() + 3).sum();
    FIXED_FIELDS + key.display_name.as_str().len() + key.organization.as_str().len() + profiles
}
