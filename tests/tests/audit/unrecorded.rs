//! An operator who wants no records of resolutions.

use proto::keyvault::{ListAuditEventsRequest, api_key::State, audit_event::Decision};
use system_tests::{
    ORGANIZATION, Setup,
    mutation::Change,
    replicas::{Door, eventually},
    start_vault,
};

use super::{default_key, events, released, resolve, verify};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[tokio::test]
async fn keys_are_released_without_a_record_and_everything_else_is_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let setup = Setup { vault_options: vec!["--unrecorded-resolutions".to_owned()], ..Setup::default() };
    let vault = start_vault(folder.path(), &setup).await.expect("a vault");
    let door = Door::to(&vault.url());
    let id = default_key(&door).await;

    let released_key = resolve(&door, "team-a", TRACE).await.expect("it is released");
    assert_eq!(released_key.api_key_id, id);
    assert_eq!(released(&door).await, [""; 0]);

    Change::SetState(id, State::Disabled).of(ORGANIZATION).send(&door.keys()).await.expect("it is disabled");
    assert_eq!(resolve(&door, "team-a", TRACE).await.expect_err("it is not released").reason, "KEY_UNUSABLE");
    let all = eventually("the records of both changes", async || {
        let all = events(&door, ListAuditEventsRequest { page_size: 1_000, ..Default::default() }).await;
        (all.len() >= 2).then_some(all)
    })
    .await;
    let recorded: Vec<_> = all.iter().map(|event| (event.action.as_str(), event.decision())).collect();
    assert_eq!(recorded, [("UpdateApiKey", Decision::Allowed), ("CreateApiKey", Decision::Allowed)]);
    assert!(verify(&door).await.problems.is_empty());
    assert!(vault.log().contains("--unrecorded-resolutions"), "it says so at its start");
}
