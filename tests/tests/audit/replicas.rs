//! Any replica answers, and what one recorded outlives it and its disk.

use std::fs;

use proto::keyvault::ListAuditEventsRequest;
use system_tests::{Replicas, Setup, Storage, start_vault};

use super::{default_key, events, released, resolve, verify};

const TRACE: &str = "1af7651916cd43dd8448eb211c80319c";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_resolutions_of_a_replica_that_is_lost_with_its_disk_are_listed_by_the_others() {
    let Some(mut replicas) = Replicas::start(Storage::Postgres, 2).await else { return };
    let key = default_key(&replicas.door(0)).await;
    let setup = Setup {
        vault_options: vec![
            format!("--database-url={}", replicas.postgres().url("vault_0")),
            format!("--keyring={}", replicas.folder().join("keyring").display()),
        ],
        ..Setup::default()
    };
    let folder = tempfile::tempdir().expect("a folder");
    let third = start_vault(folder.path(), &setup).await.expect("a third replica");
    let door = system_tests::replicas::Door::to(&third.url());
    let mut profiles = Vec::new();
    for n in 0..50 {
        let profile = format!("of-the-third-{n}");
        resolve(&door, &profile, TRACE).await.expect("a key");
        profiles.push(profile);
    }
    resolve(&replicas.door(0), "of-the-first", TRACE).await.expect("a key");

    third.kill().await;
    fs::remove_dir_all(folder.path()).expect("its disk is gone");

    for door in replicas.doors() {
        let mut found = released(&door).await;
        found.reverse();
        assert_eq!(found[..50], profiles[..]);
        assert_eq!(found[50..], ["of-the-first"]);
        let of_key =
            ListAuditEventsRequest { api_key_id: key.clone(), trace_id: TRACE.to_owned(), ..Default::default() };
        assert_eq!(events(&door, of_key).await.len(), 51);
        let verified = verify(&door).await;
        assert!(verified.valid, "{verified:?}");
        assert_eq!((verified.chain_count, verified.event_count), (3, 52));
    }
}
