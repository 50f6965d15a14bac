//! A conversation that another provider began.
//!
//! What it thought is left out, with all that only it can read; its words, its calls and
//! their ids stay. What stands in its own form is refused.

use proto::{
    chat::{
        ContentPart, Message, OpenAiApi, ProviderPart, ReasoningPart, RefusalPart, StreamChatRequest, TextPart,
        ToolCallPart, content_part::Part, message::Role,
    },
    types::Provider,
};
use serde_json::Value;

use crate::{Stage, request, results, sent, text, user};

/// How the ids begin that the gateway makes where a provider has none.
pub(crate) const MADE_ID: &str = "call-gateway-";

/// What Google documents for calls that no model of its own made.
const STAND_IN: &str = "skip_thought_signature_validator";

/// Who is asked to go on.
struct Asked {
    provider: Provider,
    model: &'static str,
    api: OpenAiApi,
    turn: fn(&Value) -> Vec<Value>,
    results: fn(&Value) -> Vec<(String, String)>,
}

const ASKED: [Asked; 5] = [
    Asked {
        provider: Provider::Anthropic,
        model: "claude-sonnet-4-5",
        api: OpenAiApi::Unspecified,
        turn: sent::anthropic_turn,
        results: sent::anthropic_results,
    },
    Asked {
        provider: Provider::Openai,
        model: "gpt-4o",
        api: OpenAiApi::Unspecified,
        turn: sent::chat_turn,
        results: sent::chat_results,
    },
    Asked {
        provider: Provider::Openai,
        model: "gpt-5-mini",
        api: OpenAiApi::Responses,
        turn: sent::responses_turn,
        results: sent::responses_results,
    },
    Asked {
        provider: Provider::Gemini,
        model: "gemini-2.5-flash",
        api: OpenAiApi::Unspecified,
        turn: sent::gemini_turn,
        results: sent::gemini_results,
    },
    Asked {
        provider: Provider::Gemini,
        model: "gemini-3-pro-preview",
        api: OpenAiApi::Unspecified,
        turn: sent::gemini_turn,
        results: sent::gemini_results,
    },
];

const PROVIDERS: [Provider; 3] = [Provider::Anthropic, Provider::Openai, Provider::Gemini];

#[tokio::test]
async fn what_another_provider_thought_is_left_out_and_the_rest_goes_on() {
    let mut stage = Stage::set().await;
    for made_by in PROVIDERS {
        for asked in ASKED.iter().filter(|asked| asked.provider != made_by) {
            let whose = format!("{made_by:?} to {}", asked.model);
            let answer = turn_of(made_by);

            let sent = stage.sends(asked.continues(&answer)).await;

            let sent = sent.unwrap_or_else(|failure| panic!("{whose}: {failure:?}"));
            let body = String::from_utf8(sent.body.clone()).expect("JSON is UTF-8");
            assert!(!body.contains("only-its-maker"), "{whose}: {body}");
            for kept in ["I will look.", "But not there."] {
                assert!(body.contains(kept), "{whose}: {kept} is not in {body}");
            }
            let body = sent.json();
            asked.check_calls(&whose, &(asked.turn)(&body), &(asked.results)(&body), &ids(&answer));
        }
    }
}

#[tokio::test]
async fn a_part_in_another_providers_form_is_refused() {
    let mut stage = Stage::set().await;
    for made_by in PROVIDERS {
        for asked in &ASKED {
            let own = ProviderPart { provider: made_by.into(), json: r#"{"type":"of-its-maker"}"#.to_owned() };
            let parts = vec![text("I will look."), content(Part::Provider(own))];
            let said = Message { role: Role::Assistant.into(), parts };
            let messages = vec![user("Where is it warm?"), said, user("And?")];

            // What is in the form of Responses does not fit Chat Completions.
            let api =
                if made_by == Provider::Openai && asked.provider == made_by { OpenAiApi::Responses } else { asked.api };
            let request = StreamChatRequest { messages, ..request(asked.model, api) };
            let outcome = stage.sends(request).await;

            let whose = format!("{made_by:?} to {}", asked.model);
            if asked.provider == made_by {
                let sent = outcome.unwrap_or_else(|failure| panic!("{whose}: {failure:?}"));
                assert!(String::from_utf8_lossy(&sent.body).contains(r#"{"type":"of-its-maker"}"#), "{whose}");
            } else {
                let failure = outcome.expect_err(&whose);
                assert_eq!(failure.class(), "InvalidArgument INVALID_FIELD", "{whose}");
                assert_eq!(failure.fields, ["messages[1].parts[1].provider"], "{whose}");
            }
        }
    }
}

/// Reasoning that came from OpenAI goes back to it, which only Responses can.
#[tokio::test]
async fn reasoning_that_is_sent_back_chooses_the_api() {
    let mut stage = Stage::set().await;
    let answer = turn_of(Provider::Openai);
    let messages = vec![user("Where is it warm?"), answer.clone(), results(&answer)];
    let request = StreamChatRequest { messages, ..request("gpt-5-mini", OpenAiApi::Unspecified) };

    let sent = stage.sends(request).await.expect("it is accepted");

    assert_eq!(sent.path, "/v1/responses");
    assert!(String::from_utf8_lossy(&sent.body).contains("encrypted-for-only-its-maker"));
}

impl Asked {
    fn continues(&self, answer: &Message) -> StreamChatRequest {
        let messages = vec![user("Where is it warm?"), answer.clone(), results(answer)];
        StreamChatRequest { messages, ..request(self.model, self.api) }
    }

    fn check_calls(&self, whose: &str, turn: &[Value], results: &[(String, String)], ids: &[String]) {
        let calls: Vec<&Value> = turn.iter().filter(|part| is_call(part)).collect();
        let found: Vec<_> = calls.iter().map(|call| id(call)).collect();
        // Each result says whose it is: the first call asked for Oslo, the second for Rome.
        let city_of = |id: &String| if *id == ids[0] { "Oslo" } else { "Rome" };
        for (whose_result, said) in results {
            assert!(said.contains(city_of(whose_result)), "{whose}: {results:?}");
        }
        assert_eq!(found, ids, "{whose}");
        assert_eq!(results.len(), 2, "{whose}");
        let signed: Vec<_> = calls.iter().map(|call| call["thoughtSignature"].as_str()).collect();
        let expected = if self.model.starts_with("gemini-3") { Some(STAND_IN) } else { None };
        assert_eq!(signed[0], expected, "{whose}");
        assert!(signed.iter().all(|signature| matches!(signature, None | Some(STAND_IN))), "{whose}");
    }
}

fn is_call(part: &Value) -> bool {
    part.get("functionCall").is_some()
        || ["tool_use", "function", "function_call"].iter().any(|kind| part["type"] == *kind)
}

fn id(call: &Value) -> String {
    let found = [&call["id"], &call["call_id"], &call["functionCall"]["id"]].into_iter().find_map(Value::as_str);
    found.unwrap_or_else(|| panic!("{call} has no id")).to_owned()
}

fn ids(answer: &Message) -> Vec<String> {
    let id = |part: &ContentPart| match &part.part {
        Some(Part::ToolCall(call)) => Some(call.id.clone()),
        _ => None,
    };
    answer.parts.iter().filter_map(id).collect()
}

fn content(part: Part) -> ContentPart {
    ContentPart { part: Some(part), cache_control: None }
}

/// An answer with what a provider signs and hides, words, and two calls.
fn turn_of(provider: Provider) -> Message {
    let thought = |said: ReasoningPart| content(Part::Reasoning(ReasoningPart { provider: provider.into(), ..said }));
    let call = |id: &str, city: &str, signature: &str| {
        let (id, name, signature) = (id.to_owned(), "get_weather".to_owned(), signature.to_owned());
        let arguments = format!(r#"{{"city":"{city}"}}"#);
        content(Part::ToolCall(ToolCallPart { id, name, arguments, incomplete: false, signature }))
    };
    let signed_text = |signature: &str| {
        let (text, signature) = ("I will look.".to_owned(), signature.to_owned());
        content(Part::Text(TextPart { text, signature }))
    };
    let refused = content(Part::Refusal(RefusalPart { text: "But not there.".to_owned() }));
    let plain = || "a thought of only-its-maker".to_owned();
    let parts = match provider {
        Provider::Anthropic => vec![
            thought(ReasoningPart {
                text: plain(),
                signature: "signed-by-only-its-maker".to_owned(),
                ..ReasoningPart::default()
            }),
            thought(ReasoningPart { redacted_data: "hidden-by-only-its-maker".to_owned(), ..ReasoningPart::default() }),
            signed_text(""),
            refused,
            call("toolu_1", "Oslo", ""),
            call("toolu_2", "Rome", ""),
        ],
        Provider::Openai => vec![
            thought(ReasoningPart {
                text: plain(),
                signature: "encrypted-for-only-its-maker".to_owned(),
                id: "rs_only-its-maker".to_owned(),
                ..ReasoningPart::default()
            }),
            signed_text(""),
            refused,
            call("call_1", "Oslo", ""),
            call("call_2", "Rome", ""),
        ],
        Provider::Gemini => vec![
            thought(ReasoningPart { text: plain(), ..ReasoningPart::default() }),
            signed_text("text-of-only-its-maker"),
            refused,
            call("call-gateway-x-0", "Oslo", "call-of-only-its-maker"),
            call("call-gateway-x-1", "Rome", ""),
        ],
        Provider::Unspecified => panic!("nobody"),
    };
    Message { role: Role::Assistant.into(), parts }
}
