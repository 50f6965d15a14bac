//! Who did what: one question, and the command line.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use proto::{
    keyvault::{ListAuditEventsRequest, audit_event::Decision, audit_problem::Kind},
    types::{Provider, Source},
};
use sea_orm::{ConnectionTrait as _, Database};
use system_tests::{
    ORGANIZATION, Replicas, Storage, command,
    mutation::{Change, Mutation, request_id},
    on_both_databases,
    replicas::Door,
};

use super::{default_key, events, resolve, verify};

on_both_databases! {
    one_question_says_who_resolved_a_key_in_the_last_day,
    changes_are_listed_with_their_request_and_the_profiles_that_they_affect,
    what_failed_or_changed_nothing_is_told_apart,
    every_filter_and_both_orders_page_through_what_they_should,
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

async fn vault(storage: Storage) -> Option<(Door, Replicas)> {
    let replicas = Replicas::start(storage, 1).await?;
    Some((replicas.door(0), replicas))
}

fn a_day_ago() -> Option<Timestamp> {
    Some(Timestamp::from(SystemTime::now() - Duration::from_hours(24)))
}

async fn one_question_says_who_resolved_a_key_in_the_last_day(storage: Storage) {
    let Some((door, _replicas)) = vault(storage).await else { return };
    let key = default_key(&door).await;
    Change::Assign(key.clone(), vec!["research".to_owned()]).of(ORGANIZATION).send(&door.keys()).await.expect("a link");
    let research = resolve(&door, "research", TRACE).await.expect("a key");
    resolve(&door, "sales", TRACE).await.expect("a key");

    let question = ListAuditEventsRequest {
        api_key_id: key.clone(),
        action: "ResolveKey".to_owned(),
        start_time: a_day_ago(),
        oldest_first: true,
        ..Default::default()
    };
    let found = events(&door, question).await;

    let told: Vec<_> = found.iter().map(|e| (e.profile_id.as_str(), e.source(), e.trace_id.as_str())).collect();
    let expected = [("research", Source::Profile, TRACE), ("sales", Source::OrganizationDefault, TRACE)];
    assert_eq!(told, expected);
    let first = &found[0];
    assert_eq!((first.principal.as_str(), first.authentication.as_str()), ("dev", "dev"));
    assert_eq!((first.organization_id.as_str(), first.provider()), (ORGANIZATION, Provider::Openai));
    assert_eq!((first.key_version, first.revision, first.count), (1, research.revision, 1));
    assert_eq!((first.decision(), first.reason.as_str()), (Decision::Allowed, ""));
    assert!(first.peer_address.starts_with("127.0.0.1:") && !first.epoch.is_empty(), "{first:?}");
    assert_eq!(found.iter().map(|e| e.sequence).collect::<Vec<_>>(), [1, 2]);
    let verified = verify(&door).await;
    assert!(verified.valid && verified.problems.is_empty(), "{verified:?}");
    assert_eq!((verified.event_count, verified.chain_count), (4, 2));
}

async fn changes_are_listed_with_their_request_and_the_profiles_that_they_affect(storage: Storage) {
    let Some((door, _replicas)) = vault(storage).await else { return };
    let key = default_key(&door).await;
    let profiles = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let id = request_id();
    let assign =
        Mutation { request_id: id.clone(), ..Change::Assign(key.clone(), profiles(&["a", "b"])).of(ORGANIZATION) };
    assign.send(&door.keys()).await.expect("a link");
    assign.send(&door.keys()).await.expect("the same answer");
    for change in [
        Change::Replace(key.clone(), profiles(&["b", "c"])),
        Change::Unassign(key.clone(), profiles(&["b", "z"])),
        Change::Rotate(key.clone(), "sk-audited-again-0123456789".to_owned(), None),
        Change::ClearDefault(Provider::Openai),
        Change::Delete(key.clone()),
    ] {
        change.of(ORGANIZATION).send(&door.keys()).await.expect("a change");
    }
    let refused = Change::Delete(key.clone()).of(ORGANIZATION).send(&door.keys()).await;
    assert!(refused.is_err());

    let question = ListAuditEventsRequest { api_key_id: key, oldest_first: true, ..Default::default() };
    let found = events(&door, question).await;

    let told: Vec<(&str, Vec<&str>, i64)> = found
        .iter()
        .map(|e| (e.action.as_str(), e.profile_ids.iter().map(String::as_str).collect(), e.key_version))
        .collect();
    let expected: [(&str, Vec<&str>, i64); 7] = [
        ("CreateApiKey", vec![], 1),
        ("AssignProfiles", vec!["a", "b"], 1),
        ("ReplaceProfiles", vec!["a", "c"], 1),
        ("UnassignProfiles", vec!["b"], 1),
        ("RotateApiKey", vec![], 2),
        ("ClearOrganizationDefault", vec![], 0),
        ("DeleteApiKey", vec!["c"], 2),
    ];
    assert_eq!(told, expected, "a repeat and a refusal are no changes");
    assert_eq!(found[1].request_id, id);
    let revisions: Vec<_> = found.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, (1..=7).collect::<Vec<_>>());
    let of_profile = ListAuditEventsRequest { profile_id: "c".to_owned(), ..Default::default() };
    let told: Vec<_> = events(&door, of_profile).await.into_iter().map(|event| event.action).collect();
    assert_eq!(told, ["DeleteApiKey", "ReplaceProfiles"], "the newest first");
    assert!(verify(&door).await.valid);
}

async fn what_failed_or_changed_nothing_is_told_apart(storage: Storage) {
    let Some((door, _replicas)) = vault(storage).await else { return };
    let none = resolve(&door, "research", TRACE).await.expect_err("there is no key");
    assert_eq!(none.class(), "FailedPrecondition NO_KEY_CONFIGURED");
    let key = default_key(&door).await;
    let disable = Change::SetState(key.clone(), proto::keyvault::api_key::State::Disabled);
    disable.of(ORGANIZATION).send(&door.keys()).await.expect("a change");
    resolve(&door, "research", TRACE).await.expect_err("it is disabled");

    let question = ListAuditEventsRequest { decision: Decision::Failed.into(), ..Default::default() };
    let found = events(&door, question).await;

    let told: Vec<_> = found.iter().map(|e| (e.reason.as_str(), e.api_key_id.as_str(), e.source())).collect();
    let expected =
        [("KEY_UNUSABLE", key.as_str(), Source::OrganizationDefault), ("NO_KEY_CONFIGURED", "", Source::Unspecified)];
    assert_eq!(told, expected);
}

async fn every_filter_and_both_orders_page_through_what_they_should(storage: Storage) {
    let Some((door, _replicas)) = vault(storage).await else { return };
    let key = default_key(&door).await;
    for n in 0..7 {
        resolve(&door, &format!("profile_{n}"), &format!("{n:032x}").replace("000000", "a00000")).await.expect("a key");
    }
    let all = events(&door, ListAuditEventsRequest { oldest_first: true, page_size: 3, ..Default::default() }).await;
    assert_eq!(all.len(), 8);
    assert!(all.is_sorted_by(|a, b| a.event_id < b.event_id));
    let mut newest = events(&door, ListAuditEventsRequest { page_size: 3, ..Default::default() }).await;
    newest.reverse();
    assert_eq!(newest, all);

    let some = ListAuditEventsRequest::default();
    let in_the_future = Some(Timestamp::from(SystemTime::now() + Duration::from_hours(1)));
    let filters: [(ListAuditEventsRequest, usize); 16] = [
        (ListAuditEventsRequest { organization_id: ORGANIZATION.to_owned(), ..some.clone() }, 8),
        (ListAuditEventsRequest { organization_id: "other".to_owned(), ..some.clone() }, 0),
        (ListAuditEventsRequest { principal: "dev".to_owned(), ..some.clone() }, 8),
        (ListAuditEventsRequest { principal: "DEV".to_owned(), ..some.clone() }, 0),
        (ListAuditEventsRequest { action: "CreateApiKey".to_owned(), ..some.clone() }, 1),
        (ListAuditEventsRequest { api_key_id: key, page_size: 2, ..some.clone() }, 8),
        (ListAuditEventsRequest { profile_id: "profile_3".to_owned(), ..some.clone() }, 1),
        (ListAuditEventsRequest { profile_id: "profile.3".to_owned(), ..some.clone() }, 0),
        (ListAuditEventsRequest { provider: Provider::Gemini.into(), ..some.clone() }, 0),
        (ListAuditEventsRequest { source: Source::OrganizationDefault.into(), page_size: 5, ..some.clone() }, 7),
        (ListAuditEventsRequest { source: Source::Environment.into(), ..some.clone() }, 0),
        (ListAuditEventsRequest { trace_id: all[4].trace_id.clone(), ..some.clone() }, 1),
        (ListAuditEventsRequest { start_time: all[3].event_time, ..some.clone() }, 5),
        (ListAuditEventsRequest { end_time: all[3].event_time, ..some.clone() }, 3),
        (ListAuditEventsRequest { start_time: in_the_future, ..some.clone() }, 0),
        (ListAuditEventsRequest { decision: Decision::Denied.into(), ..some.clone() }, 0),
    ];
    for (filter, count) in filters {
        assert_eq!(events(&door, filter.clone()).await.len(), count, "{filter:?}");
    }
    let refused = door.admin().list_audit_events(ListAuditEventsRequest { trace_id: "x".to_owned(), ..some }).await;
    assert_eq!(refused.expect_err("not a trace").code(), tonic::Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_lists_exports_follows_and_verifies() {
    let (door, replicas) = vault(Storage::Sqlite).await.expect("SQLite is there");
    let key = default_key(&door).await;
    resolve(&door, "research", TRACE).await.expect("a key");
    let server = replicas.process(0).url();
    let audit = |arguments: &[&str]| {
        let mut command = command("key-vault");
        command.arg("audit").args(arguments).args(["--server", &server]);
        command
    };
    let run = async |arguments: &[&str]| {
        let output = audit(arguments).output().await.expect("it runs");
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.code(), text[0].clone(), text[1].clone())
    };

    let (code, table, _) = run(&["list", "--key", &key, "--since", "24h", "--action", "ResolveKey"]).await;
    assert_eq!(code, Some(0));
    assert!(table.contains("research") && table.contains(TRACE) && !table.contains("CreateApiKey"), "{table}");
    let (_, json, _) = run(&["list", "--limit", "1", "--output", "json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(listed["events"][0]["action"], "ResolveKey");
    let (_, lines, _) = run(&["export"]).await;
    let exported: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(exported.len(), 2);
    assert_eq!((&exported[0]["action"], &exported[1]["profile_id"]), (&"CreateApiKey".into(), &"research".into()));
    let (code, said, _) = run(&["verify"]).await;
    assert!(code == Some(0) && said.contains("as it was written"), "{said}");

    follows(audit(&["tail"]), &door).await;

    let database = Database::connect(format!("sqlite:{}", replicas.folder().join("vault.db").display())).await;
    let database = database.expect("the database opens");
    let edit = "UPDATE audit_event SET principal = 'somebody' WHERE action = 'ResolveKey' AND sequence = 1";
    database.execute_unprepared(edit).await.expect("an edit");
    let (code, said, error) = run(&["verify"]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("altered") && error.contains("event 1 of chain"), "{said}{error}");
    assert_eq!(verify(&door).await.problems[0].kind(), Kind::Altered);
}

/// `tail` shows what was, and then what comes, each once.
async fn follows(mut tail: tokio::process::Command, door: &Door) {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let mut tail = tail.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn().expect("it runs");
    let mut lines = BufReader::new(tail.stdout.take().expect("it is piped")).lines();
    let mut next = async || lines.next_line().await.expect("a line").expect("it runs on");
    assert!(next().await.contains("CreateApiKey"));
    assert!(next().await.contains("research"));
    for profile in ["later", "latest"] {
        resolve(door, profile, TRACE).await.expect("a key");
        let line = next().await;
        assert!(line.contains(profile), "{line}");
    }
    tail.kill().await.expect("it ends");
}
