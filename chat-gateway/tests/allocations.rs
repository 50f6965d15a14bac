//! What a chunk of text allocates on its way through the gateway: from the bytes of the provider's
//! body to the message that is sent to the caller.
//!
//! Answers of two lengths are relayed; what the longer one allocates more is what its further
//! chunks do. It is the same number each time, so it has a bound: more is a decision. One test in
//! a binary of its own, for all that the process allocates is counted.

#[path = "../benches/bodies/mod.rs"]
mod bodies;

use chat_gateway::benchmarks::{Api, Reader};
use dhat::{HeapStats, Profiler};
use prost::Message as _;
use proto::chat::{StreamChatResponse, stream_chat_response::Event};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Chunks of the shorter answer; the longer one has twice as many.
const CHUNKS: usize = 100;

/// What a chunk of each API may allocate: how often, and how many bytes.
const BOUNDS: [(Api, f64, f64); Api::ALL.len()] = [
    (Api::Anthropic, 7.2, 60.0),
    (Api::OpenAiChat, 20.2, 510.0),
    (Api::OpenAiResponses, 10.2, 130.0),
    (Api::Gemini, 18.2, 395.0),
];

#[test]
#[expect(clippy::print_stdout, reason = "whoever looks for waste wants the numbers")]
fn a_chunk_allocates_no_more_than_it_did() {
    let _profiler = Profiler::builder().testing().build();
    for (api, allocations_max, bytes_max) in BOUNDS {
        let name = api.name();
        let reader = api.reader().unwrap();
        check_text(api, reader);
        let (short, long) = (allocated(api, reader, CHUNKS), allocated(api, reader, 2 * CHUNKS));
        assert_eq!(allocated(api, reader, CHUNKS), short, "{name} allocates otherwise each time");
        let (allocations, bytes) = (per_chunk(long.0 - short.0), per_chunk(long.1 - short.1));
        println!("{name}: {allocations:.2} allocations, {bytes:.1} bytes for each chunk");
        assert!(allocations <= allocations_max, "{name}: {allocations} allocations, at most {allocations_max}");
        assert!(bytes <= bytes_max, "{name}: {bytes} bytes, at most {bytes_max}");
    }
}

/// Only what is relayed as the text that it is says what a chunk of text costs.
fn check_text(api: Api, reader: Reader) {
    let mut texts = Vec::new();
    let mut others = 0;
    let body = bodies::body(api, CHUNKS);
    let relayed = reader.relay(body.iter().map(String::as_bytes), |message| {
        match StreamChatResponse::decode(message).ok().and_then(|message| message.event) {
            Some(Event::TextDelta(delta)) => texts.push(delta.text),
            Some(Event::Usage(_) | Event::Finished(_)) => {}
            _ => others += 1,
        }
    });
    assert_eq!((relayed, others), (Some(()), 0), "{}", api.name());
    assert!(texts.iter().map(String::as_str).eq((0..CHUNKS).map(bodies::text)), "{}: {texts:?}", api.name());
}

/// How often an answer of so many chunks makes the gateway allocate, and how many bytes.
fn allocated(api: Api, reader: Reader, chunks: usize) -> (u64, u64) {
    let body = bodies::body(api, chunks);
    let before = HeapStats::get();
    let relayed = reader.relay(body.iter().map(String::as_bytes), |_| {});
    let after = HeapStats::get();
    assert!(relayed.is_some(), "the answer of {} is not whole", api.name());
    (after.total_blocks - before.total_blocks, after.total_bytes - before.total_bytes)
}

#[expect(clippy::cast_precision_loss, reason = "no count here is so large")]
fn per_chunk(count: u64) -> f64 {
    count as f64 / CHUNKS as f64
}
