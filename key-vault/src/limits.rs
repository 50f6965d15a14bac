//! How much one principal may ask of one replica: what bounds a stolen identity.
//!
//! A gateway asks for the same few keys again and again. One that asks for many different
//! keys is broken, or not a gateway.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, MonotonicClock},
    state::keyed::HashMapStateStore,
};

use crate::key::KeyId;

/// For how long distinct keys are counted.
const WINDOW: Duration = Duration::from_mins(1);

/// What the operator chooses. 0 is no limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) resolves_per_second: u32,
    pub(crate) mutations_per_second: u32,
    pub(crate) distinct_keys_per_minute: u32,
}

/// What a principal asks too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    /// Its name in metadata and logs.
    pub(crate) of: &'static str,
    pub(crate) limit: u32,
    /// When it may be worth trying again.
    pub(crate) retry_after: Duration,
    /// Whether it is the first time in the window.
    pub(crate) is_news: bool,
}

/// What each principal has asked lately. Holds one entry per principal of the policy.
#[derive(Debug)]
pub(crate) struct Limits {
    resolves: Rate,
    mutations: Rate,
    distinct_keys: DistinctKeys,
}

impl Limits {
    pub(crate) fn new(rates: Rates) -> Self {
        Self {
            resolves: Rate::new("resolves_per_second", rates.resolves_per_second),
            mutations: Rate::new("mutations_per_second", rates.mutations_per_second),
            distinct_keys: DistinctKeys { limit: rates.distinct_keys_per_minute, windows: Mutex::default() },
        }
    }

    /// Counts a resolution.
    pub(crate) fn resolve(&self, principal: &Arc<str>) -> Result<(), Exceeded> {
        self.resolves.count(principal)
    }

    /// Counts a change.
    pub(crate) fn mutation(&self, principal: &Arc<str>) -> Result<(), Exceeded> {
        self.mutations.count(principal)
    }

    /// Counts a key that is about to be released. One that was released within the minute
    /// counts once.
    pub(crate) fn release(&self, principal: &Arc<str>, key: KeyId, now: Instant) -> Result<(), Exceeded> {
        self.distinct_keys.count(principal, key, now)
    }
}

/// So many a second, and as many at once after a pause (GCRA).
struct Rate {
    of: &'static str,
    limit: Option<(NonZeroU32, Keyed)>,
}

type Keyed = RateLimiter<Arc<str>, HashMapStateStore<Arc<str>>, MonotonicClock>;

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit.as_ref().map(|(limit, _)| limit);
        f.debug_struct("Rate").field("of", &self.of).field("limit", &limit).finish_non_exhaustive()
    }
}

impl Rate {
    fn new(of: &'static str, limit: u32) -> Self {
        let keyed = |limit| RateLimiter::new(Quota::per_second(limit), HashMapStateStore::default(), MonotonicClock);
        Self { of, limit: NonZeroU32::new(limit).map(|limit| (limit, keyed(limit))) }
    }

    fn count(&self, principal: &Arc<str>) -> Result<(), Exceeded> {
        let Some((limit, keyed)) = &self.limit else { return Ok(()) };
        keyed.check_key(principal).map_err(|until| Exceeded {
            of: self.of,
            limit: limit.get(),
            retry_after: until.wait_time_from(MonotonicClock.now()),
            is_news: false,
        })
    }
}

#[derive(Debug)]
struct DistinctKeys {
    limit: u32,
    windows: Mutex<HashMap<Arc<str>, Window>>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    /// At most as many as the limit.
    keys: HashSet<KeyId>,
    exceeded: bool,
}

impl DistinctKeys {
    fn count(&self, principal: &Arc<str>, key: KeyId, now: Instant) -> Result<(), Exceeded> {
        if self.limit == 0 {
            return Ok(());
        }
        // Nothing panics while it is held, and it is held for one look-up.
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Window { since: now, keys: HashSet::new(), exceeded: false };
        let window = windows.entry(Arc::clone(principal)).or_insert_with(fresh);
        if now.duration_since(window.since) >= WINDOW {
            *window = fresh();
        }
        let room = window.keys.len() < usize::try_from(self.limit).unwrap_or(usize::MAX);
        if window.keys.contains(&key) || (room && window.keys.insert(key)) {
            return Ok(());
        }
        let is_news = !std::mem::replace(&mut window.exceeded, true);
        let retry_after = WINDOW.saturating_sub(now.duration_since(window.since));
        Err(Exceeded { of: "distinct_keys_per_minute", limit: self.limit, retry_after, is_news })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(resolves_per_second: u32, distinct_keys_per_minute: u32) -> Limits {
        Limits::new(Rates { resolves_per_second, mutations_per_second: 0, distinct_keys_per_minute })
    }

    #[test]
    fn each_principal_has_a_rate_of_its_own() {
        let limits = limits(3, 0);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        for _ in 0..3 {
            assert_eq!(limits.resolve(&a), Ok(()));
        }
        let exceeded = limits.resolve(&a).expect_err("the fourth");
        assert_eq!((exceeded.of, exceeded.limit), ("resolves_per_second", 3));
        assert!(exceeded.retry_after <= Duration::from_millis(334), "{exceeded:?}");
        assert_eq!(limits.resolve(&b), Ok(()));
        for _ in 0..1_000 {
            assert_eq!(limits.mutation(&a), Ok(()), "0 is no limit");
        }
    }

    #[test]
    fn unusually_many_distinct_keys_are_refused_and_known_ones_are_not() {
        let limits = limits(0, 2);
        let (principal, now): (Arc<str>, _) = ("gateway".into(), Instant::now());
        let keys = [KeyId::new(), KeyId::new(), KeyId::new()];
        let release = |n: usize, at| limits.release(&principal, keys[n], at);
        assert_eq!([release(0, now), release(1, now), release(0, now)], [Ok(()), Ok(()), Ok(())]);
        let first = release(2, now).expect_err("a third key");
        assert_eq!((first.of, first.limit, first.is_news), ("distinct_keys_per_minute", 2, true));
        assert!(!release(2, now).expect_err("still").is_news, "it is said once");
        assert_eq!(release(1, now), Ok(()), "what it has, it keeps");
        assert_eq!(release(2, now + WINDOW), Ok(()), "the next minute begins anew");
    }
}
