//! Lists that were read within the last minute, by the keys that they were asked with.
//!
//! A key is known by its id and version and by a keyed hash of its material: a key of the
//! environment has no id, and is another one when its variable changes. The material itself is
//! not kept.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::Model;
use crate::{
    message::{KeyMaterial, Provider},
    vault_client::ResolvedKey,
};

/// How long a list is shown: a new model is seen a minute late, and a person who lists them
/// again and again, or presses the tabulator, does not ask the provider each time.
const FRESH_MAX: Duration = Duration::from_mins(1);

/// How much is kept: of thousands of keys, a minute of the busiest.
const LISTS_MAX: usize = 1_024;
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// The key of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kept {
    provider: Provider,
    api_key_id: String,
    version: i64,
}

impl Kept {
    pub(super) fn of(provider: Provider, key: &ResolvedKey) -> Self {
        Self { provider, api_key_id: key.api_key_id.clone(), version: key.version }
    }
}

/// Lists of models.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Made of random numbers when the process starts: what it makes of a key says nothing
    /// anywhere else.
    hasher: RandomState,
    lists: Mutex<HashMap<(Kept, u64), List>>,
}

#[derive(Debug)]
struct List {
    models: Arc<[Model]>,
    read: Instant,
    bytes: usize,
}

impl Cache {
    /// The list of a key, if it was read within the minute before `now`.
    pub(super) fn get(&self, kept: &Kept, material: &KeyMaterial, now: Instant) -> Option<Arc<[Model]>> {
        let of = self.of(kept.clone(), material);
        let lists = self.lists();
        lists.get(&of).filter(|list| list.is_fresh(now)).map(|list| Arc::clone(&list.models))
    }

    /// Keeps a list that is read `now`, and makes room for it.
    pub(super) fn put(&self, kept: Kept, material: &KeyMaterial, models: Arc<[Model]>, now: Instant) {
        let list = List { bytes: bytes_of(&models), models, read: now };
        let of = self.of(kept, material);
        let mut lists = self.lists();
        lists.retain(|other, list| list.is_fresh(now) && *other != of);
        let mut bytes = list.bytes + lists.values().map(|list| list.bytes).sum::<usize>();
        while lists.len() >= LISTS_MAX || bytes > BYTES_MAX {
            let oldest = lists.iter().min_by_key(|(_, list)| list.read).map(|(of, _)| of.clone());
            let Some(gone) = oldest.and_then(|of| lists.remove(&of)) else { break };
            bytes -= gone.bytes;
        }
        lists.insert(of, list);
    }

    fn of(&self, kept: Kept, material: &KeyMaterial) -> (Kept, u64) {
        (kept, self.hasher.hash_one(material.expose()))
    }

    fn lists(&self) -> MutexGuard<'_, HashMap<(Kept, u64), List>> {
        // Nothing that holds the lock panics, and a lost list is asked for again.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.read) < FRESH_MAX
    }
}

fn bytes_of(models: &[Model]) -> usize {
    models.iter().map(|model| size_of::<Model>() + model.name.len() + model.display_name.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(api_key_id: &str, version: i64) -> Kept {
        Kept { provider: Provider::OpenAi, api_key_id: api_key_id.to_owned(), version }
    }

    fn material(text: &str) -> KeyMaterial {
        KeyMaterial::new(text.to_owned())
    }

    fn list(display_name: &str) -> Arc<[Model]> {
        let name = "gpt-5".to_owned();
        let display_name = display_name.to_owned();
        Arc::new([Model { name, display_name, chats: true, input_tokens_max: None, output_tokens_max: None }])
    }

    #[test]
    fn a_list_is_that_of_one_key_and_one_minute() {
        let (cache, begun) = (Cache::default(), Instant::now());
        cache.put(kept("a", 1), &material("k1"), list("one"), begun);
        cache.put(kept("", 0), &material("k1"), list("environment"), begun);

        let found = |id, version, text, now| cache.get(&kept(id, version), &material(text), now);
        assert_eq!(found("a", 1, "k1", begun), Some(list("one")));
        assert_eq!(found("", 0, "k1", begun), Some(list("environment")));
        for (id, version, text) in [("a", 2, "k1"), ("b", 1, "k1"), ("a", 1, "k2"), ("", 0, "k2")] {
            assert_eq!(found(id, version, text, begun), None, "{id} {version} {text}");
        }
        let elsewhere = Kept { provider: Provider::Gemini, ..kept("a", 1) };
        assert_eq!(cache.get(&elsewhere, &material("k1"), begun), None);

        let last = begun + FRESH_MAX.checked_sub(Duration::from_millis(1)).expect("a minute");
        assert_eq!(found("a", 1, "k1", last), Some(list("one")));
        assert_eq!(found("a", 1, "k1", begun + FRESH_MAX), None);
        cache.put(kept("b", 1), &material("k1"), list("other"), begun + FRESH_MAX);
        assert_eq!(cache.lists().len(), 1, "what is old goes when something new comes");
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let (cache, begun) = (Cache::default(), Instant::now());
        let at = |n: usize| begun + Duration::from_millis(n.try_into().expect("small"));
        let put = |n: usize, models| cache.put(kept(&n.to_string(), 1), &material("k"), models, at(n));
        let has = |n: usize| cache.get(&kept(&n.to_string(), 1), &material("k"), at(n)).is_some();
        (0..=LISTS_MAX).for_each(|n| put(n, list("")));
        assert_eq!(cache.lists().len(), LISTS_MAX);
        assert!(!has(0) && has(1) && has(LISTS_MAX));

        put(2_000, list(&"x".repeat(BYTES_MAX / 2)));
        put(2_001, list(&"x".repeat(BYTES_MAX / 2)));
        assert!(!has(LISTS_MAX) && !has(2_000) && has(2_001));
        assert_eq!(cache.lists().len(), 1);
    }
}
