//! Whether what concurrent clients saw could have happened one call after another.
//!
//! A [`Recorder`] notes when calls begin and end; [`check`] looks for an order of them that
//! keeps to these times and that a [`Model`] allows: Wing and Gong's search, with Lowe's
//! memory of what was tried. A call without an end may have happened at any time after its
//! beginning, or never.
//!
//! Written here because no crate fits: `stateright` remembers nothing of its search and brings a
//! web server, `lincheck` runs threads instead of reading histories, and `todc-utils` knows no
//! calls without an end.

use std::{
    collections::HashSet,
    fmt::{self, Debug},
    hash::Hash,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// What the calls of a history are calls of.
pub trait Model {
    /// Everything that an answer can depend on.
    type State: Clone + Eq + Hash + Debug;
    /// A call with its answer, or without one if nobody knows what came of it.
    type Operation: Debug;

    /// The state before the first call.
    fn start(&self) -> Self::State;

    /// The state after `operation`, or `None` if its answer is impossible in `state`.
    fn apply(&self, state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;

    /// Whether `operation` never changes anything.
    fn reads(&self, operation: &Self::Operation) -> bool;
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call<O> {
    /// What was asked, and what was answered.
    pub operation: O,
    /// When it began.
    pub began: u64,
    /// When its answer was there. `None` if nobody knows whether it happened.
    pub ended: Option<u64>,
}

/// Notes calls. Clones note into one history.
#[derive(Debug)]
pub struct Recorder<O>(Arc<Notes<O>>);

#[derive(Debug)]
struct Notes<O> {
    clock: AtomicU64,
    calls: Mutex<Vec<Call<O>>>,
}

impl<O> Clone for Recorder<O> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<O> Default for Recorder<O> {
    fn default() -> Self {
        Self(Arc::new(Notes { clock: AtomicU64::new(0), calls: Mutex::new(Vec::new()) }))
    }
}

impl<O> Recorder<O> {
    /// The time now: no two moments have the same.
    pub fn now(&self) -> u64 {
        self.0.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Notes a call that was answered just now.
    pub fn answered(&self, began: u64, operation: O) {
        let ended = Some(self.now());
        self.note(Call { operation, began, ended });
    }

    /// Notes a call that may have happened, may still happen, or never will.
    pub fn unknown(&self, began: u64, operation: O) {
        self.note(Call { operation, began, ended: None });
    }

    fn note(&self, call: Call<O>) {
        self.0.calls.lock().expect("no panic while noting").push(call);
    }

    /// How many calls are noted.
    pub fn len(&self) -> usize {
        self.0.calls.lock().expect("no panic while noting").len()
    }

    /// Whether no call is noted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<O: Clone> Recorder<O> {
    /// The calls so far.
    pub fn calls(&self) -> Vec<Call<O>> {
        self.0.calls.lock().expect("no panic while noting").clone()
    }
}

/// Why a history is impossible: the longest order that was found, where it led, and what could
/// have come next but did not fit.
pub struct Impossible {
    /// How many calls were put in order.
    pub ordered: usize,
    /// How many there are.
    pub calls: usize,
    /// For people.
    pub story: String,
}

impl Debug for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no order of {} calls is possible; {} fit:\n{}", self.calls, self.ordered, self.story)
    }
}

/// Looks for an order of `calls` that `model` allows.
///
/// # Errors
///
/// Fails if there is none.
pub fn check<M: Model>(model: &M, calls: &[Call<M::Operation>]) -> Result<(), Impossible> {
    Search::new(model, calls).run()
}

/// A call that was put in order, and what could have been put there instead.
struct Step<S> {
    call: usize,
    /// The state before it.
    before: S,
    /// What else to try there.
    others: Vec<usize>,
}

struct Search<'a, M: Model> {
    model: &'a M,
    /// Calls with an end in the order of their beginnings, then those without one.
    calls: Vec<&'a Call<M::Operation>>,
    /// How many have an end.
    ended: usize,
    done: Done,
    steps: Vec<Step<M::State>>,
    state: M::State,
    tried: HashSet<(Tried, M::State)>,
    best: Option<usize>,
    story: String,
}

/// Which calls are in order already, one bit each.
struct Done {
    bits: Vec<u64>,
    /// How many calls with an end are.
    ended: usize,
}

/// The same in short: how many full words there are before the first gap, and the words from
/// there on that are not empty.
type Tried = (usize, Vec<(usize, u64)>);

impl Done {
    fn has(&self, call: usize) -> bool {
        self.bits[call / 64] & (1 << (call % 64)) != 0
    }

    fn flip(&mut self, call: usize) {
        self.bits[call / 64] ^= 1 << (call % 64);
    }

    fn full_words(&self) -> usize {
        self.bits.iter().take_while(|word| **word == u64::MAX).count()
    }

    fn in_short(&self) -> Tried {
        let full = self.full_words();
        let rest = self.bits.iter().copied().enumerate().skip(full).filter(|(_, word)| *word != 0);
        (full, rest.collect())
    }
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, calls: &'a [Call<M::Operation>]) -> Self {
        let mut calls: Vec<_> = calls.iter().collect();
        calls.sort_by_key(|call| (call.ended.is_none(), call.began));
        let ended = calls.partition_point(|call| call.ended.is_some());
        let done = Done { bits: vec![0; calls.len().div_ceil(64)], ended: 0 };
        let (state, tried, story) = (model.start(), HashSet::new(), String::new());
        Self { model, calls, ended, done, steps: Vec::new(), state, tried, best: None, story }
    }

    fn run(mut self) -> Result<(), Impossible> {
        let mut next = self.candidates();
        while self.done.ended < self.ended {
            if self.advance(next) {
                next = self.candidates();
                continue;
            }
            let Some(others) = self.step_back() else {
                let ordered = self.best.unwrap_or_default();
                return Err(Impossible { ordered, calls: self.calls.len(), story: self.story });
            };
            next = others;
        }
        Ok(())
    }

    /// Puts the first of `candidates` in order that fits and was not tried, and keeps the rest
    /// for later. False if none fits.
    fn advance(&mut self, candidates: Vec<usize>) -> bool {
        let mut candidates = candidates.into_iter();
        while let Some(call) = candidates.next() {
            let operation = &self.calls[call].operation;
            let Some(after) = self.model.apply(&self.state, operation) else { continue };
            if self.last_was_of_no_use(operation, &after) {
                continue;
            }
            self.flip(call);
            if !self.tried.insert((self.done.in_short(), after.clone())) {
                self.flip(call);
                continue;
            }
            // A read that fits now need not wait: it changes nothing for the others.
            let others = if self.model.reads(operation) { Vec::new() } else { candidates.collect() };
            let before = std::mem::replace(&mut self.state, after);
            self.steps.push(Step { call, before, others });
            return true;
        }
        self.tell();
        false
    }

    /// Whether the last call has no end and the next one comes to the same without it. Then it
    /// may as well never have happened, and that order is looked at anyway.
    fn last_was_of_no_use(&self, next: &M::Operation, after: &M::State) -> bool {
        let last = self.steps.last().filter(|step| step.call >= self.ended);
        last.is_some_and(|step| self.model.apply(&step.before, next).as_ref() == Some(after))
    }

    /// Takes the last call out of the order, and returns what else to try there.
    fn step_back(&mut self) -> Option<Vec<usize>> {
        let step = self.steps.pop()?;
        self.flip(step.call);
        self.state = step.before;
        Some(step.others)
    }

    fn flip(&mut self, call: usize) {
        self.done.flip(call);
        if call < self.ended {
            self.done.ended = if self.done.has(call) { self.done.ended + 1 } else { self.done.ended - 1 };
        }
    }

    /// What can come next: calls that began before any call ended that is not in order yet.
    /// Reads first, then by their ends: what must happen soonest is the likeliest. Those
    /// without an end come last.
    fn candidates(&self) -> Vec<usize> {
        let mut limit = u64::MAX;
        let mut candidates = Vec::new();
        let first = (self.done.full_words() * 64).min(self.ended);
        for call in (first..self.ended).filter(|call| !self.done.has(*call)) {
            if self.calls[call].began > limit {
                break;
            }
            limit = limit.min(self.calls[call].ended.unwrap_or(u64::MAX));
            candidates.push(call);
        }
        candidates.retain(|call| self.calls[*call].began <= limit);
        candidates.sort_by_key(|call| (!self.model.reads(&self.calls[*call].operation), self.calls[*call].ended));
        let unknown = self.ended..self.calls.len();
        candidates.extend(unknown.filter(|call| !self.done.has(*call) && self.calls[*call].began <= limit));
        candidates
    }

    /// Remembers the longest order so far, in words.
    fn tell(&mut self) {
        const LAST: usize = 12;
        if self.best.is_some_and(|best| self.steps.len() <= best) {
            return;
        }
        self.best = Some(self.steps.len());
        let line = |what: &str, call: usize| {
            let Call { operation, began, ended } = self.calls[call];
            format!("{what} {began}..{} {operation:?}\n", ended.map_or_else(String::new, |ended| ended.to_string()))
        };
        let before = self.steps.iter().skip(self.steps.len().saturating_sub(LAST)).map(|step| line("then", step.call));
        let state = format!("gives {:?}\n", self.state);
        let next = self.candidates().into_iter().map(|call| line("not ", call));
        self.story = before.chain([state]).chain(next).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register that is written, read, and added to: an addition answers what it made.
    #[derive(Debug)]
    struct Register;

    #[derive(Clone, Debug, PartialEq)]
    enum Operation {
        Write(u32),
        Read(u32),
        Add(Option<u32>),
    }

    use Operation::{Add, Read, Write};

    impl Model for Register {
        type State = u32;
        type Operation = Operation;

        fn start(&self) -> u32 {
            0
        }

        fn apply(&self, state: &u32, operation: &Operation) -> Option<u32> {
            match operation {
                Write(value) => Some(*value),
                Read(value) => (state == value).then_some(*state),
                Add(None) => Some(state + 1),
                Add(Some(made)) => (state + 1 == *made).then_some(*made),
            }
        }

        fn reads(&self, operation: &Operation) -> bool {
            matches!(operation, Read(_))
        }
    }

    fn call(operation: Operation, began: u64, ended: u64) -> Call<Operation> {
        Call { operation, began, ended: Some(ended) }
    }

    fn unknown(operation: Operation, began: u64) -> Call<Operation> {
        Call { operation, began, ended: None }
    }

    #[track_caller]
    fn is_possible(calls: &[Call<Operation>]) {
        check(&Register, calls).unwrap_or_else(|problem| panic!("{problem:?}"));
    }

    #[track_caller]
    fn is_impossible(calls: &[Call<Operation>]) {
        assert!(check(&Register, calls).is_err(), "accepted: {calls:?}");
    }

    #[test]
    fn calls_one_after_another_are_possible() {
        is_possible(&[]);
        is_possible(&[call(Write(1), 0, 1), call(Read(1), 2, 3), call(Add(Some(2)), 4, 5), call(Read(2), 6, 7)]);
    }

    #[test]
    fn a_stale_read_after_an_acknowledged_write_is_noticed() {
        is_impossible(&[call(Write(1), 0, 1), call(Read(0), 2, 3)]);
    }

    #[test]
    fn a_read_beside_a_write_may_see_either_value() {
        for seen in [0, 1] {
            is_possible(&[call(Write(1), 0, 5), call(Read(seen), 1, 2)]);
        }
    }

    #[test]
    fn a_read_that_goes_back_in_time_is_noticed() {
        is_impossible(&[call(Write(1), 0, 9), call(Read(1), 1, 2), call(Read(0), 3, 4)]);
    }

    #[test]
    fn a_value_that_nobody_wrote_is_noticed() {
        is_impossible(&[call(Write(1), 0, 1), call(Read(2), 2, 3)]);
        is_impossible(&[unknown(Write(1), 0), call(Read(2), 2, 3)]);
    }

    #[test]
    fn a_lost_update_is_noticed() {
        is_impossible(&[call(Add(Some(1)), 0, 5), call(Add(Some(1)), 1, 6)]);
        is_impossible(&[call(Add(Some(1)), 0, 1), call(Add(Some(2)), 2, 3), call(Read(1), 4, 5)]);
    }

    #[test]
    fn a_write_of_unknown_outcome_may_happen_late_or_never() {
        let write = || unknown(Write(1), 0);
        is_possible(&[write(), call(Read(0), 1, 2), call(Read(0), 3, 4)]);
        is_possible(&[write(), call(Read(0), 1, 2), call(Read(1), 3, 4)]);
        is_possible(&[write(), call(Write(2), 1, 2), call(Read(1), 3, 4)]);
    }

    #[test]
    fn a_write_of_unknown_outcome_happens_once_and_not_before_it_began() {
        is_impossible(&[unknown(Write(1), 0), call(Read(1), 1, 2), call(Write(2), 3, 4), call(Read(1), 5, 6)]);
        is_impossible(&[unknown(Write(1), 5), call(Read(1), 1, 2)]);
        is_impossible(&[unknown(Add(None), 0), call(Read(2), 1, 2)]);
    }

    #[test]
    fn an_update_of_unknown_outcome_can_be_what_an_answer_needs() {
        is_possible(&[unknown(Add(None), 0), call(Add(Some(2)), 1, 2), call(Read(2), 3, 4)]);
        is_impossible(&[call(Add(Some(2)), 1, 2)]);
    }

    /// Histories of a real register, with calls that overlap at random, are all possible; the
    /// same ones with one answer changed to a value that was not there are not.
    #[test]
    fn long_histories_are_decided_and_one_changed_answer_is_found() {
        for seed in 0..10 {
            let mut calls = overlapping(seed, 1_000);
            is_possible(&calls);
            let reads: Vec<_> = (0..calls.len()).filter(|n| matches!(calls[*n].operation, Read(_))).collect();
            let n = reads[reads.len() / 2];
            calls[n].operation = Read(u32::MAX);
            is_impossible(&calls);
        }
    }

    /// Reads that are answered with what was there long before are found in long histories too.
    #[test]
    fn one_stale_read_among_thousands_is_found() {
        for seed in 0..10 {
            let mut calls = overlapping(seed, 1_000);
            let middle = calls.iter().map(|call| call.began).max().unwrap_or(0) / 2;
            let stale = calls.iter().find_map(|call| match call.operation {
                Write(value) if call.ended.is_some_and(|ended| ended < middle / 2) => Some(value),
                _ => None,
            });
            let read = calls.iter_mut().find(|call| call.began > middle && matches!(call.operation, Read(_)));
            read.expect("a read").operation = Read(stale.expect("an old write"));
            is_impossible(&calls);
        }
    }

    /// Eight clients on a register: each call takes effect at one moment between its beginning
    /// and its end. One write in fifty is never answered, and may never have happened.
    fn overlapping(seed: u64, count: usize) -> Vec<Call<Operation>> {
        const CLIENTS: usize = 8;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut busy: Vec<Option<(u64, Option<Operation>, Operation)>> = vec![None; CLIENTS];
        let (mut clock, mut value, mut written, mut calls) = (0, 0, 0, Vec::new());
        while calls.len() < count {
            clock += 1;
            let client = random.usize(..CLIENTS);
            match busy[client].take() {
                None => {
                    written += 1;
                    let asked = if random.u8(..4) == 0 { Write(written) } else { Read(0) };
                    busy[client] = Some((clock, None, asked));
                }
                Some((began, None, asked)) => {
                    let lost = matches!(asked, Write(_)) && random.u8(..50) == 0;
                    let happens = !lost || random.bool();
                    let answer = match asked {
                        Read(_) => Read(value),
                        other => other,
                    };
                    if let (Write(new), true) = (&answer, happens) {
                        value = *new;
                    }
                    if lost {
                        calls.push(unknown(answer, began));
                    } else {
                        busy[client] = Some((began, Some(answer.clone()), answer));
                    }
                }
                Some((began, Some(answer), _)) => calls.push(call(answer, began, clock)),
            }
        }
        // Calls that nobody waits for any more.
        for (began, effect, asked) in busy.into_iter().flatten() {
            let operation = effect.unwrap_or(asked);
            if matches!(operation, Write(_)) {
                calls.push(unknown(operation, began));
            }
        }
        calls
    }
}
