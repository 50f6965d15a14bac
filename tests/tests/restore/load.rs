//! Clients that store keys and resolve them all the time.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use proto::types::Provider;
use system_tests::{
    ORGANIZATION,
    replicas::{Door, eventually},
    vault_stage::{creation, does},
};
use tokio::task::JoinSet;

const CLIENTS: usize = 4;

/// What key `number` is.
pub(crate) fn material(number: usize) -> String {
    format!("sk-{number}-0123456789abcdef")
}

/// Resolves the key of a profile, which is this one.
pub(crate) async fn resolves_as(door: &Door, profile: &str, material: &str) {
    let found = door.resolve(ORGANIZATION, Some(profile), Provider::Openai).await;
    let found = found.unwrap_or_else(|failure| panic!("{profile}: {failure:?}"));
    assert_eq!(found.material.expect("material").api_key, material, "{profile}");
}

/// The clients.
pub(crate) struct Load {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    stored: Arc<Mutex<Vec<usize>>>,
}

impl Load {
    pub(crate) fn start(door: &Door) -> Self {
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let stored = Arc::<Mutex<Vec<usize>>>::default();
        let mut tasks = JoinSet::new();
        for _ in 0..CLIENTS {
            let (door, stop, next, stored) = (door.clone(), Arc::clone(&stop), Arc::clone(&next), Arc::clone(&stored));
            tasks.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let profile = format!("profile-{number}");
                    does(&door, ORGANIZATION, creation(&material(number), false, &[&profile])).await;
                    stored.lock().expect("no panic").push(number);
                    resolves_as(&door, &profile, &material(number)).await;
                }
            });
        }
        Self { tasks, stop, stored }
    }

    /// The keys that were acknowledged so far.
    pub(crate) fn stored(&self) -> Vec<usize> {
        self.stored.lock().expect("no panic").clone()
    }

    /// Waits until so many were.
    pub(crate) async fn has_stored(&self, count: usize) {
        eventually("keys", async || (self.stored().len() >= count).then_some(())).await;
    }

    /// Ends, and returns all keys that were acknowledged.
    pub(crate) async fn end(mut self) -> Vec<usize> {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no call fails");
        }
        self.stored()
    }
}
