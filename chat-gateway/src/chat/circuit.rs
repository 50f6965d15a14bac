//! Circuit breakers: who failed too often in a row is not asked for a while, then by one call
//! at a time until it answers.
//!
//! There is one for each provider, which has one base URL in a process, and one for each
//! version of a key that a provider refuses. Only those of which something failed take memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    message::Provider,
    metrics::{self, Metrics},
    upstream::Class,
};

/// How long a circuit is open the first time, and at most: doubled with each probe that fails.
const OPEN_MIN: Duration = Duration::from_secs(1);
const OPEN_MAX: Duration = Duration::from_secs(15);

/// A probe that is not over by now is not waited for: another one may go. Models that think are
/// silent for minutes.
const PROBE_MAX: Duration = Duration::from_secs(15);

/// How long a call waits that meets a circuit while it is probed.
const PROBE_WAIT: Duration = Duration::from_millis(500);

/// How many circuits are remembered. Beyond it those are forgotten that are not open.
const CIRCUITS_MAX: usize = 4096;

/// Who may be at fault.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// A provider at its base URL.
    Provider(Provider),
    /// A version of a key at its provider.
    Key { provider: Provider, api_key_id: String, version: i64 },
}

/// All circuits of a process.
#[derive(Debug)]
pub(super) struct Circuits {
    /// So many faults in a row, without an answer between them, open a circuit. 0: never.
    faults_max: u32,
    known: Mutex<HashMap<Name, Circuit>>,
    metrics: Arc<Metrics>,
}

/// A circuit of which something failed. One that is not there is closed.
#[derive(Debug)]
struct Circuit {
    faults: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// The fault that opened it.
    class: Class,
    until: Instant,
    length: Duration,
    /// When the probe was sent that is under way.
    probe: Option<Instant>,
}

/// A call that is not made: its circuit is open.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The fault that opened it.
    pub(super) class: Class,
    /// When it may be worth trying again.
    pub(super) wait: Duration,
}

/// A call that is made. Without a verdict nothing is known: the caller left.
#[derive(Debug)]
#[must_use = "tell how the call ended"]
pub(super) struct Permit<'a> {
    circuits: &'a Circuits,
    name: Name,
    /// When it was sent, if it is a probe.
    probe: Option<Instant>,
}

impl Circuits {
    /// All are closed.
    pub(super) fn new(faults_max: u32, metrics: Arc<Metrics>) -> Self {
        Self { faults_max, known: Mutex::default(), metrics }
    }

    /// Lets a call pass, unless the circuit is open.
    pub(super) fn admit(&self, name: Name) -> Result<Permit<'_>, Refused> {
        let mut circuits = self.lock();
        let Some(open) = circuits.get_mut(&name).and_then(|circuit| circuit.open.as_mut()) else {
            return Ok(Permit { circuits: self, name, probe: None });
        };
        let now = Instant::now();
        if now < open.until {
            return Err(Refused { class: open.class, wait: open.until - now });
        }
        if open.probe.is_some_and(|sent| now < sent + PROBE_MAX) {
            return Err(Refused { class: open.class, wait: PROBE_WAIT });
        }
        open.probe = Some(now);
        Ok(Permit { circuits: self, name, probe: Some(now) })
    }

    fn succeeded(&self, name: &Name) {
        if self.lock().remove(name).is_some_and(|circuit| circuit.open.is_some()) {
            info!(circuit = %name, "answers again: calls are made as usual");
        }
    }

    fn failed(&self, name: &Name, class: Class, probe: Option<Instant>) {
        if self.faults_max == 0 {
            return;
        }
        let now = Instant::now();
        let mut circuits = self.lock();
        if circuits.len() >= CIRCUITS_MAX && !circuits.contains_key(name) {
            circuits.retain(|_, circuit| circuit.open.as_ref().is_some_and(|open| open.until + OPEN_MAX > now));
            if circuits.len() >= CIRCUITS_MAX {
                return;
            }
        }
        let circuit = circuits.entry(name.clone()).or_insert(Circuit { faults: 0, open: None });
        circuit.faults = circuit.faults.saturating_add(1);
        let length = match &circuit.open {
            Some(open) if probe.is_some() && open.probe == probe => (open.length * 2).min(OPEN_MAX),
            // Calls that began before it opened tell nothing new.
            Some(_) => return,
            None if circuit.faults < self.faults_max => return,
            None => OPEN_MIN,
        };
        warn!(circuit = %name, ?class, seconds = length.as_secs(), "too many faults in a row: no calls for a while");
        match name {
            Name::Provider(provider) => self.metrics.circuits_opened.add(1, &[metrics::of(*provider)]),
            Name::Key { provider, .. } => self.metrics.keys_cooled.add(1, &[metrics::of(*provider)]),
        }
        circuit.open = Some(Open { class, until: now + length, length, probe: None });
    }

    /// The probe ended without a verdict: another one may go.
    fn left(&self, name: &Name, probe: Instant) {
        let mut circuits = self.lock();
        if let Some(open) = circuits.get_mut(name).and_then(|circuit| circuit.open.as_mut())
            && open.probe == Some(probe)
        {
            open.probe = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Circuit>> {
        // Nothing that holds the lock panics.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// It was answered, if only with a refusal that is not its fault.
    pub(super) fn succeeded(mut self) {
        self.probe = None;
        self.circuits.succeeded(&self.name);
    }

    /// It failed.
    pub(super) fn failed(mut self, class: Class) {
        let probe = self.probe.take();
        self.circuits.failed(&self.name, class, probe);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(probe) = self.probe {
            self.circuits.left(&self.name, probe);
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Provider(provider) => write!(f, "{provider}"),
            Self::Key { provider, api_key_id, version } => write!(f, "{provider} key {api_key_id} version {version}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAULTS_MAX: u32 = 5;
    const DEAD: Name = Name::Provider(Provider::OpenAi);

    fn fails(circuits: &Circuits) {
        circuits.admit(DEAD).expect("it is let through").failed(Class::Unreachable);
    }

    fn refused(circuits: &Circuits) -> Option<Duration> {
        circuits.admit(DEAD).err().map(|refused| refused.wait)
    }

    #[tokio::test(start_paused = true)]
    async fn five_faults_in_a_row_open_a_circuit_and_an_answer_between_them_does_not() {
        let circuits = Circuits::new(FAULTS_MAX, Arc::new(Metrics::new(&crate::metrics::MetricsOptions::default())));
        for _ in 0..4 {
            fails(&circuits);
        }
        circuits.admit(DEAD).unwrap().succeeded();
        for _ in 0..4 {
            fails(&circuits);
        }
        assert_eq!(refused(&circuits), None);
        fails(&circuits);
        assert_eq!(circuits.admit(DEAD).unwrap_err(), Refused { class: Class::Unreachable, wait: OPEN_MIN });
        assert!(circuits.admit(Name::Provider(Provider::Gemini)).is_ok(), "others are asked as usual");
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_at_a_time_decides_and_the_wait_grows_to_its_limit() {
        let circuits = Circuits::new(FAULTS_MAX, Arc::new(Metrics::new(&crate::metrics::MetricsOptions::default())));
        (0..FAULTS_MAX).for_each(|_| fails(&circuits));
        for seconds in [1, 2, 4, 8, 15, 15] {
            let length = Duration::from_secs(seconds);
            assert_eq!(refused(&circuits), Some(length));
            tokio::time::advance(length).await;
            let probe = circuits.admit(DEAD).expect("a probe");
            assert_eq!(refused(&circuits), Some(PROBE_WAIT), "not a second one");
            probe.failed(Class::Unreachable);
        }
        tokio::time::advance(OPEN_MAX).await;
        circuits.admit(DEAD).expect("a probe").succeeded();
        assert!(circuits.lock().is_empty(), "it is closed, and takes no memory");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_caller_left_makes_room_for_another() {
        let circuits = Circuits::new(FAULTS_MAX, Arc::new(Metrics::new(&crate::metrics::MetricsOptions::default())));
        (0..FAULTS_MAX).for_each(|_| fails(&circuits));
        tokio::time::advance(OPEN_MIN).await;
        drop(circuits.admit(DEAD).expect("a probe"));
        let slow = circuits.admit(DEAD).expect("another");
        tokio::time::advance(PROBE_MAX).await;
        let third = circuits.admit(DEAD).expect("the other takes too long");
        drop(slow);
        assert_eq!(refused(&circuits), Some(PROBE_WAIT), "the third is still under way");
        third.succeeded();
        assert_eq!(refused(&circuits), None);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_began_before_do_not_prolong_it() {
        let circuits = Circuits::new(FAULTS_MAX, Arc::new(Metrics::new(&crate::metrics::MetricsOptions::default())));
        let before = circuits.admit(DEAD).unwrap();
        (0..FAULTS_MAX).for_each(|_| fails(&circuits));
        before.failed(Class::Internal);
        assert_eq!(refused(&circuits), Some(OPEN_MIN));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let circuits = Circuits::new(FAULTS_MAX, Arc::new(Metrics::new(&crate::metrics::MetricsOptions::default())));
        (0..FAULTS_MAX).for_each(|_| fails(&circuits));
        for version in 0..10_000 {
            let name = Name::Key { provider: Provider::OpenAi, api_key_id: "a".to_owned(), version };
            circuits.admit(name).unwrap().failed(Class::Key);
        }
        assert!(circuits.lock().len() <= CIRCUITS_MAX);
        assert_eq!(refused(&circuits), Some(OPEN_MIN), "what is open is not forgotten");
    }
}
