//! Rows 20 and 21: too many bytes, and bytes that come in unusual pieces.

use system_tests::{
    fake_provider::{Answer as Said, End},
    stage::{
        Case,
        row::Row,
        wire::{Api, data},
    },
};

/// One event that is larger than all others, and that a caller gets whole.
const LARGE_BYTES: usize = 10_000_000;

/// More headers than any provider sends.
const HEADERS: usize = 4_000;
const HEADER_BYTES: usize = 2_000;

/// What the gateway may need beside what it had before: an event of 16 MiB at most, a few times.
const MEMORY_MAX: usize = 160 * 1024 * 1024;

#[tokio::test]
async fn row_20_a_large_event_comes_whole() {
    let row = Row::new(20, "an event of 10 MB");
    row.holds(async |case| {
        let before = case.stage.peak();
        let text = "x".repeat(LARGE_BYTES);
        let mut events = case.api.begin_text();
        events.push(case.api.delta(&text, 1));
        case.says(case.api, [Said::stream(case.api.opening() + &data(&events) + &case.api.closing_of(&text, 1))]);
        let answer = case.plainly().await;
        assert_eq!(answer.failure.as_ref().map(|failure| (failure.class(), failure.message.clone())), None);
        assert_eq!(answer.text.len(), LARGE_BYTES);
        assert_bounded(&case, before);
    })
    .await;
}

#[tokio::test]
async fn row_20_an_endless_line_is_a_clear_failure() {
    let row = Row::new(20, "an endless line, first and mid-stream");
    row.holds(async |case| {
        let before = case.stage.peak();
        for (tokens, expected) in [(0, "Unavailable PROVIDER_INTERNAL"), (5, "Aborted STREAM_TRUNCATED")] {
            let case = case.another();
            let begun = if tokens == 0 { String::new() } else { case.api.tokens(0..tokens) };
            let body = case.api.opening() + &begun + "data: x";
            case.says(case.api, [Said::stream(body).ending(End::Endless)]);
            let answer = case.plainly().await;
            assert_eq!(answer.failed().class(), expected);
            case.nothing_stays_open().await;
            case.is_healthy_afterwards().await;
        }
        assert_bounded(&case, before);
    })
    .await;
}

#[tokio::test]
async fn row_20_endless_headers_are_a_clear_failure() {
    let row = Row::new(20, "headers of 8 MB");
    row.holds(async |case| {
        let before = case.stage.peak();
        let mut said = case.api.whole(3);
        for n in 0..HEADERS {
            said = said.header(&format!("x-header-{n}"), &"x".repeat(HEADER_BYTES));
        }
        case.says(case.api, [said]);
        let answer = case.plainly().await;
        let class = answer.failed().class();
        assert!(
            ["Unavailable PROVIDER_UNREACHABLE", "Unavailable PROVIDER_INTERNAL"].contains(&class.as_str()),
            "{class}"
        );
        assert!(case.tries() <= 3, "{} attempts", case.tries());
        assert_bounded(&case, before);
        case.nothing_stays_open().await;
        case.is_healthy_afterwards().await;
    })
    .await;
}

fn assert_bounded(case: &Case, before: usize) {
    let more = case.stage.peak() - before;
    assert!(more < MEMORY_MAX, "{} MiB more than before", more / 1024 / 1024);
}

#[tokio::test]
async fn row_21_an_answer_is_the_same_at_every_split() {
    let row = Row::new(21, "boundaries inside UTF-8 and CRLF, several events in one packet").apis(&Api::ALL);
    row.holds(async |case| {
        let text = "a\u{e9}\u{20ac}\u{1f600} \\\n";
        let mut events = case.api.begin_text();
        events.extend((0..3).map(|n| case.api.delta(text, n + 1)));
        let body = case.api.opening() + &data(&events) + &case.api.closing_of(&text.repeat(3), 3);
        for body in [body.clone(), body.replace('\n', "\r\n"), body.replace("\n\n", "\r\n\r\n")] {
            for size in [0, 1, 2, 3, 5, 7, 64] {
                let case = case.another();
                case.says(case.api, [Said::stream(body.as_bytes()).in_writes_of(size)]);
                let answer = case.plainly().await;
                assert_eq!(answer.failure.map(|failure| failure.message), None, "in writes of {size}");
                assert_eq!(answer.text, text.repeat(3), "in writes of {size}");
                let usage = answer.finished.and_then(|finished| finished.usage).expect("usage");
                assert_eq!(usage.output_tokens, Some(3));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn row_21_compression_that_nobody_asked_for_is_a_clear_failure() {
    let row = Row::new(21, "gzip that was not asked for");
    row.holds(async |case| {
        let whole = case.api.whole(3);
        let zipped = Said { body: gzip(&whole.body), ..whole }.header("content-encoding", "gzip");
        case.says(case.api, [zipped]);
        let answer = case.plainly().await;
        assert_eq!(answer.failed().class(), "Unavailable PROVIDER_INTERNAL");
        assert!(answer.text.is_empty(), "nothing is invented");
        let asked = &case.attempts(case.api)[0];
        assert!(!asked.header("accept-encoding").contains("gzip"), "an encoder would hold events back");
        case.nothing_stays_open().await;
        case.is_healthy_afterwards().await;
    })
    .await;
}

/// The bytes in the form of gzip, in one block that is stored as it is.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).expect("one block");
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1];
    out.extend(size.to_le_bytes());
    out.extend((!size).to_le_bytes());
    out.extend(bytes);
    out.extend(crc32(bytes).to_le_bytes());
    out.extend(u32::from(size).to_le_bytes());
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 })
    })
}
