//! One command of the client: its calls to the vault, and what is printed of them.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::{Context as _, bail};
use prost_types::FieldMask;
use proto::{
    keyvault::{
        ApiKey, BatchAssignProfilesRequest, ClearOrganizationDefaultRequest, CreateApiKeyRequest, DeleteApiKeyRequest,
        ExplainResolutionRequest, GetApiKeyRequest, ListApiKeysRequest, ListApiKeysResponse, ListProfileKeysRequest,
        ReplaceProfilesRequest, RollbackApiKeyRequest, RotateApiKeyRequest, SetOrganizationDefaultRequest,
        UnassignProfilesRequest, UpdateApiKeyRequest, api_key::State, api_key_service_client::ApiKeyServiceClient,
        key_resolution_service_client::KeyResolutionServiceClient,
    },
    types::Provider,
};
use service_runtime::client::Wire;
use tonic::transport::Endpoint;
use uuid::Uuid;

use super::{key_check, material, output};
use crate::config::{
    ClientOptions, ConnectionOptions, DefaultsCommand, KeysCommand, Output, ProfilesCommand, ProviderName,
};

pub(super) const CONNECT_MAX: Duration = Duration::from_secs(5);
pub(super) const CALL_MAX: Duration = Duration::from_secs(30);

/// A connection to a vault, on behalf of one organization.
pub(super) struct Session {
    keys: ApiKeyServiceClient<Wire>,
    resolution: KeyResolutionServiceClient<Wire>,
    organization_id: String,
    connection: ConnectionOptions,
    output: Output,
}

impl Session {
    /// Prepares a connection; it is made by the first call.
    pub(super) fn open(options: ClientOptions) -> anyhow::Result<Self> {
        let channel = connect(&options.connection, CALL_MAX)?;
        Ok(Self {
            keys: ApiKeyServiceClient::new(channel.clone()),
            resolution: KeyResolutionServiceClient::new(channel),
            organization_id: options.organization,
            output: options.output,
            connection: options.connection,
        })
    }

    pub(super) async fn keys(mut self, command: KeysCommand) -> anyhow::Result<()> {
        match command {
            KeysCommand::Add { provider, name, default, profiles, material, check } => {
                let (provider, material) = (Provider::from(provider), material::read(&material)?);
                key_check::before_storing(&check, &self.connection, provider, &material).await?;
                let request = CreateApiKeyRequest {
                    organization_id: self.organization_id.clone(),
                    provider: provider.into(),
                    display_name: name,
                    material: Some(material),
                    set_as_organization_default: default,
                    profile_ids: profiles,
                    request_id: request_id(),
                };
                let key = self.keys.create_api_key(request).await?.into_inner().api_key;
                self.print_key(key)
            }
            KeysCommand::List { provider, profile } => {
                let listing = self.list(provider, profile).await?;
                self.print_listing(&listing)
            }
            KeysCommand::Get { id } => {
                let key = self.get(id).await?;
                self.print_key(Some(key))
            }
            KeysCommand::Rotate { id, keep_previous_for, material, check } => {
                let seconds = i64::try_from(keep_previous_for.as_secs()).context("--keep-previous-for is too long")?;
                let material = material::read(&material)?;
                if check.check {
                    let provider = self.get(id.clone()).await?.provider();
                    key_check::before_storing(&check, &self.connection, provider, &material).await?;
                }
                let request = RotateApiKeyRequest {
                    organization_id: self.organization_id.clone(),
                    api_key_id: id,
                    material: Some(material),
                    keep_previous_for: Some(prost_types::Duration { seconds, nanos: 0 }),
                    request_id: request_id(),
                    ..Default::default()
                };
                let key = self.keys.rotate_api_key(request).await?.into_inner().api_key;
                self.print_key(key)
            }
            KeysCommand::Rollback { id } => {
                let request = RollbackApiKeyRequest {
                    organization_id: self.organization_id.clone(),
                    api_key_id: id,
                    request_id: request_id(),
                    ..Default::default()
                };
                let key = self.keys.rollback_api_key(request).await?.into_inner().api_key;
                self.print_key(key)
            }
            KeysCommand::Rename { id, name } => self.update(id, "display_name", |key| key.display_name = name).await,
            KeysCommand::Enable { id } => self.update(id, "state", |key| key.set_state(State::Enabled)).await,
            KeysCommand::Disable { id } => self.update(id, "state", |key| key.set_state(State::Disabled)).await,
            KeysCommand::Delete { id, yes } => self.delete(id, yes).await,
        }
    }

    pub(super) async fn defaults(mut self, command: DefaultsCommand) -> anyhow::Result<()> {
        match command {
            DefaultsCommand::List => {
                let mut listing = self.list(None, None).await?;
                listing.api_keys.retain(|key| key.organization_default);
                self.print_listing(&listing)
            }
            DefaultsCommand::Set { id } => {
                let request = SetOrganizationDefaultRequest {
                    organization_id: self.organization_id.clone(),
                    api_key_id: id,
                    request_id: request_id(),
                    ..Default::default()
                };
                let key = self.keys.set_organization_default(request).await?.into_inner().api_key;
                self.print_key(key)
            }
            DefaultsCommand::Clear { provider } => {
                let request = ClearOrganizationDefaultRequest {
                    organization_id: self.organization_id.clone(),
                    provider: Provider::from(provider).into(),
                    request_id: request_id(),
                };
                let cleared = self.keys.clear_organization_default(request).await?.into_inner();
                match self.output {
                    Output::Json => output::json("ClearOrganizationDefaultResponse", &cleared)?,
                    Output::Table if cleared.api_key_id.is_empty() => output::note("there was no default"),
                    Output::Table => output::note(&format!("key {} is no longer the default", cleared.api_key_id)),
                }
                Ok(())
            }
        }
    }

    pub(super) async fn profiles(mut self, command: ProfilesCommand) -> anyhow::Result<()> {
        let organization_id = self.organization_id.clone();
        match command {
            ProfilesCommand::Show { profile } => {
                let request = ListProfileKeysRequest { organization_id, profile_id: profile };
                let found = self.keys.list_profile_keys(request).await?.into_inner();
                match self.output {
                    Output::Json => output::json("ListProfileKeysResponse", &found)?,
                    Output::Table => output::profile_keys(&found.profile_keys),
                }
                Ok(())
            }
            ProfilesCommand::Assign { keys, profiles } => {
                let request = BatchAssignProfilesRequest {
                    organization_id,
                    api_key_ids: keys,
                    profile_ids: profiles,
                    request_id: request_id(),
                };
                let assigned = self.keys.batch_assign_profiles(request).await?.into_inner();
                match self.output {
                    Output::Json => output::json("BatchAssignProfilesResponse", &assigned)?,
                    Output::Table => output::note(&format!("{} assignments are in place", assigned.assigned_count)),
                }
                Ok(())
            }
            ProfilesCommand::Unassign { key, profiles } => {
                let request = UnassignProfilesRequest {
                    organization_id,
                    api_key_id: key,
                    profile_ids: profiles,
                    request_id: request_id(),
                    ..Default::default()
                };
                let key = self.keys.unassign_profiles(request).await?.into_inner().api_key;
                self.print_key(key)
            }
            ProfilesCommand::Replace { key, profiles } => {
                let request = ReplaceProfilesRequest {
                    organization_id,
                    api_key_id: key,
                    profile_ids: profiles,
                    request_id: request_id(),
                    ..Default::default()
                };
                let key = self.keys.replace_profiles(request).await?.into_inner().api_key;
                self.print_key(key)
            }
        }
    }

    pub(super) async fn explain(mut self, profile: Option<String>, provider: ProviderName) -> anyhow::Result<()> {
        let request = ExplainResolutionRequest {
            organization_id: self.organization_id,
            profile_id: profile,
            provider: Provider::from(provider).into(),
        };
        let explanation = self.resolution.explain_resolution(request).await?.into_inner();
        match self.output {
            Output::Json => output::json("ExplainResolutionResponse", &explanation)?,
            Output::Table => output::explanation(&explanation),
        }
        Ok(())
    }

    async fn get(&mut self, id: String) -> anyhow::Result<ApiKey> {
        let request = GetApiKeyRequest { organization_id: self.organization_id.clone(), api_key_id: id };
        self.keys.get_api_key(request).await?.into_inner().api_key.context("the vault answered without a key")
    }

    /// All pages of a listing.
    async fn list(
        &mut self,
        provider: Option<ProviderName>,
        profile: Option<String>,
    ) -> anyhow::Result<ListApiKeysResponse> {
        let mut request = ListApiKeysRequest {
            organization_id: self.organization_id.clone(),
            provider: provider.map_or(Provider::Unspecified, Provider::from).into(),
            profile_id: profile.unwrap_or_default(),
            page_size: 1_000,
            page_token: String::new(),
        };
        let mut all = ListApiKeysResponse::default();
        loop {
            let page = self.keys.list_api_keys(request.clone()).await?.into_inner();
            all.api_keys.extend(page.api_keys);
            all.environment_fallbacks = page.environment_fallbacks;
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    async fn update(&mut self, id: String, field: &str, change: impl FnOnce(&mut ApiKey)) -> anyhow::Result<()> {
        let mut api_key = ApiKey { api_key_id: id, organization_id: self.organization_id.clone(), ..ApiKey::default() };
        change(&mut api_key);
        let request = UpdateApiKeyRequest {
            api_key: Some(api_key),
            update_mask: Some(FieldMask { paths: vec![field.to_owned()] }),
            request_id: request_id(),
            ..Default::default()
        };
        let key = self.keys.update_api_key(request).await?.into_inner().api_key;
        self.print_key(key)
    }

    async fn delete(&mut self, id: String, yes: bool) -> anyhow::Result<()> {
        if !yes {
            let key = self.get(id.clone()).await?;
            let default = if key.organization_default { "is the organization's default and " } else { "" };
            let question = format!(
                "Destroy key {} ({:?})? It {default}serves {} profiles, which fall back to the next step.",
                key.api_key_id,
                key.display_name,
                key.profile_ids.len()
            );
            if !confirmed(&question, "not deleting")? {
                bail!("nothing was deleted");
            }
        }
        let request = DeleteApiKeyRequest {
            organization_id: self.organization_id.clone(),
            api_key_id: id,
            request_id: request_id(),
            ..Default::default()
        };
        let deleted = self.keys.delete_api_key(request).await?.into_inner();
        match (self.output, deleted.api_key) {
            (Output::Json, api_key) => {
                output::json("DeleteApiKeyResponse", &proto::keyvault::DeleteApiKeyResponse { api_key })
            }
            (Output::Table, key) => {
                let profiles = key.map_or(0, |key| key.profile_ids.len());
                output::note(&format!("deleted; {profiles} profiles fall back"));
                Ok(())
            }
        }
    }

    fn print_key(&self, key: Option<ApiKey>) -> anyhow::Result<()> {
        let key = key.context("the vault answered without a key")?;
        match self.output {
            Output::Json => output::json("ApiKey", &key)?,
            Output::Table => output::keys(&[key]),
        }
        Ok(())
    }

    fn print_listing(&self, listing: &ListApiKeysResponse) -> anyhow::Result<()> {
        match self.output {
            Output::Json => output::json("ListApiKeysResponse", listing)?,
            Output::Table => {
                output::keys(&listing.api_keys);
                for fallback in &listing.environment_fallbacks {
                    output::note(&format!("the vault also has {}", fallback.variable));
                }
            }
        }
        Ok(())
    }
}

/// A new id for a request, so that the client library may send it twice.
pub(super) fn request_id() -> String {
    Uuid::new_v4().to_string()
}

/// Prepares a connection to a vault; it is made by the first call.
pub(super) fn connect(options: &ConnectionOptions, call_max: Duration) -> anyhow::Result<Wire> {
    let tune = move |endpoint: Endpoint| endpoint.connect_timeout(CONNECT_MAX).timeout(call_max);
    let wire = options.identity.credentials().connect("the client's identity", &options.server, tune)?;
    Ok(wire.load().value.clone())
}

/// Asks on the terminal. Without one, there is nobody to ask, and what is not done is said.
pub(super) fn confirmed(question: &str, not_done: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("{not_done} without a terminal to confirm on: add --yes");
    }
    let mut prompt = io::stderr().lock();
    write!(prompt, "{question} [y/N] ")?;
    prompt.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

impl From<ProviderName> for Provider {
    fn from(name: ProviderName) -> Self {
        match name {
            ProviderName::Anthropic => Self::Anthropic,
            ProviderName::Openai => Self::Openai,
            ProviderName::Gemini => Self::Gemini,
        }
    }
}
