//! Many slow streams at once for a long time: nothing of any is lost or comes in another order,
//! what breaks off is said to, and the gateway's memory does not grow.
//!
//! 20 seconds in every run, five minutes with `SOAK=short`, an hour with `SOAK=1`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use proto::chat::chat_service_client::ChatServiceClient;
use system_tests::{
    Setup,
    answer::{Answer, ask},
    chats::MODEL,
    paced::{End, Pace, PacedProvider, question},
    resident::Resident,
    soak, start_gateway, start_vault,
    vault_stage::chat_client,
};
use tokio::{task::JoinSet, time::timeout};
use tonic::transport::Channel;

const STREAMS: usize = 512;

/// The connections of all callers.
const CONNECTIONS: usize = 8;

const PAUSE: Duration = Duration::from_millis(250);

/// How long a stream may be silent, as the gateway is told.
const IDLE_SECONDS: u64 = 3;

/// How much longer than planned a stream may take before it counts as one that hangs.
const LATENESS_MAX: Duration = Duration::from_secs(30);

const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// How long it is run, and how fast memory may grow in that time, in KiB each minute: what fills
/// once weighs more in a short time.
struct Size {
    time: Duration,
    growth_max: f64,
    pieces: u32,
}

impl Size {
    fn of_this_run() -> Self {
        soak::span(
            Self { time: Duration::from_secs(20), growth_max: 40.0 * 1024.0, pieces: 40 },
            Self { time: Duration::from_mins(5), growth_max: 256.0, pieces: 200 },
            Self { time: Duration::from_hours(1), growth_max: 64.0, pieces: 600 },
        )
    }
}

/// How many streams ended how.
#[derive(Debug, Default)]
struct Counts {
    whole: AtomicU64,
    silent: AtomicU64,
    broken: AtomicU64,
    pieces: AtomicU64,
}

impl Counts {
    fn add(&self, end: End, pieces: u32) {
        let count = match end {
            End::Whole => &self.whole,
            End::Silent => &self.silent,
            End::Broken => &self.broken,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.pieces.fetch_add(u64::from(pieces), Ordering::Relaxed);
    }
}

/// Asks one question after the other until the time is over.
async fn reads(
    client: ChatServiceClient<Channel>,
    pace: Pace,
    next: Arc<AtomicU64>,
    counts: Arc<Counts>,
    end: Instant,
) {
    while Instant::now() < end {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let plan = pace.plan(number);
        let mut client = client.clone();
        let request = ask(MODEL, None, &question(number));
        let limit = pace.pause * plan.pieces + LATENESS_MAX;
        let answer = timeout(limit, async { Answer::read(client.stream_chat(request).await).await });
        let answer = answer.await.unwrap_or_else(|_| panic!("stream {number} hangs: {plan:?}"));
        let text = plan.text();
        match plan.end {
            End::Whole => {
                assert!(answer.finished.is_some(), "stream {number}: {plan:?} {:?}", answer.failure);
                assert_eq!(answer.text, text, "stream {number}");
            }
            End::Silent | End::Broken => {
                assert_eq!(answer.failed().class(), "Aborted STREAM_TRUNCATED", "stream {number}: {plan:?}");
                // What was under way when a connection broke may be lost, and nothing before it.
                assert!(text.starts_with(&answer.text), "stream {number}: {:?} of {text:?}", answer.text);
                assert!(plan.end == End::Broken || answer.text == text, "stream {number}: {:?}", answer.text);
            }
        }
        counts.add(plan.end, plan.pieces);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_slow_streams_lose_nothing_and_leave_nothing_behind() {
    let size = Size::of_this_run();
    let pace = Pace { pause: PAUSE, pieces: 20..=size.pieces };
    let provider = PacedProvider::start(pace.clone()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let setup = Setup {
        vault_environment: vec![("ARCHESTRA_CHAT_OPENAI_API_KEY".to_owned(), "key-of-a-test".to_owned())],
        gateway_options: vec![format!("--idle-timeout={IDLE_SECONDS}")],
        ..Setup::default()
    };
    let vault = start_vault(folder.path(), &setup).await.expect("a vault");
    let gateway = start_gateway(folder.path(), &vault.url(), &provider.url(), &setup).await.expect("a gateway");
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| chat_client(&gateway)).collect();

    let (next, counts) = (Arc::new(AtomicU64::new(0)), Arc::new(Counts::default()));
    let end = Instant::now() + size.time;
    let mut readers = JoinSet::new();
    for stream in 0..STREAMS {
        let client = clients[stream % CONNECTIONS].clone();
        readers.spawn(reads(client, pace.clone(), Arc::clone(&next), Arc::clone(&counts), end));
    }
    let mut resident = Resident::of(gateway.id());
    let mut every = tokio::time::interval(SAMPLE_EVERY);
    while Instant::now() < end {
        every.tick().await;
        resident.sample();
        // A reader that panicked ends the test now, not in an hour.
        while let Some(ended) = readers.try_join_next() {
            ended.expect("streams are as planned");
        }
    }
    while let Some(ended) = readers.join_next().await {
        ended.expect("streams are as planned");
    }

    let (growth, most) = resident.slope(size.time / 3);
    println!("{STREAMS} streams at once for {:?}: {counts:?}", size.time);
    println!("memory of the gateway: {most:.0} KiB at most, {growth:+.0} KiB/min of {:.0} allowed", size.growth_max);
    let kinds = [&counts.whole, &counts.silent, &counts.broken];
    assert!(kinds.iter().all(|count| count.load(Ordering::Relaxed) > 0), "each kind of end is there: {counts:?}");
    assert!(growth < size.growth_max, "{growth:+.0} KiB/min");
}
