//! Takes the steps of a plan, one after the other.
//!
//! Every change of a key says which one it was decided on (`etag`), so that what somebody else
//! changes meanwhile is not overwritten. A step can change other keys too: those that lose a
//! profile or the default. They are read again and must be as the step leaves them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use prost_types::FieldMask;
use proto::keyvault::{
    ApiKey, AssignProfilesRequest, ClearOrganizationDefaultRequest, CreateApiKeyRequest, DeleteApiKeyRequest,
    GetApiKeyRequest, KeyMaterial, RotateApiKeyRequest, SetFallbackPolicyRequest, SetOrganizationDefaultRequest,
    UnassignProfilesRequest, UpdateApiKeyRequest, api_key::State, api_key_service_client::ApiKeyServiceClient,
};
use service_runtime::client::Wire;
use tokio::time::sleep;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use super::{
    declaration::{self, Policy},
    plan::{Action, Step, Subject},
    progress::Progress,
    reader,
};
use crate::{cli::session::request_id, key};

/// How long one step is tried for. The vault asks for less than a second; a replica that is
/// replaced needs a few.
const STEP_MAX: Duration = Duration::from_secs(20);

/// How long to wait for a vault that does not say it.
const PAUSE: Duration = Duration::from_millis(500);

/// A plan under way.
pub(super) struct Execution {
    pub(super) keys: ApiKeyServiceClient<Wire>,
    /// How long a rotated key's previous material is kept.
    pub(super) keep_previous_for: prost_types::Duration,
    /// Every key as it was last seen, by its id.
    pub(super) known: BTreeMap<String, ApiKey>,
    pub(super) progress: Progress,
}

/// A step that was not taken.
#[derive(Debug)]
pub(super) struct Stopped {
    /// How many were, before it.
    pub(super) done: usize,
    pub(super) cause: anyhow::Error,
}

impl Execution {
    pub(super) async fn run(&mut self, steps: &[Step], materials: &[Option<key::KeyMaterial>]) -> Result<(), Stopped> {
        for (done, (step, material)) in steps.iter().zip(materials).enumerate() {
            self.progress.begins(done, step);
            if let Err(cause) = Box::pin(self.step(step, material.as_ref())).await {
                self.progress.stops();
                return Err(Stopped { done, cause });
            }
        }
        self.progress.ends(steps.len());
        Ok(())
    }

    async fn step(&mut self, step: &Step, material: Option<&key::KeyMaterial>) -> anyhow::Result<()> {
        match &step.subject {
            Subject::Key { id, .. } if id.is_empty() => Box::pin(self.create(step, material)).await,
            Subject::Key { id, .. } => {
                let key = self.known.get(id).cloned().context("the key of a step is not known")?;
                Box::pin(self.change(key, &step.action, material)).await
            }
            Subject::Policy { profile } => Box::pin(self.policy(step, profile.clone())).await,
        }
    }

    async fn create(&mut self, step: &Step, material: Option<&key::KeyMaterial>) -> anyhow::Result<()> {
        let Action::Create(declared) = &step.action else { bail!("a step has no key") };
        let request = CreateApiKeyRequest {
            organization_id: step.organization.clone(),
            provider: declared.provider.into(),
            display_name: declared.name.clone(),
            material: Some(in_the_clear(material)?),
            set_as_organization_default: declared.default,
            profile_ids: declared.profiles.iter().cloned().collect(),
            request_id: request_id(),
        };
        let created = self.send(request, async |mut keys, request| keys.create_api_key(request).await).await?.api_key;
        let key = self.settle(created).await?;
        // Links cannot be given to a disabled key, so that it is made enabled. If this ends in between,
        // the next run finds an enabled key and disables it.
        if declared.state == Some(declaration::State::Disabled) {
            self.update(key, "state", |key| key.set_state(State::Disabled)).await?;
        }
        Ok(())
    }

    async fn change(
        &mut self,
        key: ApiKey,
        action: &Action,
        material: Option<&key::KeyMaterial>,
    ) -> anyhow::Result<()> {
        let (organization_id, api_key_id) = (key.organization_id.clone(), key.api_key_id.clone());
        let (request_id, etag) = (request_id(), key.etag.clone());
        let changed = match action {
            Action::Rename(name) => {
                return self.update(key, "display_name", |key| key.display_name.clone_from(name)).await;
            }
            Action::Enable => return self.update(key, "state", |key| key.set_state(State::Enabled)).await,
            Action::Disable => return self.update(key, "state", |key| key.set_state(State::Disabled)).await,
            Action::Rotate { .. } => {
                let (material, keep_previous_for) = (Some(in_the_clear(material)?), Some(self.keep_previous_for));
                let request =
                    RotateApiKeyRequest { organization_id, api_key_id, material, keep_previous_for, request_id, etag };
                self.send(request, async |mut keys, request| keys.rotate_api_key(request).await).await?.api_key
            }
            Action::Assign(profiles) => {
                let profile_ids = profiles.iter().cloned().collect();
                let request = AssignProfilesRequest { organization_id, api_key_id, profile_ids, request_id, etag };
                self.send(request, async |mut keys, request| keys.assign_profiles(request).await).await?.api_key
            }
            Action::Unassign(profiles) => {
                let profile_ids = profiles.iter().cloned().collect();
                let request = UnassignProfilesRequest { organization_id, api_key_id, profile_ids, request_id, etag };
                self.send(request, async |mut keys, request| keys.unassign_profiles(request).await).await?.api_key
            }
            Action::SetDefault => {
                let request = SetOrganizationDefaultRequest { organization_id, api_key_id, request_id, etag };
                self.send(request, async |mut keys, request| keys.set_organization_default(request).await)
                    .await?
                    .api_key
            }
            Action::ClearDefault => return self.clear_default(key).await,
            Action::Delete => {
                let request = DeleteApiKeyRequest { organization_id, api_key_id, request_id, etag };
                self.send(request, async |mut keys, request| keys.delete_api_key(request).await).await?;
                self.known.remove(&key.api_key_id);
                return Ok(());
            }
            Action::Create(_) | Action::Forbid { .. } | Action::Allow { .. } => bail!("a step is not one of a key"),
        };
        self.settle(changed).await.map(|_| ())
    }

    async fn update(&mut self, key: ApiKey, field: &str, change: impl FnOnce(&mut ApiKey)) -> anyhow::Result<()> {
        let etag = key.etag.clone();
        let mut api_key = key;
        change(&mut api_key);
        let request = UpdateApiKeyRequest {
            api_key: Some(api_key),
            update_mask: Some(FieldMask { paths: vec![field.to_owned()] }),
            request_id: request_id(),
            etag,
        };
        let updated = self.send(request, async |mut keys, request| keys.update_api_key(request).await).await?.api_key;
        self.settle(updated).await.map(|_| ())
    }

    /// The contract takes no `etag` here: the key is looked at just before.
    async fn clear_default(&mut self, key: ApiKey) -> anyhow::Result<()> {
        self.must_be(&key).await?;
        let request = ClearOrganizationDefaultRequest {
            organization_id: key.organization_id.clone(),
            provider: key.provider,
            request_id: request_id(),
        };
        self.send(request, async |mut keys, request| keys.clear_organization_default(request).await).await?;
        self.must_be(&ApiKey { organization_default: false, ..key }).await
    }

    /// Like [`Self::clear_default`]: a policy has no `etag`.
    async fn policy(&mut self, step: &Step, profile_id: Option<String>) -> anyhow::Result<()> {
        let (Action::Forbid { was, becomes } | Action::Allow { was, becomes }) = step.action else {
            bail!("a step is not one of a policy")
        };
        let found: Policy = reader::policy(&mut self.keys, &step.organization, profile_id.clone()).await?;
        if found != was {
            bail!("the policy was changed by somebody else meanwhile");
        }
        let request = SetFallbackPolicyRequest {
            organization_id: step.organization.clone(),
            profile_id,
            allow_organization_default: Some(becomes.organization_default),
            allow_environment: Some(becomes.environment),
            request_id: request_id(),
        };
        self.send(request, async |mut keys, request| keys.set_fallback_policy(request).await).await?;
        Ok(())
    }

    /// Remembers a changed key, and looks at those that lost a link to it.
    async fn settle(&mut self, changed: Option<ApiKey>) -> anyhow::Result<ApiKey> {
        let key = changed.context("the vault answered without a key")?;
        let is_other = |other: &&ApiKey| {
            other.organization_id == key.organization_id
                && other.provider == key.provider
                && other.api_key_id != key.api_key_id
        };
        let without_links = |other: &ApiKey| {
            let mut other = other.clone();
            other.organization_default &= !key.organization_default;
            other.profile_ids.retain(|profile| !key.profile_ids.contains(profile));
            other
        };
        let others = self.known.values().filter(is_other);
        let losers: Vec<_> = others.map(|was| (was, without_links(was))).filter(|(was, is)| *was != is).collect();
        let losers: Vec<ApiKey> = losers.into_iter().map(|(_, is)| is).collect();
        for loser in losers {
            self.must_be(&loser).await?;
        }
        self.known.insert(key.api_key_id.clone(), key.clone());
        Ok(key)
    }

    /// Reads a key again, which must be as expected, and remembers its `etag`.
    async fn must_be(&mut self, expected: &ApiKey) -> anyhow::Result<()> {
        let request = GetApiKeyRequest {
            organization_id: expected.organization_id.clone(),
            api_key_id: expected.api_key_id.clone(),
        };
        let found = self.send(request, async |mut keys, request| keys.get_api_key(request).await).await?.api_key;
        let found = found.context("the vault answered without a key")?;
        if comparable(&found) != comparable(expected) {
            bail!("key {} was changed by somebody else meanwhile", expected.api_key_id);
        }
        self.known.insert(found.api_key_id.clone(), found);
        Ok(())
    }

    /// Sends one request until it is answered. A repeat of a change has the same `request_id`, and
    /// changes nothing twice.
    async fn send<R: Clone, A>(
        &mut self,
        request: R,
        call: impl AsyncFn(ApiKeyServiceClient<Wire>, R) -> Result<Response<A>, Status>,
    ) -> Result<A, Status> {
        let begun = Instant::now();
        loop {
            let status = match call(self.keys.clone(), request.clone()).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            match pause(&status) {
                Some(pause) if begun.elapsed() + pause < STEP_MAX => {
                    self.progress.waits(&status);
                    sleep(pause).await;
                }
                _ => return Err(status),
            }
        }
    }
}

/// How long to wait before a change is sent again, if that can help.
fn pause(status: &Status) -> Option<Duration> {
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    match status.code() {
        Code::ResourceExhausted => asked,
        Code::Unavailable => Some(asked.unwrap_or(PAUSE)),
        _ => None,
    }
}

/// A key without what changes by itself, and without what changes with anything.
fn comparable(key: &ApiKey) -> ApiKey {
    let mut key = key.clone();
    key.etag.clear();
    key.update_time = None;
    key.last_used_time = None;
    key.last_rejected_time = None;
    key.previous_version = 0;
    key.previous_expire_time = None;
    key
}

fn in_the_clear(material: Option<&key::KeyMaterial>) -> anyhow::Result<KeyMaterial> {
    let material = material.context("a step has no key material")?;
    Ok(KeyMaterial { api_key: material.expose().to_owned() })
}
