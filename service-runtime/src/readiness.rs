//! Whether a service can do its work, and what is wrong if not, in words for an operator.
//!
//! A service names its components at the start, and tells how each is as it finds out. Probes,
//! gRPC health and gauges read it. Reading asks nobody, so a probe costs as little while
//! everything is down. The words go to whoever can reach a probe: no secret is among them.
//!
//! Odd: a component that is impaired takes no readiness away. What goes on working for callers
//! must not be taken from them because a part that they do not need now is away.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry::KeyValue;
use tokio::sync::watch;

use crate::{
    metrics::{Describe, Gauge},
    semconv::attribute,
};

/// The longest words of a component. What is beyond helps nobody who looks at a probe.
const WORDS_CHARS_MAX: usize = 600;

/// What a component says before anything is known of it.
const STARTING: &str = "starting";

/// What a process that stops says.
pub(crate) const SHUTTING_DOWN: &str = "shutting down";

/// How a component is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It does what it should.
    Well,
    /// Something is wrong with it, and the service does its work all the same.
    Impaired(String),
    /// The service cannot do its work.
    Unwell(String),
}

impl State {
    /// What is wrong, in words.
    pub fn words(&self) -> Option<&str> {
        match self {
            Self::Well => None,
            Self::Impaired(words) | Self::Unwell(words) => Some(words),
        }
    }

    /// Its name for programs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Impaired(_) => "impaired",
            Self::Unwell(_) => "unwell",
        }
    }
}

/// How all components of a service are. Clones are of the same service.
#[derive(Clone, Debug)]
pub struct Readiness {
    known: Arc<watch::Sender<Known>>,
    shown: Gauge,
}

impl Default for Readiness {
    fn default() -> Self {
        let describe = Describe { name: "service.ready", unit: "", help: "1 if the component is well" };
        Self { known: Arc::new(watch::Sender::new(Known::default())), shown: Gauge::new(&describe) }
    }
}

impl Readiness {
    /// Adds a component, which is unwell until it says otherwise. Once it is well, it must have
    /// failed for as long as `patience` before that counts: one slow answer is not an outage.
    /// With none, the first failure counts.
    pub fn component(&self, name: &'static str, patience: Duration) -> Component {
        let mut index = 0;
        self.known.send_modify(|known| {
            index = known.components.len();
            known.components.push(Told { name, state: State::Unwell(STARTING.to_owned()), failing_since: None });
        });
        let component = Component { known: Arc::clone(&self.known), index, patience, shown: self.shown.clone(), name };
        component.show(false);
        component
    }

    /// Says that the process stops: it is not ready from now on, however its components are.
    pub fn shutting_down(&self) {
        self.known.send_if_modified(|known| !std::mem::replace(&mut known.shutting_down, true));
    }

    /// Whether the service can do its work.
    pub fn is_ready(&self) -> bool {
        self.known.borrow().is_ready()
    }

    /// How each component is. What is impaired is not well either.
    pub fn report(&self) -> Vec<(&'static str, Result<(), String>)> {
        let known = self.known.borrow();
        let result = |state: &State| state.words().map_or(Ok(()), |words| Err(words.to_owned()));
        known.components.iter().map(|told| (told.name, result(&told.state))).collect()
    }

    /// What is known now.
    pub(crate) fn known(&self) -> Known {
        self.known.borrow().clone()
    }

    /// What is known, and when that changes.
    pub(crate) fn follow(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }
}

/// One component, for the code that knows how it is.
#[derive(Clone, Debug)]
pub struct Component {
    known: Arc<watch::Sender<Known>>,
    index: usize,
    patience: Duration,
    shown: Gauge,
    name: &'static str,
}

impl Component {
    /// It does what it should.
    pub fn well(&self) {
        // Said with every call: nobody waits for a lock to hear what is known.
        let is_known = |told: &Told| told.state == State::Well && told.failing_since.is_none();
        if !self.known.borrow().components.get(self.index).is_some_and(is_known) {
            self.tell(State::Well);
        }
    }

    /// Something is wrong with it, and the service does its work all the same.
    pub fn impaired(&self, words: &str) {
        self.tell(State::Impaired(one_line(words)));
    }

    /// The service cannot do its work.
    pub fn unwell(&self, words: &str) {
        self.tell(State::Unwell(one_line(words)));
    }

    fn tell(&self, state: State) {
        self.known.send_if_modified(|known| {
            let Some(told) = known.components.get_mut(self.index) else { return false };
            let is_news = told.now(state, self.patience);
            // Under the lock, so that the gauge shows what was told last.
            self.show(told.state == State::Well);
            is_news
        });
    }

    /// What is impaired is not well either.
    fn show(&self, well: bool) {
        self.shown.set(well.into(), &[KeyValue::new(attribute::SERVICE_COMPONENT, self.name)]);
    }
}

/// What is known of a service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) shutting_down: bool,
    pub(crate) components: Vec<Told>,
}

impl Known {
    pub(crate) fn is_ready(&self) -> bool {
        !self.shutting_down && self.components.iter().all(Told::serves)
    }

    /// Whether what needs only these components can be done.
    pub(crate) fn serves(&self, needs: &[&str]) -> bool {
        !self.shutting_down && self.components.iter().filter(|told| needs.contains(&told.name)).all(Told::serves)
    }

    /// What keeps it from being ready, in one line.
    pub(crate) fn why_not(&self) -> String {
        if self.shutting_down {
            return SHUTTING_DOWN.to_owned();
        }
        let unwell = self.components.iter().filter(|told| !told.serves());
        let lines: Vec<_> = unwell.map(|told| format!("{}: {}", told.name, told.words())).collect();
        lines.join("; ")
    }
}

/// What a component told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) name: &'static str,
    pub(crate) state: State,
    /// Since when it fails while it still counts as well.
    failing_since: Option<Instant>,
}

impl Told {
    /// `ok`, or what is wrong.
    pub(crate) fn words(&self) -> &str {
        self.state.words().unwrap_or("ok")
    }

    fn serves(&self) -> bool {
        !matches!(self.state, State::Unwell(_))
    }

    /// Takes note. True if that is news.
    fn now(&mut self, state: State, patience: Duration) -> bool {
        if self.state == State::Well && state != State::Well {
            let since = *self.failing_since.get_or_insert_with(Instant::now);
            if since.elapsed() < patience {
                return false;
            }
        }
        self.failing_since = None;
        let is_news = self.state != state;
        self.state = state;
        is_news
    }
}

/// Words as they fit into a line of a probe's answer.
fn one_line(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_ready_once_all_of_it_serves() {
        let readiness = Readiness::default();
        let store = readiness.component("store", Duration::ZERO);
        let manager = readiness.component("secrets_manager", Duration::ZERO);
        assert!(!readiness.is_ready(), "nothing is known yet");
        store.well();
        assert!(!readiness.is_ready());
        manager.impaired("it is away");
        assert!(readiness.is_ready(), "the service does its work without it");
        assert_eq!(readiness.report(), [("store", Ok(())), ("secrets_manager", Err("it is away".to_owned()))]);
        store.unwell("no\nanswer");
        assert_eq!(readiness.known().why_not(), "store: no answer");
        assert!(!readiness.known().serves(&["store"]));
        assert!(readiness.known().serves(&["secrets_manager"]));
        store.well();
        assert!(readiness.is_ready());
    }

    #[test]
    fn whoever_stops_is_not_ready_however_well_it_is() {
        let readiness = Readiness::default();
        readiness.component("store", Duration::ZERO).well();
        readiness.shutting_down();
        assert!(!readiness.is_ready());
        assert!(!readiness.known().serves(&[]));
        assert_eq!(readiness.known().why_not(), SHUTTING_DOWN);
    }

    #[test]
    fn a_failure_counts_when_it_lasts() {
        let patience = Duration::from_mins(1);
        let mut told = Told { name: "store", state: State::Well, failing_since: None };
        let unwell = || State::Unwell("away".to_owned());
        assert!(!told.now(unwell(), patience));
        assert_eq!(told.state, State::Well, "one failure is not an outage");
        assert!(!told.now(State::Well, patience));
        assert!(!told.now(unwell(), patience));
        told.failing_since = told.failing_since.and_then(|since| since.checked_sub(patience));
        assert!(told.now(unwell(), patience));
        assert_eq!(told.state, unwell());
        assert!(told.now(State::Unwell("for another reason".to_owned()), patience), "news are told at once");
        assert!(told.now(State::Well, patience), "and so is that it is well");
    }

    #[test]
    fn whoever_follows_is_woken_by_news_only() {
        let readiness = Readiness::default();
        let store = readiness.component("store", Duration::ZERO);
        let mut follower = readiness.follow();
        follower.borrow_and_update();
        store.unwell(STARTING);
        assert!(!follower.has_changed().expect("it is there"));
        store.well();
        assert!(follower.has_changed().expect("it is there"));
        follower.borrow_and_update();
        store.well();
        assert!(!follower.has_changed().expect("it is there"));
    }
}
