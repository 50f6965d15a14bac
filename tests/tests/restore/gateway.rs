//! A gateway that served before a restore, and serves after it.

use std::time::{Duration, Instant};

use system_tests::{
    FakeProvider, ORGANIZATION, Setup, Storage,
    chats::{Caller, Chatting, says_its_key},
    fault_proxy::{FaultProxy, Way},
    mutation::Change,
    on_both_databases,
    replicas::Door,
    start_gateway,
    vault_stage::{chat_client, creation, does},
};

use crate::site::{Server, Site};

on_both_databases! { a_gateway_drops_what_it_knew_of_the_history_that_is_gone }

/// A gateway finds its vault again within some seconds. A lease is a minute.
const FOUND_MAX: Duration = Duration::from_secs(20);

async fn a_gateway_drops_what_it_knew_of_the_history_that_is_gone(storage: Storage) {
    let Some(server) = Server::start(storage).await else { return };
    let site = Site::new(&server).await;
    site.makes_keyring().await;
    let vault = site.starts().await;
    let proxy = FaultProxy::to(&vault.url()).await;
    let provider = FakeProvider::start().await.expect("a provider");
    says_its_key(&provider);
    let setup = Setup::default();
    let gateway = start_gateway(site.folder(), &proxy.url(), &provider.url(), &setup).await.expect("a gateway");
    let door = Door::to(&vault.url());
    let key = does(&door, ORGANIZATION, creation("sk-first", false, &["research"])).await;
    let caller = Caller { organization: ORGANIZATION.to_owned(), profile: "research".to_owned() };
    let chatting = Chatting::start(&chat_client(&gateway), &caller, 2);
    chatting.sees("the first key", |chatted| chatted.key.as_deref() == Ok("sk-first")).await;
    site.run(server.backs_up()).await;
    does(&door, ORGANIZATION, Change::Rotate(key, "sk-second".to_owned(), None)).await;
    chatting.sees("the second key", |chatted| chatted.key.as_deref() == Ok("sk-second")).await;
    let last = door.watch(None, "").await.expect("a stream").position;

    proxy.set(Way::Cut);
    vault.stop().await;
    let other = Site::new(&server).await;
    other.takes_keyring_of(&site);
    other.takes_backup_of(&site);
    other.run(server.restores()).await;
    let vault = other.starts().await;
    let door = Door::to(&vault.url());
    // The new history is as long as the one before: its revisions alone tell nothing.
    while door.revision().await <= last {
        does(&door, "other", creation("sk-other", false, &[])).await;
    }
    proxy.lead_to(&vault.url());
    proxy.set(Way::Open);
    let open = Instant::now();

    chatting.sees("the key of the backup", |chatted| chatted.key.as_deref() == Ok("sk-first")).await;
    let took = open.elapsed();
    println!("the gateway uses what was restored after {took:?}");
    assert!(took < FOUND_MAX, "{took:?}");
    for chatted in chatting.end().await.concat() {
        assert!(chatted.key.is_ok(), "nobody notices: {chatted:?}");
    }
}
