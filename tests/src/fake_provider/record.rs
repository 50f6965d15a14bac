//! What a fake provider saw: requests, who left before the end, what is open.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use http::{HeaderMap, Version};
use tokio::sync::watch;

use super::Answer;

/// A request that was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its number at this provider, from 0 in the order of their headers.
    pub number: usize,
    /// When its headers were there.
    pub at: Instant,
    /// The version of HTTP.
    pub version: Version,
    /// Its method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Received {
    /// A header as text. Empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The key that it came with.
    pub fn key(&self) -> &str {
        let bearer = self.header("authorization").trim_start_matches("Bearer ");
        [self.header("x-api-key"), self.header("x-goog-api-key"), bearer]
            .into_iter()
            .max_by_key(|key| key.len())
            .unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a request is JSON")
    }
}

/// Chooses the answer to a request.
pub(super) struct Choice(pub(super) Box<dyn Fn(&Received) -> Answer + Send + Sync>);

impl std::fmt::Debug for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Choice(..)")
    }
}

/// What a provider and its connections share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) answers: Mutex<VecDeque<Answer>>,
    pub(super) chooses: Mutex<Option<Choice>>,
    pub(super) received: Mutex<Vec<Received>>,
    /// When the callers left who did so before their answer was whole, by their requests.
    pub(super) left: Mutex<HashMap<usize, Instant>>,
    /// How many those are.
    pub(super) hung_up: watch::Sender<usize>,
    /// Answers of which something was sent.
    pub(super) begun: watch::Sender<usize>,
    /// Requests that were received whole.
    pub(super) asked: watch::Sender<usize>,
    pub(super) holds_back: watch::Sender<bool>,
    /// Requests that have no whole answer yet, and whose callers wait.
    pub(super) open: watch::Sender<usize>,
    /// Connections that are open, and all that ever were.
    pub(super) connections: watch::Sender<usize>,
    pub(super) connected: watch::Sender<usize>,
    numbers: AtomicUsize,
}

impl Shared {
    /// A request that begins now.
    pub(super) fn begin(self: &Arc<Self>) -> Unfinished {
        self.open.send_modify(|open| *open += 1);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        Unfinished { shared: Arc::clone(self), number, finished: false }
    }

    /// What is chosen for a request, if somebody chooses.
    pub(super) fn choose(&self, received: &Received) -> Option<Answer> {
        self.chooses.lock().expect("no panic").as_ref().map(|choice| choice.0(received))
    }

    /// The next answer of those that are used in order.
    pub(super) fn next(&self) -> Answer {
        let mut answers = self.answers.lock().expect("no panic");
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        next.unwrap_or_else(|| Answer::json(500, "{\"error\":{\"message\":\"no answer was set\"}}"))
    }
}

/// A request that is open. Notes a caller who left before the end.
#[derive(Debug)]
pub(super) struct Unfinished {
    shared: Arc<Shared>,
    pub(super) number: usize,
    finished: bool,
}

impl Unfinished {
    /// Whether its answer is whole, or ends as it was told to.
    pub(super) fn is_finished(&mut self, finished: bool) {
        self.finished = finished;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            self.shared.left.lock().expect("no panic").insert(self.number, Instant::now());
            self.shared.hung_up.send_modify(|callers| *callers += 1);
        }
        self.shared.open.send_modify(|open| *open -= 1);
    }
}

/// A connection that is open.
pub(super) struct Connected(Arc<Shared>);

impl Connected {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.connections.send_modify(|connections| *connections += 1);
        shared.connected.send_modify(|connected| *connected += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.send_modify(|connections| *connections -= 1);
    }
}
