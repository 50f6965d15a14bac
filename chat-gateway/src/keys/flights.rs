//! Questions that are under way, each shared by all who wait for its answer.
//!
//! The first to ask begins it, and any who waits moves it on: one who leaves takes nothing with
//! them. The last to leave ends it.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};

/// A question that is under way.
pub(super) type Flight<T> = Shared<BoxFuture<'static, T>>;

/// Questions by what they are for. There are no more than callers who wait.
pub(super) struct Flights<K, T: Clone>(Mutex<UnderWay<K, T>>);

struct UnderWay<K, T: Clone> {
    flights: HashMap<Arc<K>, Numbered<T>>,
    begun: u64,
}

struct Numbered<T: Clone> {
    number: u64,
    /// How many changes had been told of when it began.
    changes: u64,
    /// Weak: it is the callers who keep a question alive.
    flight: WeakShared<BoxFuture<'static, T>>,
}

impl<K, T: Clone> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Mutex::new(UnderWay { flights: HashMap::new(), begun: 0 }))
    }
}

impl<K, T: Clone> fmt::Debug for Flights<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flights(..)")
    }
}

impl<K: Eq + Hash + Send + Sync + 'static, T: Clone + Send + Sync + 'static> Flights<K, T> {
    /// The question for `of` that is under way, or the one that begins now. One that began
    /// before a change is not joined: its answer may be of before it.
    pub(super) fn join(
        self: &Arc<Self>,
        of: &Arc<K>,
        changes: u64,
        begin: impl FnOnce() -> BoxFuture<'static, T>,
    ) -> Flight<T> {
        let mut under_way = self.under_way();
        // The changes are compared first: a flight that was upgraded and not returned would end
        // here, and its end needs the lock.
        let joined = under_way.flights.get(of).filter(|numbered| numbered.changes == changes);
        if let Some(flight) = joined.and_then(|numbered| numbered.flight.upgrade()) {
            return flight;
        }
        under_way.begun += 1;
        let number = under_way.begun;
        let landing = Landing { flights: Arc::clone(self), of: Arc::clone(of), number };
        let question = begin();
        let flight = async move {
            let _landing = landing;
            question.await
        };
        let flight = flight.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            under_way.flights.insert(Arc::clone(of), Numbered { number, changes, flight: weak });
        }
        flight
    }
}

impl<K, T: Clone> Flights<K, T> {
    fn under_way(&self) -> MutexGuard<'_, UnderWay<K, T>> {
        // Nothing that holds the lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a question off the list when it is answered, or when nobody waits for it any more.
struct Landing<K: Eq + Hash, T: Clone> {
    flights: Arc<Flights<K, T>>,
    of: Arc<K>,
    number: u64,
}

impl<K: Eq + Hash, T: Clone> Drop for Landing<K, T> {
    fn drop(&mut self) {
        let mut under_way = self.flights.under_way();
        if under_way.flights.get(&self.of).is_some_and(|numbered| numbered.number == self.number) {
            under_way.flights.remove(&self.of);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::{future::join_all, poll};
    use tokio::sync::Semaphore;

    use super::*;

    /// A vault that answers with how often it was asked, once it may.
    struct Asked {
        flights: Arc<Flights<u8, usize>>,
        count: Arc<AtomicUsize>,
        may_answer: Arc<Semaphore>,
    }

    impl Asked {
        fn new() -> Self {
            Self { flights: Arc::default(), count: Arc::default(), may_answer: Arc::new(Semaphore::new(0)) }
        }

        fn join(&self, of: u8, changes: u64) -> Flight<usize> {
            let (count, may_answer) = (Arc::clone(&self.count), Arc::clone(&self.may_answer));
            self.flights.join(&Arc::new(of), changes, || {
                async move {
                    let nth = count.fetch_add(1, Ordering::Relaxed) + 1;
                    let _may = may_answer.acquire().await;
                    nth
                }
                .boxed()
            })
        }

        fn answer(&self) {
            self.may_answer.add_permits(1);
        }

        fn under_way(&self) -> usize {
            self.flights.under_way().flights.len()
        }
    }

    #[tokio::test]
    async fn all_who_wait_get_the_one_answer() {
        let asked = Asked::new();
        let mut waiting: Vec<_> = (0..100).map(|_| asked.join(1, 0)).collect();
        for flight in &mut waiting {
            assert!(poll!(flight).is_pending());
        }
        assert_eq!(asked.under_way(), 1);
        asked.answer();
        assert_eq!(join_all(waiting).await, [1; 100]);
        assert_eq!(asked.under_way(), 0);
        assert_eq!(asked.join(1, 0).await, 2, "what is answered is not joined");
        let mut apart = join_all((0..5).map(|of| asked.join(of, 0))).await;
        apart.sort_unstable();
        assert_eq!(apart, [3, 4, 5, 6, 7]);
    }

    #[tokio::test]
    async fn one_who_leaves_leaves_the_question_to_the_others() {
        let asked = Asked::new();
        let (mut first, mut second) = (asked.join(1, 0), asked.join(1, 0));
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        drop(first);
        asked.answer();
        assert_eq!(second.await, 1);
        assert_eq!(asked.count.load(Ordering::Relaxed), 1, "it went on, and did not begin again");
    }

    #[tokio::test]
    async fn the_last_who_leaves_ends_it() {
        let asked = Asked::new();
        let (mut first, second) = (asked.join(1, 0), asked.join(1, 0));
        assert!(poll!(&mut first).is_pending());
        drop(first);
        assert_eq!(asked.under_way(), 1);
        drop(second);
        assert_eq!(asked.under_way(), 0);
        asked.answer();
        assert_eq!(asked.join(1, 0).await, 2);
    }

    #[tokio::test]
    async fn a_question_of_before_a_change_is_not_joined() {
        let asked = Asked::new();
        let (before, after, late) = (asked.join(1, 0), asked.join(1, 1), asked.join(1, 1));
        asked.answer();
        let (before, after, late) = tokio::join!(before, after, late);
        assert_eq!(after, late);
        assert_ne!(before, after);
        assert_eq!(asked.under_way(), 0);
    }
}
