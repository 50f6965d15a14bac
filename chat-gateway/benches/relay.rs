//! What an answer costs on its way through the gateway, step by step, and what it costs to find
//! out whom to ask. `make bench-micro` runs it.

mod bodies;

use std::{alloc::System, hint::black_box, time::Duration};

use anyhow::{Context as _, ensure};
use chat_gateway::benchmarks::{self, Api};
use criterion::{Criterion, Throughput};
use zeroizing_alloc::ZeroAlloc;

/// That of the binary: to wipe what is freed takes time too.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// How long each benchmark runs before it is measured, and then.
const WARM_UP: Duration = Duration::from_secs(1);
const MEASUREMENT: Duration = Duration::from_secs(3);
const SAMPLES: usize = 50;

/// Chunks of text in an answer.
const CHUNKS: usize = 100;

/// What one read brings of an answer that arrives faster than it is read.
const READ_BYTES: usize = 8 * 1024;

/// Names of models, by what finds their provider.
const NAMES: [(&str, &str, bool); 4] = [
    ("first_rule", "claude-sonnet-4-5-20250929", true),
    ("last_rule", "gemini-2.5-flash", true),
    ("prefix", "openai/gpt-4o-2024-08-06", true),
    ("unknown", "mistral-large-latest", false),
];

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(WARM_UP)
        .measurement_time(MEASUREMENT)
        .sample_size(SAMPLES)
        .configure_from_args();
    event_streams(&mut criterion)?;
    answers(&mut criterion)?;
    names(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

/// The reader of event streams, by the bytes of a body.
fn event_streams(criterion: &mut Criterion) -> anyhow::Result<()> {
    let mut group = criterion.benchmark_group("sse");
    let events = bodies::body(Api::OpenAiChat, CHUNKS);
    let whole = events.concat();
    group.throughput(Throughput::Bytes(whole.len().try_into()?));
    let framing = events.len() * "data: \n\n".len();
    ensure!(benchmarks::sse([whole.as_bytes()]) == Some(whole.len() - framing), "data of the stream is lost");
    group.bench_function("event_by_event", |bencher| {
        bencher.iter(|| benchmarks::sse(black_box(&events).iter().map(String::as_bytes)));
    });
    group.bench_function("buffer_by_buffer", |bencher| {
        bencher.iter(|| benchmarks::sse(black_box(&whole).as_bytes().chunks(READ_BYTES)));
    });
    group.finish();
    Ok(())
}

/// The answers of each API, by their events: read, and relayed up to the message that is sent.
fn answers(criterion: &mut Criterion) -> anyhow::Result<()> {
    for api in Api::ALL {
        let body = bodies::body(api, CHUNKS);
        let events = || black_box(&body).iter().map(String::as_bytes);
        let reader = api.reader().with_context(|| format!("no chat leads to {}", api.name()))?;
        ensure!(reader.decode(events()) > Some(CHUNKS), "the answer of {} is not whole", api.name());
        let mut group = criterion.benchmark_group("answer");
        group.throughput(Throughput::Elements(body.len().try_into()?));
        group.bench_function(format!("{}/decode", api.name()), |bencher| {
            bencher.iter(|| reader.decode(events()));
        });
        group.bench_function(format!("{}/relay", api.name()), |bencher| {
            bencher.iter(|| {
                reader.relay(events(), |message| {
                    black_box(message);
                })
            });
        });
        group.finish();
    }
    Ok(())
}

/// The provider of a model, by its name.
fn names(criterion: &mut Criterion) -> anyhow::Result<()> {
    let mut group = criterion.benchmark_group("detect");
    for (found_by, name, is_known) in NAMES {
        ensure!(benchmarks::detect(name) == is_known, "{name} leads elsewhere");
        group.bench_function(found_by, |bencher| bencher.iter(|| benchmarks::detect(black_box(name))));
    }
    group.finish();
    Ok(())
}
