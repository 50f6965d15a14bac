use crate::{
    message::{Citation, CitationKind, Event, FinishReason, ProviderEvent},
    provider::{
        Broken, Output, RejectionKind,
        openai::chat,
        transcript::{Transcript, line, read, stream, usage},
    },
};

fn chunk(delta: &str, reason: &str) -> String {
    format!(
        r#"{{"id":"c1","model":"gpt-x","choices":[{{"index":0,"delta":{delta},"finish_reason":{reason}}}],"usage":null}}"#
    )
}

const USAGE: &str = r#"{"id":"c1","model":"gpt-x","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}"#;

fn answer(deltas: &[&str], reason: &str) -> Transcript {
    let first = r#"{"choices":[],"id":"","model":"","prompt_filter_results":[]}"#.to_owned();
    let role =
        chunk(r#"{"role":"assistant","content":"","refusal":null,"reasoning_content":"","annotations":[]}"#, "null");
    let deltas = deltas.iter().map(|delta| chunk(delta, "null"));
    let last = [chunk("{}", &format!("\"{reason}\"")), USAGE.to_owned(), "[DONE]".to_owned()];
    let data: Vec<String> = [first, role].into_iter().chain(deltas).chain(last).collect();
    read(chat::decoder, &stream(&data.iter().map(String::as_str).collect::<Vec<_>>()))
}

fn lines(answer: &Transcript) -> Vec<String> {
    answer.calls().into_iter().map(line).collect()
}

#[test]
fn text_commits_and_done_ends() {
    let answer = answer(&[r#"{"content":"Hé"}"#, r#"{"content":""}"#, r#"{"content":"llo"}"#], "stop");
    assert_eq!((answer.text().as_str(), answer.before_commit), ("Héllo", 2));
    assert_eq!((answer.model.as_deref(), answer.response_id.as_deref()), (Some("gpt-x"), Some("c1")));
    assert_eq!((answer.finish().reason, answer.finish().provider_reason.as_str()), (FinishReason::Stop, "stop"));
    let counts = usage([Some(10), Some(4), None, Some(5), Some(3), Some(15)]);
    assert_eq!(answer.finish().usage, Some(counts));
}

#[test]
fn each_finish_reason_has_its_meaning() {
    let text = r#"{"content":"x"}"#;
    let refusal = r#"{"refusal":"no"}"#;
    let call = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":"{}"}}]}"#;
    for (delta, word, reason) in [
        (text, "stop", FinishReason::Stop),
        (text, "length", FinishReason::Length),
        (text, "content_filter", FinishReason::ContentFilter),
        (text, "brand_new", FinishReason::Other),
        (refusal, "stop", FinishReason::Refusal),
        (refusal, "length", FinishReason::Length),
        (call, "stop", FinishReason::ToolCalls),
        (call, "tool_calls", FinishReason::ToolCalls),
        (call, "function_call", FinishReason::ToolCalls),
        (call, "length", FinishReason::Length),
    ] {
        let answer = answer(&[delta], word);
        assert_eq!((answer.finish().reason, answer.finish().provider_reason.as_str()), (reason, word));
        assert_eq!(answer.refusal(), if delta == refusal { "no" } else { "" });
    }
}

#[test]
fn calls_are_told_apart_by_their_index() {
    let parallel = [
        r#"{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"t","arguments":""}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"k\":"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"u","arguments":""}}]}"#,
    ];
    assert_eq!(lines(&answer(&parallel, "tool_calls")), [r#"0 a t {"k":1}"#, "1 b u {}"]);

    let interleaved = [
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":"{\"k\""}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"u","arguments":"{"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":":1}"}},{"index":1,"function":{"arguments":"}"}}]}"#,
    ];
    assert_eq!(lines(&answer(&interleaved, "tool_calls")), [r#"0 a t {"k":1}"#, "1 b u {}"]);
}

#[test]
fn a_whole_call_ends_when_the_next_begins() {
    let deltas = [
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":"{}"}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"u","arguments":"{}"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":" \n"}}]}"#,
    ];
    let answer = answer(&deltas, "tool_calls");
    let first = answer.events.iter().position(|event| matches!(event, Event::ToolCallFinished(_)));
    let second = answer.events.iter().rposition(|event| matches!(event, Event::ToolCallStarted { .. }));
    assert!(first < second);
    assert_eq!(lines(&answer), ["0 a t {}", "1 b u {}"]);
}

#[test]
fn imitators_send_calls_in_their_own_ways() {
    let whole_at_index_0 = [
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":"{}"}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"t","arguments":"{}"}}]}"#,
    ];
    assert_eq!(lines(&answer(&whole_at_index_0, "tool_calls")), ["0 a t {}", "1 b t {}"]);
    let whole_without_id = [
        r#"{"tool_calls":[{"index":0,"function":{"name":"a","arguments":"{}"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"name":"b","arguments":"{\"k\":"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"name":"b","arguments":"1}"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"name":"b","arguments":""}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"name":"b","arguments":"{}"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"name":"c","arguments":""}}]}"#,
    ];
    let expected = ["0 call_seed_0 a {}", r#"1 call_seed_1 b {"k":1}"#, "2 call_seed_2 b {}", "3 call_seed_3 c {}"];
    assert_eq!(lines(&answer(&whole_without_id, "tool_calls")), expected);
    let same_id_each_time = [
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":"{}"}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":" "}}]}"#,
    ];
    assert_eq!(lines(&answer(&same_id_each_time, "tool_calls")), ["0 a t {} "]);
    let without_index = [
        r#"{"tool_calls":[{"id":"a","function":{"name":"t","arguments":"{"}}]}"#,
        r#"{"tool_calls":[{"function":{"arguments":"}"}}]}"#,
    ];
    assert_eq!(lines(&answer(&without_index, "tool_calls")), ["0 a t {}"]);
    let new_id_each_time = [
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":"{"}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"b","function":{"arguments":"}"}}]}"#,
    ];
    assert_eq!(lines(&answer(&new_id_each_time, "tool_calls")), ["0 a t {}"]);
    let without_id = [r#"{"tool_calls":[{"index":0,"function":{"name":"t"}}]}"#];
    assert_eq!(lines(&answer(&without_id, "tool_calls")), ["0 call_seed_0 t {}"]);
    let legacy = [r#"{"function_call":{"name":"t","arguments":""}}"#, r#"{"function_call":{"arguments":"{\"k\":1}"}}"#];
    assert_eq!(lines(&answer(&legacy, "function_call")), [r#"0 call_seed_0 t {"k":1}"#]);
}

#[test]
fn a_call_that_the_limit_cuts_is_incomplete() {
    let delta = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":"{\"k\":"}}]}"#;
    assert_eq!(lines(&answer(&[delta], "length")), [r#"0 a t {"k": !"#]);
    let bare = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":""}}]}"#;
    assert_eq!(lines(&answer(&[bare], "content_filter")), ["0 a t  !"]);
    assert_eq!(lines(&answer(&[bare], "tool_calls")), ["0 a t {}"]);
}

/// What was passed on: the names, and how much of each. All is checked to be what was sent.
fn asides(answer: &Transcript) -> Vec<(&str, &str)> {
    let asides = answer.events.iter().filter_map(|event| match event {
        Event::Provider(ProviderEvent { kind, json, replayable: false }) => Some((kind.as_str(), json.as_str())),
        _ => None,
    });
    asides.collect()
}

#[test]
fn what_has_no_common_form_is_passed_on_under_its_name() {
    let unknown = "chat.completion.chunk";
    for (delta, rest, names, commits) in [
        (r#"{"audio":{"data":"x"}}"#, "", vec!["audio"], true),
        (r#"{"audio":{}}"#, "", vec![], false),
        (r#"{"reasoning":{"new":"form"}}"#, "", vec!["reasoning"], true),
        ("{}", r#","logprobs":{"content":[{"token":"x"}],"refusal":null}"#, vec!["logprobs"], false),
        ("{}", r#","logprobs":{"content":null,"refusal":[{"token":"x"}]}"#, vec!["logprobs"], false),
        ("{}", r#","logprobs":{"tokens":["x"]}"#, vec!["logprobs"], false),
        ("{}", r#","logprobs":{"content":[],"refusal":null}"#, vec![], false),
        ("{}", r#","content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}"#, vec![], false),
        ("{}", r#","content_filter_results":{"hate":{"filtered":true}}"#, vec!["content_filter_results"], false),
        ("{}", r#","content_filter_offsets":{"check_offset":1}"#, vec![], false),
        (r#"{"brand_new":1}"#, r#","newer":null"#, vec![unknown], false),
        (r#"{"tool_calls":[{"index":0,"id":"a","type":"brand_new"}]}"#, "", vec![unknown], true),
        (
            r#"{"brand_new":1}"#,
            r#","logprobs":{"content":[{}]},"newer":2},{"index":1,"delta":{"content":"other"},"finish_reason":"length""#,
            vec!["logprobs", unknown],
            false,
        ),
    ] {
        let data = format!(r#"{{"choices":[{{"index":0,"delta":{delta}{rest}}}]}}"#);
        let answer = read(chat::decoder, &stream(&[&data, &chunk(r#"{"content":"x"}"#, "\"stop\""), "[DONE]"]));
        let expected: Vec<_> = names.into_iter().map(|name| (name, data.as_str())).collect();
        assert_eq!((asides(&answer), answer.before_commit), (expected, usize::from(!commits)), "{data}");
        assert_eq!((answer.text().as_str(), answer.finish().reason), ("x", FinishReason::Stop), "{data}");
    }
}

#[test]
fn what_a_filter_did_to_the_prompt_is_passed_on() {
    for (results, names) in [
        (r#"[{"content_filter_results":{"jailbreak":{"detected":true,"filtered":false}}}]"#, 1),
        (r#"[{"content_filter_results":{"error":{"code":"content_filter_error"}}}]"#, 1),
        (r#"[{"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]"#, 0),
    ] {
        let first = format!(r#"{{"choices":[],"id":"","model":"","object":"","prompt_filter_results":{results}}}"#);
        let answer = read(chat::decoder, &stream(&[&first, &chunk("{}", "\"stop\""), "[DONE]"]));
        let expected = vec![("prompt_filter_results", first.as_str()); names];
        assert_eq!(asides(&answer), expected);
    }
    let moderated = r#"{"choices":[],"moderation":{"input":{},"output":{}}}"#;
    let answer = read(chat::decoder, &stream(&[moderated, &chunk("{}", "\"stop\""), "[DONE]"]));
    assert_eq!(asides(&answer), [("moderation", moderated)]);
}

#[test]
fn reasoning_is_a_block_until_something_else_comes() {
    let deltas = [
        r#"{"reasoning_content":"a"}"#,
        r#"{"reasoning_content":"b","reasoning":"b"}"#,
        r#"{"reasoning_content":null,"reasoning":"c","content":""}"#,
        r#"{"reasoning_content":"","content":"x"}"#,
        r#"{"content":"y","reasoning":"d"}"#,
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t"}}]}"#,
        r#"{"reasoning":"e"}"#,
    ];
    let answer = answer(&deltas, "stop");
    let blocks: Vec<_> = answer
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Reasoning(delta) => Some((delta.index, delta.text.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(blocks, [(0, "a"), (0, "b"), (0, "c"), (1, "d"), (2, "e")]);
    assert_eq!((answer.text().as_str(), answer.before_commit), ("xy", 2));
}

#[test]
fn annotations_are_citations() {
    let url = r#"{"type":"url_citation","url_citation":{"start_index":3,"end_index":9,"title":"T","url":"U"}}"#;
    let new = r#"{"type":"brand_new","file":{}}"#;
    let answer = answer(&[r#"{"content":"x"}"#, &format!(r#"{{"annotations":[{url},{new}]}}"#)], "stop");
    let web = Citation {
        kind: CitationKind::Web,
        title: "T".to_owned(),
        url: "U".to_owned(),
        start: Some(3),
        end: Some(9),
        json: url.to_owned(),
        ..Citation::default()
    };
    let other = Citation { json: new.to_owned(), ..Citation::default() };
    for expected in [web, other] {
        assert!(answer.events.contains(&Event::Citation(expected.clone())), "{expected:?}");
    }
}

#[test]
fn a_call_of_a_custom_tool_is_put_together() {
    let custom = |index: u32, rest: &str| format!(r#"{{"tool_calls":[{{"index":{index},{rest}}}]}}"#);
    let deltas = [
        custom(0, r#""id":"a","type":"custom","custom":{"name":"c","input":""}"#),
        custom(0, r#""custom":{"input":"x = "}"#),
        custom(0, r#""custom":{"input":"1"}"#),
        custom(1, r#""id":"b","type":"function","function":{"name":"t","arguments":"{}"}"#),
        custom(2, r#""id":"d","type":"custom","custom":{"name":"c","input":"y"}"#),
    ];
    let answer = answer(&deltas.each_ref().map(String::as_str), "stop");
    let first = r#"{"id":"a","type":"custom","custom":{"name":"c","input":"x = 1"}}"#;
    let second = r#"{"id":"d","type":"custom","custom":{"name":"c","input":"y"}}"#;
    assert_eq!(asides(&answer), [("custom", first), ("custom", second)]);
    assert_eq!((lines(&answer), answer.before_commit), (vec!["0 b t {}".to_owned()], 2));
    assert_eq!(answer.finish().reason, FinishReason::ToolCalls);
}

#[test]
fn a_call_of_a_custom_tool_that_the_limit_cuts_is_incomplete() {
    let call = |id: &str| {
        format!(r#"{{"tool_calls":[{{"index":0,"id":"{id}","type":"custom","custom":{{"name":"c","input":"x"}}}}]}}"#)
    };
    let answer = answer(&[&call("a"), &call("b")], "length");
    let whole = r#"{"id":"a","type":"custom","custom":{"name":"c","input":"x"}}"#;
    let cut = r#"{"id":"b","type":"custom","custom":{"name":"c","input":"x"},"incomplete":true}"#;
    assert_eq!(asides(&answer), [("custom", whole), ("custom", cut)]);
}

#[test]
fn the_end_has_what_the_provider_said_of_the_whole() {
    let said = r#"{"choices":[],"service_tier":"auto","system_fingerprint":null,"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":2}}}"#;
    let again = r#"{"choices":[],"service_tier":"default","system_fingerprint":"fp","usage":{"prompt_tokens":4, "completion_tokens":5}}"#;
    let answer = read(chat::decoder, &stream(&[said, &chunk("{}", "\"stop\""), again, "[DONE]"]));
    let finish = answer.finish();
    assert_eq!(finish.provider_details, r#"{"service_tier":"default","system_fingerprint":"fp"}"#);
    assert_eq!(finish.provider_usage, r#"{"prompt_tokens":4, "completion_tokens":5}"#);
    assert_eq!(finish.usage, Some(usage([Some(4), Some(2), None, Some(5), None, Some(9)])));
    let silent = read(chat::decoder, &stream(&[&chunk("{}", "\"stop\""), "[DONE]"]));
    assert_eq!((silent.finish().provider_details.as_str(), silent.finish().provider_usage.as_str()), ("", ""));
}

#[test]
fn what_every_chunk_says_is_passed_on_once() {
    let added = |n: u32, rest: &str| {
        format!(
            r#"{{"id":"c{n}","provider":"Azure","p":"ab","choices":[{{"delta":{{"content":"x","token_id":{n}}}{rest}}}]}}"#
        )
    };
    let cited = |n: u32| added(n, "").replacen('{', r#"{"citations":["https://a.test"],"stats":{},"#, 1);
    let last = added(4, r#","finish_reason":"stop","native_finish_reason":"completed""#);
    let data = [added(0, ""), cited(1), cited(2), cited(3), last];
    let data: Vec<&str> = data.iter().map(String::as_str).chain(["[DONE]"]).collect();
    let answer = read(chat::decoder, &stream(&data));
    assert_eq!((asides(&answer), answer.text().as_str()), (vec![("chat.completion.chunk", data[1])], "xxxxx"));
    let details = r#"{"provider":"Azure","native_finish_reason":"completed"}"#;
    assert_eq!(answer.finish().provider_details, details);
}

#[test]
fn a_count_that_cannot_be_read_is_none() {
    for (counts, read_counts) in [
        (
            r#"{"prompt_tokens":-1,"completion_tokens":5,"total_tokens":15}"#,
            Some([None, None, None, Some(5), None, Some(15)]),
        ),
        (
            r#"{"prompt_tokens":10,"completion_tokens":5.5,"prompt_tokens_details":[],"completion_tokens_details":[7]}"#,
            Some([Some(10), None, None, None, None, None]),
        ),
        (
            r#"{"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":"4","cache_write_tokens":2}}"#,
            Some([Some(10), None, Some(2), None, None, None]),
        ),
        (r#"{"prompt_tokens":"x"}"#, None),
        ("[]", None),
        ("7", None),
    ] {
        let data = format!(r#"{{"choices":[],"usage":{counts}}}"#);
        let answer = read(chat::decoder, &stream(&[&chunk(r#"{"content":"x"}"#, "\"stop\""), &data, "[DONE]"]));
        assert_eq!((answer.text().as_str(), answer.finish().usage), ("x", read_counts.map(usage)), "{counts}");
        assert_eq!(answer.finish().provider_usage, counts);
    }
}

#[test]
fn only_done_is_an_end() {
    let finished = chunk(r#"{"content":"x"}"#, "\"stop\"");
    let cut = read(chat::decoder, &stream(&[&finished, USAGE]));
    assert_eq!((cut.finished, &cut.broken), (false, &None));
}

#[test]
fn an_end_that_does_not_say_why_is_a_cut() {
    let text = chunk(r#"{"content":"Hel"}"#, "null");
    for data in [&["[DONE]"][..], &[&text, "[DONE]"]] {
        let cut = read(chat::decoder, &stream(data));
        assert_eq!((cut.finished, &cut.broken), (false, &Some(Broken::Cut)), "{data:?}");
    }
}

#[test]
fn what_must_not_be_is_malformed() {
    for data in [
        "{",
        "7",
        "[null, null, null, null, null]",
        r#"{"choices":7}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a"}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","custom":{"input":"x"}}]}}]}"#,
        r#"{"choices":[{"delta":{"annotations":{}}}]}"#,
    ] {
        assert!(matches!(read(chat::decoder, &stream(&[data])).broken, Some(Broken::Malformed(_))), "{data}");
    }
}

#[test]
fn a_list_without_end_is_malformed() {
    let many = vec!["{}"; 5000].join(",");
    for data in [format!(r#"{{"choices":[{many}]}}"#), chunk(&format!(r#"{{"tool_calls":[{many}]}}"#), "null")] {
        let read = chat::decoder("seed").event(data.as_bytes(), &mut Output::default());
        assert!(matches!(read, Err(Broken::Malformed(_))), "{read:?}");
    }
}

#[test]
fn an_error_in_the_stream_is_the_error_it_stands_for() {
    use RejectionKind as Kind;
    for (error, kind) in [
        (r#"{"message":"M","type":"server_error","code":null}"#, Kind::Internal),
        (r#"{"message":"M","type":"insufficient_quota","code":"insufficient_quota"}"#, Kind::Quota),
        (r#"{"message":"M","type":"tokens","code":"rate_limit_exceeded"}"#, Kind::RateLimited),
        (r#"{"message":"M","type":"requests"}"#, Kind::RateLimited),
        (r#"{"message":"M","code":"context_length_exceeded"}"#, Kind::ContextLength),
        (r#"{"message":"M","code":"model_not_found"}"#, Kind::ModelNotFound),
        (r#"{"message":"M","code":"invalid_api_key"}"#, Kind::Key),
        (r#"{"message":"M","type":"invalid_request_error"}"#, Kind::InvalidRequest),
        (r#"{"message":"M","code":"slow_down"}"#, Kind::Overloaded),
        (r#"{"message":"M","code":503}"#, Kind::Overloaded),
        (r#"{"message":"M","code":"brand_new"}"#, Kind::Internal),
        (r#""M""#, Kind::Internal),
    ] {
        for data in [format!(r#"{{"error":{error}}}"#), format!(r#"{{"error":{error},"id":7,"choices":"x"}}"#)] {
            match read(chat::decoder, &stream(&[&data])).broken {
                Some(Broken::Rejected(rejection)) => {
                    assert_eq!((rejection.kind, rejection.message.as_str()), (kind, "M"), "{data}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
