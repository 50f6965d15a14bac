//! Messages to domain types and back: the only place that sees both, and the only one
//! that refuses a message for what stands in it.

mod audit;
mod usage;

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, Utc};
use proto::{keyvault as pb, types};
use service_runtime::fields::{Check, Invalid};
use uuid::Uuid;

use super::page_token;
use crate::{
    change::{Change, ChangeKind},
    key::{self, ApiKey, DisplayName, KeyId, KeyMaterial, OrganizationId, ProfileId, Provider, Source, State},
    store::Filter,
    vault::{Ask, KEEP_PREVIOUS_FOR, LEASE, NewKey, News, Outcome, PROFILES_MAX, ProfileKey, ResolvedKey, Step},
};

const PAGE_SIZE_DEFAULT: usize = 50;
const PAGE_SIZE_MAX: usize = 1_000;

/// A previous version is for going back soon, not an archive.
const KEEP_PREVIOUS_FOR_MAX: Duration = Duration::from_hours(720);

/// As many keys as there are providers can be assigned together.
const BATCH_KEYS_MAX: usize = 100;

pub(super) use audit::{event_listing, verification, verified};
pub(super) use usage::{key_use_report, usage_gap, usage_question, usage_row};

type Result<T> = std::result::Result<T, Invalid>;

pub(super) fn new_key(request: pb::CreateApiKeyRequest) -> Result<NewKey> {
    let mut check = Check::default();
    let organization = check.take(organization(request.organization_id));
    let provider = check.take(required_provider(request.provider));
    let display_name = check.take(display_name("display_name", request.display_name));
    let material = check.take(material(request.material));
    let profiles = check.take(profiles(request.profile_ids));
    let (Some(organization), Some(provider), Some(display_name), Some(material), Some(profiles)) =
        (organization, provider, display_name, material, profiles)
    else {
        return Err(check.failed());
    };
    let organization_default = request.set_as_organization_default;
    Ok(NewKey { organization, provider, display_name, material, organization_default, profiles })
}

pub(super) fn key(organization_id: String, api_key_id: &str) -> Result<(OrganizationId, KeyId)> {
    let mut check = Check::default();
    let organization = check.take(organization(organization_id));
    let id = check.take(key_id("api_key_id", api_key_id));
    organization.zip(id).ok_or_else(|| check.failed())
}

/// A listing that was asked for.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) organization: OrganizationId,
    pub(super) provider: Option<Provider>,
    profile: Option<ProfileId>,
    pub(super) after: Option<KeyId>,
    pub(super) size: usize,
}

impl Listing {
    pub(super) fn filter(&self) -> Filter<'_> {
        Filter { provider: self.provider, profile: self.profile.as_ref() }
    }

    /// The token of the page after `after`.
    pub(super) fn token(&self, after: KeyId) -> String {
        page_token::write(&self.text(), after.0.as_bytes())
    }

    /// Where the page starts that a token leads to.
    fn read(&self, token: &str) -> Option<KeyId> {
        Uuid::from_slice(&page_token::read(&self.text(), token)?).ok().map(KeyId)
    }

    /// What no other query has. No id has a line break, so the lines say which is which.
    fn text(&self) -> String {
        let provider = self.provider.map_or("", Provider::name);
        let profile = self.profile.as_ref().map_or("", ProfileId::as_str);
        format!("keys\n{}\n{provider}\n{profile}", self.organization)
    }
}

pub(super) fn listing(request: pb::ListApiKeysRequest) -> Result<Listing> {
    let mut check = Check::default();
    let organization = check.take(organization(request.organization_id));
    let provider = check.take(optional_provider(request.provider));
    let profile = match request.profile_id {
        text if text.is_empty() => Some(None),
        text => check.take(profile_id("profile_id".to_owned(), text)).map(Some),
    };
    let size = check.take(page_size(request.page_size, PAGE_SIZE_DEFAULT));
    let (Some(organization), Some(provider), Some(profile), Some(size)) = (organization, provider, profile, size)
    else {
        return Err(check.failed());
    };
    let mut listing = Listing { organization, provider, profile, after: None, size };
    if !request.page_token.is_empty() {
        listing.after = Some(listing.read(&request.page_token).ok_or_else(other_token)?);
    }
    Ok(listing)
}

fn other_token() -> Invalid {
    Invalid::new("page_token", "is not a token of this query: take it from next_page_token, unchanged")
}

/// A change of a key that was asked for.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) organization: OrganizationId,
    pub(super) id: KeyId,
    pub(super) name: Option<DisplayName>,
    pub(super) state: Option<State>,
}

pub(super) fn update(request: pb::UpdateApiKeyRequest) -> Result<Update> {
    let api_key = request.api_key.ok_or_else(|| Invalid::new("api_key", "is required"))?;
    let mask = request.update_mask.unwrap_or_default();
    if mask.paths.is_empty() {
        return Err(Invalid::new("update_mask", "must name display_name, state or both"));
    }
    let mut check = Check::default();
    let organization = check.take(organization(api_key.organization_id).map_err(|invalid| invalid.within("api_key.")));
    let id = check.take(key_id("api_key.api_key_id", &api_key.api_key_id));
    let (mut name, mut new_state) = (None, None);
    for path in &mask.paths {
        match path.as_str() {
            "display_name" => name = check.take(display_name("api_key.display_name", api_key.display_name.clone())),
            "state" => new_state = check.take(state(api_key.state)),
            _ => {
                let problem =
                    "may name display_name and state only; other fields have RPCs of their own or never change";
                check.take(Err::<(), _>(Invalid::new("update_mask", problem)));
            }
        }
    }
    match (organization, id) {
        (Some(organization), Some(id)) if check.passed() => Ok(Update { organization, id, name, state: new_state }),
        _ => Err(check.failed()),
    }
}

/// New material that was brought for a key.
#[derive(Debug)]
pub(super) struct Rotation {
    pub(super) organization: OrganizationId,
    pub(super) id: KeyId,
    pub(super) material: KeyMaterial,
    pub(super) keep_previous_for: Duration,
}

pub(super) fn rotation(request: pb::RotateApiKeyRequest) -> Result<Rotation> {
    let mut check = Check::default();
    let named = check.take(key(request.organization_id, &request.api_key_id));
    let material = check.take(material(request.material));
    let kept = check.take(keep_previous_for(request.keep_previous_for));
    let (Some((organization, id)), Some(material), Some(keep_previous_for)) = (named, material, kept) else {
        return Err(check.failed());
    };
    Ok(Rotation { organization, id, material, keep_previous_for })
}

fn keep_previous_for(duration: Option<prost_types::Duration>) -> Result<Duration> {
    let Some(duration) = duration else { return Ok(KEEP_PREVIOUS_FOR) };
    match u64::try_from(duration.seconds) {
        Ok(seconds) if seconds <= KEEP_PREVIOUS_FOR_MAX.as_secs() && duration.nanos == 0 => {
            Ok(Duration::from_secs(seconds))
        }
        Ok(_) | Err(_) => Err(Invalid::new("keep_previous_for", "must be whole seconds, from 0 to 30 days")),
    }
}

/// From where a watcher goes on, and in which history.
pub(super) fn watch(request: &pb::WatchKeyChangesRequest) -> Result<(Option<i64>, Option<Uuid>)> {
    let mut check = Check::default();
    let from = check.take(match request.from_revision {
        Some(revision) if revision < 0 => Err(Invalid::new("from_revision", "must not be negative")),
        from => Ok(from),
    });
    let epoch = check.take(match request.epoch.as_str() {
        "" => Ok(None),
        text => {
            Uuid::try_parse(text).map(Some).map_err(|_| Invalid::new("epoch", "must be an epoch that a heartbeat said"))
        }
    });
    from.zip(epoch).ok_or_else(|| check.failed())
}

pub(super) fn default(request: pb::ClearOrganizationDefaultRequest) -> Result<(OrganizationId, Provider)> {
    let mut check = Check::default();
    let organization = check.take(organization(request.organization_id));
    let provider = check.take(required_provider(request.provider));
    organization.zip(provider).ok_or_else(|| check.failed())
}

/// Keys that are to be given to profiles together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) organization: OrganizationId,
    pub(super) ids: Vec<KeyId>,
    pub(super) profiles: Vec<ProfileId>,
}

pub(super) fn batch(request: pb::BatchAssignProfilesRequest) -> Result<Batch> {
    let mut check = Check::default();
    let organization = check.take(organization(request.organization_id));
    let ids = check.take(key_ids(&request.api_key_ids));
    let profiles = check.take(some_profiles(request.profile_ids));
    let (Some(organization), Some(ids), Some(profiles)) = (organization, ids, profiles) else {
        return Err(check.failed());
    };
    Ok(Batch { organization, ids, profiles })
}

pub(super) fn profile(request: pb::ListProfileKeysRequest) -> Result<(OrganizationId, ProfileId)> {
    let mut check = Check::default();
    let organization = check.take(organization(request.organization_id));
    let profile = check.take(profile_id("profile_id".to_owned(), request.profile_id));
    organization.zip(profile).ok_or_else(|| check.failed())
}

pub(super) fn ask(organization_id: String, profile: Option<String>, provider: i32) -> Result<Ask> {
    let mut check = Check::default();
    let organization = check.take(organization(organization_id));
    let profile = check.take(optional_profile(profile));
    let provider = check.take(required_provider(provider));
    let (Some(organization), Some(profile), Some(provider)) = (organization, profile, provider) else {
        return Err(check.failed());
    };
    Ok(Ask { organization, profile, provider })
}

/// An organization, or one of its profiles.
pub(super) fn policy_place(
    organization_id: String,
    profile: Option<String>,
) -> Result<(OrganizationId, Option<ProfileId>)> {
    let mut check = Check::default();
    let organization = check.take(organization(organization_id));
    let profile = check.take(optional_profile(profile));
    organization.zip(profile).ok_or_else(|| check.failed())
}

/// One or more profiles, each once, sorted.
pub(super) fn some_profiles(texts: Vec<String>) -> Result<Vec<ProfileId>> {
    if texts.is_empty() {
        return Err(Invalid::new("profile_ids", "must name a profile"));
    }
    profiles(texts)
}

/// Profiles, each once, sorted.
pub(super) fn profiles(texts: Vec<String>) -> Result<Vec<ProfileId>> {
    let mut ids = BTreeSet::new();
    for (n, text) in texts.into_iter().enumerate() {
        ids.insert(profile_id(format!("profile_ids[{n}]"), text)?);
        if ids.len() > PROFILES_MAX {
            return Err(Invalid::new("profile_ids", format_args!("may name {PROFILES_MAX} profiles at most")));
        }
    }
    Ok(ids.into_iter().collect())
}

fn key_ids(texts: &[String]) -> Result<Vec<KeyId>> {
    if texts.is_empty() || texts.len() > BATCH_KEYS_MAX {
        return Err(Invalid::new("api_key_ids", format_args!("must name 1 to {BATCH_KEYS_MAX} keys")));
    }
    let mut ids = BTreeSet::new();
    for (n, text) in texts.iter().enumerate() {
        ids.insert(key_id(&format!("api_key_ids[{n}]"), text)?);
    }
    Ok(ids.into_iter().collect())
}

fn organization(text: String) -> Result<OrganizationId> {
    OrganizationId::try_from(text).map_err(|problem| Invalid::new("organization_id", problem))
}

fn profile_id(path: String, text: String) -> Result<ProfileId> {
    ProfileId::try_from(text).map_err(|problem| Invalid::new(path, problem))
}

fn optional_profile(text: Option<String>) -> Result<Option<ProfileId>> {
    text.map(|text| profile_id("profile_id".to_owned(), text)).transpose()
}

fn key_id(path: &str, text: &str) -> Result<KeyId> {
    KeyId::try_from(text).map_err(|problem| Invalid::new(path, problem))
}

fn display_name(path: &str, text: String) -> Result<DisplayName> {
    DisplayName::try_from(text).map_err(|problem| Invalid::new(path, problem))
}

fn material(material: Option<pb::KeyMaterial>) -> Result<KeyMaterial> {
    let path = "material.api_key";
    let text = material.ok_or_else(|| Invalid::new(path, key::Invalid::MaterialLength))?.api_key;
    KeyMaterial::try_from(text).map_err(|problem| Invalid::new(path, problem))
}

fn page_size(size: i32, default: usize) -> Result<usize> {
    match usize::try_from(size) {
        Ok(0) => Ok(default),
        Ok(size) => Ok(size.min(PAGE_SIZE_MAX)),
        Err(_) => Err(Invalid::new("page_size", "must not be negative")),
    }
}

fn state(number: i32) -> Result<State> {
    match pb::api_key::State::try_from(number) {
        Ok(pb::api_key::State::Enabled) => Ok(State::Enabled),
        Ok(pb::api_key::State::Disabled) => Ok(State::Disabled),
        Ok(pb::api_key::State::Unspecified) | Err(_) => {
            Err(Invalid::new("api_key.state", "must be STATE_ENABLED or STATE_DISABLED"))
        }
    }
}

fn required_provider(number: i32) -> Result<Provider> {
    optional_provider(number)?.ok_or_else(unknown_provider)
}

fn optional_provider(number: i32) -> Result<Option<Provider>> {
    match types::Provider::try_from(number) {
        Ok(types::Provider::Unspecified) => Ok(None),
        Ok(types::Provider::Anthropic) => Ok(Some(Provider::Anthropic)),
        Ok(types::Provider::Openai) => Ok(Some(Provider::OpenAi)),
        Ok(types::Provider::Gemini) => Ok(Some(Provider::Gemini)),
        Err(_) => Err(unknown_provider()),
    }
}

fn unknown_provider() -> Invalid {
    Invalid::new("provider", "must be PROVIDER_ANTHROPIC, PROVIDER_OPENAI or PROVIDER_GEMINI")
}

impl From<Provider> for types::Provider {
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::Anthropic => Self::Anthropic,
            Provider::OpenAi => Self::Openai,
            Provider::Gemini => Self::Gemini,
        }
    }
}

impl From<Source> for types::Source {
    fn from(source: Source) -> Self {
        match source {
            Source::Profile => Self::Profile,
            Source::OrganizationDefault => Self::OrganizationDefault,
            Source::Environment => Self::Environment,
        }
    }
}

impl From<ApiKey> for pb::ApiKey {
    fn from(key: ApiKey) -> Self {
        let state = match key.state {
            State::Enabled => pb::api_key::State::Enabled,
            State::Disabled => pb::api_key::State::Disabled,
        };
        let etag = key.etag();
        Self {
            api_key_id: key.id.to_string(),
            organization_id: key.organization.to_string(),
            provider: types::Provider::from(key.provider).into(),
            display_name: key.display_name.as_str().to_owned(),
            state: state.into(),
            hint: key.hint,
            fingerprint: key.fingerprint,
            version: key.version,
            organization_default: key.organization_default,
            profile_ids: key.profiles.iter().map(ToString::to_string).collect(),
            create_time: Some(timestamp(key.create_time)),
            update_time: Some(timestamp(key.update_time)),
            etag,
            previous_version: key.previous.as_ref().map_or(0, |previous| previous.version),
            previous_expire_time: key.previous.map(|previous| timestamp(previous.keep_until)),
            creator: key.creator,
            last_used_time: key.last_used_time.map(timestamp),
            last_rejected_time: key.last_rejected_time.map(timestamp),
        }
    }
}

fn duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0) }
}

impl From<News> for pb::WatchKeyChangesResponse {
    fn from(news: News) -> Self {
        use pb::watch_key_changes_response::Event;
        let event = match news {
            News::Change(change) => Event::Change(change.into()),
            News::Heartbeat { revision, epoch } => {
                Event::Heartbeat(pb::Heartbeat { revision, epoch: epoch.to_string() })
            }
        };
        Self { event: Some(event) }
    }
}

impl From<Change> for pb::KeyChange {
    fn from(change: Change) -> Self {
        use pb::key_change::Kind;
        let kind = match change.kind {
            ChangeKind::Created => Kind::Created,
            ChangeKind::Updated => Kind::Updated,
            ChangeKind::Rotated => Kind::Rotated,
            ChangeKind::Deleted => Kind::Deleted,
            ChangeKind::DefaultChanged => Kind::DefaultChanged,
            ChangeKind::ProfilesChanged => Kind::ProfilesChanged,
            ChangeKind::PreviousDestroyed => Kind::PreviousDestroyed,
            ChangeKind::FallbackPolicyChanged => Kind::FallbackPolicyChanged,
        };
        Self {
            revision: change.revision,
            organization_id: change.organization.to_string(),
            kind: kind.into(),
            providers: change.providers.into_iter().map(|provider| types::Provider::from(provider).into()).collect(),
            api_key_ids: change.keys.iter().map(ToString::to_string).collect(),
        }
    }
}

pub(super) fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    // Below 10^9 by definition.
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: time.timestamp(), nanos }
}

impl From<ResolvedKey> for pb::ResolveKeyResponse {
    fn from(key: ResolvedKey) -> Self {
        Self {
            material: Some(pb::KeyMaterial { api_key: key.material.expose().to_owned() }),
            api_key_id: key.id.map(|id| id.to_string()).unwrap_or_default(),
            version: key.version,
            source: types::Source::from(key.source).into(),
            revision: key.revision,
            lease_duration: Some(duration(LEASE)),
        }
    }
}

impl From<ProfileKey> for pb::ProfileKey {
    fn from(found: ProfileKey) -> Self {
        let variable = match found.source {
            Source::Environment => found.provider.environment_variable(),
            Source::Profile | Source::OrganizationDefault => "",
        };
        Self {
            provider: types::Provider::from(found.provider).into(),
            source: types::Source::from(found.source).into(),
            api_key: found.key.map(Into::into),
            variable: variable.to_owned(),
        }
    }
}

pub(super) fn environment_fallback(provider: Provider) -> pb::EnvironmentFallback {
    pb::EnvironmentFallback {
        provider: types::Provider::from(provider).into(),
        variable: provider.environment_variable().to_owned(),
    }
}

pub(super) fn explanation(steps: Vec<Step>) -> pb::ExplainResolutionResponse {
    let steps: Vec<pb::ResolutionStep> = steps.into_iter().map(Into::into).collect();
    let chosen = steps.iter().find(|step| step.outcome() == pb::resolution_step::Outcome::Chosen).cloned();
    pb::ExplainResolutionResponse { steps, chosen }
}

impl From<Step> for pb::ResolutionStep {
    fn from(step: Step) -> Self {
        let outcome = match step.outcome {
            Outcome::Chosen => pb::resolution_step::Outcome::Chosen,
            Outcome::NotConfigured => pb::resolution_step::Outcome::NotConfigured,
            Outcome::Unusable => pb::resolution_step::Outcome::Unusable,
            Outcome::NotReached => pb::resolution_step::Outcome::NotReached,
            Outcome::Forbidden => pb::resolution_step::Outcome::Forbidden,
        };
        Self {
            source: types::Source::from(step.source).into(),
            api_key_id: step.id.map(|id| id.to_string()).unwrap_or_default(),
            outcome: outcome.into(),
            detail: step.detail,
        }
    }
}
