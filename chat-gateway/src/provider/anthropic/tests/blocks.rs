//! Blocks of an answer, from their beginning to their end.

use super::*;
use crate::{
    message::{Citation, CitationKind, Event, FinishReason, ProviderEvent, ReasoningDelta},
    provider::Broken,
};

fn start(index: usize, block: &str) -> String {
    format!(r#"{{"type":"content_block_start","index":{index},"content_block":{block}}}"#)
}

fn piece(index: usize, delta: &str) -> String {
    format!(r#"{{"type":"content_block_delta","index":{index},"delta":{delta}}}"#)
}

fn stop(index: usize) -> String {
    format!(r#"{{"type":"content_block_stop","index":{index}}}"#)
}

/// A block from its beginning to its end.
fn block(index: usize, block: &str, deltas: &[&str]) -> Vec<String> {
    let pieces = deltas.iter().map(|delta| piece(index, delta));
    [start(index, block)].into_iter().chain(pieces).chain([stop(index)]).collect()
}

fn told(blocks: &[Vec<String>], reason: &str) -> Transcript {
    let events: Vec<&str> = blocks.iter().flatten().map(String::as_str).collect();
    answer(&events, reason)
}

fn own(answer: &Transcript) -> Vec<&ProviderEvent> {
    let own = answer.events.iter().filter_map(|event| match event {
        Event::Provider(event) => Some(event),
        _ => None,
    });
    own.collect()
}

/// A thought as a line: its number, its text, its signature and what is hidden of it.
fn thoughts(answer: &Transcript) -> Vec<String> {
    let thoughts = answer.events.iter().filter_map(|event| match event {
        Event::Reasoning(ReasoningDelta { index, text, signature, redacted_data, id }) => {
            assert_eq!(id, "");
            Some(format!("{index} {text}|{signature}|{redacted_data}"))
        }
        _ => None,
    });
    thoughts.collect()
}

const THINKING: &str = r#"{"type":"thinking","thinking":"","signature":""}"#;

#[test]
fn a_thought_is_told_and_signed_at_its_end() {
    let blocks = [
        block(
            0,
            THINKING,
            &[
                r#"{"type":"thinking_delta","thinking":"a"}"#,
                r#"{"type":"thinking_delta","thinking":""}"#,
                r#"{"type":"thinking_delta","thinking":"b","estimated_tokens":null}"#,
                r#"{"type":"signature_delta","signature":"s=="}"#,
            ],
        ),
        block(1, r#"{"type":"redacted_thinking","data":"hidden"}"#, &[]),
        // Of a thought that is omitted only the signature comes.
        block(2, THINKING, &[r#"{"type":"signature_delta","signature":"t"}"#]),
        // One that says nothing has no number.
        block(3, THINKING, &[]),
        block(4, r#"{"type":"thinking","thinking":"c","signature":"u"}"#, &[]),
    ];
    let answer = told(&blocks, "end_turn");
    assert_eq!(thoughts(&answer), ["0 a||", "0 b||", "0 |s==|", "1 ||hidden", "2 |t|", "3 c||", "3 |u|"]);
    assert_eq!((answer.before_commit, own(&answer)), (2, vec![]));
    let cut = [vec![start(0, THINKING), piece(0, r#"{"type":"thinking_delta","thinking":"a"}"#)]];
    assert_eq!(thoughts(&told(&cut, "max_tokens")), ["0 a||"]);
}

#[test]
fn each_citation_has_its_kind_and_counts() {
    let plain = |kind, start, end| Citation {
        kind,
        cited_text: "w".to_owned(),
        title: "T".to_owned(),
        document_index: Some(0),
        start: Some(start),
        end: Some(end),
        ..Citation::default()
    };
    let web = |kind| Citation { kind, cited_text: "w".to_owned(), title: "T".to_owned(), ..Citation::default() };
    let url = || "https://a.test/".to_owned();
    for (json, expected) in [
        (
            r#"{"type":"char_location","cited_text":"w","document_index":0,"document_title":"T","start_char_index":0,"end_char_index":7,"file_id":null}"#,
            plain(CitationKind::Characters, 0, 7),
        ),
        (
            r#"{"type":"page_location","cited_text":"w","document_index":0,"document_title":"T","start_page_number":1,"end_page_number":2}"#,
            plain(CitationKind::Pages, 1, 2),
        ),
        (
            r#"{"type":"content_block_location","cited_text":"w","document_index":0,"document_title":"T","start_block_index":3,"end_block_index":4}"#,
            plain(CitationKind::Blocks, 3, 4),
        ),
        (
            r#"{"type":"web_search_result_location","cited_text":"w","url":"https://a.test/","title":"T","encrypted_index":"e"}"#,
            Citation { url: url(), ..web(CitationKind::Web) },
        ),
        (
            r#"{"type":"search_result_location","cited_text":"w","search_result_index":0,"source":"https://a.test/","title":"T","start_block_index":0,"end_block_index":1}"#,
            Citation { url: url(), ..plain(CitationKind::SearchResult, 0, 1) },
        ),
        (
            r#"{"type":"search_result_location","cited_text":"w","search_result_index":0,"source":"shelf 3","title":"T","start_block_index":0,"end_block_index":1}"#,
            plain(CitationKind::SearchResult, 0, 1),
        ),
        (
            r#"{"type":"search_result_location","cited_text":"w","title":null}"#,
            Citation { kind: CitationKind::SearchResult, cited_text: "w".to_owned(), ..Citation::default() },
        ),
        (r#"{"type":"brand_new","cited_text":"w","title":"T"}"#, web(CitationKind::Other)),
        (r#"{"type":"brand_new","cited_text":7}"#, Citation::default()),
    ] {
        let citation = Event::Citation(Citation { json: json.to_owned(), ..expected });
        // Anthropic cites first and writes then; what is cited is told after its text.
        let late = block(
            0,
            r#"{"type":"text","text":"","citations":[]}"#,
            &[&format!(r#"{{"type":"citations_delta","citation":{json}}}"#), r#"{"type":"text_delta","text":"x"}"#],
        );
        let early = block(0, &format!(r#"{{"type":"text","text":"x","citations":[{json}]}}"#), &[]);
        for (told, before_commit) in [(told(&[late], "end_turn"), 2), (told(&[early], "end_turn"), 1)] {
            assert_eq!((told.before_commit, own(&told)), (before_commit, vec![]));
            let at = told.events.iter().position(|event| *event == citation);
            assert!(at > told.events.iter().position(|event| *event == Event::Text("x".to_owned())), "{json} {told:?}");
        }
    }
    let wrong = r#"{"type":"citations_delta","citation":{"type":"char_location","start_char_index":-1}}"#;
    let answer = told(&[block(0, r#"{"type":"text","text":""}"#, &[wrong])], "end_turn");
    assert!(matches!(answer.broken, Some(Broken::Malformed(_))));
}

#[test]
fn what_only_anthropic_has_is_told_whole_and_can_be_sent_back() {
    for (begun, deltas, whole) in [
        (
            r#"{"type":"server_tool_use","id":"s","name":"web_search","input":{}}"#,
            &[
                r#"{"type":"input_json_delta","partial_json":""}"#,
                r#"{"type":"input_json_delta","partial_json":"{\"q\":"}"#,
                r#"{"type":"input_json_delta","partial_json":"1.0}"}"#,
            ][..],
            r#"{"id":"s","input":{"q":1.0},"name":"web_search","type":"server_tool_use"}"#,
        ),
        (
            r#"{"type":"server_tool_use","id":"s","name":"advisor","input":{}}"#,
            &[r#"{"type":"input_json_delta","partial_json":""}"#],
            r#"{"type":"server_tool_use","id":"s","name":"advisor","input":{}}"#,
        ),
        (
            r#"{"type":"mcp_tool_use","id":"m","name":"echo","input":{"a": 1},"server_name":"x"}"#,
            &[],
            r#"{"type":"mcp_tool_use","id":"m","name":"echo","input":{"a": 1},"server_name":"x"}"#,
        ),
        (
            r#"{"type":"web_search_tool_result","tool_use_id":"s","content":[{"encrypted_content":"e"}]}"#,
            &[],
            r#"{"type":"web_search_tool_result","tool_use_id":"s","content":[{"encrypted_content":"e"}]}"#,
        ),
        (
            r#"{"type":"compaction","content":null}"#,
            &[r#"{"type":"compaction_delta","content":"All.","encrypted_content":"e"}"#],
            r#"{"content":"All.","encrypted_content":"e","type":"compaction"}"#,
        ),
        (r#"{"type":"fallback","from":{},"to":{}}"#, &[], r#"{"type":"fallback","from":{},"to":{}}"#),
        (r#"{"type":"brand_new","id":7}"#, &[], r#"{"type":"brand_new","id":7}"#),
    ] {
        let answer = told(&[block(0, begun, deltas)], "end_turn");
        let own = own(&answer);
        // Its first piece or its end commits.
        assert_eq!((answer.before_commit, own.len()), (2, 1), "{begun}");
        assert_eq!((own[0].json.as_str(), own[0].replayable), (whole, true));
        assert!(whole.contains(&format!(r#""type":"{}""#, own[0].kind)));
    }
}

#[test]
fn what_is_not_whole_is_not_to_be_sent_back() {
    const TOOL: &str = r#"{"type":"server_tool_use","id":"s","name":"n","input":{}}"#;
    const BEGUN: &str = r#"{"type":"input_json_delta","partial_json":"{\"q\":"}"#;
    let cut = told(&[block(0, TOOL, &[BEGUN])], "max_tokens");
    let expected = r#"{"id":"s","input":"{\"q\":","name":"n","type":"server_tool_use"}"#;
    assert_eq!((own(&cut)[0].json.as_str(), own(&cut)[0].replayable), (expected, false));
    let open = told(&[vec![start(0, TOOL)]], "max_tokens");
    assert_eq!((own(&open)[0].json.as_str(), own(&open)[0].replayable), (TOOL, false));
    assert!(own(&told(&[vec![start(0, TOOL)]], "end_turn"))[0].replayable);
    // A piece of a kind that is not known is passed on; without it the block is not whole.
    let new = told(&[block(0, r#"{"type":"brand_new"}"#, &[r#"{"type":"brand_new_delta","x":1}"#])], "end_turn");
    let told: Vec<_> = own(&new).into_iter().map(|event| (event.kind.as_str(), event.replayable)).collect();
    assert_eq!(told, [("content_block_delta", false), ("brand_new", false)]);
}

#[test]
fn a_paused_turn_keeps_all_its_parts_in_their_order() {
    let blocks = [
        block(0, r#"{"type":"text","text":"a"}"#, &[]),
        block(1, r#"{"type":"server_tool_use","id":"s","name":"n","input":{"q":1}}"#, &[]),
        block(2, r#"{"type":"redacted_thinking","data":"d"}"#, &[]),
        block(3, r#"{"type":"tool_use","id":"c","name":"t","input":{"k":1}}"#, &[]),
    ];
    let answer = told(&blocks, "pause_turn");
    assert_eq!(answer.finish().reason, FinishReason::Pause);
    let order = answer.events.iter().filter_map(|event| match event {
        Event::Text(_) => Some("text"),
        Event::Provider(event) if event.replayable => Some("own"),
        Event::Reasoning(_) => Some("thought"),
        Event::ToolCallFinished(_) => Some("call"),
        _ => None,
    });
    assert_eq!(order.collect::<Vec<_>>(), ["text", "own", "thought", "call"]);
}

#[test]
fn what_open_blocks_hold_is_bounded() {
    let mut decoder = decoder("seed");
    let mut out = crate::provider::Output::default();
    decoder.event(START.as_bytes(), &mut out).unwrap();
    let big = format!(r#"{{"type":"brand_new","x":"{}"}}"#, "x".repeat(1024 * 1024));
    for index in 0..100 {
        // What has ended holds nothing.
        decoder.event(start(index, &big).as_bytes(), &mut out).unwrap();
        decoder.event(stop(index).as_bytes(), &mut out).unwrap();
    }
    let broken = (0..100).find_map(|index| decoder.event(start(index, &big).as_bytes(), &mut out).err());
    assert!(matches!(broken, Some(Broken::Malformed(_))));
}
