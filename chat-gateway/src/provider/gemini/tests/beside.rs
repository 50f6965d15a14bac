//! What has no common form, and where text comes from.

use serde_json::json;

use super::*;
use crate::{
    message::{Citation, CitationKind, Event, FinishReason, ProviderEvent},
    provider::Broken,
};

/// What the answer passes on, as `kind json`; what is a part of it with a `*`.
fn passed_on(data: &[&str]) -> Vec<String> {
    let answer = answer(data);
    assert_eq!(answer.broken, None);
    let line = |ProviderEvent { kind, json, replayable }: ProviderEvent| {
        format!("{kind}{} {json}", if replayable { "*" } else { "" })
    };
    let events = answer.events.into_iter().filter_map(|event| match event {
        Event::Provider(event) => Some(line(event)),
        _ => None,
    });
    events.collect()
}

fn citations(data: &[&str]) -> Vec<Citation> {
    let answer = answer(data);
    assert_eq!(answer.broken, None);
    let citations = answer.events.into_iter().filter_map(|event| match event {
        Event::Citation(citation) => Some(citation),
        _ => None,
    });
    citations.collect()
}

#[test]
fn other_parts_go_on_as_they_came() {
    for (part, kind) in [
        (r#"{"executableCode":{"code":"x"}}"#, "executable_code"),
        (r#"{"executableCode": {"code": "x"}, "thoughtSignature": "s"}"#, "executable_code"),
        (r#"{"codeExecutionResult":{"output":"x"}}"#, "code_execution_result"),
        (r#"{"audioMetadata":{},"inlineData":{"data":"x"}}"#, "inline_data"),
        (r#"{"fileData":{"fileUri":"x"}}"#, "file_data"),
        (r#"{"toolCall":{"id":"x"}}"#, "tool_call"),
        (r#"{"toolResponse":{"id":"x"}}"#, "tool_response"),
        (r#"{"functionResponse":{"name":"x"}}"#, "function_response"),
        (r#"{"text":"","audioTranscription":{}}"#, "audio_transcription"),
        (r#"{"brandNewThing":{"x":1},"thoughtSignature":"s"}"#, "brand_new_thing"),
    ] {
        assert_eq!(passed_on(&[&parts(part)]), [format!("{kind}* {part}")]);
        assert_eq!(answer(&[&parts(part)]).before_commit, 0, "{part}");
    }
}

#[test]
fn an_event_with_fields_that_nobody_knows_goes_on_beside_what_is_known() {
    for data in [
        r#"{"brandNew":{}}"#.to_owned(),
        candidate(r#""brandNew":0"#),
        parts(r#"{"text":"x","brandNew":[1]}"#),
        parts(r#"{"functionCall":{"name":"t","brandNew":true}}"#),
        parts(r#"{"text":"x","executableCode":{}}"#),
        parts(r#"{"functionCall":{"name":"t"},"executableCode":{}}"#),
    ] {
        assert_eq!(passed_on(&[&data]), [format!("generate_content_response {data}")]);
    }
    assert_eq!(answer(&[&parts(r#"{"text":"x","brandNew":1}"#)]).text(), "x");
    assert_eq!(answer(&[&parts(r#"{"text":"x","functionCall":{"name":"t"}}"#)]).text(), "x");
    assert_eq!(answer(&[r#"{"brandNew":{}}"#]).before_commit, 1);
}

#[test]
fn what_is_known_is_no_news() {
    let known = r#"{"candidates":[{"content":{"parts":[{"text":"x","thought":null,"brandNew":null}],"role":"model"},"index":0,"finishMessage":"m","tokenCount":1,"avgLogprobs":-0.5,"safetyRatings":[{"category":"C","probability":"LOW"}],"groundingMetadata":{}},{"index":1,"content":{"parts":[{"text":"other"}]}}],"promptFeedback":{"safetyRatings":[]},"usageMetadata":{"promptTokenCount":1,"brandNew":1},"modelVersion":"m","responseId":"r","createTime":"now"}"#;
    let call = r#"{"functionCall":{"name":"t","partialArgs":[{"jsonPath":"$.a","nullValue":"NULL_VALUE","willContinue":false}],"willContinue":true}}"#;
    assert_eq!(passed_on(&[known, &parts(call)]), [""; 0]);
    assert_eq!(answer(&[known]).text(), "x");
}

#[test]
fn what_stands_beside_the_answer_is_passed_on_once() {
    let read = |id: u8| candidate(&format!(r#""urlContextMetadata":{{"id":{id}}}"#));
    let status = r#"{"modelStatus":{"modelStage":"RETIRED"}}"#;
    let expected = [
        r#"url_context_metadata {"id":1}"#,
        r#"model_status {"modelStage":"RETIRED"}"#,
        r#"url_context_metadata {"id":2}"#,
    ];
    assert_eq!(passed_on(&[&read(1), status, &read(1), status, &read(2)]), expected);
    let logprobs = candidate(r#""logprobsResult":{"x":1}"#);
    assert_eq!(passed_on(&[&logprobs, &logprobs]), [r#"logprobs_result {"x":1}"#; 2]);
}

#[test]
fn each_support_and_source_is_a_citation() {
    let support = r#"{"segment":{"startIndex":3,"endIndex":7,"text":"text"},"groundingChunkIndices":[1,0,9]}"#;
    let first = r#"{"segment":{"endIndex":2},"groundingChunkIndices":[2]}"#;
    let web = r#"{"web":{"uri":"https://a.test","title":"A"}}"#;
    let file = r#"{"retrievedContext":{"uri":"gs://b","title":"B"}}"#;
    let picture = r#"{"image":{"sourceUri":"https://c.test","imageUri":"https://c.test/i"}}"#;
    let grounding = format!(
        r#"{{"groundingChunks":[{web},{file},{picture}],"groundingSupports":[{support},{first},{{"segment":{{}}}}]}}"#
    );
    let data = candidate(&format!(r#""groundingMetadata":{grounding}"#));
    let cited = |kind, title: &str, url: &str, chunk: &str| Citation {
        kind,
        cited_text: "text".to_owned(),
        title: title.to_owned(),
        url: url.to_owned(),
        start: Some(3),
        end: Some(7),
        json: format!(r#"{{"groundingSupport":{support}{chunk}}}"#),
        ..Citation::default()
    };
    let chunk = |chunk: &str| format!(r#","groundingChunk":{chunk}"#);
    let expected = [
        cited(CitationKind::File, "B", "gs://b", &chunk(file)),
        cited(CitationKind::Web, "A", "https://a.test", &chunk(web)),
        cited(CitationKind::Other, "", "", ""),
        Citation {
            kind: CitationKind::Web,
            url: "https://c.test".to_owned(),
            start: Some(0),
            end: Some(2),
            json: format!(r#"{{"groundingSupport":{first}{}}}"#, chunk(picture)),
            ..Citation::default()
        },
    ];
    assert_eq!(citations(&[&data, &data]), expected);
    assert_eq!(passed_on(&[&data, &data]), [format!("grounding_metadata {grounding}")]);

    let odd = candidate(r#""groundingMetadata":{"groundingSupports":[7,{"segment":7}],"groundingChunks":[null]}"#);
    assert_eq!((citations(&[&odd]).len(), passed_on(&[&odd]).len()), (0, 1));
}

#[test]
fn citations_cannot_be_made_to_grow_without_end() {
    let indices = vec!["0"; 4096].join(",");
    let web = format!(r#"{{"web":{{"uri":"{}"}}}}"#, "x".repeat(8192));
    let grounding = format!(
        r#""groundingMetadata":{{"groundingChunks":[{web}],"groundingSupports":[{{"groundingChunkIndices":[{indices}]}}]}}"#
    );
    let (mut reader, mut out) = (decoder("seed"), crate::provider::Output::default());
    let broken = reader.event(candidate(&grounding).as_bytes(), &mut out);
    assert_eq!(broken, Err(Broken::Malformed("the citations are too large")));
}

#[test]
fn recited_text_is_cited() {
    let source = r#"{"startIndex":4,"endIndex":9,"uri":"https://a.test","title":"A","license":"mit"}"#;
    let first = r#"{"endIndex":9}"#;
    for field in ["citationSources", "citations"] {
        let data = candidate(&format!(r#""citationMetadata":{{"{field}":[{source},{first}]}}"#));
        let cited = Citation { kind: CitationKind::Recitation, end: Some(9), ..Citation::default() };
        let expected = [
            Citation {
                title: "A".to_owned(),
                url: "https://a.test".to_owned(),
                start: Some(4),
                json: source.to_owned(),
                ..cited.clone()
            },
            Citation { start: Some(0), json: first.to_owned(), ..cited },
        ];
        assert_eq!(citations(&[&data, &data]), expected);
    }
    let odd = candidate(r#""citationMetadata":{"brandNew":[]}"#);
    assert_eq!(passed_on(&[&odd]), [r#"citation_metadata {"brandNew":[]}"#]);
}

#[test]
fn a_blocked_prompt_ends_at_once() {
    let feedback = r#"{"blockReason":"SAFETY","safetyRatings":[]}"#;
    let blocked = answer(&[&format!(r#"{{"promptFeedback":{feedback},"usageMetadata":{{"promptTokenCount":9}}}}"#)]);
    let finish = blocked.finish();
    assert_eq!((finish.reason, finish.provider_reason.as_str()), (FinishReason::ContentFilter, "SAFETY"));
    assert_eq!(finish.usage.and_then(|usage| usage.input), Some(9));
    assert_eq!(finish.provider_details, format!(r#"{{"promptFeedback":{feedback}}}"#));
    assert_eq!(finish.provider_usage, r#"{"promptTokenCount":9}"#);
}

#[test]
fn the_end_has_details() {
    let blocks = r#"[{"category":"C","blocked":true}]"#;
    let early = candidate(r#""finishReason":"STOP","finishMessage":"early""#);
    let rated = candidate(&format!(r#""safetyRatings":{blocks}"#));
    let harmless = candidate(r#""safetyRatings":[{"category":"C","blocked":false}]"#);
    let last =
        candidate(r#""finishReason":"SAFETY","finishMessage":"last","continuationToken":"t","avgLogprobs":-0.5"#);
    let details = |data: &[&str]| {
        let details = answer(data).finish().provider_details.clone();
        if details.is_empty() { Value::Null } else { serde_json::from_str(&details).unwrap() }
    };
    let expected = json!({
        "finishMessage": "last", "safetyRatings": [{ "category": "C", "blocked": true }], "continuationToken": "t",
        "avgLogprobs": -0.5,
    });
    assert_eq!(details(&[&early, &rated, &harmless, &last]), expected);
    assert_eq!(details(&[&early]), json!({ "finishMessage": "early" }));
    assert_eq!(details(&[&early, &harmless, &end("\"STOP\"")]), Value::Null);
}
