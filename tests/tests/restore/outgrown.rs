//! A vault that outgrew its file goes on with PostgreSQL, as it was.

use std::fs;

use proto::{keyvault::api_key::State, types::Provider};
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement};
use system_tests::{
    ORGANIZATION, Storage,
    mutation::Change,
    replicas::Door,
    vault_stage::{creation, does},
};

use crate::{
    load::{Load, material, resolves_as},
    site::{Server, Site},
    verifies,
};

/// More than one statement takes.
const KEYS: usize = 600;

/// Tables that are not moved: who runs, and how the schema came to be.
const OF_ONE_DATABASE: [&str; 2] = ["replica", "seaql_migrations"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_of_a_file_goes_on_with_postgresql() {
    let Some(new) = Server::start(Storage::Postgres).await else { return };
    let old = Server::start(Storage::Sqlite).await.expect("a file needs no server");
    let (old, new) = (Site::new(&old).await, Site::new(&new).await);
    old.makes_keyring().await;
    let vault = old.starts().await;
    let door = Door::to(&vault.url());
    let load = Load::start(&door);
    load.has_stored(KEYS).await;
    let stored = load.end().await;
    let default = does(&door, ORGANIZATION, creation("sk-default", true, &[])).await;
    does(&door, ORGANIZATION, Change::Rotate(default.clone(), "sk-rotated".to_owned(), None)).await;
    let disabled = does(&door, ORGANIZATION, creation("sk-disabled", false, &["nobody"])).await;
    does(&door, ORGANIZATION, Change::SetState(disabled, State::Disabled)).await;
    let forbids =
        Change::SetPolicy { profile: Some("own-keys-only".to_owned()), default: Some(false), environment: None };
    does(&door, ORGANIZATION, forbids).await;
    let before = door.key(ORGANIZATION, &default).await.expect("the key");
    let last = door.watch(None, "").await.expect("a stream");
    let said = new.fails(&format!("key-vault transfer --from {} --database-url \"$DATABASE_URL\"", old.url())).await;
    assert!(said.contains("in use by another key-vault"), "{said}");
    vault.stop().await;

    new.takes_keyring_of(&old);
    for entry in fs::read_dir(old.folder()).expect("a folder").map(|entry| entry.expect("an entry").file_name()) {
        if entry.to_string_lossy().starts_with("vault.db") {
            fs::copy(old.path(&entry.to_string_lossy()), new.path(&entry.to_string_lossy())).expect("a file");
        }
    }
    let said = new.run("move to PostgreSQL").await;
    assert!(said.contains("rows; do not serve the old database again"), "{said}");
    everything_is_there(&old, &new).await;
    let vault = new.starts().await;
    let door = Door::to(&vault.url());
    for number in &stored {
        resolves_as(&door, &format!("profile-{number}"), &material(*number)).await;
    }
    resolves_as(&door, "anybody", "sk-rotated").await;
    for (profile, class) in [("nobody", "KEY_UNUSABLE"), ("own-keys-only", "NO_KEY_CONFIGURED")] {
        let failure = door.resolve(ORGANIZATION, Some(profile), Provider::Openai).await.expect_err("refused");
        assert_eq!(failure.reason, class, "{profile}");
    }
    let after = door.key(ORGANIZATION, &default).await.expect("the key");
    assert_eq!((after.version, after.etag, after.fingerprint), (before.version, before.etag, before.fingerprint));
    does(&door, ORGANIZATION, Change::Rollback(default)).await;
    resolves_as(&door, "anybody", "sk-default").await;
    verifies(&door).await;
    let failure = door.watch(Some(last.position), &last.epoch).await.expect_err("another history");
    assert_eq!(failure.class(), "OutOfRange REVISION_COMPACTED");

    for (from, reason) in [
        ("sqlite:vault.db", "the new database belongs to a vault already; it must be empty"),
        ("sqlite:nowhere.db", "the database file nowhere.db cannot be used"),
        ("postgres://vault@db/vault", "a database is moved from `sqlite:PATH` to `postgres://…`"),
    ] {
        let said = new.fails(&format!("key-vault transfer --from {from} --database-url \"$DATABASE_URL\"")).await;
        assert!(said.contains(reason), "{from}: {said}");
    }
}

/// Each table of the file has as many rows in PostgreSQL.
async fn everything_is_there(old: &Site<'_>, new: &Site<'_>) {
    let (old, new) = (database(old).await, database(new).await);
    let query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let tables = old.query_all_raw(Statement::from_string(DbBackend::Sqlite, query)).await.expect("tables");
    let tables: Vec<String> = tables.iter().map(|row| row.try_get("", "name").expect("a name")).collect();
    assert!(tables.len() > 15, "{tables:?}");
    for table in tables.iter().filter(|table| !OF_ONE_DATABASE.contains(&table.as_str())) {
        assert_eq!(rows(&new, table).await, rows(&old, table).await, "{table}");
    }
    assert!(rows(&old, "audit_event").await > 1_000, "several statements");
}

async fn database(site: &Site<'_>) -> DatabaseConnection {
    Database::connect(site.url()).await.expect("a connection")
}

async fn rows(db: &DatabaseConnection, table: &str) -> i64 {
    let query = Statement::from_string(db.get_database_backend(), format!("SELECT COUNT(*) AS count FROM \"{table}\""));
    let row = db.query_one_raw(query).await.expect("a count").expect("a row");
    row.try_get("", "count").expect("a number")
}
