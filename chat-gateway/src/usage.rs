//! What keys are used for: noted when a call of a provider ends, reported to the vault later.
//!
//! Noting takes a lock for the time of a push and waits for nothing: a vault that is slow or
//! away does not slow a chat. What waits is bounded; what does not fit is dropped and counted,
//! and the vault is told how many.

mod reporter;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use service_runtime::metrics::{Counter, Describe};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    message::{Label, Provider, Source, Usage},
    provider::{Rejection, RejectionKind},
};

pub(crate) use reporter::{Report, Reporter};

/// How many uses may wait: an hour of 18 calls a second without the vault. About 20 MiB.
const WAITING_MAX: usize = 65_536;

/// How many uses are reported at once, at most. With the longest ids and model names they are
/// 210 KiB, and the vault reads 256.
const BATCH_MAX: usize = 150;

/// What one call of a provider came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeyUse {
    /// By which the vault knows a repeat of the report.
    pub(crate) report_id: Uuid,
    pub(crate) called: Called,
    pub(crate) outcome: Outcome,
    /// What the provider said last.
    pub(crate) usage: Option<Usage>,
    /// When the call ended.
    pub(crate) time: SystemTime,
}

/// Who called which model, with which key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Called {
    pub(crate) organization: Label,
    pub(crate) profile: Option<Label>,
    pub(crate) provider: Provider,
    /// As the provider was asked for it.
    pub(crate) model: String,
    /// Empty for [`Source::Environment`].
    pub(crate) api_key_id: String,
    /// 0 for [`Source::Environment`].
    pub(crate) version: i64,
    pub(crate) source: Source,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The answer is whole.
    Complete,
    /// The caller left, or the answer broke off. The provider may have billed more.
    Partial,
    /// The provider refused or failed before it answered.
    Failed,
    /// The provider refused the key.
    Rejected,
}

impl From<&Rejection> for Outcome {
    fn from(rejection: &Rejection) -> Self {
        if rejection.kind == RejectionKind::Key { Self::Rejected } else { Self::Failed }
    }
}

/// The uses that wait to be reported.
#[derive(Debug)]
pub(crate) struct Uses {
    state: Mutex<State>,
    /// Told when a batch waits.
    full_batch: Notify,
    /// Those that the vault is never told of.
    lost: Counter,
}

impl Default for Uses {
    fn default() -> Self {
        let lost = Counter::from_zero(&Describe {
            name: "chatgateway.usage.dropped",
            unit: "{call}",
            help: "Uses of keys that could not be reported to the key-vault",
        });
        Self { state: Mutex::default(), full_batch: Notify::default(), lost }
    }
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<KeyUse>,
    dropped: u64,
    /// Calls that have not ended.
    open: usize,
}

impl Uses {
    /// Begins a call. It is noted when it ends, as [`Outcome::Partial`] unless it is told
    /// otherwise.
    pub(crate) fn begin(self: &Arc<Self>, called: Called) -> Call {
        self.state().open += 1;
        Call { uses: Arc::clone(self), called, was_sent: true, outcome: Outcome::Partial, usage: None }
    }

    fn end(&self, call: &Call) {
        let mut state = self.state();
        state.open -= 1;
        if !call.was_sent {
            return;
        }
        if state.waiting.len() >= WAITING_MAX {
            state.dropped += 1;
            self.lost.add(1, &[]);
            return;
        }
        // The clock is read under the lock: what waits is in the order of its times.
        let time = SystemTime::now();
        let Call { called, outcome, usage, .. } = call;
        let report_id = Uuid::new_v4();
        let call = KeyUse { report_id, called: called.clone(), outcome: *outcome, usage: *usage, time };
        state.waiting.push_back(call);
        if state.waiting.len() == BATCH_MAX {
            self.full_batch.notify_one();
        }
    }

    /// The next to be reported, oldest first.
    fn take_batch(&self) -> Vec<KeyUse> {
        let mut state = self.state();
        let count = state.waiting.len().min(BATCH_MAX);
        state.waiting.drain(..count).collect()
    }

    /// Whether none waits, and no call is open that would be one.
    fn are_over(&self) -> bool {
        let state = self.state();
        state.waiting.is_empty() && state.open == 0
    }

    /// Puts uses back that were taken last.
    fn put_back(&self, uses: Vec<KeyUse>) {
        let mut state = self.state();
        uses.into_iter().rev().for_each(|call| state.waiting.push_front(call));
    }

    /// Counts uses as dropped that the vault does not take.
    fn drop_refused(&self, count: usize) {
        self.state().dropped += count as u64;
        self.lost.add(count as u64, &[]);
    }

    /// How many were dropped since the start.
    fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// How many wait.
    fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock panics, and a count that is off by one is better than a
        // process that ends.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call of a provider. Notes what it came to when it is dropped, so that a caller who
/// leaves at any point is counted too.
#[derive(Debug)]
pub(crate) struct Call {
    uses: Arc<Uses>,
    called: Called,
    was_sent: bool,
    outcome: Outcome,
    usage: Option<Usage>,
}

impl Call {
    /// Who is called.
    pub(crate) fn provider(&self) -> Provider {
        self.called.provider
    }

    /// The provider was not called: there is nothing to note.
    pub(crate) fn was_not_sent(&mut self) {
        self.was_sent = false;
    }

    /// How the call ends, if nothing else happens.
    pub(crate) fn comes_to(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// The provider said what was used so far.
    pub(crate) fn used(&mut self, usage: Option<Usage>) {
        self.usage = usage;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.uses.end(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(profile: usize) -> Called {
        Called {
            organization: Label::new("acme".to_owned()).unwrap(),
            profile: Label::new(format!("p{profile}")),
            provider: Provider::Anthropic,
            model: "claude-sonnet-4-5".to_owned(),
            api_key_id: "018f5c7e-0000-7000-8000-000000000001".to_owned(),
            version: 1,
            source: Source::Profile,
        }
    }

    #[test]
    fn a_call_is_noted_once_with_what_is_known_when_it_ends() {
        let uses = Arc::new(Uses::default());
        let usage = Usage { input: Some(3), ..Usage::default() };

        let mut left = uses.begin(called(0));
        left.used(Some(usage));
        assert_eq!(uses.waiting(), 0, "not before it ends");
        drop(left);
        let mut whole = uses.begin(called(1));
        whole.comes_to(Outcome::Complete);
        drop(whole);
        let mut unreachable = uses.begin(called(2));
        unreachable.was_not_sent();
        drop(unreachable);

        let batch = uses.take_batch();
        let noted: Vec<_> = batch.iter().map(|call| (call.called.clone(), call.outcome, call.usage)).collect();
        assert_eq!(noted, [(called(0), Outcome::Partial, Some(usage)), (called(1), Outcome::Complete, None)]);
        assert_ne!(batch[0].report_id, batch[1].report_id);
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_dropped_is_counted() {
        let uses = Arc::new(Uses::default());
        for n in 0..WAITING_MAX + 3 {
            drop(uses.begin(called(n)));
        }

        assert_eq!((uses.waiting(), uses.dropped()), (WAITING_MAX, 3));
        let batch = uses.take_batch();
        assert_eq!(batch.len(), BATCH_MAX);
        assert_eq!(batch[0].called, called(0), "the oldest first");

        uses.put_back(batch);
        assert_eq!(uses.take_batch()[0].called, called(0), "and in its place when it comes back");
    }

    #[test]
    fn uses_are_over_once_no_call_is_open() {
        let uses = Arc::new(Uses::default());
        assert!(uses.are_over());
        let open = uses.begin(called(0));
        assert!(!uses.are_over(), "it will be one");
        drop(open);
        assert!(!uses.are_over(), "it waits");
        uses.take_batch();
        assert!(uses.are_over());
    }
}
