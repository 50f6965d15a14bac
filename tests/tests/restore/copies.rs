//! Copies of a file: whole, for their owner only, and never in the place of anything.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Output, Stdio},
};

use sea_orm::{ConnectionTrait as _, Database};
use system_tests::{
    ORGANIZATION, Storage, command,
    mutation::Change,
    replicas::Door,
    vault_stage::{creation, does},
};

use crate::{
    load::resolves_as,
    site::{Server, Site},
};

/// A place with a vault's database that nobody serves.
async fn with_a_database(server: &Server) -> Site<'_> {
    let site = Site::new(server).await;
    site.makes_keyring().await;
    let vault = site.starts().await;
    let door = Door::to(&vault.url());
    does(&door, ORGANIZATION, creation("sk-kept", false, &["research"])).await;
    vault.stop().await;
    site
}

async fn file() -> Server {
    Server::start(Storage::Sqlite).await.expect("a file needs no server")
}

async fn runs(site: &Site<'_>, arguments: &[&str]) -> Output {
    let mut vault = command("key-vault");
    vault.args(arguments).current_dir(site.folder()).stdin(Stdio::null()).output().await.expect("it runs")
}

/// What the command says when it refuses. Nothing new is in the folder then.
async fn refused(site: &Site<'_>, arguments: &[&str]) -> String {
    let before = names(site);
    let output = runs(site, arguments).await;
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    assert_eq!(names(site), before, "{arguments:?} leaves something");
    String::from_utf8(output.stderr).expect("text")
}

/// The files that are there, but those of locks, which stay.
fn names(site: &Site<'_>) -> Vec<String> {
    let entries = fs::read_dir(site.folder()).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.ends_with(".lock"));
    names.sort();
    names
}

#[tokio::test]
async fn a_copy_is_one_file_for_its_owner_without_what_was_destroyed() {
    let server = file().await;
    let site = Site::new(&server).await;
    site.makes_keyring().await;
    let vault = site.starts().await;
    let door = Door::to(&vault.url());
    does(&door, ORGANIZATION, creation("sk-kept", false, &["research"])).await;
    let gone = does(&door, ORGANIZATION, creation("sk-gone", false, &["MARKED-profile-of-the-past"])).await;
    does(&door, ORGANIZATION, Change::Delete(gone)).await;

    let output = runs(&site, &["backup", "--database-url=sqlite:vault.db", "a copy's %?#.db"]).await;

    assert!(output.status.success(), "{output:?}");
    let copied = fs::read(site.path("a copy's %?#.db")).expect("a copy");
    let said = format!("copied {} bytes and checked them; keep the keyring too, and apart\n", copied.len());
    assert_eq!(String::from_utf8_lossy(&output.stderr), said);
    let mode = fs::metadata(site.path("a copy's %?#.db")).expect("a copy").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names = names(&site);
    assert_eq!(names.iter().filter(|name| name.contains("copy")).count(), 1, "{names:?}");
    let streamed = runs(&site, &["backup", "--database-url=sqlite:vault.db", "-"]).await;
    assert!(streamed.status.success() && streamed.stdout.starts_with(b"SQLite format 3"), "{:?}", streamed.stderr);
    assert_eq!(streamed.stdout.len(), copied.len());
    assert_eq!(names, self::names(&site), "what was streamed is not left");
}

#[tokio::test]
async fn a_copy_goes_through_pipes_to_where_there_is_no_database() {
    let server = file().await;
    let site = with_a_database(&server).await;
    site.script(
        "key-vault backup --database-url sqlite:vault.db - |
         key-vault restored --database-url sqlite:new/place/vault.db --from -
         mv vault.db gone.db && mv new/place/vault.db vault.db",
    )
    .await;
    let mode = fs::metadata(site.path("vault.db")).expect("a database").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let vault = site.starts().await;
    resolves_as(&Door::to(&vault.url()), "research", "sk-kept").await;
}

#[tokio::test]
async fn what_is_no_copy_of_a_vault_goes_nowhere() {
    let server = file().await;
    let site = with_a_database(&server).await;
    site.script("key-vault backup --database-url sqlite:vault.db good.db; head --bytes 20000 good.db >half.db").await;
    site.script(
        "cp good.db bad.db; printf XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX | dd of=bad.db bs=1 seek=4096 conv=notrunc",
    )
    .await;
    fs::write(site.path("text.db"), "no database at all, but a page of text\n".repeat(200)).expect("a file");
    let other =
        Database::connect(format!("sqlite:{}?mode=rwc", site.path("other.db").display())).await.expect("a file");
    other.execute_unprepared("CREATE TABLE notes (text TEXT)").await.expect("a table");
    other.close().await.expect("closed");
    let new = "--database-url=sqlite:new.db";
    for (from, reason) in [
        ("half.db", "the copy is damaged, and was thrown away: database disk image is malformed"),
        ("bad.db", "the copy is damaged, and was thrown away: "),
        ("text.db", "the copy is damaged, and was thrown away: file is not a database"),
        ("other.db", "this is not the database of a vault"),
        ("nowhere.db", "nowhere.db cannot be read"),
        ("-", "this is not the database of a vault"),
    ] {
        let said = refused(&site, &["restored", new, "--from", from]).await;
        assert!(said.contains(reason), "{from}: {said}");
    }
    for (arguments, reason) in [
        (["--database-url=sqlite:other.db", "copy.db"], "this is not the database of a vault"),
        (["--database-url=sqlite:nowhere.db", "copy.db"], "the database file nowhere.db cannot be used"),
        (["--database-url=postgres://vault@db/vault", "copy.db"], "PostgreSQL is by `pg_dump` and `pg_restore`"),
        (["--database-url=sqlite:vault.db", "no/folder/copy.db"], "the copy no/folder cannot be written"),
    ] {
        let said = refused(&site, &["backup", arguments[0], arguments[1]]).await;
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn nothing_is_overwritten_and_nobody_is_robbed() {
    let server = file().await;
    let site = with_a_database(&server).await;
    let ours = "--database-url=sqlite:vault.db";
    assert!(runs(&site, &["backup", ours, "copy.db"]).await.status.success());
    let before = fs::read(site.path("copy.db")).expect("a copy");

    let said = refused(&site, &["backup", ours, "copy.db"]).await;
    assert!(said.contains("copy.db is there already, and nothing is overwritten: move it away first"), "{said}");
    assert_eq!(fs::read(site.path("copy.db")).expect("a copy"), before);
    let said = refused(&site, &["restored", ours, "--from", "copy.db"]).await;
    assert!(said.contains("vault.db is there already"), "{said}");
    // The log of another database would be read into this one.
    fs::rename(site.path("vault.db"), site.path("moved.db")).expect("moved");
    fs::write(site.path("vault.db-wal"), "of another time").expect("a file");
    let said = refused(&site, &["restored", ours, "--from", "copy.db"]).await;
    assert!(said.contains("vault.db-wal is there already"), "{said}");
    fs::remove_file(site.path("vault.db-wal")).expect("removed");
    fs::rename(site.path("moved.db"), site.path("vault.db")).expect("moved back");

    let vault = site.starts().await;
    for arguments in [&["restored", ours, "--from", "copy.db"][..], &["restored", ours]] {
        let output = runs(&site, arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("in use by another key-vault"), "{said}");
    }
    resolves_as(&Door::to(&vault.url()), "research", "sk-kept").await;
}
