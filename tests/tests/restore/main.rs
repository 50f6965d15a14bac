//! A backup of either database, restored elsewhere, is the vault of that moment: with its keyring,
//! and with no other; and nobody goes on from what they saw of the history that is gone.
//!
//! Backups are taken and restored by the commands that docs/operations.md shows, as it shows them.

mod copies;
mod gateway;
mod load;
mod outgrown;
mod site;

use proto::keyvault::VerifyAuditLogRequest;
use system_tests::{
    ORGANIZATION, Storage,
    client::key_vault,
    mutation::Change,
    on_both_databases,
    replicas::{Door, eventually},
    vault_stage::{creation, does},
};

use load::{Load, material, resolves_as};
use site::{Server, Site};

on_both_databases! {
    a_backup_under_load_has_every_key_that_was_acknowledged_before,
    a_fresh_keyring_is_refused_by_name_and_the_right_one_serves,
    a_restore_that_was_not_told_is_seen_by_those_who_ran_and_by_nobody_else,
}

/// How many keys are there when a backup begins, at least.
const KEYS: usize = 60;

async fn a_backup_under_load_has_every_key_that_was_acknowledged_before(storage: Storage) {
    let Some(server) = Server::start(storage).await else { return };
    let site = Site::new(&server).await;
    site.makes_keyring().await;
    let vault = site.starts().await;
    let door = Door::to(&vault.url());
    let rotated = does(&door, ORGANIZATION, creation("sk-before", false, &["rotated"])).await;
    let deleted = does(&door, ORGANIZATION, creation("sk-deleted", false, &["deleted"])).await;
    let shown = site.asks(&vault, "rotate the key that encrypts").await;
    assert!(shown.contains("primary") && shown.matches("kek-").count() > 1, "{shown}");
    let load = Load::start(&door);
    load.has_stored(KEYS).await;

    let before = load.stored();
    site.run(server.backs_up()).await;
    let during = load.stored().len() - before.len();

    assert!(during > 0, "the vault takes keys while it is copied");
    does(&door, ORGANIZATION, Change::Rotate(rotated, "sk-after".to_owned(), None)).await;
    does(&door, ORGANIZATION, Change::Delete(deleted)).await;
    let after = load.end().await;
    let last = door.watch(None, "").await.expect("a stream");
    vault.stop().await;

    let other = Site::new(&server).await;
    other.takes_keyring_of(&site);
    other.takes_backup_of(&site);
    other.run(server.restores()).await;
    let vault = other.starts().await;
    let door = Door::to(&vault.url());
    for number in &before {
        resolves_as(&door, &format!("profile-{number}"), &material(*number)).await;
    }
    resolves_as(&door, "rotated", "sk-before").await;
    resolves_as(&door, "deleted", "sk-deleted").await;
    println!("{} keys before, {during} during, {} in all", before.len(), after.len());
    verifies(&door).await;
    let (from, epoch) = (last.position, last.epoch.as_str());
    for from in [None, Some(from), Some(1)] {
        let failure = door.watch(from, epoch).await.expect_err("another history");
        assert_eq!(failure.class(), "OutOfRange REVISION_COMPACTED", "{from:?}");
    }
    let shown = other.asks(&vault, "after a restore").await;
    assert!(shown.contains("unsealed") && shown.contains("as it was written"), "{shown}");
    let status = door.status().await.expect("the status");
    assert_eq!((status.sealed, status.undecryptable_versions), (false, 0));
    assert_ne!(status.epoch, epoch);
}

async fn a_fresh_keyring_is_refused_by_name_and_the_right_one_serves(storage: Storage) {
    let Some(server) = Server::start(storage).await else { return };
    let site = Site::new(&server).await;
    site.makes_keyring().await;
    let vault = site.starts().await;
    let door = Door::to(&vault.url());
    does(&door, ORGANIZATION, creation("sk-kept", false, &["research"])).await;
    let kek = door.status().await.expect("the status").key_encryption_keys[0].kek_id.clone();
    site.run(server.backs_up()).await;
    vault.stop().await;

    let other = Site::new(&server).await;
    other.makes_keyring().await;
    other.names_root_key("root-of-another-vault");
    other.takes_backup_of(&site);
    other.run(server.restores()).await;
    let reason = format!(
        "the keys of this database cannot be opened: it needs the keyring or the secrets manager that it was set up with: \
         the secrets manager does not unwrap key encryption key {kek}: the keyring has no key {:?} (it has root-of-another-vault); \
         bring back the keyring that this database was set up with",
        site.root_key()
    );
    let vault = other.starts_sealed().await;
    let door = Door::to(&vault.url());
    let status = eventually("the reason", async || {
        let status = door.status().await.expect("the status");
        (status.reason != "the vault is starting").then_some(status)
    })
    .await;
    assert_eq!((status.sealed, status.reason.as_str()), (true, reason.as_str()));
    service_runtime::tls::install_crypto_provider();
    let ready = reqwest::get(format!("{}/readyz", vault.probe_url())).await.expect("it answers");
    assert_eq!(ready.status().as_u16(), 503);
    let words = ready.text().await.expect("words");
    assert!(words.contains(&format!("keyring: {reason}")), "{words}");
    let shown = key_vault(&vault.url(), &["keyring", "status"], "").await.out;
    assert!(shown.contains("SEALED") && shown.contains(&site.root_key()), "{shown}");
    let failure = door.resolve(ORGANIZATION, Some("research"), proto::types::Provider::Openai).await;
    assert_eq!(failure.expect_err("it is sealed").class(), "Unavailable VAULT_SEALED");

    other.takes_keyring_of(&site);
    eventually("the right keyring", async || (!door.status().await.expect("the status").sealed).then_some(())).await;
    resolves_as(&door, "research", "sk-kept").await;
}

async fn a_restore_that_was_not_told_is_seen_by_those_who_ran_and_by_nobody_else(storage: Storage) {
    let Some(server) = Server::start(storage).await else { return };
    let site = Site::new(&server).await;
    site.makes_keyring().await;
    let vault = site.starts().await;
    let door = Door::to(&vault.url());
    let key = does(&door, ORGANIZATION, creation("sk-one", false, &["research"])).await;
    site.run(server.backs_up()).await;
    does(&door, ORGANIZATION, Change::Rotate(key.clone(), "sk-two".to_owned(), None)).await;
    let mut last = door.watch(None, "").await.expect("a stream");

    let vault = if storage == Storage::Postgres {
        // Beneath a vault that serves. A file cannot be: its process holds it.
        site.script("pg_restore --dbname=\"$DATABASE_URL\" --clean --single-transaction --exit-on-error backup.dump")
            .await;
        let failure = loop {
            match last.next().await {
                Ok(news) => assert_eq!(news, None),
                Err(failure) => break failure,
            }
        };
        assert_eq!(failure.class(), "OutOfRange REVISION_COMPACTED");
        assert!(vault.log().contains("the history went back: was the database restored?"), "{}", vault.log());
        vault
    } else {
        vault.stop().await;
        site.script("rm -f vault.db vault.db-wal vault.db-shm; cp backup.db vault.db").await;
        site.starts().await
    };
    let door = Door::to(&vault.url());
    let failure = door.watch(Some(last.position), &last.epoch).await.expect_err("it is not reached again yet");
    assert_eq!(failure.class(), "OutOfRange REVISION_COMPACTED");
    does(&door, ORGANIZATION, Change::Rename(key, "Another history".to_owned())).await;
    // What only `restored` prevents: whoever comes now is told nothing of what is gone.
    door.watch(Some(last.position), &last.epoch).await.expect("a stream");
    vault.stop().await;
    site.script("key-vault restored --database-url \"$DATABASE_URL\"").await;
    let door = site.starts().await;
    let failure = Door::to(&door.url()).watch(Some(last.position), &last.epoch).await.expect_err("another history");
    assert_eq!(failure.class(), "OutOfRange REVISION_COMPACTED");
}

/// Every event that the audit log had stands there, as it was written.
async fn verifies(door: &Door) {
    let mut request = VerifyAuditLogRequest::default();
    loop {
        let part = door.admin().verify_audit_log(request).await.expect("a verification").into_inner();
        assert_eq!(part.problems, []);
        if part.next_page_token.is_empty() {
            return;
        }
        request = VerifyAuditLogRequest { page_token: part.next_page_token };
    }
}
