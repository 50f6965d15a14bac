//! Keys against a vault that answers as it is told.

use futures_util::future::join_all;
use proto::{
    keyvault::{ErrorReason, KeyChange, key_change::Kind},
    types,
};
use service_runtime::{failure::Code, readiness::Readiness};

use super::*;
use crate::vault_client::fake::{AWAY, FakeVault, KEY, Say, until};

const GRACE: Duration = Duration::from_mins(5);

/// A lease that ends while a test runs.
const SHORT: Say = Say::Key { lease: Some(Duration::from_millis(50)), revision: 10 };

const UNUSABLE: Say = Say::Refuse(Code::FailedPrecondition, ErrorReason::KeyUnusable);

fn keys(vault: &FakeVault, grace: Duration) -> Keys {
    let contact = Contact::new(&Readiness::default());
    Keys::new(vault.client(), contact, &KeyOptions { entries: NonZeroUsize::new(100).unwrap(), grace })
}

fn acme() -> Label {
    Label::new("acme".to_owned()).unwrap()
}

async fn get(keys: &Keys) -> Outcome {
    get_within(keys, Duration::from_secs(10)).await
}

async fn get_within(keys: &Keys, limit: Duration) -> Outcome {
    keys.get(&acme(), None, Provider::OpenAi, Instant::now() + limit).await
}

/// Gets the key until it is found otherwise than as kept.
async fn get_past_lease(keys: &Keys) -> Outcome {
    for _ in 0..1_000 {
        match get(keys).await {
            Ok(Held { found: Found::Kept, .. }) => sleep(Duration::from_millis(5)).await,
            otherwise => return otherwise,
        }
    }
    panic!("its lease does not end");
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Ok(held) => held.found.name(),
        Err(error) => match **error {
            KeyError::Deadline => "deadline",
            KeyError::StoreUnavailable(_) => "away",
            KeyError::Unusable { .. } => "unusable",
            _ => "other",
        },
    }
}

#[tokio::test]
async fn a_key_is_asked_for_once_in_its_lease() {
    for (lease, second) in [(Some(Duration::from_mins(1)), "hit"), (None, "miss"), (Some(Duration::ZERO), "miss")] {
        let vault = FakeVault::says(Say::Key { lease, revision: 10 });
        let keys = keys(&vault, GRACE);
        assert_eq!(name(&get(&keys).await), "miss");
        let again = get(&keys).await;
        assert_eq!(name(&again), second, "{lease:?}");
        assert_eq!(again.unwrap().material.expose(), "sk");
    }
}

#[tokio::test]
async fn those_who_miss_together_ask_once() {
    for (say, expected) in [(KEY, "miss"), (UNUSABLE, "unusable"), (AWAY, "away")] {
        let vault = FakeVault::says(say);
        let keys = keys(&vault, GRACE);
        vault.holds_back(true);
        let all = join_all((0..100).map(|_| get(&keys)));
        let answer = async {
            until("the vault is asked", || vault.asked() > 0).await;
            vault.holds_back(false);
        };
        let (outcomes, ()) = tokio::join!(all, answer);
        assert_eq!(outcomes.len(), 100);
        assert!(outcomes.iter().all(|outcome| name(outcome) == expected), "{expected}");
        assert_eq!(vault.asked(), 1, "{expected}");
    }
}

#[tokio::test]
async fn the_deadline_of_one_who_waits_is_theirs_only() {
    let vault = FakeVault::says(KEY);
    let keys = keys(&vault, GRACE);
    vault.holds_back(true);
    let first = async {
        let outcome = get_within(&keys, Duration::from_millis(50)).await;
        vault.holds_back(false);
        outcome
    };
    let (first, second) = tokio::join!(first, get(&keys));
    assert_eq!((name(&first), name(&second)), ("deadline", "miss"));
    assert_eq!(vault.asked(), 1);
}

#[tokio::test]
async fn past_its_lease_a_key_is_used_only_while_the_vault_cannot_answer() {
    let vault = FakeVault::says(SHORT);
    let keys = keys(&vault, GRACE);
    assert_eq!(name(&get(&keys).await), "miss");
    vault.say(AWAY);
    assert_eq!(name(&get_past_lease(&keys).await), "stale");
    assert_eq!(vault.asked(), 2);
    vault.say(UNUSABLE);
    // It is not asked again for a second; then its answer counts at once.
    assert_eq!(name(&get(&keys).await), "stale");
    assert_eq!(vault.asked(), 2);
    let mut outcome = get(&keys).await;
    while name(&outcome) == "stale" {
        sleep(Duration::from_millis(20)).await;
        outcome = get(&keys).await;
    }
    assert_eq!(name(&outcome), "unusable");
    vault.say(AWAY);
    assert_eq!(name(&get(&keys).await), "away", "what is refused is not kept");
}

#[tokio::test]
async fn without_grace_nothing_is_used_past_its_lease() {
    let vault = FakeVault::says(SHORT);
    let keys = keys(&vault, Duration::ZERO);
    assert_eq!(name(&get(&keys).await), "miss");
    vault.say(AWAY);
    assert_eq!(name(&get_past_lease(&keys).await), "away");
}

#[tokio::test]
async fn a_vault_that_says_nothing_is_not_waited_for_while_a_key_is_at_hand() {
    let vault = FakeVault::says(SHORT);
    let keys = keys(&vault, GRACE);
    assert_eq!(name(&get(&keys).await), "miss");
    vault.say(Say::Nothing);
    assert_eq!(name(&get_past_lease(&keys).await), "stale");
    let begun = Instant::now();
    assert_eq!(name(&get(&keys).await), "stale");
    assert!(begun.elapsed() < REFRESH_MAX / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_refused_key_is_asked_for_again() {
    let vault = FakeVault::says(KEY);
    let keys = keys(&vault, GRACE);
    let held = get(&keys).await.unwrap();
    keys.forget(&held);
    assert_eq!(name(&get(&keys).await), "miss");
    assert_eq!(vault.asked(), 2);
}

fn change(revision: i64) -> KeyChange {
    KeyChange {
        revision,
        organization_id: "acme".to_owned(),
        kind: Kind::Rotated.into(),
        providers: vec![types::Provider::from(Provider::OpenAi).into()],
        api_key_ids: Vec::new(),
    }
}

/// Runs `test` while `keys` follows the changes.
async fn following(keys: &Keys, test: impl Future<Output = ()>) {
    tokio::select! {
        () = keys.follow() => panic!("it never ends"),
        () = test => {}
    }
}

async fn watched(vault: &FakeVault, count: usize) {
    until("the vault is watched", || vault.watched_from().len() == count).await;
}

#[tokio::test]
async fn a_change_drops_what_is_kept_and_what_is_under_way() {
    let vault = FakeVault::says(KEY);
    let keys = keys(&vault, GRACE);
    following(&keys, async {
        watched(&vault, 1).await;
        vault.beats(10, "e");
        until("the first heartbeat", || keys.shared.cache.changes() == 1).await;
        assert_eq!(name(&get(&keys).await), "miss");
        assert_eq!(name(&get(&keys).await), "hit");

        vault.changes(change(11));
        until("the change", || keys.shared.cache.changes() == 2).await;
        // The vault still answers as of before the change.
        assert_eq!(name(&get(&keys).await), "miss");
        assert_eq!(name(&get(&keys).await), "miss");

        vault.say(Say::Key { lease: Some(Duration::from_mins(1)), revision: 12 });
        vault.holds_back(true);
        let asked = vault.asked();
        let change = async {
            until("the vault is asked", || vault.asked() > asked).await;
            vault.changes(change(12));
            until("the change", || keys.shared.cache.changes() == 3).await;
            vault.holds_back(false);
        };
        let (under_way, ()) = tokio::join!(get(&keys), change);
        assert_eq!(name(&under_way), "miss");
        assert_eq!(name(&get(&keys).await), "miss", "an answer that was under way is not kept");
        assert_eq!(name(&get(&keys).await), "hit");
    })
    .await;
}

#[tokio::test]
async fn a_lost_watch_is_taken_up_and_drops_nothing() {
    let vault = FakeVault::says(KEY);
    let keys = keys(&vault, GRACE);
    following(&keys, async {
        watched(&vault, 1).await;
        vault.beats(9, "e");
        vault.changes(change(10));
        until("the change", || keys.shared.cache.changes() == 2).await;
        assert_eq!(name(&get(&keys).await), "miss");
        vault.loses_the_watch();
        watched(&vault, 2).await;
        assert_eq!(vault.watched_from(), [(None, String::new()), (Some(10), "e".to_owned())]);
        assert_eq!(name(&get(&keys).await), "hit");
    })
    .await;
}

#[tokio::test]
async fn a_history_that_is_gone_drops_everything() {
    let vault = FakeVault::says(KEY);
    let keys = keys(&vault, GRACE);
    following(&keys, async {
        watched(&vault, 1).await;
        vault.beats(10, "e");
        until("the first heartbeat", || keys.shared.cache.changes() == 1).await;
        assert_eq!(name(&get(&keys).await), "miss");
        vault.compacts(true);
        vault.loses_the_watch();
        watched(&vault, 2).await;
        vault.compacts(false);
        until("everything is dropped", || keys.shared.cache.changes() >= 2).await;
        assert_eq!(name(&get(&keys).await), "miss");
        until("a watch from now on", || vault.watched_from().last().is_some_and(|(from, _)| from.is_none())).await;
    })
    .await;
}
