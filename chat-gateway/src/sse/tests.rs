use proptest::prelude::*;

use super::*;

const LIMIT: usize = 64;

/// What `chunks` come to: the events, and whether reading ended with an error.
fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Result<(), TooLarge>) {
    let mut reader = Reader::new(LIMIT);
    let mut events = Vec::new();
    for chunk in chunks {
        reader.push(chunk);
        if let Err(error) = drain(&mut reader, &mut events) {
            return (events, Err(error));
        }
        let held = reader.held_bytes();
        assert!(held <= 3 * LIMIT + chunk.len() + 16, "holds {held} bytes");
    }
    reader.finish();
    let outcome = drain(&mut reader, &mut events);
    (events, outcome)
}

fn drain(reader: &mut Reader, events: &mut Vec<Vec<u8>>) -> Result<(), TooLarge> {
    while let Some(event) = reader.next_event()? {
        events.push(event.to_vec());
    }
    Ok(())
}

fn whole(body: &[u8]) -> Vec<String> {
    let (events, outcome) = read([body]);
    assert_eq!(outcome, Ok(()));
    events.into_iter().map(|event| String::from_utf8(event).unwrap()).collect()
}

#[test]
fn an_event_is_its_data_lines_up_to_an_empty_line() {
    for (body, events) in [
        ("", vec![]),
        ("data: a\n\n", vec!["a"]),
        ("data:a\n\ndata:  b\n\n", vec!["a", " b"]),
        ("data: a\r\n\r\ndata: b\r\n\r\n", vec!["a", "b"]),
        ("data: a\r\rdata: b\r\r", vec!["a", "b"]),
        ("data: a\ndata: b\n\n", vec!["a\nb"]),
        ("data: a\ndata\ndata: b\n\n", vec!["a\n\nb"]),
        ("event: x\nid: 1\nretry: 5\ndata: a\n\n", vec!["a"]),
        ("data: a\nid: 1\n: comment\ndata: b\n\n", vec!["a\nb"]),
        ("data: a\nevent: x\n\n", vec!["a"]),
        (": ping\n\n: ping\n\ndata: a\n\n", vec!["a"]),
        ("event: x\n\ndata: a\n\n", vec!["a"]),
        ("database: a\n\ndatum\n\n data: a\n\n", vec![]),
        ("\n\n\ndata: a\n\n\n\n", vec!["a"]),
        ("data: {\"a\": \"b: c\"}\n\n", vec!["{\"a\": \"b: c\"}"]),
        ("\u{feff}data: a\n\n", vec!["a"]),
        ("\u{feff}\u{feff}data: a\n\n", vec![]),
        ("data: \u{feff}\u{1f980}\n\n", vec!["\u{feff}\u{1f980}"]),
    ] {
        assert_eq!(whole(body.as_bytes()), events, "{body:?}");
    }
}

#[test]
fn the_last_event_counts_without_its_blank_line() {
    for body in ["data: a\n\ndata: b\n", "data: a\n\ndata: b", "data: a\r\n\r\ndata: b\r", "data: a\n\ndata: b\nid: 1"]
    {
        assert_eq!(whole(body.as_bytes()), ["a", "b"], "{body:?}");
    }
}

#[test]
fn empty_data_is_no_event() {
    for body in ["data\n\n", "data:\n\n", "data: \n\n", "data:", "data", "dat"] {
        assert_eq!(whole(body.as_bytes()), Vec::<String>::new(), "{body:?}");
    }
}

#[test]
fn a_line_or_an_event_beyond_the_limit_is_an_error() {
    let fits = "x".repeat(LIMIT - "data: ".len());
    assert_eq!(whole(format!("data: {fits}\n\n").as_bytes()), [fits.as_str()]);
    for body in [
        format!("data: a\n\ndata: {fits}x\n\n"),
        format!("data: a\n\n: {fits}xxxxx"),
        format!("data: a\n\ndata: {fits}\ndata: {fits}\n\n"),
    ] {
        assert_eq!(read([body.as_bytes()]), (vec![b"a".to_vec()], Err(TooLarge)), "{body:?}");
    }
}

#[test]
fn comments_after_data_do_not_fill_the_buffer() {
    let comment = b": comment\n".as_slice();
    let (events, outcome) = read(std::iter::once(b"data: a\n".as_slice()).chain(std::iter::repeat_n(comment, 1000)));
    assert_eq!((events, outcome), (vec![b"a".to_vec()], Ok(())));
}

#[test]
fn a_large_event_does_not_hold_its_memory() {
    let mut reader = Reader::new(1024 * 1024);
    reader.push(format!("data: {}\n\n", "x".repeat(1024 * 1024 - 16)).as_bytes());
    assert!(reader.next_event().unwrap().is_some());
    assert_eq!(reader.next_event(), Ok(None));
    reader.push(b"data: a\n\n");
    assert!(reader.buffer.capacity() <= IDLE_BYTES_MAX);
}

/// Bytes that are mostly what an event stream is made of.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"data: ".to_vec()),
        Just(b"data:".to_vec()),
        Just(b":".to_vec()),
        Just(b"event: x".to_vec()),
        Just(BYTE_ORDER_MARK.to_vec()),
        Just("\u{1f980}".as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_events_of_the_whole(body in body(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.insert(0, 0);
        cuts.push(body.len());
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]).collect();
        let expected = read([body.as_slice()]);
        prop_assert_eq!(read(chunks), expected.clone());
        prop_assert_eq!(read(body.chunks(1)), expected);
    }
}
