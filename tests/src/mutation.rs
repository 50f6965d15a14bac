//! Every call that changes something, as one type: to repeat it, to send it to another
//! replica, to write down what it should have done.

use proto::{
    keyvault::{
        ApiKey, AssignProfilesRequest, BatchAssignProfilesRequest, ClearOrganizationDefaultRequest,
        CreateApiKeyRequest, DeleteApiKeyRequest, FallbackPolicy, KeyMaterial, ReplaceProfilesRequest,
        RollbackApiKeyRequest, RotateApiKeyRequest, SetFallbackPolicyRequest, SetOrganizationDefaultRequest,
        UnassignProfilesRequest, UpdateApiKeyRequest, api_key::State, api_key_service_client::ApiKeyServiceClient,
        key_change::Kind,
    },
    types::Provider,
};
use tonic::transport::Channel;

use crate::answer::Failure;

/// One call. Send it as often as you like.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// Whose keys.
    pub organization: String,
    /// What is done to them.
    pub change: Change,
    /// The id that makes a repeat harmless. Empty if a repeat is another call.
    pub request_id: String,
    /// What the key must be. Empty if it may be anything.
    pub etag: String,
}

/// What is done. Keys are named by their ids.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Stores a key.
    Create {
        /// Who issued it.
        provider: Provider,
        /// What people call it.
        name: String,
        /// The key itself.
        material: String,
        /// Whether it becomes the default.
        default: bool,
        /// Who gets it.
        profiles: Vec<String>,
    },
    /// Changes what people call a key.
    Rename(String, String),
    /// Changes whether a key may be used.
    SetState(String, State),
    /// Gives a key other material, and says how long the old is kept.
    Rotate(String, String, Option<prost_types::Duration>),
    /// Brings a key's previous material back.
    Rollback(String),
    /// Destroys a key.
    Delete(String),
    /// Makes a key the default of its provider.
    SetDefault(String),
    /// Leaves a provider without a default.
    ClearDefault(Provider),
    /// Gives a key to profiles.
    Assign(String, Vec<String>),
    /// Takes a key from profiles.
    Unassign(String, Vec<String>),
    /// Sets the whole list of a key's profiles.
    Replace(String, Vec<String>),
    /// Gives several keys to profiles.
    BatchAssign(Vec<String>, Vec<String>),
    /// Says which steps an organization, or a profile, may fall back to.
    SetPolicy {
        /// The profile, if it is one's.
        profile: Option<String>,
        /// Whether the default may be used.
        default: Option<bool>,
        /// Whether the environment may be used.
        environment: Option<bool>,
    },
}

/// What the vault answered.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one at a time")]
pub enum Done {
    /// The key, as it is now or was last.
    Key(ApiKey),
    /// The key that was the default.
    Was(String),
    /// How many pairs have their key.
    Assigned(i32),
    /// The policy as it is now.
    Policy(FallbackPolicy),
}

impl Done {
    /// The key of the answer. Panics if it has none.
    pub fn key(self) -> ApiKey {
        match self {
            Self::Key(key) => key,
            other => panic!("an answer without a key: {other:?}"),
        }
    }
}

/// An id for a call and its repeats.
pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Change {
    /// The same as a call that can be repeated.
    pub fn of(self, organization: &str) -> Mutation {
        Mutation { organization: organization.to_owned(), change: self, request_id: request_id(), etag: String::new() }
    }

    /// How watchers are told.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Create { .. } => Kind::Created,
            Self::Rename(..) | Self::SetState(..) => Kind::Updated,
            Self::Rotate(..) | Self::Rollback(_) => Kind::Rotated,
            Self::Delete(_) => Kind::Deleted,
            Self::SetDefault(_) | Self::ClearDefault(_) => Kind::DefaultChanged,
            Self::SetPolicy { .. } => Kind::FallbackPolicyChanged,
            Self::Assign(..) | Self::Unassign(..) | Self::Replace(..) | Self::BatchAssign(..) => Kind::ProfilesChanged,
        }
    }
}

impl Mutation {
    /// The same call for a key that must not have changed since `key` was read.
    #[must_use]
    pub fn if_still(mut self, key: &ApiKey) -> Self {
        self.etag.clone_from(&key.etag);
        self
    }

    /// The same call under another id.
    #[must_use]
    pub fn under(mut self, request_id: &str) -> Self {
        request_id.clone_into(&mut self.request_id);
        self
    }

    /// Sends it.
    ///
    /// # Errors
    ///
    /// What the vault or the connection to it said.
    pub async fn send(&self, vault: &ApiKeyServiceClient<Channel>) -> Result<Done, Failure> {
        self.call(vault.clone()).await.map_err(Failure::from)
    }

    #[expect(clippy::too_many_lines, reason = "one method of the contract after the other")]
    async fn call(&self, mut vault: ApiKeyServiceClient<Channel>) -> Result<Done, tonic::Status> {
        let Self { organization, change, request_id, etag } = self.clone();
        let organization_id = organization;
        let key = |key: Option<ApiKey>| Done::Key(key.expect("a key is returned"));
        Ok(match change {
            Change::Create { provider, name, material, default, profiles } => {
                let request = CreateApiKeyRequest {
                    organization_id,
                    provider: provider.into(),
                    display_name: name,
                    material: Some(KeyMaterial { api_key: material }),
                    set_as_organization_default: default,
                    profile_ids: profiles,
                    request_id,
                };
                key(vault.create_api_key(request).await?.into_inner().api_key)
            }
            Change::Rename(api_key_id, display_name) => {
                let api_key = ApiKey { organization_id, api_key_id, display_name, ..ApiKey::default() };
                key(vault.update_api_key(update(api_key, "display_name", request_id, etag)).await?.into_inner().api_key)
            }
            Change::SetState(api_key_id, state) => {
                let api_key = ApiKey { organization_id, api_key_id, state: state.into(), ..ApiKey::default() };
                key(vault.update_api_key(update(api_key, "state", request_id, etag)).await?.into_inner().api_key)
            }
            Change::Rotate(api_key_id, material, keep_previous_for) => {
                let material = Some(KeyMaterial { api_key: material });
                let request =
                    RotateApiKeyRequest { organization_id, api_key_id, material, keep_previous_for, request_id, etag };
                key(vault.rotate_api_key(request).await?.into_inner().api_key)
            }
            Change::Rollback(api_key_id) => {
                let request = RollbackApiKeyRequest { organization_id, api_key_id, request_id, etag };
                key(vault.rollback_api_key(request).await?.into_inner().api_key)
            }
            Change::Delete(api_key_id) => {
                let request = DeleteApiKeyRequest { organization_id, api_key_id, request_id, etag };
                key(vault.delete_api_key(request).await?.into_inner().api_key)
            }
            Change::SetDefault(api_key_id) => {
                let request = SetOrganizationDefaultRequest { organization_id, api_key_id, request_id, etag };
                key(vault.set_organization_default(request).await?.into_inner().api_key)
            }
            Change::ClearDefault(provider) => {
                let request =
                    ClearOrganizationDefaultRequest { organization_id, provider: provider.into(), request_id };
                Done::Was(vault.clear_organization_default(request).await?.into_inner().api_key_id)
            }
            Change::Assign(api_key_id, profile_ids) => {
                let request = AssignProfilesRequest { organization_id, api_key_id, profile_ids, request_id, etag };
                key(vault.assign_profiles(request).await?.into_inner().api_key)
            }
            Change::Unassign(api_key_id, profile_ids) => {
                let request = UnassignProfilesRequest { organization_id, api_key_id, profile_ids, request_id, etag };
                key(vault.unassign_profiles(request).await?.into_inner().api_key)
            }
            Change::Replace(api_key_id, profile_ids) => {
                let request = ReplaceProfilesRequest { organization_id, api_key_id, profile_ids, request_id, etag };
                key(vault.replace_profiles(request).await?.into_inner().api_key)
            }
            Change::BatchAssign(api_key_ids, profile_ids) => {
                let request = BatchAssignProfilesRequest { organization_id, api_key_ids, profile_ids, request_id };
                Done::Assigned(vault.batch_assign_profiles(request).await?.into_inner().assigned_count)
            }
            Change::SetPolicy { profile, default, environment } => {
                let request = SetFallbackPolicyRequest {
                    organization_id,
                    profile_id: profile,
                    allow_organization_default: default,
                    allow_environment: environment,
                    request_id,
                };
                let set = vault.set_fallback_policy(request).await?.into_inner().fallback_policy;
                Done::Policy(set.expect("a policy is returned"))
            }
        })
    }
}

fn update(api_key: ApiKey, path: &str, request_id: String, etag: String) -> UpdateApiKeyRequest {
    let update_mask = Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
    UpdateApiKeyRequest { api_key: Some(api_key), update_mask, request_id, etag }
}
