use serde_json::{Value, json};

use super::super::decoder;
use crate::{
    message::{CitationKind, Event, FinishReason, ProviderEvent, ReasoningDelta},
    provider::{
        Broken, Output, RejectionKind,
        transcript::{Transcript, line, read, stream, usage},
    },
};

const USAGE: &str = r#"{"input_tokens":10,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":2},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":15}"#;

fn created() -> String {
    json!({ "type": "response.created", "sequence_number": 0, "response": { "id": "r1", "model": "gpt-x", "status": "in_progress", "usage": null } }).to_string()
}

/// The event that ends an answer, with further fields of its response.
fn end(kind: &str, fields: &str) -> String {
    let rest = r#""object":"response","output":[{"type":"message"}],"metadata":{},"error":null,"user":null"#;
    format!(r#"{{"type":"response.{kind}","response":{{"id":"r1","model":"gpt-x",{rest},"usage":{USAGE}{fields}}}}}"#)
}

fn answer_with(events: &[&str], end: &str) -> Transcript {
    let created = created();
    let queued = created.replace("created", "queued");
    let begin = [created.as_str(), &queued, r#"{"type":"keepalive","sequence_number":9}"#];
    read(decoder, &stream(&[&begin, events, &[end]].concat()))
}

fn answer(events: &[&str]) -> Transcript {
    answer_with(events, &end("completed", r#","status":"completed","incomplete_details":null"#))
}

/// What was passed on: kind, object, and whether it can be sent back.
fn passed_on(answer: &Transcript) -> Vec<(&str, Value, bool)> {
    let events = answer.events.iter().filter_map(|event| match event {
        Event::Provider(ProviderEvent { kind, json, replayable }) => Some((kind.as_str(), json, *replayable)),
        _ => None,
    });
    events.map(|(kind, json, replayable)| (kind, serde_json::from_str(json).unwrap(), replayable)).collect()
}

fn thoughts(answer: &Transcript) -> Vec<(u32, &str, &str, &str)> {
    let deltas = answer.events.iter().filter_map(|event| match event {
        Event::Reasoning(ReasoningDelta { index, text, signature, id, redacted_data }) => {
            assert!(redacted_data.is_empty());
            Some((*index, text.as_str(), signature.as_str(), id.as_str()))
        }
        _ => None,
    });
    deltas.collect()
}

fn lines(answer: &Transcript) -> Vec<String> {
    answer.calls().into_iter().map(line).collect()
}

const MESSAGE: &str = r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"m1","type":"message","status":"in_progress","content":[],"role":"assistant"}}"#;
const PART: &str = r#"{"type":"response.content_part.added","item_id":"m1","output_index":0,"content_index":0,"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""}}"#;
const TEXT: &str = r#"{"type":"response.output_text.delta","item_id":"m1","output_index":0,"content_index":0,"delta":"Hé","logprobs":[],"obfuscation":"x"}"#;
const TEXT_DONE: &str = r#"{"type":"response.output_text.done","item_id":"m1","output_index":0,"content_index":0,"text":"Hé","logprobs":[]}"#;
const PART_DONE: &str = r#"{"type":"response.content_part.done","item_id":"m1","output_index":0,"content_index":0,"part":{"type":"output_text","annotations":[],"logprobs":[],"text":"Hé"}}"#;
const MESSAGE_DONE: &str = r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"m1","type":"message","status":"completed","content":[{"type":"output_text","text":"Hé"}],"role":"assistant"}}"#;

#[test]
fn text_commits_and_its_end_says_nothing_new() {
    let answer = answer(&[MESSAGE, PART, TEXT, TEXT_DONE, PART_DONE, MESSAGE_DONE]);
    assert_eq!((answer.text().as_str(), answer.before_commit), ("Hé", 5));
    assert_eq!((answer.model.as_deref(), answer.response_id.as_deref()), (Some("gpt-x"), Some("r1")));
    assert_eq!(passed_on(&answer), []);
    let finish = answer.finish();
    assert_eq!((finish.reason, finish.provider_reason.as_str()), (FinishReason::Stop, "completed"));
    assert_eq!(finish.usage, Some(usage([Some(10), Some(4), Some(2), Some(5), Some(3), Some(15)])));
    assert_eq!((finish.provider_usage.as_str(), finish.provider_details.as_str()), (USAGE, ""));
}

#[test]
fn what_came_in_no_pieces_is_taken_from_its_end() {
    let refusal = r#"{"type":"response.refusal.done","output_index":0,"content_index":1,"refusal":"No."}"#;
    let summary = r#"{"type":"response.reasoning_summary_text.done","output_index":1,"summary_index":0,"text":"Hm"}"#;
    let answer = answer(&[MESSAGE, TEXT_DONE, refusal, summary]);
    assert_eq!((answer.text().as_str(), answer.refusal().as_str()), ("Hé", "No."));
    assert_eq!(thoughts(&answer), [(0, "Hm", "", "")]);
}

#[test]
fn what_only_the_end_of_a_part_or_an_item_has_is_relayed_once() {
    let web = r#"{"type":"url_citation","title":"T","url":"https://a.test","start_index":0,"end_index":1}"#;
    let parts = [
        format!(r#"{{"type":"output_text","text":"Hé","annotations":[{web}],"logprobs":[]}}"#),
        r#"{"type":"refusal","refusal":"No."}"#.to_owned(),
        r#"{"type":"output_audio","data":"x"}"#.to_owned(),
        format!(r#"{{"type":"output_text","text":"","annotations":[{web}]}}"#),
    ];
    let part_done = |n: usize| {
        format!(r#"{{"type":"response.content_part.done","output_index":0,"content_index":{n},"part":{}}}"#, parts[n])
    };
    let ends: Vec<String> = (0..parts.len()).map(part_done).collect();
    let item = MESSAGE_DONE.replace(r#"{"type":"output_text","text":"Hé"}"#, &parts.join(","));
    let cited = format!(r#"{{"type":"response.output_text.annotation.added","output_index":0,"annotation":{web}}}"#);
    let refusal = r#"{"type":"response.refusal.done","output_index":0,"content_index":1,"refusal":"No."}"#;
    let empty = TEXT_DONE.replace("Hé", "");
    let mut all: Vec<&str> = ends.iter().map(String::as_str).collect();
    all.push(&item);
    for events in [
        vec![item.as_str()],
        vec![&empty, &item],
        vec![TEXT, &item],
        vec![TEXT, TEXT_DONE, &ends[0], &item],
        vec![TEXT, &cited, &item],
        vec![TEXT, &cited, &ends[0], refusal, &item],
        vec![TEXT, &ends[0], &ends[1], &item],
        all,
    ] {
        let answer = answer(&events);
        let citations = answer.events.iter().filter(|event| matches!(event, Event::Citation(_))).count();
        assert_eq!((answer.text().as_str(), answer.refusal().as_str(), citations), ("Hé", "No.", 2), "{events:?}");
        assert_eq!(passed_on(&answer), [("output_audio", serde_json::from_str(&parts[2]).unwrap(), false)]);
        assert_eq!(answer.finish().reason, FinishReason::Refusal);
    }
    let bad = MESSAGE_DONE.replace(r#""text":"Hé""#, r#""text":7"#);
    assert!(matches!(answer(&[&bad]).broken, Some(Broken::Malformed(_))));
    assert_eq!(answer(&[TEXT, &bad]).text(), "Hé");
}

#[test]
fn an_answer_that_only_the_end_has_is_read_from_it() {
    let thought = r#"{"type":"reasoning","id":"t1","summary":[{"type":"summary_text","text":"Hm"}]}"#;
    let message = r#"{"type":"message","content":[{"type":"output_text","text":"Hé"}]}"#;
    let call = r#"{"type":"function_call","call_id":"a","name":"t","arguments":"{}"}"#;
    let search = r#"{"type":"web_search_call","id":"w"}"#;
    let output = format!("[{thought},{message},{search},{call}]");
    let end = |kind: &str| end(kind, "").replace(r#"[{"type":"message"}]"#, &output);

    for begun in [vec![], vec![MESSAGE], vec![MESSAGE, PART]] {
        let whole = answer_with(&begun, &end("completed"));
        assert_eq!(thoughts(&whole), [(0, "Hm", "", "t1")]);
        assert_eq!((whole.text().as_str(), lines(&whole)), ("Hé", vec!["0 a t {}".to_owned()]));
        assert_eq!(passed_on(&whole), [("web_search_call", serde_json::from_str(search).unwrap(), true)]);
        assert_eq!(whole.finish().reason, FinishReason::ToolCalls);
    }
    let cut = answer_with(&[], &end("incomplete"));
    assert_eq!((cut.text().as_str(), cut.finish().reason), ("Hé", FinishReason::Other));
    let failed = answer_with(&[], &end("failed"));
    assert!(matches!(failed.broken, Some(Broken::Rejected(_))) && failed.text().is_empty());

    // Nothing of it, if anything came before.
    let done = |item: &str| format!(r#"{{"type":"response.output_item.done","output_index":3,"item":{item}}}"#);
    for (event, text) in
        [(TEXT, "Hé"), (&done(search), ""), (&done(call), ""), (&done(thought), ""), (&call_added(3), "")]
    {
        let answer = answer_with(&[event], &end("completed"));
        assert_eq!((answer.text().as_str(), answer.finished), (text, true), "{event}");
        let told = answer.calls().len() + thoughts(&answer).len() + passed_on(&answer).len();
        assert_eq!(told, usize::from(event != TEXT), "{event}");
    }
    let new = end("completed").replace(r#""call_id""#, r#""brand_new":0,"call_id""#);
    let told = answer_with(&[], &new);
    assert_eq!(passed_on(&told)[1], ("response.completed", serde_json::from_str(&new).unwrap(), false));
    assert!(answer_with(&[], &end("completed").replace(&output, "7")).finished);
}

#[test]
fn each_end_has_its_meaning() {
    let refusal = r#"{"type":"response.refusal.delta","output_index":0,"content_index":0,"delta":"no"}"#;
    let call = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","call_id":"a","name":"t","arguments":"{}"}}"#;
    let cut = |reason: &str| end("incomplete", &format!(r#","status":"incomplete","incomplete_details":{reason}"#));
    let completed = end("completed", r#","status":"completed""#);
    for (event, end, reason, word) in [
        (TEXT, &completed, FinishReason::Stop, "completed"),
        (refusal, &completed, FinishReason::Refusal, "completed"),
        (call, &completed, FinishReason::ToolCalls, "completed"),
        (TEXT, &cut(r#"{"reason":"max_output_tokens"}"#), FinishReason::Length, "max_output_tokens"),
        (call, &cut(r#"{"reason":"max_output_tokens"}"#), FinishReason::Length, "max_output_tokens"),
        (TEXT, &cut(r#"{"reason":"content_filter"}"#), FinishReason::ContentFilter, "content_filter"),
        (TEXT, &cut(r#"{"reason":"brand_new"}"#), FinishReason::Other, "brand_new"),
        (TEXT, &cut("null"), FinishReason::Other, "incomplete"),
        (TEXT, &end("completed", ""), FinishReason::Stop, "completed"),
        (TEXT, &end("completed", r#","status":"brand_new""#), FinishReason::Other, "brand_new"),
    ] {
        let answer = answer_with(&[event], end);
        assert_eq!((answer.finish().reason, answer.finish().provider_reason.as_str()), (reason, word), "{end}");
    }
}

#[test]
fn a_count_that_cannot_be_read_is_absent() {
    for (raw, counts) in [
        (
            r#"{"input_tokens":-1,"output_tokens":5,"total_tokens":15}"#,
            Some([None, None, None, Some(5), None, Some(15)]),
        ),
        (
            r#"{"input_tokens":10,"output_tokens":5,"total_tokens":1.5}"#,
            Some([Some(10), None, None, Some(5), None, Some(15)]),
        ),
        (
            r#"{"input_tokens":"10","input_tokens_details":[1],"output_tokens":5,"output_tokens_details":{"reasoning_tokens":3}}"#,
            Some([None, None, None, Some(5), Some(3), None]),
        ),
        (
            r#"{"input_tokens":10,"input_tokens_details":{"cached_tokens":null,"cache_write_tokens":2},"output_tokens_details":{"reasoning_tokens":{}}}"#,
            Some([Some(10), None, Some(2), None, None, None]),
        ),
        ("7", None),
        ("null", None),
    ] {
        let answer = answer_with(&[TEXT], &end("completed", "").replace(USAGE, raw));
        assert_eq!((answer.text().as_str(), answer.finish().usage), ("Hé", counts.map(usage)), "{raw}");
        assert_eq!(answer.finish().provider_usage, if counts.is_some() { raw } else { "" });
    }
}

#[test]
fn the_rest_of_the_end_is_told() {
    let fields = r#","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"service_tier":"flex","moderation":null,"brand_new":[1.50]"#;
    let answer = answer_with(&[TEXT], &end("incomplete", fields));
    let told = r#"{"brand_new":[1.50],"incomplete_details":{"reason":"max_output_tokens"},"service_tier":"flex"}"#;
    assert_eq!(answer.finish().provider_details, told);
}

#[test]
fn parts_of_a_thought_are_paragraphs_of_one_block() {
    let added = r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"t1","type":"reasoning","summary":[],"content":[],"encrypted_content":"first"}}"#;
    let part = |n: u64| {
        json!({ "type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": n, "part": { "type": "summary_text", "text": "" } })
            .to_string()
    };
    let delta = |n: u64, text: &str| {
        json!({ "type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": n, "delta": text, "obfuscation": "x" })
            .to_string()
    };
    let done = r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"t1","type":"reasoning","summary":[{"type":"summary_text","text":"One."},{"type":"summary_text","text":"Two"}],"encrypted_content":"last"}}"#;
    let events = [added, &part(0), &delta(0, "One"), &delta(0, "."), &part(1), &delta(1, ""), &delta(1, "Two"), done];
    let thought = answer(&events);
    let expected = [(0, "One", "", ""), (0, ".", "", ""), (0, "\n\nTwo", "", ""), (0, "", "last", "t1")];
    assert_eq!((thoughts(&thought), passed_on(&thought)), (expected.to_vec(), vec![]));
    // Before anything of it is shown.
    assert_eq!(thought.before_commit, 5);

    let open = r#"{"type":"response.reasoning_text.delta","output_index":0,"content_index":0,"delta":"Raw"}"#;
    assert_eq!(thoughts(&answer(&[added, open])), [(0, "Raw", "", "")]);
    assert_eq!(thoughts(&answer(&[added, done])), [(0, "One.\n\nTwo", "last", "t1")]);
}

#[test]
fn a_thought_of_which_nothing_is_shown_is_a_block() {
    let done = |n: u64, rest: &str| {
        format!(
            r#"{{"type":"response.output_item.done","output_index":{n},"item":{{"type":"reasoning","summary":[]{rest}}}}}"#
        )
    };
    let answer = answer(&[
        &done(0, r#","id":"t1","encrypted_content":"e""#),
        &done(1, ""),
        &done(2, r#","id":"t2","encrypted_content":null,"status":null"#),
    ]);
    assert_eq!(thoughts(&answer), [(0, "", "e", "t1"), (1, "", "", "t2")]);
}

fn call_added(n: u64) -> String {
    json!({ "type": "response.output_item.added", "output_index": n, "item": { "id": format!("fc{n}"), "type": "function_call", "status": "in_progress", "arguments": "", "call_id": format!("c{n}"), "name": "t" } }).to_string()
}

fn arguments(n: u64, piece: &str) -> String {
    json!({ "type": "response.function_call_arguments.delta", "item_id": "x", "output_index": n, "delta": piece, "obfuscation": "x" }).to_string()
}

fn call_done(n: u64, arguments: &str, status: &str) -> String {
    json!({ "type": "response.output_item.done", "output_index": n, "item": { "id": format!("fc{n}"), "type": "function_call", "status": status, "arguments": arguments, "call_id": format!("c{n}"), "name": "t" } }).to_string()
}

#[test]
fn calls_are_known_by_their_place_and_answered_by_their_call_id() {
    let whole = r#"{"type":"response.function_call_arguments.done","item_id":"fc1","output_index":1,"name":"t","arguments":"{\"k\":1}"}"#;
    let events = [
        call_added(0),
        call_added(1),
        arguments(1, "{\"k\""),
        arguments(0, "{}"),
        arguments(1, ":1}"),
        whole.to_owned(),
        call_done(1, "{\"k\":1}", "completed"),
        call_done(0, "{}", "completed"),
    ];
    let answer = answer(&events.each_ref().map(String::as_str));
    assert_eq!(lines(&answer), [r#"1 c1 t {"k":1}"#, "0 c0 t {}"]);
    assert_eq!((passed_on(&answer), answer.finish().reason), (vec![], FinishReason::ToolCalls));
}

#[test]
fn arguments_in_no_pieces_are_taken_from_the_end() {
    let whole = r#"{"type":"response.function_call_arguments.done","output_index":0,"arguments":"{\"k\":1}"}"#;
    let other = r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"fc0","type":"function_call","name":"t"}}"#;
    let nameless = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","name":"t","arguments":""}}"#;
    for (events, expected) in [
        (vec![call_added(0), whole.to_owned(), call_done(0, "{\"k\":1}", "completed")], r#"0 c0 t {"k":1}"#),
        (vec![call_added(0), call_done(0, "{\"k\":1}", "completed")], r#"0 c0 t {"k":1}"#),
        (vec![call_done(0, "{\"k\":1}", "completed")], r#"0 c0 t {"k":1}"#),
        (vec![call_added(0)], "0 c0 t {}"),
        (vec![other.to_owned()], "0 fc0 t {}"),
        (vec![nameless.to_owned()], "0 call_seed_0 t {}"),
    ] {
        let answer = answer(&events.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(lines(&answer), [expected], "{events:?}");
    }
}

#[test]
fn a_call_that_the_limit_cuts_is_incomplete() {
    let end = end("incomplete", r#","incomplete_details":{"reason":"max_output_tokens"}"#);
    for (events, expected) in [
        (vec![call_added(0), arguments(0, "{\"k\":")], r#"0 c0 t {"k": !"#),
        (vec![call_added(0), arguments(0, "{\"k\":"), call_done(0, "{\"k\":", "incomplete")], r#"0 c0 t {"k": !"#),
        (vec![call_added(0), call_done(0, "", "incomplete")], "0 c0 t  !"),
        (vec![call_added(0)], "0 c0 t  !"),
    ] {
        let answer = answer_with(&events.iter().map(String::as_str).collect::<Vec<_>>(), &end);
        assert_eq!((lines(&answer), answer.finish().reason), (vec![expected.to_owned()], FinishReason::Length));
    }
}

#[test]
fn sources_are_cited_once() {
    let event = |annotation: &str| {
        format!(
            r#"{{"type":"response.output_text.annotation.added","output_index":0,"content_index":0,"annotation_index":0,"annotation":{annotation}}}"#
        )
    };
    let web = r#"{"type":"url_citation","start_index":1,"end_index":2,"title":"T","url":"https://a.test"}"#;
    let file = r#"{"type":"file_citation","file_id":"f","filename":"F","index":7}"#;
    let made = r#"{"type":"container_file_citation","container_id":"c","file_id":"f","filename":"F","start_index":3,"end_index":4}"#;
    let other = r#"{"type":"brand_new","start_index":"x"}"#;
    let done = format!(
        r#"{{"type":"response.content_part.done","output_index":0,"content_index":0,"part":{{"type":"output_text","annotations":[{web},{file},{made},{other}],"text":"Hé"}}}}"#
    );
    let expected = [
        (CitationKind::Web, "T", "https://a.test", Some(1), Some(2), web),
        (CitationKind::File, "F", "", Some(7), None, file),
        (CitationKind::File, "F", "", Some(3), Some(4), made),
        (CitationKind::Other, "", "", None, None, other),
    ];
    let all = [event(web), event(file), event(made), event(other)];
    // Some of them, or none, only at the end.
    for heard in 0..=all.len() {
        let mut events = vec![MESSAGE, PART, TEXT];
        events.extend(all[..heard].iter().map(String::as_str));
        events.push(&done);
        let answer = answer(&events);
        let cited = answer.events.iter().filter_map(|event| match event {
            Event::Citation(c) => Some((c.kind, c.title.as_str(), c.url.as_str(), c.start, c.end, c.json.as_str())),
            _ => None,
        });
        let cited: Vec<_> = cited.collect();
        assert_eq!((cited, passed_on(&answer)), (expected.to_vec(), vec![]));
    }
}

#[test]
fn an_item_of_another_kind_is_a_whole_part_of_the_answer() {
    let added = json!({ "type": "response.output_item.added", "output_index": 0, "item": { "id": "w", "type": "web_search_call", "status": "in_progress" } });
    let progress = json!({ "type": "response.web_search_call.searching", "output_index": 0, "item_id": "w" });
    let item = json!({ "id": "w", "type": "web_search_call", "status": "completed", "action": { "query": "q" } });
    let done = json!({ "type": "response.output_item.done", "output_index": 0, "item": item });
    let answer = answer(&[&added.to_string(), &progress.to_string(), &done.to_string(), TEXT]);
    let expected = vec![("response.web_search_call.searching", progress, false), ("web_search_call", item, true)];
    // That it runs is no output yet.
    assert_eq!((passed_on(&answer), answer.before_commit), (expected, 5));
    assert_eq!((answer.text().as_str(), answer.finish().reason), ("Hé", FinishReason::Stop));
}

#[test]
fn a_tool_that_runs_commits_with_the_first_piece_of_its_output() {
    let added =
        r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"w","type":"image_generation_call"}}"#;
    let event = |kind: &str| format!(r#"{{"type":"response.{kind}","output_index":0,"item_id":"w"}}"#);
    for (kind, commits) in [
        ("image_generation_call.in_progress", false),
        ("image_generation_call.generating", false),
        ("image_generation_call.partial_image", true),
        ("code_interpreter_call.interpreting", false),
        ("code_interpreter_call_code.delta", true),
        ("mcp_call_arguments.delta", true),
        ("web_search_call.completed", false),
    ] {
        let answer = answer(&[added, &event(kind), TEXT]);
        assert_eq!(answer.before_commit, if commits { 4 } else { 5 }, "{kind}");
        assert_eq!(passed_on(&answer).len(), 1);
    }
}

#[test]
fn a_reader_can_tell_messages_of_different_phases_apart() {
    let of = |event: &str, phase: &str, n: u64| {
        let event = event.replace(r#""type":"message""#, &format!(r#""type":"message","phase":"{phase}""#));
        event.replace(r#""output_index":0"#, &format!(r#""output_index":{n}"#))
    };
    let events = |phase: &str, n: u64| [MESSAGE, TEXT, MESSAGE_DONE].map(|event| of(event, phase, n));
    let (comment, last) = (events("commentary", 0), events("final_answer", 1));
    let only_ends = [comment[2].as_str(), &last[2]];
    for events in [[&comment[..], &last].concat().iter().map(String::as_str).collect(), only_ends.to_vec()] {
        let answer = answer(&events);
        let told = answer.events.iter().filter_map(|event| match event {
            Event::Text(text) => Some(text.clone()),
            Event::Provider(ProviderEvent { json, .. }) => {
                Some(serde_json::from_str::<Value>(json).unwrap()["phase"].as_str().unwrap().to_owned())
            }
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), ["commentary", "Hé", "final_answer", "Hé"]);
    }
}

#[test]
fn an_unknown_event_is_passed_on_and_commits_nothing() {
    let unknown = json!({ "type": "response.brand_new", "delta": { "x": 1 }, "output_index": "a" });
    let answer = answer(&[&unknown.to_string(), MESSAGE]);
    assert_eq!((passed_on(&answer), answer.before_commit), (vec![("response.brand_new", unknown, false)], 5));
}

#[test]
fn what_nobody_reads_is_passed_on_besides() {
    let message = MESSAGE.replace(r#""role":"#, r#""brand_new":0,"role":"#);
    let call = call_done(0, "{}", "completed").replace(r#""name":"#, r#""brand_new":0,"name":"#);
    let thought = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"t","brand_new":0,"summary":[]}}"#;
    let text = TEXT.replace(r#""delta":"#, r#""brand_new":0,"delta":"#);
    let part = PART.replace(r#""text":"#, r#""brand_new":0,"text":"#);
    let part_done = PART_DONE.replace(r#""text":"#, r#""brand_new":0,"text":"#);
    let message_done = MESSAGE_DONE.replace(r#""text":"#, r#""brand_new":0,"text":"#);
    for event in [message.as_str(), &call, thought, &text, &part, &part_done, &message_done] {
        let whole: Value = serde_json::from_str(event).unwrap();
        let found = answer(&[event]);
        assert_eq!(passed_on(&found), [(whole["type"].as_str().unwrap(), whole.clone(), false)]);
        assert_eq!(found.text(), if event.contains("Hé") { "Hé" } else { "" });
        assert_eq!(
            passed_on(&answer(&[&event.replace(":0,\"", ":null,\"").replace("_index\":null", "_index\":0")])),
            []
        );
    }
}

#[test]
fn what_has_no_common_form_is_told_once() {
    let of = |event: &str, field: &str| event.replace(r#""type":"message""#, &format!(r#""type":"message",{field}"#));
    let item = |event: &str| serde_json::from_str::<Value>(event).unwrap()["item"].take();
    let (phase, none) = (r#""phase":"commentary""#, r#""phase":null"#);
    let both = answer(&[&of(MESSAGE, phase), TEXT, &of(MESSAGE_DONE, phase)]);
    assert_eq!(passed_on(&both), [("phase", item(&of(MESSAGE, phase)), false)]);
    let late = answer(&[&of(MESSAGE, none), TEXT, &of(MESSAGE_DONE, phase)]);
    assert_eq!(passed_on(&late), [("phase", item(&of(MESSAGE_DONE, phase)), false)]);

    let fields = r#""namespace":"n","caller":{"type":"program"},"name":"#;
    let begun = call_added(0).replace(r#""name":"#, fields);
    let done = call_done(0, "{}", "completed").replace(r#""name":"#, fields);
    let called = answer(&[&begun, &done]);
    assert_eq!(passed_on(&called), [("namespace", item(&done), false), ("caller", item(&done), false)]);
    assert_eq!(lines(&called), ["0 c0 t {}"]);

    let probable = TEXT.replace("[]", r#"[{"token":"H"}]"#);
    let told = answer(&[&probable, &TEXT_DONE.replace("[]", r#"[{"token":"H"}]"#)]);
    assert_eq!(passed_on(&told), [("logprobs", serde_json::from_str(&probable).unwrap(), false)]);
    assert_eq!(told.text(), "Hé");
}

#[test]
fn a_part_of_another_kind_is_passed_on_whole() {
    let added = PART.replace("output_text", "output_audio");
    let done = PART_DONE.replace("output_text", "output_audio");
    let answer = answer(&[MESSAGE, &added, &done]);
    let part: Value = serde_json::from_str::<Value>(&done).unwrap()["part"].take();
    assert_eq!(passed_on(&answer), [("output_audio", part, false)]);
}

#[test]
fn an_error_is_said_once() {
    use RejectionKind as Kind;
    for (error, kind, code) in [
        (
            r#"{"type":"insufficient_quota","code":"insufficient_quota","message":"M","param":null}"#,
            Kind::Quota,
            "insufficient_quota",
        ),
        (r#"{"type":"tokens","code":"rate_limit_exceeded","message":"M"}"#, Kind::RateLimited, "rate_limit_exceeded"),
        (r#"{"code":"context_length_exceeded","message":"M"}"#, Kind::ContextLength, "context_length_exceeded"),
        (r#"{"code":"server_error","message":"M"}"#, Kind::Internal, "server_error"),
        (r#"{"code":"invalid_prompt","message":"M"}"#, Kind::InvalidRequest, "invalid_prompt"),
        (r#"{"code":"image_too_small","message":"M"}"#, Kind::InvalidRequest, "image_too_small"),
        (r#"{"code":"vector_store_timeout","message":"M"}"#, Kind::Timeout, "vector_store_timeout"),
        (r#"{"code":"brand_new","message":"M"}"#, Kind::Internal, "brand_new"),
        (r#"{"code":null,"message":"M"}"#, Kind::Internal, ""),
    ] {
        let nested = format!(r#"{{"type":"error","sequence_number":2,"error":{error}}}"#);
        let failed =
            format!(r#"{{"type":"response.failed","response":{{"id":"r1","status":"failed","error":{error}}}}}"#);
        let proxy = format!(r#"{{"error":{error}}}"#);
        let flat = format!(r#"{{"type":"error",{}"#, error.split_once(r#""code""#).unwrap().1);
        let flat = flat.replacen(r#""error",:"#, r#""error","code":"#, 1);
        for event in [nested, failed, proxy, flat] {
            match answer(&[&event]).broken {
                Some(Broken::Rejected(found)) => {
                    assert_eq!((found.kind, found.code.as_str(), found.message.as_str()), (kind, code, "M"), "{event}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let failed = answer_with(&[TEXT], &end("failed", r#","status":"failed""#));
    assert!(matches!(failed.broken, Some(Broken::Rejected(_))) && failed.usage().is_some());
}

#[test]
fn only_an_end_ends() {
    let created = created();
    for (events, broken) in [
        (vec![created.as_str()], None),
        (vec![created.as_str(), MESSAGE, TEXT, MESSAGE_DONE], None),
        (vec![created.as_str(), TEXT, "[DONE]"], Some(Broken::Cut)),
    ] {
        let cut = read(decoder, &stream(&events));
        assert_eq!((cut.finished, cut.broken), (false, broken));
    }
}

#[test]
fn what_must_not_be_is_malformed() {
    let twice = [call_added(0), call_added(0)];
    let bare =
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","call_id":"c"}}"#;
    let citation =
        r#"{"type":"response.output_text.annotation.added","annotation":{"type":"url_citation","start_index":"x"}}"#;
    for events in [
        vec!["{"],
        vec!["7"],
        vec!["[]"],
        vec!["{}"],
        vec![r#"{"type":7}"#],
        vec![r#"{"type":"response.created"}"#],
        vec![r#"{"type":"response.output_text.delta"}"#],
        vec![r#"{"type":"response.output_text.delta","delta":{}}"#],
        vec![r#"{"type":"response.output_item.added","output_index":-1,"item":{}}"#],
        vec![r#"{"type":"response.function_call_arguments.delta","output_index":0,"delta":"x"}"#],
        vec![r#"{"type":"response.output_item.done","output_index":0,"item":{}}"#],
        vec![r#"{"type":"response.completed"}"#],
        vec![r#"{"type":"response.completed","response":[]}"#],
        vec![bare],
        vec![citation],
        vec![twice[0].as_str(), &twice[1]],
    ] {
        assert!(matches!(read(decoder, &stream(&events)).broken, Some(Broken::Malformed(_))), "{events:?}");
    }
}

#[test]
fn what_is_open_is_bounded() {
    let (mut decoder, mut out) = (decoder("seed"), Output::default());
    let broken = (0..10_000).find_map(|n| {
        let delta = TEXT.replace(r#""output_index":0"#, &format!(r#""output_index":{n}"#));
        decoder.event(delta.as_bytes(), &mut out).err()
    });
    assert!(matches!(broken, Some(Broken::Malformed(_))));

    let mut decoder = super::super::decoder("seed");
    for n in 0..10_000 {
        let at = |event: &str| event.replace(r#""output_index":0"#, &format!(r#""output_index":{n}"#));
        decoder.event(at(TEXT).as_bytes(), &mut out).unwrap();
        decoder.event(at(MESSAGE_DONE).as_bytes(), &mut out).unwrap();
    }
}
