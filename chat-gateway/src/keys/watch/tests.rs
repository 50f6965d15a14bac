//! What is made of what the vault tells.

use std::{num::NonZeroUsize, sync::Arc};

use tokio::time::Instant;

use super::*;
use crate::{
    keys::{Of, cache::Find},
    message::{KeyMaterial, Label, Provider, Source},
    vault_client::ResolvedKey,
};

const HOUR: Duration = Duration::from_hours(1);

fn position(revision: i64, epoch: &str) -> Position {
    Position { revision, epoch: epoch.to_owned() }
}

fn cache() -> Cache {
    Cache::new(NonZeroUsize::MIN, HOUR)
}

fn of() -> Arc<Of> {
    let organization = Label::new("acme".to_owned()).unwrap();
    Arc::new(Of { organization, profile: None, provider: Provider::OpenAi })
}

fn keep(cache: &Cache, revision: i64) {
    let material = KeyMaterial::new("sk".to_owned());
    let key = ResolvedKey { material, api_key_id: "k".to_owned(), version: 1, source: Source::Profile };
    cache.keep(&of(), &Arc::new(key), revision, Instant::now() + HOUR, cache.changes());
}

fn is_kept(cache: &Cache) -> bool {
    matches!(cache.find(&of(), Instant::now()), Find::Fresh(_))
}

fn lost() -> WatchError {
    WatchError::Lost("a test".into())
}

#[test]
fn what_is_kept_lives_until_the_vault_tells_otherwise() {
    let change = |organization: &str| Told::Changed {
        revision: 12,
        organization: Label::new(organization.to_owned()),
        providers: Some(vec![Provider::OpenAi]),
    };
    for (what, told, kept) in [
        ("the same", Told::UpTo(position(10, "e")), true),
        ("a change of another organization", change("other"), true),
        ("a change", change("acme"), false),
        ("a change of who knows whose", change(""), false),
        ("another history", Told::UpTo(position(10, "f")), false),
    ] {
        let cache = cache();
        let mut watcher = Watcher::new(&cache);
        watcher.told(Told::UpTo(position(10, "e")));
        keep(&cache, 10);
        watcher.lost(&lost());
        assert!(is_kept(&cache), "{what}: a lost watch drops nothing by itself");
        watcher.told(told);
        assert_eq!(is_kept(&cache), kept, "{what}");
    }
}

#[test]
fn what_is_kept_before_a_watch_begins_goes_when_it_does() {
    let cache = cache();
    let mut watcher = Watcher::new(&cache);
    keep(&cache, 10);
    watcher.lost(&lost());
    assert!(is_kept(&cache));
    watcher.told(Told::UpTo(position(10, "e")));
    assert!(!is_kept(&cache));
}

#[test]
fn it_is_taken_up_where_it_broke_off() {
    let cache = cache();
    let mut watcher = Watcher::new(&cache);
    assert_eq!(watcher.position, None);
    watcher.told(Told::UpTo(position(10, "e")));
    watcher.told(Told::Changed { revision: 12, organization: None, providers: None });
    watcher.lost(&lost());
    assert_eq!(watcher.position, Some(position(12, "e")));
    watcher.told(Told::UpTo(position(14, "e")));
    watcher.told(Told::UpTo(position(13, "e")));
    assert_eq!(watcher.position, Some(position(14, "e")), "a replica that is behind does not take it back");

    keep(&cache, 14);
    watcher.lost(&WatchError::Compacted);
    assert_eq!(watcher.position, None);
    assert!(!is_kept(&cache), "what changed is not known");
    keep(&cache, 14);
    watcher.told(Told::UpTo(position(20, "e")));
    assert!(!is_kept(&cache));
    keep(&cache, 19);
    assert!(!is_kept(&cache), "an answer of before the watch");
}

#[test]
fn it_waits_longer_each_time_and_not_after_it_was_well() {
    let cache = cache();
    let mut watcher = Watcher::new(&cache);
    let waits: Vec<_> = (0..6).map(|_| watcher.lost(&lost()).as_millis()).collect();
    assert_eq!(waits, [100, 200, 400, 800, 1_600, 2_000]);
    watcher.told(Told::UpTo(position(1, "e")));
    assert_eq!(watcher.lost(&lost()), WAIT_MIN);
}
