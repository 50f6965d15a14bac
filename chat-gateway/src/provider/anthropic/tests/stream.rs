//! A stream from its first event to its last.

use super::*;
use crate::{
    message::{Event, FinishReason, ProviderEvent},
    provider::{
        Broken, RejectionKind,
        transcript::{line, read, stream, usage},
    },
};

const TEXT: &[&str] = &[
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"ping"}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Héllo \u00e9\ud83e\udd80"}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{}}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
];

#[test]
fn text_commits_and_message_stop_ends() {
    let answer = answer(TEXT, "end_turn");
    assert_eq!(answer.text(), "Héllo é🦀");
    assert_eq!(answer.before_commit, 4);
    assert_eq!((answer.model.as_deref(), answer.response_id.as_deref()), (Some("claude-x"), Some("msg_1")));
    let finish = answer.finish();
    assert_eq!((finish.reason, finish.provider_reason.as_str()), (FinishReason::Stop, "end_turn"));
    let counts = usage([Some(15), Some(3), Some(2), Some(9), None, Some(24)]);
    assert_eq!((finish.usage, answer.usage()), (Some(counts), Some(counts)));
}

#[test]
fn each_stop_reason_has_its_meaning() {
    for (word, reason) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::StopSequence),
        ("max_tokens", FinishReason::Length),
        ("model_context_window_exceeded", FinishReason::Length),
        ("tool_use", FinishReason::ToolCalls),
        ("refusal", FinishReason::Refusal),
        ("pause_turn", FinishReason::Pause),
        ("brand_new", FinishReason::Other),
    ] {
        let answer = answer(&[], word);
        assert_eq!((answer.finish().reason, answer.finish().provider_reason.as_str()), (reason, word));
    }
    let named = r#"{"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"END"}}"#;
    assert_eq!(read(decoder, &stream(&[START, named, STOP])).finish().stop_sequence, "END");
}

#[test]
fn a_later_count_replaces_an_earlier_one_field_by_field() {
    let first = r#"{"type":"message_delta","delta":{},"usage":{"input_tokens":100,"cache_read_input_tokens":null,"output_tokens":5}}"#;
    let last = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4,"output_tokens_details":{"thinking_tokens":3}}}"#;
    let answer = read(decoder, &stream(&[START, first, last, STOP]));
    let counts = usage([Some(105), Some(3), Some(2), Some(4), Some(3), Some(109)]);
    assert_eq!(answer.finish().usage, Some(counts));
    assert_eq!(
        read(
            decoder,
            &stream(&[
                r#"{"type":"message_start","message":{}}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
                STOP
            ])
        )
        .finish()
        .usage,
        None
    );
}

#[test]
fn a_count_that_cannot_be_read_is_not_there() {
    let before = usage([Some(15), Some(3), Some(2), Some(1), None, Some(16)]);
    let counted = |output, reasoning| {
        let total = output + 15;
        usage([Some(15), Some(3), Some(2), Some(output), reasoning, Some(total)])
    };
    for (report, expected, own) in [
        (r#"{"output_tokens":-7}"#, before, r#""output_tokens":-7}"#),
        (r#"{"output_tokens":7.5}"#, before, r#""output_tokens":7.5}"#),
        (r#"{"output_tokens":"7","input_tokens":[]}"#, before, r#""input_tokens":[],"output_tokens":"7"}"#),
        (
            r#"{"output_tokens":7,"output_tokens_details":3}"#,
            counted(7, None),
            r#""output_tokens":7,"output_tokens_details":3}"#,
        ),
        (
            r#"{"output_tokens":7,"output_tokens_details":{"thinking_tokens":5,"x":-1}}"#,
            counted(7, Some(5)),
            r#""output_tokens":7,"output_tokens_details":{"thinking_tokens":5,"x":-1}}"#,
        ),
        // What is no object is no usage.
        ("7", before, r#""output_tokens":1}"#),
        ("[1]", before, r#""output_tokens":1}"#),
    ] {
        let end = format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{report}}}"#);
        let answer = read(decoder, &stream(&[START, &end, STOP]));
        let finish = answer.finish();
        assert_eq!(finish.usage, Some(expected), "{report}");
        assert!(finish.provider_usage.ends_with(own), "{report} {}", finish.provider_usage);
    }
    let start = r#"{"type":"message_start","message":{"usage":"none"}}"#;
    let answer =
        read(decoder, &stream(&[start, r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#, STOP]));
    assert_eq!((answer.finish().usage, answer.finish().provider_usage.as_str()), (None, ""));
}

#[test]
fn arguments_come_in_pieces_or_with_the_beginning() {
    let blocks = [
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"a","name":"t","input":{}}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"k\":"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"b","name":"t","input":{}}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        r#"{"type":"content_block_stop","index":2}"#,
        r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"c","name":"t","input":{"k": 2}}}"#,
        r#"{"type":"content_block_stop","index":3}"#,
    ];
    let answer = answer(&blocks, "tool_use");
    let calls: Vec<String> = answer.calls().into_iter().map(line).collect();
    assert_eq!(calls, [r#"0 a t {"k":1}"#, "1 b t {}", r#"2 c t {"k": 2}"#]);
    assert_eq!(answer.finish().reason, FinishReason::ToolCalls);
}

#[test]
fn a_call_that_the_limit_cuts_is_incomplete() {
    let begin = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"t","input":{}}}"#;
    let piece =
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"k\":"}}"#;
    let cut = answer(&[begin, piece], "max_tokens");
    assert_eq!(cut.calls().into_iter().map(line).collect::<Vec<_>>(), [r#"0 a t {"k": !"#]);
    assert_eq!(cut.finish().reason, FinishReason::Length);
    assert_eq!(answer(&[begin], "max_tokens").calls().into_iter().map(line).collect::<Vec<_>>(), ["0 a t  !"]);
}

#[test]
fn a_call_without_input_is_whole_only_if_the_model_went_on_or_ended_by_itself() {
    let begin = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"t","input":{}}}"#;
    let empty = r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#;
    let end = r#"{"type":"content_block_stop","index":0}"#;
    let next = r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#;
    let other = r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"b","name":"t","input":{}}}"#;
    let other_end = r#"{"type":"content_block_stop","index":1}"#;
    for (blocks, reason, expected) in [
        (&[begin, empty, end][..], "tool_use", &["0 a t {}"][..]),
        (&[begin, empty, end], "max_tokens", &["0 a t  !"]),
        (&[begin, empty, end], "refusal", &["0 a t  !"]),
        (&[begin, empty, end, next], "max_tokens", &["0 a t {}"]),
        (&[begin, other, end, other_end], "tool_use", &["0 a t {}", "1 b t {}"]),
        (&[begin, other, end, other_end], "max_tokens", &["0 a t {}", "1 b t  !"]),
    ] {
        let calls: Vec<_> = answer(blocks, reason).calls().into_iter().map(line).collect();
        assert_eq!(calls, expected, "{reason}");
    }
}

#[test]
fn an_end_that_does_not_say_why_is_a_cut() {
    for data in [&[STOP][..], &[START, STOP], &[START, TEXT[0], STOP]] {
        let cut = read(decoder, &stream(data));
        assert_eq!((cut.finished, &cut.broken), (false, &Some(Broken::Cut)), "{data:?}");
    }
}

#[test]
fn what_must_not_be_is_malformed() {
    for blocks in [
        vec!["{"],
        vec!["7"],
        vec![r#"["ping"]"#],
        vec![START],
        vec![TEXT[0], TEXT[0]],
        vec![TEXT[3]],
        vec![r#"{"type":"content_block_stop","index":0}"#],
        vec![r#"{"type":"content_block_start","content_block":{"type":"text"}}"#],
        vec![r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a"}}"#],
        vec![TEXT[0], r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":7}}"#],
    ] {
        let answer = answer(&blocks, "end_turn");
        assert!(matches!(answer.broken, Some(Broken::Malformed(_))), "{blocks:?}");
        assert!(!answer.finished);
    }
    assert!(matches!(read(decoder, &stream(&[TEXT[0]])).broken, Some(Broken::Malformed(_))));
}

#[test]
fn the_end_of_the_body_alone_is_no_end() {
    for data in [&[START][..], &[START, TEXT[0], TEXT[3]], &[]] {
        let cut = read(decoder, &stream(data));
        assert_eq!((cut.finished, cut.broken), (false, None));
    }
}

#[test]
fn an_error_in_the_stream_is_the_error_it_stands_for() {
    for (kind, expected) in [
        ("overloaded_error", RejectionKind::Overloaded),
        ("rate_limit_error", RejectionKind::RateLimited),
        ("authentication_error", RejectionKind::Key),
        ("permission_error", RejectionKind::Permission),
        ("billing_error", RejectionKind::Quota),
        ("not_found_error", RejectionKind::ModelNotFound),
        ("invalid_request_error", RejectionKind::InvalidRequest),
        ("timeout_error", RejectionKind::Timeout),
        ("api_error", RejectionKind::Internal),
        ("brand_new", RejectionKind::Internal),
    ] {
        for outer in [r#""type":"error","#, ""] {
            let error = format!(r#"{{{outer}"error":{{"details":null,"type":"{kind}","message":"M"}}}}"#);
            match read(decoder, &stream(&[START, &error])).broken {
                Some(Broken::Rejected(rejection)) => {
                    assert_eq!((rejection.kind, rejection.message.as_str()), (expected, "M"));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn what_is_said_of_the_end_is_kept() {
    let start = r#"{"type":"message_start","message":{"container":{"id":"old"},"diagnostics":{"d":1},"stop_details":null,"usage":{"input_tokens":1,"service_tier":"standard","cache_creation":{"x":0}}}}"#;
    let first = r#"{"type":"message_delta","delta":{"stop_details":{"type":"refusal","category":"bio"},"container":{"id":"new"}},"usage":{"input_tokens":2,"server_tool_use":null}}"#;
    let last = r#"{"type":"message_delta","delta":{"stop_reason":"refusal","stop_details":null},"usage":{"output_tokens":0,"iterations":[1.50]},"context_management":{"applied_edits":[]}}"#;
    let answer = read(decoder, &stream(&[start, first, last, STOP]));
    let finish = answer.finish();
    assert_eq!(finish.reason, FinishReason::Refusal);
    assert_eq!(
        finish.provider_details,
        r#"{"container":{"id":"new"},"context_management":{"applied_edits":[]},"diagnostics":{"d":1},"stop_details":{"type":"refusal","category":"bio"}}"#
    );
    assert_eq!(
        finish.provider_usage,
        r#"{"cache_creation":{"x":0},"input_tokens":2,"iterations":[1.50],"output_tokens":0,"service_tier":"standard"}"#
    );
    let silent = read(
        decoder,
        &stream(&[
            r#"{"type":"message_start","message":{}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
            STOP,
        ]),
    );
    let finish = silent.finish();
    assert_eq!((finish.provider_details.as_str(), finish.provider_usage.as_str()), ("", ""));
}

#[test]
fn an_answer_may_come_all_at_once() {
    let start = r#"{"type":"message_start","message":{"role":"assistant","type":"message","content":[{"type":"text","text":"Hi"},{"type":"tool_use","id":"a","name":"t","input":{"k":1}},{"type":"tool_use","id":"b","name":"t","input":{}}],"stop_reason":"tool_use","stop_sequence":null}}"#;
    let answer = read(decoder, &stream(&[start, STOP]));
    assert_eq!((answer.text().as_str(), answer.before_commit), ("Hi", 0));
    assert_eq!(answer.calls().into_iter().map(line).collect::<Vec<_>>(), [r#"0 a t {"k":1}"#, "1 b t {}"]);
    assert_eq!(answer.finish().reason, FinishReason::ToolCalls);
}

#[test]
fn what_nobody_reads_is_passed_on() {
    let passed_on = |data: &str| {
        let answer = answer(&[TEXT[0], data], "end_turn");
        let passed: Vec<_> = answer
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Provider(ProviderEvent { kind, json, replayable: false }) => Some((kind.clone(), json.clone())),
                _ => None,
            })
            .collect();
        assert!(answer.finished, "{data}");
        passed
    };
    for (kind, data) in [
        ("brand_new", r#"{"type":"brand_new","index":"x"}"#),
        ("ping", r#"{"type":"ping","load":1}"#),
        ("message_delta", r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","new":1}}"#),
        ("message_delta", r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"new":{}}"#),
        (
            "content_block_start",
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"","new":1}}"#,
        ),
        (
            "content_block_start",
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"a","name":"t","input":{},"caller":{"type":"code_execution_20250825"}}}"#,
        ),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a","new":1}}"#,
        ),
        ("content_block_delta", r#"{"type":"content_block_delta","index":0,"delta":{"type":"brand_new"}}"#),
    ] {
        assert_eq!(passed_on(data), [(kind.to_owned(), data.to_owned())]);
    }
    for data in [
        r#"{"type":"ping"}"#,
        r#"{"type":"ping","load":null}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"a","name":"t","input":{},"caller":null}}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"a","name":"t","input":{},"caller":{"type":"direct"}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a","new":null}}"#,
    ] {
        assert_eq!(passed_on(data), []);
    }
}
