//! What can be said of a change beside what it changes: that a repeat is harmless, that the key
//! must still be what it was, that what was there before is kept for a while.

use proto::{
    keyvault::{
        ApiKey, FallbackPolicy, GetFallbackPolicyRequest, ResolveKeyResponse, api_key::State, key_change::Kind,
    },
    types::{Provider, Source},
};
use system_tests::{
    ORGANIZATION, Replicas, Setup, Storage,
    answer::Failure,
    mutation::{Change, Done, Mutation, request_id},
    on_both_databases,
    replicas::{Door, eventually},
};
use tokio::task::JoinSet;

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;

on_both_databases! {
    a_repeat_is_answered_as_the_first_time_and_changes_nothing,
    a_repeat_of_a_creation_does_not_bring_a_deleted_key_back,
    the_id_of_another_request_is_refused,
    repeats_at_the_same_time_happen_once,
    a_call_that_failed_is_not_remembered,
    the_id_of_another_policy_is_refused,
    a_policy_takes_the_place_of_what_was_set_before,
    a_request_id_is_a_uuid,
    the_etag_of_a_key_as_it_was_is_refused_and_nothing_changes,
    the_etag_of_a_key_as_it_is_is_accepted,
    a_repeat_needs_no_other_etag,
    the_etag_changes_with_every_field,
    all_answers_have_the_same_etag,
    of_two_who_read_the_same_one_may_write,
    the_previous_material_is_kept_for_a_day_unless_said_otherwise,
    a_rotation_may_keep_nothing,
    a_rotation_keeps_one_previous_material_only,
    what_cannot_be_kept_that_long_is_refused,
    previous_material_goes_when_its_time_is_over,
    a_rollback_is_a_new_version_of_the_old_material,
    a_rollback_can_be_rolled_back,
    a_resolution_says_how_long_it_is_good_and_of_which_revision_it_is,
    every_change_is_one_revision_and_nothing_else_is,
    the_status_says_the_last_change,
}

/// One vault, and the way to it.
struct Vault {
    door: Door,
    _replicas: Replicas,
}

impl Vault {
    async fn start(storage: Storage) -> Option<Self> {
        Self::with(storage, Setup { folder_in_memory: true, ..Setup::default() }).await
    }

    async fn with(storage: Storage, setup: Setup) -> Option<Self> {
        let replicas = Replicas::with(storage, 1, setup).await?;
        Some(Self { door: replicas.door(0), _replicas: replicas })
    }

    async fn send(&self, mutation: &Mutation) -> Result<Done, Failure> {
        mutation.send(&self.door.keys()).await
    }

    async fn does(&self, change: Change) -> Done {
        self.does_in(ORGANIZATION, change).await
    }

    async fn does_in(&self, organization: &str, change: Change) -> Done {
        let mutation = change.of(organization);
        self.send(&mutation).await.unwrap_or_else(|failure| panic!("{mutation:?}: {failure:?}"))
    }

    async fn refuses(&self, mutation: &Mutation) -> Failure {
        match self.send(mutation).await {
            Err(failure) => failure,
            Ok(done) => panic!("{mutation:?} should have failed: {done:?}"),
        }
    }

    async fn key(&self, id: &str) -> ApiKey {
        self.door.key(ORGANIZATION, id).await.expect("the key")
    }

    async fn revision(&self) -> i64 {
        self.door.revision().await
    }

    /// All that a change could have changed.
    async fn everything(&self, organization: &str) -> (i64, Vec<ApiKey>, [FallbackPolicy; 2]) {
        let policies = [self.policy(organization, None).await, self.policy(organization, Some("research")).await];
        (self.revision().await, self.door.list(organization).await.expect("a listing"), policies)
    }

    /// What was set for an organization or for a profile.
    async fn policy(&self, organization: &str, profile: Option<&str>) -> FallbackPolicy {
        let request = GetFallbackPolicyRequest {
            organization_id: organization.to_owned(),
            profile_id: profile.map(str::to_owned),
        };
        let found = self.door.keys().get_fallback_policy(request).await.expect("a policy");
        found.into_inner().fallback_policy.expect("a policy is returned")
    }

    async fn resolved(&self) -> ResolveKeyResponse {
        self.door.resolve(ORGANIZATION, None, Provider::Openai).await.expect("a key")
    }

    async fn material(&self) -> String {
        self.resolved().await.material.expect("material").api_key
    }
}

fn creation(name: &str) -> Change {
    Change::Create {
        provider: Provider::Openai,
        name: name.to_owned(),
        material: format!("sk-first-{}-0123456789abcdef", name.replace(' ', "-")),
        default: true,
        profiles: vec!["research".to_owned()],
    }
}

fn rotation(key: &ApiKey, material: &str, keep_seconds: Option<i64>) -> Change {
    let keep = keep_seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
    Change::Rotate(key.api_key_id.clone(), material.to_owned(), keep)
}

fn profiles(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn policy(profile: Option<&str>, default: Option<bool>) -> Change {
    Change::SetPolicy { profile: profile.map(str::to_owned), default, environment: None }
}

/// Every kind of change of an existing key, none of which does nothing to the key of [`prepared`].
fn changes(id: &str) -> Vec<Change> {
    let id = id.to_owned();
    vec![
        Change::Rename(id.clone(), "Renamed".to_owned()),
        Change::SetState(id.clone(), State::Disabled),
        Change::Rotate(id.clone(), "sk-third-0123456789abcdef".to_owned(), None),
        Change::Rollback(id.clone()),
        Change::SetDefault(id.clone()),
        Change::Assign(id.clone(), profiles(&["ops"])),
        Change::Unassign(id.clone(), profiles(&["research"])),
        Change::Replace(id.clone(), profiles(&["ops", "sales"])),
        Change::Delete(id),
    ]
}

/// An organization whose key has a previous version and a profile, and is not the default.
async fn prepared(vault: &Vault, number: usize) -> (String, ApiKey) {
    let organization = format!("organization-{number}");
    let key = vault.does_in(&organization, creation("Prepared")).await.key();
    vault.does_in(&organization, Change::ClearDefault(Provider::Openai)).await;
    let change = rotation(&key, "sk-second-0123456789abcdef", None);
    let key = vault.does_in(&organization, change).await.key();
    (organization, key)
}

async fn a_repeat_is_answered_as_the_first_time_and_changes_nothing(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    for number in 0.. {
        let (organization, key) = prepared(&vault, number).await;
        let others = [
            creation("Repeated"),
            Change::BatchAssign(vec![key.api_key_id.clone()], profiles(&["ops", "sales"])),
            Change::ClearDefault(Provider::Openai),
            policy(None, Some(false)),
            policy(Some("research"), Some(false)),
            policy(None, None),
        ];
        let Some(change) = changes(&key.api_key_id).into_iter().chain(others).nth(number) else { break };
        if matches!(change, Change::ClearDefault(_)) {
            vault.does_in(&organization, Change::SetDefault(key.api_key_id.clone())).await;
        }
        let mutation = change.of(&organization);
        let first = vault.send(&mutation).await.unwrap_or_else(|failure| panic!("{mutation:?}: {failure:?}"));
        // What the repeat would do, if it did anything, is not what is there by then.
        let later = match mutation.change.clone() {
            Change::Delete(_) => creation("Later"),
            Change::SetPolicy { profile, .. } => {
                Change::SetPolicy { profile, default: Some(true), environment: Some(false) }
            }
            _ => Change::Rename(key.api_key_id, "Later".to_owned()),
        };
        vault.does_in(&organization, later).await;
        let before = vault.everything(&organization).await;

        for _ in 0..2 {
            let again = vault.send(&mutation).await.unwrap_or_else(|failure| panic!("{mutation:?}: {failure:?}"));
            assert_eq!(again, first, "{mutation:?}");
        }

        assert_eq!(vault.everything(&organization).await, before, "{mutation:?}");
    }
}

async fn a_repeat_of_a_creation_does_not_bring_a_deleted_key_back(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    let mutation = creation("Gone").of(ORGANIZATION);
    let key = vault.send(&mutation).await.expect("created").key();
    vault.does(Change::Delete(key.api_key_id.clone())).await;

    assert_eq!(vault.send(&mutation).await.expect("the first answer"), Done::Key(key));

    assert_eq!(vault.door.list(ORGANIZATION).await.expect("a listing"), []);
}

async fn the_id_of_another_request_is_refused(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    let first = creation("First").of(ORGANIZATION);
    let key = vault.send(&first).await.expect("created").key();
    let before = vault.everything(ORGANIZATION).await;
    let research = || profiles(&["research"]);
    let other = |provider, name: &str, material: &str, default, profiles| {
        let (name, material) = (name.to_owned(), material.to_owned());
        Change::Create { provider, name, material, default, profiles }
    };
    let material = "sk-first-First-0123456789abcdef";
    assert_eq!(first.change, other(Provider::Openai, "First", material, true, research()));
    let others = [
        other(Provider::Gemini, "First", material, true, research()),
        other(Provider::Openai, "Other", material, true, research()),
        other(Provider::Openai, "First", "sk-other", true, research()),
        other(Provider::Openai, "First", material, false, research()),
        other(Provider::Openai, "First", material, true, Vec::new()),
    ];
    let others = others.map(|change| Mutation { change, ..first.clone() }).into_iter();
    let elsewhere = Mutation { organization: "other".to_owned(), ..first.clone() };
    let methods = changes(&key.api_key_id).into_iter().map(|change| change.of(ORGANIZATION).under(&first.request_id));
    for other in others.chain([elsewhere]).chain(methods) {
        let failure = vault.refuses(&other).await;
        assert_eq!(failure.class(), "InvalidArgument REQUEST_ID_REUSED", "{other:?}");
        assert_eq!(failure.value("request_id"), first.request_id);
    }
    assert_eq!(vault.everything(ORGANIZATION).await, before, "nothing changed");
    assert_eq!(vault.send(&first).await.expect("the first answer"), Done::Key(key));
}

async fn repeats_at_the_same_time_happen_once(storage: Storage) {
    const CALLERS: usize = 8;
    const ROUNDS: usize = 10;
    let replicas = if storage == Storage::Postgres { 3 } else { 1 };
    let Some(replicas) = Replicas::start(storage, replicas).await else { return };
    let doors = replicas.doors();
    let mut key: Option<ApiKey> = None;
    for round in 0..ROUNDS {
        let before = doors[0].revision().await;
        // Each round of another kind than the one before: one without an effect that lasts, one with.
        let change = match &key {
            Some(key) if round % 2 == 1 => rotation(key, &format!("sk-{round}"), None),
            _ => creation(&format!("Round {round}")),
        };
        let mutation = change.of(ORGANIZATION);
        let mut calls = JoinSet::new();
        for caller in 0..CALLERS {
            let (mutation, vault) = (mutation.clone(), doors[caller % doors.len()].keys());
            calls.spawn(async move { mutation.send(&vault).await });
        }
        let answers = calls.join_all().await;
        let first = answers[0].as_ref().expect("done").clone();
        for answer in answers {
            assert_eq!(answer.expect("done"), first, "{mutation:?}");
        }
        assert_eq!(doors[0].revision().await, before + 1, "once");
        key = Some(first.key());
    }
}

async fn a_call_that_failed_is_not_remembered(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    let key = vault.does(creation("Disabled")).await.key();
    let id = key.api_key_id;
    vault.does(Change::ClearDefault(Provider::Openai)).await;
    vault.does(Change::SetState(id.clone(), State::Disabled)).await;

    // Refused for the state of the key, for an etag, for a field: none uses the id up.
    let default = Change::SetDefault(id.clone()).of(ORGANIZATION);
    assert_eq!(vault.refuses(&default).await.class(), "FailedPrecondition KEY_UNUSABLE");
    let stale = Change::Rename(id.clone(), "Renamed".to_owned()).of(ORGANIZATION);
    let stale = Mutation { etag: key.etag, ..stale }.under(&default.request_id);
    assert_eq!(vault.refuses(&stale).await.class(), "Aborted ETAG_MISMATCH");
    let empty = Change::Assign(id.clone(), Vec::new()).of(ORGANIZATION).under(&default.request_id);
    assert_eq!(vault.refuses(&empty).await.class(), "InvalidArgument INVALID_FIELD");
    let absent = Change::Delete("01900000-0000-7000-8000-000000000000".to_owned());
    let absent = absent.of(ORGANIZATION).under(&default.request_id);
    assert_eq!(vault.refuses(&absent).await.class(), "NotFound KEY_NOT_FOUND");

    vault.does(Change::SetState(id, State::Enabled)).await;
    let key = vault.send(&default).await.expect("the same call succeeds now").key();
    assert!(key.organization_default);
}

async fn the_id_of_another_policy_is_refused(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    let first = policy(None, Some(false)).of(ORGANIZATION);
    vault.send(&first).await.expect("set");
    let before = vault.everything(ORGANIZATION).await;
    let other = |profile: Option<&str>, default, environment| Mutation {
        change: Change::SetPolicy { profile: profile.map(str::to_owned), default, environment },
        ..first.clone()
    };
    for other in [
        other(Some("research"), Some(false), None),
        other(None, Some(true), None),
        other(None, None, None),
        other(None, Some(false), Some(false)),
        Mutation { organization: "other".to_owned(), ..first.clone() },
    ] {
        let failure = vault.refuses(&other).await;
        assert_eq!(failure.class(), "InvalidArgument REQUEST_ID_REUSED", "{other:?}");
    }
    assert_eq!(vault.everything(ORGANIZATION).await, before, "nothing changed");
}

async fn a_policy_takes_the_place_of_what_was_set_before(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    let allows = |policy: &FallbackPolicy| (policy.allow_organization_default, policy.allow_environment);
    for profile in [None, Some("research")] {
        for (default, environment, expected) in [
            (Some(false), None, (false, true)),
            (None, Some(false), (true, false)),
            (Some(false), Some(false), (false, false)),
            (Some(true), Some(true), (true, true)),
            (None, None, (true, true)),
        ] {
            let change = Change::SetPolicy { profile: profile.map(str::to_owned), default, environment };
            let Done::Policy(told) = vault.does(change).await else { panic!("no policy") };
            assert_eq!((allows(&told), told.profile_id.as_deref()), (expected, profile));
            assert_eq!(vault.policy(ORGANIZATION, profile).await, told);
            assert_eq!(allows(&vault.policy("other", profile).await), (true, true), "of no other organization");
            assert_eq!(allows(&vault.policy(ORGANIZATION, Some("other")).await), (true, true), "of no other profile");
        }
    }
    for (field, organization, profile) in [
        ("organization_id", "a b", None),
        ("profile_id", ORGANIZATION, Some("")),
        ("profile_id", ORGANIZATION, Some("a/b")),
    ] {
        let failure = vault.refuses(&policy(profile, None).of(organization)).await;
        assert_eq!(
            (failure.class().as_str(), failure.fields),
            ("InvalidArgument INVALID_FIELD", vec![field.to_owned()])
        );
    }
}

async fn a_request_id_is_a_uuid(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    for bad in ["1", "not-a-uuid", "01900000-0000-7000-8000-00000000000", "01900000-0000-7000-8000-000000000000 "] {
        let failure = vault.refuses(&creation("Bad").of(ORGANIZATION).under(bad)).await;
        assert_eq!(
            (failure.class().as_str(), failure.fields),
            ("InvalidArgument INVALID_FIELD", vec!["request_id".to_owned()])
        );
    }
    // Without one, each call is another.
    let mutation = creation("Twice").of(ORGANIZATION).under("");
    for _ in 0..2 {
        vault.send(&mutation).await.expect("created");
    }
    assert_eq!(vault.door.list(ORGANIZATION).await.expect("a listing").len(), 2);
}

async fn the_etag_of_a_key_as_it_was_is_refused_and_nothing_changes(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    let (organization, was) = prepared(&vault, 0).await;
    let change = Change::Rename(was.api_key_id.clone(), "Changed since".to_owned());
    let is = vault.does_in(&organization, change).await.key();
    let before = vault.everything(&organization).await;
    for change in changes(&was.api_key_id) {
        let mutation = change.of(&organization).if_still(&was);
        let failure = vault.refuses(&mutation).await;
        assert_eq!(failure.class(), "Aborted ETAG_MISMATCH", "{mutation:?}");
        assert_eq!(
            (failure.value("api_key_id"), failure.value("etag")),
            (was.api_key_id.as_str(), is.etag.as_str()),
            "{mutation:?}"
        );
    }
    let garbage = Mutation { etag: "garbage".to_owned(), ..Change::Delete(was.api_key_id).of(&organization) };
    assert_eq!(vault.refuses(&garbage).await.class(), "Aborted ETAG_MISMATCH");
    assert_eq!(vault.everything(&organization).await, before, "nothing changed");
}

async fn the_etag_of_a_key_as_it_is_is_accepted(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    for number in 0.. {
        let (organization, key) = prepared(&vault, number).await;
        let Some(change) = changes(&key.api_key_id).into_iter().nth(number) else { break };
        let mutation = change.of(&organization).if_still(&key);
        if let Err(failure) = vault.send(&mutation).await {
            panic!("{mutation:?}: {failure:?}");
        }
    }
}

async fn a_repeat_needs_no_other_etag(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    for number in 0.. {
        let (organization, key) = prepared(&vault, number).await;
        let Some(change) = changes(&key.api_key_id).into_iter().nth(number) else { break };
        let mutation = change.of(&organization).if_still(&key);
        let first = vault.send(&mutation).await.expect("done");
        assert_eq!(vault.send(&mutation).await.expect("the first answer"), first, "{mutation:?}");
    }
}

async fn the_etag_changes_with_every_field(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    let key = vault.does(creation("One")).await.key();
    let id = key.api_key_id.clone();
    let other = || creation("Other");
    let mut seen = vec![key];
    for (field, change) in [
        ("display_name", Change::Rename(id.clone(), "Renamed".to_owned())),
        ("state", Change::SetState(id.clone(), State::Disabled)),
        ("state", Change::SetState(id.clone(), State::Enabled)),
        ("version, hint, fingerprint, previous_version", rotation(&seen[0], "sk-rotated-0123456789abcdef", None)),
        ("previous_version", rotation(&seen[0], "sk-rotated-again-0123456789abcdef", Some(0))),
        ("organization_default", Change::ClearDefault(Provider::Openai)),
        ("organization_default", Change::SetDefault(id.clone())),
        ("profile_ids", Change::Assign(id.clone(), profiles(&["ops"]))),
        ("profile_ids", Change::Unassign(id.clone(), profiles(&["ops"]))),
        ("profile_ids", Change::Replace(id.clone(), profiles(&["research", "ops"]))),
        // A new key takes the default and a profile away.
        ("organization_default, profile_ids", other()),
    ] {
        vault.does(change).await;
        let now = vault.key(&id).await;
        assert!(!seen.iter().any(|before| before.etag == now.etag), "{field} changed, and not the etag: {now:?}");
        let stamp = |key: &ApiKey| key.update_time.map(|time| (time.seconds, time.nanos));
        assert!(stamp(&now) >= stamp(&seen[seen.len() - 1]), "{field}");
        seen.push(now);
    }
    let quiet = vault.key(&id).await;
    vault.door.resolve(ORGANIZATION, None, Provider::Openai).await.expect("a key");
    assert_eq!(vault.key(&id).await, quiet, "use is no change");
}

async fn all_answers_have_the_same_etag(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    let created = vault.does(creation("Same")).await.key();
    let id = &created.api_key_id;
    assert!(!created.etag.is_empty());
    assert_eq!(vault.key(id).await, created);
    assert_eq!(vault.door.list(ORGANIZATION).await.expect("a listing"), std::slice::from_ref(&created));
    let request = proto::keyvault::ListProfileKeysRequest {
        organization_id: ORGANIZATION.to_owned(),
        profile_id: "research".to_owned(),
    };
    let of_profile = vault.door.keys().list_profile_keys(request).await.expect("a listing").into_inner().profile_keys;
    assert_eq!(of_profile[0].api_key, Some(created.clone()));
    let renamed = vault.does(Change::Rename(id.clone(), "Renamed".to_owned())).await.key();
    assert_eq!(vault.key(id).await, renamed);
}

async fn of_two_who_read_the_same_one_may_write(storage: Storage) {
    const CALLERS: usize = 8;
    let Some(vault) = Vault::start(storage).await else { return };
    let mut key = vault.does(creation("Contended")).await.key();
    for round in 0..10 {
        let mut calls = JoinSet::new();
        for caller in 0..CALLERS {
            let change = Change::Rename(key.api_key_id.clone(), format!("Round {round}, caller {caller}"));
            let (mutation, keys) = (change.of(ORGANIZATION).if_still(&key), vault.door.keys());
            calls.spawn(async move { mutation.send(&keys).await });
        }
        let (done, failed): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((done.len(), failed.len()), (1, CALLERS - 1));
        for failure in failed {
            assert_eq!(failure.expect_err("failed").class(), "Aborted ETAG_MISMATCH");
        }
        key = done.into_iter().next().expect("one").expect("done").key();
        assert_eq!(vault.key(&key.api_key_id).await, key);
    }
}

/// How long the previous version is kept from the last change on, in seconds.
fn kept_for(key: &ApiKey) -> i64 {
    let until = key.previous_expire_time.expect("it is kept for a time");
    until.seconds - key.update_time.expect("it was changed").seconds
}

async fn the_previous_material_is_kept_for_a_day_unless_said_otherwise(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    let key = vault.does(creation("Kept")).await.key();
    assert_eq!((key.version, key.previous_version, key.previous_expire_time), (1, 0, None));
    for (version, keep, expected) in
        [(2, None, DAY), (3, Some(1), 1), (4, Some(HOUR), HOUR), (5, Some(30 * DAY), 30 * DAY)]
    {
        let key = vault.does(rotation(&key, &format!("sk-{version}"), keep)).await.key();
        assert_eq!((key.version, key.previous_version), (version, version - 1));
        let seconds = kept_for(&key);
        assert!((expected - 1..=expected + 1).contains(&seconds), "{seconds} s instead of {expected} s");
        assert_eq!(vault.material().await, format!("sk-{version}"), "the new material at once");
    }
}

async fn a_rotation_may_keep_nothing(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    let key = vault.does(creation("Leaked")).await.key();
    let rollback = Change::Rollback(key.api_key_id.clone());
    // Nothing has been kept yet.
    let failure = vault.refuses(&rollback.clone().of(ORGANIZATION)).await;
    assert_eq!(failure.class(), "FailedPrecondition NO_PREVIOUS_VERSION");

    let key = vault.does(rotation(&key, "sk-second", Some(0))).await.key();

    assert_eq!((key.version, key.previous_version, key.previous_expire_time), (2, 0, None));
    let failure = vault.refuses(&rollback.of(ORGANIZATION)).await;
    assert_eq!(failure.class(), "FailedPrecondition NO_PREVIOUS_VERSION");
    assert_eq!(failure.value("api_key_id"), key.api_key_id);
    assert_eq!(vault.key(&key.api_key_id).await, key, "nothing changed");
}

async fn a_rotation_keeps_one_previous_material_only(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    let key = vault.does(creation("Rotated twice")).await.key();
    vault.does(rotation(&key, "sk-second", None)).await;
    let key = vault.does(rotation(&key, "sk-third", None)).await.key();
    assert_eq!((key.version, key.previous_version), (3, 2));
    vault.does(Change::Rollback(key.api_key_id.clone())).await;
    assert_eq!(vault.material().await, "sk-second");
    // A leaked key: what is kept goes too.
    let key = vault.does(rotation(&key, "sk-fifth", Some(0))).await.key();
    assert_eq!((key.version, key.previous_version), (5, 0));
}

async fn what_cannot_be_kept_that_long_is_refused(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    let key = vault.does(creation("Kept")).await.key();
    for (seconds, nanos) in
        [(-1, 0), (0, -1), (30 * DAY + 1, 0), (1, 1), (0, 999_999_999), (i64::MAX, 0), (i64::MIN, 0)]
    {
        let keep = Some(prost_types::Duration { seconds, nanos });
        let mutation = Change::Rotate(key.api_key_id.clone(), "sk-second".to_owned(), keep).of(ORGANIZATION);
        let failure = vault.refuses(&mutation).await;
        assert_eq!(failure.class(), "InvalidArgument INVALID_FIELD", "{seconds} s, {nanos} ns");
        assert_eq!(failure.fields, ["keep_previous_for"]);
    }
    assert_eq!(vault.key(&key.api_key_id).await, key, "nothing changed");
}

async fn previous_material_goes_when_its_time_is_over(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    let key = vault.does(creation("Short")).await.key();
    let rotated = vault.does(rotation(&key, "sk-second", Some(1))).await.key();
    assert_eq!(rotated.previous_version, 1);

    let expired = eventually("the end of the previous version", || async {
        let now = vault.key(&key.api_key_id).await;
        (now.previous_version == 0).then_some(now)
    })
    .await;

    assert_eq!((expired.version, expired.previous_expire_time), (2, None));
    assert_ne!(expired.etag, rotated.etag);
    let failure = vault.refuses(&Change::Rollback(key.api_key_id.clone()).of(ORGANIZATION)).await;
    assert_eq!(failure.class(), "FailedPrecondition NO_PREVIOUS_VERSION");
    assert_eq!(vault.material().await, "sk-second");
    let told = eventually("the word of it", || async {
        let changes = vault.door.all_changes().await;
        changes.into_iter().find(|change| change.kind() == Kind::PreviousDestroyed)
    })
    .await;
    assert_eq!((told.organization_id.as_str(), told.api_key_ids), (ORGANIZATION, vec![key.api_key_id]));
}

async fn a_rollback_is_a_new_version_of_the_old_material(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    let first = vault.does(creation("Rolled back")).await.key();
    let material = vault.material().await;
    let second = vault.does(rotation(&first, "sk-second-0123456789abcdef", Some(HOUR))).await.key();
    assert_ne!(second.fingerprint, first.fingerprint);

    let third = vault.does(Change::Rollback(first.api_key_id.clone())).await.key();

    assert_eq!((third.version, third.previous_version), (3, 2));
    assert_eq!((&third.hint, &third.fingerprint), (&first.hint, &first.fingerprint), "of the old material");
    assert!((DAY - 1..=DAY + 1).contains(&kept_for(&third)), "what it replaced is kept for a day");
    assert_eq!((third.profile_ids.clone(), third.organization_default), (first.profile_ids, true), "links stay");
    assert_eq!(vault.key(&third.api_key_id).await, third);
    let resolved = vault.resolved().await;
    assert_eq!((resolved.version, resolved.material.expect("material").api_key), (3, material));
}

async fn a_rollback_can_be_rolled_back(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    let first = vault.does(creation("Back and forth")).await.key();
    let second = vault.does(rotation(&first, "sk-second-0123456789abcdef", None)).await.key();
    let rollback = Change::Rollback(first.api_key_id.clone());
    for version in 3..7 {
        let now = vault.does(rollback.clone()).await.key();
        let expected = if version % 2 == 1 { &first } else { &second };
        assert_eq!((now.version, now.previous_version), (version, version - 1));
        assert_eq!((&now.hint, &now.fingerprint), (&expected.hint, &expected.fingerprint));
    }
    assert_eq!(vault.material().await, "sk-second-0123456789abcdef");
    let absent = Change::Rollback("01900000-0000-7000-8000-000000000000".to_owned());
    assert_eq!(vault.refuses(&absent.of(ORGANIZATION)).await.class(), "NotFound KEY_NOT_FOUND");
    assert_eq!(vault.refuses(&rollback.of("other")).await.class(), "NotFound KEY_NOT_FOUND");
}

async fn a_resolution_says_how_long_it_is_good_and_of_which_revision_it_is(storage: Storage) {
    let variable = ("ARCHESTRA_CHAT_GEMINI_API_KEY".to_owned(), "sk-environment".to_owned());
    let setup = Setup { folder_in_memory: true, vault_environment: vec![variable], ..Setup::default() };
    let Some(vault) = Vault::with(storage, setup).await else { return };
    let key = vault.does(creation("Leased")).await.key();
    for (profile, provider, source) in [
        (Some("research"), Provider::Openai, Source::Profile),
        (None, Provider::Openai, Source::OrganizationDefault),
        (Some("research"), Provider::Gemini, Source::Environment),
    ] {
        let resolved = vault.door.resolve(ORGANIZATION, profile, provider).await.expect("a key");
        assert_eq!(resolved.source(), source);
        assert_eq!(resolved.lease_duration, Some(prost_types::Duration { seconds: 60, nanos: 0 }));
        assert_eq!(resolved.revision, vault.revision().await, "{source:?}");
    }
    let before = vault.resolved().await.revision;
    vault.does(rotation(&key, "sk-second", None)).await;
    let after = vault.resolved().await;
    assert_eq!((after.revision, after.version), (before + 1, 2));
}

async fn every_change_is_one_revision_and_nothing_else_is(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    for number in 0.. {
        let (organization, key) = prepared(&vault, number).await;
        let Some(change) = changes(&key.api_key_id).into_iter().nth(number) else { break };
        let before = vault.revision().await;
        vault.does_in(&organization, change.clone()).await;
        assert_eq!(vault.revision().await, before + 1, "{change:?}");
        let told = vault.door.all_changes().await.pop().expect("a change");
        assert_eq!((told.revision, told.organization_id.as_str()), (before + 1, organization.as_str()));
        assert_eq!(told.kind(), change.kind(), "{change:?}");
        assert_eq!((told.providers, told.api_key_ids), (vec![Provider::Openai.into()], vec![key.api_key_id]));
    }
    for change in [policy(None, Some(false)), policy(Some("research"), Some(false)), policy(None, None)] {
        let before = vault.revision().await;
        vault.does(change.clone()).await;
        let told = vault.door.all_changes().await.pop().expect("a change");
        assert_eq!((told.revision, told.kind()), (before + 1, Kind::FallbackPolicyChanged), "{change:?}");
        assert_eq!((told.providers.len(), told.api_key_ids), (3, Vec::new()), "every resolution may differ");
    }
    let before = vault.revision().await;
    let absent = Change::Delete("01900000-0000-7000-8000-000000000000".to_owned());
    vault.refuses(&absent.of(ORGANIZATION)).await;
    vault.door.list(ORGANIZATION).await.expect("a listing");
    vault.door.resolve(ORGANIZATION, None, Provider::Openai).await.expect_err("no key");
    vault.refuses(&creation("Refused").of("a b").under(&request_id())).await;
    assert_eq!(vault.revision().await, before, "neither failures nor reads");
}

async fn the_status_says_the_last_change(storage: Storage) {
    let Some(vault) = Vault::start(storage).await else { return };
    for number in 0..10 {
        vault.does(creation(&number.to_string())).await;
        assert_eq!(vault.door.status().await.expect("the status").revision, vault.revision().await);
    }
}

/// A change through one replica is remembered by the others.
#[tokio::test]
async fn a_repeat_through_another_replica_is_answered_as_the_first_time() {
    let Some(replicas) = Replicas::start(Storage::Postgres, 3).await else { return };
    let doors = replicas.doors();
    for first in 0..doors.len() {
        let mutation = creation(&format!("Through {first}")).of(ORGANIZATION);
        let answer = mutation.send(&doors[first].keys()).await.expect("created");
        for door in &doors {
            assert_eq!(mutation.send(&door.keys()).await.expect("the first answer"), answer);
        }
    }
    assert_eq!(doors[0].list(ORGANIZATION).await.expect("a listing").len(), doors.len());
}
