//! Text, thoughts, calls, counts and ends.

use proptest::prelude::*;

use super::*;
use crate::{
    message::{Event, FinishReason, ReasoningDelta},
    provider::{
        Broken, Output,
        bounded_list::ITEMS_MAX,
        transcript::{line, usage},
    },
};

fn lines(answer: &Transcript) -> Vec<String> {
    answer.calls().into_iter().map(line).collect()
}

#[test]
fn text_commits_and_the_end_of_the_body_ends() {
    let counted = r#"{"candidates":[{"finishReason":"STOP"}],"modelVersion":"gemini-x","responseId":"r1","usageMetadata":{"promptTokenCount":10,"cachedContentTokenCount":4,"candidatesTokenCount":5,"thoughtsTokenCount":3,"toolUsePromptTokenCount":2,"totalTokenCount":20}}"#;
    let answer = answer(&[&parts(r#"{"text":""}"#), &parts(r#"{"text":"Hé"},{"text":"llo"}"#), counted]);
    assert_eq!((answer.text().as_str(), answer.before_commit), ("Héllo", 1));
    assert_eq!((answer.model.as_deref(), answer.response_id.as_deref()), (Some("gemini-x"), Some("r1")));
    assert_eq!((answer.finish().reason, answer.finish().provider_reason.as_str()), (FinishReason::Stop, "STOP"));
    let counts = usage([Some(12), Some(4), None, Some(8), Some(3), Some(20)]);
    assert_eq!(answer.finish().usage, Some(counts));
}

#[test]
fn the_last_count_counts() {
    let counted = |counts: &str| format!(r#"{{"usageMetadata":{{{counts}}}}}"#);
    let first = counted(r#""promptTokenCount":10,"candidatesTokenCount":9,"totalTokenCount":19"#);
    let less = counted(r#""promptTokenCount":10,"candidatesTokenCount":5,"totalTokenCount":15"#);
    let none = counted(r#""trafficType":"ON_DEMAND""#);
    let stop = end("\"STOP\"");
    let counts = usage([Some(10), None, None, Some(5), None, Some(15)]);
    assert_eq!(answer(&[&none, &first, &less, &none, &stop]).finish().usage, Some(counts));
    assert_eq!(answer(&[&none, &stop]).finish().usage, None);
    let blocked = counted(r#""promptTokenCount":10,"totalTokenCount":10"#);
    assert_eq!(answer(&[&blocked, &stop]).finish().usage, Some(usage([Some(10), None, None, Some(0), None, Some(10)])));
}

#[test]
fn a_count_that_cannot_be_read_is_not_known() {
    let known = [Some(12), Some(4), None, Some(8), Some(3), Some(20)];
    let without = |places: &[usize]| {
        let mut counts = known;
        for place in places {
            counts[*place] = None;
        }
        usage(counts)
    };
    for (name, right, unknown) in [
        ("promptTokenCount", 10, &[0][..]),
        ("toolUsePromptTokenCount", 2, &[0]),
        ("cachedContentTokenCount", 4, &[1]),
        ("candidatesTokenCount", 5, &[3]),
        ("thoughtsTokenCount", 3, &[3, 4]),
        ("totalTokenCount", 20, &[5]),
    ] {
        let counts = r#"{"promptTokenCount":10,"cachedContentTokenCount":4,"candidatesTokenCount":5,"thoughtsTokenCount":3,"toolUsePromptTokenCount":2,"totalTokenCount":20}"#;
        for wrong in ["-1", "1.5", "\"7\"", "[]", "18446744073709551616"] {
            let counts = counts.replace(&format!("\"{name}\":{right}"), &format!("\"{name}\":{wrong}"));
            let answer = answer(&[&format!(r#"{{"usageMetadata":{counts}}}"#), &end("\"STOP\"")]);
            let finish = answer.finish();
            assert_eq!((finish.usage, finish.provider_usage.as_str()), (Some(without(unknown)), counts.as_str()));
        }
    }
    let unread = r#"{"usageMetadata":{"promptTokenCount":"x","totalTokenCount":null}}"#;
    assert_eq!(answer(&[unread, &end("\"STOP\"")]).finish().usage, None);
}

#[test]
fn each_finish_reason_has_its_meaning() {
    use FinishReason as Reason;
    for (word, reason) in [
        ("STOP", Reason::Stop),
        ("MAX_TOKENS", Reason::Length),
        ("SAFETY", Reason::ContentFilter),
        ("RECITATION", Reason::ContentFilter),
        ("LANGUAGE", Reason::ContentFilter),
        ("BLOCKLIST", Reason::ContentFilter),
        ("PROHIBITED_CONTENT", Reason::ContentFilter),
        ("SPII", Reason::ContentFilter),
        ("MODEL_ARMOR", Reason::ContentFilter),
        ("IMAGE_SAFETY", Reason::ContentFilter),
        ("IMAGE_BRAND_NEW", Reason::ContentFilter),
        ("CONTINUATION", Reason::Pause),
        ("MALFORMED_FUNCTION_CALL", Reason::MalformedToolCall),
        ("UNEXPECTED_TOOL_CALL", Reason::MalformedToolCall),
        ("TOO_MANY_TOOL_CALLS", Reason::MalformedToolCall),
        ("MISSING_THOUGHT_SIGNATURE", Reason::MalformedToolCall),
        ("OTHER", Reason::Other),
        ("MALFORMED_RESPONSE", Reason::Other),
        ("FUNCTION_CALL", Reason::Other),
    ] {
        let answer = answer(&[&end(&format!("\"{word}\""))]);
        assert_eq!((answer.finish().reason, answer.finish().provider_reason.as_str()), (reason, word));
    }
    for (number, reason) in
        [("1", Reason::Stop), ("2", Reason::Length), ("3", Reason::ContentFilter), ("99", Reason::Other)]
    {
        let answer = answer(&[&end(number)]);
        assert_eq!((answer.finish().reason, answer.finish().provider_reason.as_str()), (reason, number));
    }
}

#[test]
fn the_last_finish_reason_counts() {
    let more = parts(r#"{"text":"more"}"#);
    let answer = answer(&[&end("\"STOP\""), &more, &end("\"RECITATION\""), &end("\"FINISH_REASON_UNSPECIFIED\"")]);
    assert_eq!((answer.text().as_str(), answer.finish().reason), ("more", FinishReason::ContentFilter));
}

#[test]
fn a_finish_reason_ends_nothing_that_comes_after_it() {
    let code = r#"{"candidates":[{"content":{"parts":[{"executableCode":{"code":"2+2"}}]},"finishReason":"STOP"}]}"#;
    let open = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"t","willContinue":true}}]},"finishReason":"STOP"}]}"#;
    for (first, later, is_whole) in [
        (code, parts(r#"{"text":"The result is 4"}"#), false),
        (code, parts(r#"{"text":"hm","thought":true}"#), false),
        (code, parts(r#"{"codeExecutionResult":{"output":"4"}}"#), false),
        (code, parts(r#"{"brandNewThing":{}}"#), false),
        (code, parts(r#"{"functionCall":{"name":"t"}}"#), false),
        (open, parts(r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.a","boolValue":true}]}}"#), false),
        (open, parts(r#"{"functionCall":{}}"#), true),
        (code, parts(r#"{"text":""}"#), true),
        (code, parts(r#"{"text":"","thoughtSignature":"s"}"#), true),
        (code, candidate(r#""avgLogprobs":-0.5"#), true),
        (code, r#"{"usageMetadata":{"promptTokenCount":1}}"#.to_owned(), true),
    ] {
        let answer = answer(&[first, &later]);
        assert_eq!((answer.finished, answer.broken), (is_whole, None), "{later}");
    }
    let blocked = r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#;
    assert_eq!(answer(&[blocked, &parts(r#"{"text":"x"}"#)]).finish().reason, FinishReason::ContentFilter);
}

#[test]
fn the_end_of_the_body_without_a_finish_reason_is_no_end() {
    let empty = r#"{"candidates":[{"content":{},"index":0}],"promptFeedback":{"safetyRatings":[]}}"#;
    for data in [&[][..], &[empty], &[&parts(r#"{"text":"x"}"#)], &[&parts(r#"{"functionCall":{"name":"t"}}"#)]] {
        let cut = answer(data);
        assert_eq!((cut.finished, cut.broken), (false, None));
    }
}

/// The events before the end.
fn events(parts_of_events: &[&str]) -> Vec<Event> {
    let mut data: Vec<String> = parts_of_events.iter().map(|part| parts(part)).collect();
    data.push(end("\"STOP\""));
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    let answer = answer(&data);
    assert!(answer.finished, "{answer:?}");
    answer.events.into_iter().filter(|event| !matches!(event, Event::Finished(_))).collect()
}

fn thought(index: u32, text: &str, signature: &str) -> Event {
    let (text, signature) = (text.to_owned(), signature.to_owned());
    Event::Reasoning(ReasoningDelta { index, text, signature, ..ReasoningDelta::default() })
}

fn signed(text: &str, signature: &str) -> Event {
    Event::SignedText { text: text.to_owned(), signature: signature.to_owned() }
}

#[test]
fn thoughts_come_in_blocks() {
    let said = events(&[
        r#"{"text":"Let","thought":true}"#,
        r#"{"text":""},{"text":" me","thought":true}"#,
        r#"{"text":"","thought":true,"thoughtSignature":"s1"}"#,
        r#"{"text":"see","thought":true,"thoughtSignature":"s2"}"#,
        r#"{"text":"hm","thought":true}"#,
        r#"{"text":"Yes"},{"text":"well","thought":true}"#,
        r#"{"text":"","thought":true}"#,
    ]);
    let expected = [
        thought(0, "Let", ""),
        thought(0, " me", ""),
        thought(0, "", "s1"),
        thought(1, "see", "s2"),
        thought(2, "hm", ""),
        Event::Text("Yes".to_owned()),
        thought(3, "well", ""),
    ];
    assert_eq!(said, expected);
}

#[test]
fn signed_text_is_a_part_of_its_own() {
    let said = events(&[
        r#"{"text":"a"}"#,
        r#"{"text":"b","thoughtSignature":"s1"}"#,
        r#"{"text":"c","thought":false},{"text":"","thoughtSignature":"s2"}"#,
        r#"{"thoughtSignature":"s3"}"#,
    ]);
    let text = |text: &str| Event::Text(text.to_owned());
    assert_eq!(said, [text("a"), signed("b", "s1"), text("c"), signed("", "s2"), signed("", "s3")]);
}

#[test]
fn a_call_keeps_its_signature() {
    let whole = parts(
        r#"{"functionCall":{"name":"t"},"thoughtSignature":"s1"},{"functionCall":{"name":"t","willContinue":true}}"#,
    );
    let closing = parts(r#"{"functionCall":{},"thoughtSignature":"s2"}"#);
    let answer = answer(&[&whole, &closing, &closing, &end("\"STOP\"")]);
    let signatures: Vec<&str> = answer.calls().iter().map(|call| call.signature.as_str()).collect();
    assert_eq!(signatures, ["s1", "s2"]);
    assert!(answer.events.contains(&signed("", "s2")), "a signature of no call stands alone");
}

#[test]
fn a_call_is_one_part_and_has_an_id() {
    let calls = parts(
        r#"{"functionCall":{"name":"t","args":{"k": 1}},"thoughtSignature":"x"},{"functionCall":{"name":"t"}},{"functionCall":{"id":"own","name":"u","args":{}}}"#,
    );
    let answer = answer(&[&calls, &end("\"STOP\"")]);
    let expected = [r#"0 call-gateway-seed-0 t {"k": 1}"#, "1 call-gateway-seed-1 t {}", "2 own u {}"];
    assert_eq!(
        (lines(&answer), answer.finish().reason),
        (expected.map(str::to_owned).to_vec(), FinishReason::ToolCalls)
    );
}

#[test]
fn streamed_arguments_join_up_to_the_closing_part() {
    let begin = parts(r#"{"functionCall":{"name":"t","willContinue":true}}"#);
    let piece = parts(
        r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.a[0].b","stringValue":"x","willContinue":true}],"willContinue":true}}"#,
    );
    let more =
        parts(r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.a[0].b","stringValue":"y"}],"willContinue":true}}"#);
    let pause = parts(r#"{"functionCall":{"willContinue":true}}"#);
    let close = parts(r#"{"functionCall":{}}"#);
    let whole = r#"0 call-gateway-seed-0 t {"a":[{"b":"xy"}]}"#;

    let closed = answer(&[&begin, &piece, &pause, &more, &close, &begin, &close, &close, &end("\"STOP\"")]);
    assert_eq!(lines(&closed), [whole, "1 call-gateway-seed-1 t {}"]);
    let unclosed = answer(&[&begin, &piece, &more, &begin, &end("\"STOP\"")]);
    assert_eq!(lines(&unclosed), [whole, "1 call-gateway-seed-1 t {}"]);
    let cut = answer(&[&begin, &piece, &end("\"MAX_TOKENS\"")]);
    assert_eq!(lines(&cut), [r#"0 call-gateway-seed-0 t {"a":[{"b":"x"}] !"#]);
    assert_eq!(cut.finish().reason, FinishReason::Length);
    for next in [&end("\"STOP\""), &begin, &close, &parts(r#"{"functionCall":{"name":"u"}}"#)] {
        let cut = answer(&[&begin, &piece, &pause, next, &end("\"STOP\"")]);
        assert_eq!(lines(&cut)[0], r#"0 call-gateway-seed-0 t {"a":[{"b":"x"}] !"#, "{next}");
    }
}

#[test]
fn a_streamed_call_that_a_filter_cuts_is_incomplete() {
    let begin = parts(r#"{"functionCall":{"name":"t","willContinue":true}}"#);
    let piece =
        parts(r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.path","stringValue":"/tmp"}],"willContinue":true}}"#);
    let end = |reason: &str| format!(r#"{{"candidates":[{{"finishReason":"{reason}"}}]}}"#);
    let incomplete = |reason: &str| answer(&[&begin, &piece, &end(reason)]).calls()[0].incomplete;
    assert!(incomplete("SAFETY") && incomplete("MAX_TOKENS"));
    assert!(!incomplete("STOP"), "the closing part is sometimes missing");
}

#[test]
fn a_call_cannot_be_made_to_grow_without_end() {
    let (mut reader, mut out) = (decoder("seed"), Output::default());
    reader.event(parts(r#"{"functionCall":{"name":"t","willContinue":true}}"#).as_bytes(), &mut out).unwrap();
    let piece = |at: usize| format!(r#"{{"jsonPath":"$.{at}{}","boolValue":true}}"#, ".a".repeat(60));
    let broken = (0..1000).find_map(|at| {
        let call = format!(r#"{{"functionCall":{{"partialArgs":[{}],"willContinue":true}}}}"#, piece(at));
        reader.event(parts(&call).as_bytes(), &mut out).err()
    });
    assert_eq!(broken, Some(Broken::Malformed("the arguments of a tool call are too large")));
}

#[test]
fn an_event_has_only_so_many_parts() {
    let read = |data: String| decoder("seed").event(data.as_bytes(), &mut Output::default());
    let list = |item: &str, count: usize| vec![item; count].join(",");
    let candidates = |count| format!(r#"{{"candidates":[{}]}}"#, list("{}", count));
    let values = |count| {
        let values = list(r#"{"jsonPath":"$.a","boolValue":true}"#, count);
        parts(&format!(r#"{{"functionCall":{{"name":"t","partialArgs":[{values}]}}}}"#))
    };
    for (made, with_one_more) in [
        (parts(&list(r#"{"text":"a"}"#, ITEMS_MAX)), parts(&list(r#"{"text":"a"}"#, ITEMS_MAX + 1))),
        (candidates(ITEMS_MAX), candidates(ITEMS_MAX + 1)),
        (values(ITEMS_MAX), values(ITEMS_MAX + 1)),
    ] {
        assert_eq!(read(made), Ok(()));
        assert!(matches!(read(with_one_more), Err(Broken::Malformed(_))));
    }
    for none in ["null", "[]"] {
        assert_eq!(read(format!(r#"{{"candidates":{none}}}"#)), Ok(()));
    }
}

#[test]
fn what_must_not_be_is_malformed() {
    for data in [
        "{",
        "7",
        "[]",
        r#"{"candidates":7}"#,
        r#"[{"candidates":[]}]"#,
        r#"{"usageMetadata":[]}"#,
        r#"{"candidates":[{"content":{"parts":[7]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":7}]}}]}"#,
    ] {
        assert!(matches!(answer(&[data]).broken, Some(Broken::Malformed(_))), "{data}");
    }
}

/// Fields of a response and values that may stand in the wrong place.
const PIECES: [&str; 24] = [
    r#"{"candidates":[{"content":{"parts":["#,
    r#"{"functionCall":{"name":"t","willContinue":true}},"#,
    r#"{"functionCall":{"partialArgs":[{"jsonPath":"$.a[0]","stringValue":"é"}],"willContinue":true}},"#,
    r#"{"functionCall":{"args":[]}},"#,
    r#"{"text":"🦀","thought":true,"thoughtSignature":"s"}"#,
    r#"{"inlineData":7},"#,
    r#"{"new":{"text":"x"}}"#,
    "]}",
    r#","groundingMetadata":{"groundingChunks":[{"web":7}],"groundingSupports":[{"groundingChunkIndices":[0,1]}]}"#,
    r#","citationMetadata":[7]"#,
    r#","safetyRatings":{},"finishReason":"#,
    "}",
    r#""STOP""#,
    "7",
    "null",
    "[",
    "]",
    "{",
    ",",
    r#","promptFeedback":7"#,
    r#","usageMetadata":{"promptTokenCount":-1}"#,
    r#""error":"#,
    ":",
    "\u{0}",
];

proptest! {
    #[test]
    fn any_event_has_an_answer(picks in proptest::collection::vec(0..PIECES.len(), 0..12)) {
        let data: String = picks.iter().map(|at| PIECES[*at]).collect();
        let whole = parts(&format!("{data}{{}}"));
        let (mut reader, mut out) = (decoder("seed"), Output::default());
        let _ = reader.event(data.as_bytes(), &mut out);
        let _ = reader.event(whole.as_bytes(), &mut out);
        let _ = reader.end(&mut out);
    }
}
