//! Refusals, of which a caller can make as many as it likes: equal ones are counted.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use std::sync::Arc;

use crate::audit::{Event, Name};

/// For how long equal refusals are one event.
pub(super) const WINDOW: Duration = Duration::from_secs(1);

/// How many kinds are told apart in that time. The rest of a kind, but for the organization,
/// comes from sets that are small: the policy's principals, the methods, the reasons.
const KINDS_MAX: usize = 1_024;

/// What equal refusals have in common: principal, method, reason, organization.
type Kind = (Arc<str>, Name, Name, String);

/// The refusals of the current second.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<Kind, Event>>);

impl Refusals {
    /// Counts a refusal. Returns it if it is the first of its kind, to be recorded at once.
    pub(super) fn add(&self, mut event: Event) -> Option<Event> {
        let mut kinds = self.kinds();
        if kinds.len() >= KINDS_MAX && !kinds.contains_key(&kind(&event)) {
            event.organization.clear();
        }
        match kinds.entry(kind(&event)) {
            Entry::Occupied(mut known) => {
                let count = known.get().count;
                // The last one tells when, and which trace.
                known.insert(Event { count: count + 1, ..event });
                None
            }
            Entry::Vacant(new) => {
                new.insert(Event { count: 0, ..event.clone() });
                Some(event)
            }
        }
    }

    /// Counts what could not be recorded again.
    pub(super) fn put_back(&self, event: Event) {
        let mut kinds = self.kinds();
        match kinds.entry(kind(&event)) {
            Entry::Occupied(mut known) => known.get_mut().count += event.count,
            Entry::Vacant(new) => drop(new.insert(event)),
        }
    }

    /// Ends the second: returns what was counted beyond the first of each kind.
    pub(super) fn take(&self) -> Vec<Event> {
        let mut kinds = self.kinds();
        let all = std::mem::take(&mut *kinds);
        all.into_values().filter(|event| event.count > 0).collect()
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<Kind, Event>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kind(event: &Event) -> Kind {
    let Event { principal, action, reason, organization, .. } = event;
    (Arc::clone(principal), action.clone(), reason.clone(), organization.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Caller;

    fn refusal(organization: &str) -> Event {
        let event = super::super::event(&Caller::upkeep("ResolveKey"));
        Event { organization: organization.to_owned(), reason: "CALLER_NOT_ALLOWED".into(), ..event }
    }

    #[test]
    fn equal_refusals_are_counted_and_others_are_not() {
        let refusals = Refusals::default();
        assert!(refusals.add(refusal("acme")).is_some());
        assert!(refusals.add(refusal("acme")).is_none() && refusals.add(refusal("acme")).is_none());
        assert!(refusals.add(refusal("other")).is_some());

        let counted = refusals.take();
        assert_eq!(counted.iter().map(|e| (e.organization.as_str(), e.count)).collect::<Vec<_>>(), [("acme", 2)]);
        assert!(refusals.take().is_empty());
        assert!(refusals.add(refusal("acme")).is_some(), "the next second begins anew");
    }

    #[test]
    fn what_could_not_be_recorded_is_counted_again() {
        let refusals = Refusals::default();
        let first = refusals.add(refusal("acme")).expect("the first");
        refusals.put_back(first);
        refusals.add(refusal("acme"));
        let counted = refusals.take();
        refusals.put_back(counted[0].clone());
        assert_eq!(refusals.take()[0].count, 2);
    }

    #[test]
    fn organizations_of_a_callers_choice_are_told_apart_to_a_limit() {
        let refusals = Refusals::default();
        let firsts = (0..KINDS_MAX * 3).filter_map(|n| refusals.add(refusal(&format!("org-{n}")))).count();
        assert_eq!(firsts, KINDS_MAX + 1);
        let counted = refusals.take();
        assert_eq!((counted.len(), counted[0].organization.as_str()), (1, ""));
        assert_eq!(counted[0].count, i64::try_from(KINDS_MAX * 2 - 1).expect("few"));
    }
}
