//! A vault, a way to it that can break, a gateway at its end, and a provider that answers with
//! the key that it was asked with.

use std::time::Duration;

use proto::{chat::chat_service_client::ChatServiceClient, keyvault::ListAuditEventsRequest, types::Provider};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::{
    FakeProvider, Process, Setup,
    chats::{Caller, chat, says_its_key},
    fault_proxy::FaultProxy,
    folder,
    mutation::{Change, Done},
    replicas::{Door, eventually},
    start_gateway, start_vault,
    vault_front::VaultFront,
};

/// All of it.
#[derive(Debug)]
pub struct Stage {
    /// The vault. `None` while it is dead.
    pub vault: Option<Process>,
    /// The way that connections of the gateway take, to the front or to the vault.
    pub proxy: FaultProxy,
    /// What stands before the vault. Only of [`Stage::with_front`].
    pub front: Option<VaultFront>,
    /// The gateway.
    pub gateway: Process,
    /// What stands for the provider.
    pub provider: FakeProvider,
    /// A client of the gateway.
    pub chat: ChatServiceClient<Channel>,
    setup: Setup,
    folder: TempDir,
}

/// What stands before the vault.
enum Before {
    Nothing,
    /// A front, with the lease of its keys if it is not the vault's.
    Front(Option<Duration>),
}

impl Stage {
    /// A gateway that talks to the vault itself.
    pub async fn start() -> Self {
        Self::with(Setup::default(), Before::Nothing).await
    }

    /// A gateway that may keep keys for `lease`, if given, with further options.
    pub async fn with_front(lease: Option<Duration>, gateway_options: &[&str]) -> Self {
        let gateway_options = gateway_options.iter().map(|option| (*option).to_owned()).collect();
        Self::with(Setup { gateway_options, ..Setup::default() }, Before::Front(lease)).await
    }

    async fn with(setup: Setup, before: Before) -> Self {
        let setup = Setup { folder_in_memory: true, ..setup };
        let folder = folder(&setup).expect("a folder");
        let vault = start_vault(folder.path(), &setup).await.expect("a vault");
        let front = match before {
            Before::Front(lease) => Some(VaultFront::start(&vault.url(), lease).await),
            Before::Nothing => None,
        };
        let proxy = FaultProxy::to(&front.as_ref().map_or_else(|| vault.url(), VaultFront::url)).await;
        let provider = FakeProvider::start().await.expect("a provider");
        says_its_key(&provider);
        let gateway = start_gateway(folder.path(), &proxy.url(), &provider.url(), &setup).await.expect("a gateway");
        let chat = chat_client(&gateway);
        Self { vault: Some(vault), proxy, front, gateway, provider, chat, setup, folder }
    }

    /// The way of an administrator to the vault, which does not break. Panics while the vault is dead.
    pub fn door(&self) -> Door {
        Door::to(&self.vault.as_ref().expect("it runs").url())
    }

    /// Waits until the gateway keeps the key of a caller: the vault is not asked for it.
    pub async fn keeps(&self, caller: &Caller) {
        let door = self.door();
        eventually("a kept key", async || {
            let before = resolutions(&door, caller).await;
            for _ in 0..3 {
                chat(&self.chat, caller).await.key.ok()?;
            }
            (resolutions(&door, caller).await == before).then_some(())
        })
        .await;
    }

    /// Waits until the gateway is told of changes, and then keeps the key of a caller. A watch that
    /// begins drops what is kept, so nobody can rely on it before.
    pub async fn watches_and_keeps(&self, caller: &Caller) {
        self.keeps(caller).await;
        let door = self.door();
        let before = resolutions(&door, caller).await;
        let of_nobody =
            Change::SetPolicy { profile: Some("nobody".to_owned()), default: None, environment: Some(false) };
        does(&door, &caller.organization, of_nobody).await;
        eventually("word of a change", async || {
            chat(&self.chat, caller).await.key.ok()?;
            (resolutions(&door, caller).await > before).then_some(())
        })
        .await;
        self.keeps(caller).await;
    }

    /// Ends the vault as a crash would.
    pub async fn kill_vault(&mut self) {
        self.vault.take().expect("it runs").kill().await;
    }

    /// Starts the vault that was killed, elsewhere, where the gateway's way leads now.
    pub async fn start_vault_again(&mut self) {
        let vault = start_vault(self.folder.path(), &self.setup).await.expect("the vault starts again");
        self.proxy.lead_to(&vault.url());
        self.vault = Some(vault);
    }
}

/// How often the vault released a key to a caller. At most a thousand are counted.
async fn resolutions(door: &Door, caller: &Caller) -> usize {
    let request = ListAuditEventsRequest {
        action: "ResolveKey".to_owned(),
        organization_id: caller.organization.clone(),
        profile_id: caller.profile.clone(),
        page_size: 1_000,
        ..Default::default()
    };
    door.admin().list_audit_events(request).await.expect("a page").into_inner().events.len()
}

/// A client of a gateway, on a connection of its own.
pub fn chat_client(gateway: &Process) -> ChatServiceClient<Channel> {
    ChatServiceClient::new(Endpoint::from_shared(gateway.url()).expect("a URL").connect_lazy())
}

/// An `OpenAI` key that is to be made.
pub fn creation(material: &str, default: bool, profiles: &[&str]) -> Change {
    Change::Create {
        provider: Provider::Openai,
        name: "test".to_owned(),
        material: material.to_owned(),
        default,
        profiles: profiles.iter().map(|profile| (*profile).to_owned()).collect(),
    }
}

/// Makes a change of an organization and returns the key that it was made to. Panics if it is
/// refused.
pub async fn does(door: &Door, organization: &str, change: Change) -> String {
    let mutation = change.of(organization);
    let done = mutation.send(&door.keys()).await.unwrap_or_else(|failure| panic!("{mutation:?}: {failure:?}"));
    match done {
        Done::Key(key) => key.api_key_id,
        _ => String::new(),
    }
}
