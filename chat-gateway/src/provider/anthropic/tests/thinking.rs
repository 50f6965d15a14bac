//! How much a model thinks.

use super::*;
use crate::message::{Amount, Effort, Summary, Thinking, Tool, ToolChoice};

const NEVER: &str = "claude-3-5-haiku-latest";
const BUDGET: &str = "claude-sonnet-4-5-20250929";
const BOTH: &str = "claude-opus-4-5";
const EITHER: &str = "claude-sonnet-4-6";
const EFFORT: &str = "claude-opus-4-7";
const UNASKED: &str = "claude-opus-5-5";
const UNKNOWN: &str = "claude-next";

fn asked(amount: Option<Amount>, summary: Option<Summary>) -> Chat {
    let thinking = Some(Thinking { amount, summary });
    Chat { messages: vec![user("Hi")], max_output_tokens: Some(4_096), thinking, ..Chat::default() }
}

fn effort(effort: Effort) -> Amount {
    Amount::Effort(effort)
}

#[test]
fn each_family_is_told_in_its_own_way() {
    let budget = json!({ "type": "enabled", "budget_tokens": 1024 });
    let adaptive = json!({ "type": "adaptive" });
    let disabled = json!({ "type": "disabled" });
    for (amount, models, thinking, word) in [
        (None, &[NEVER, BUDGET, EFFORT, UNASKED][..], Value::Null, Value::Null),
        (Some(effort(Effort::None)), &[BUDGET, BOTH, EITHER, EFFORT, UNASKED, UNKNOWN], disabled, Value::Null),
        (Some(effort(Effort::None)), &[NEVER], Value::Null, Value::Null),
        (Some(effort(Effort::High)), &[EITHER, EFFORT, UNASKED, UNKNOWN], adaptive.clone(), json!("high")),
        (Some(effort(Effort::Low)), &[BOTH], Value::Null, json!("low")),
        (Some(effort(Effort::Max)), &[EITHER, EFFORT, UNASKED, UNKNOWN], adaptive.clone(), json!("max")),
        (Some(effort(Effort::Xhigh)), &[EFFORT, UNASKED, UNKNOWN], adaptive.clone(), json!("xhigh")),
        (Some(Amount::Tokens(1024)), &[BUDGET, BOTH, EITHER, UNKNOWN], budget, Value::Null),
        (Some(Amount::AnyTokens), &[EITHER, EFFORT, UNASKED, UNKNOWN], adaptive, Value::Null),
    ] {
        for model in models {
            let body = body(model, &asked(amount, None));
            assert_eq!((&body["thinking"], &body["output_config"]["effort"]), (&thinking, &word), "{model} {amount:?}");
        }
    }
}

#[test]
fn a_budget_has_room_in_the_answer_of_a_model_that_is_not_known() {
    for (model, limit, budget, max_tokens) in [
        (UNKNOWN, None, 8_000, 12_096),
        (UNKNOWN, None, 1_024, 5_120),
        (UNKNOWN, Some(9_000), 8_000, 9_000),
        (BUDGET, None, 8_000, 64_000),
    ] {
        let chat = Chat { max_output_tokens: limit, ..asked(Some(Amount::Tokens(budget)), None) };
        let body = body(model, &chat);
        assert_eq!((&body["max_tokens"], &body["thinking"]["budget_tokens"]), (&json!(max_tokens), &json!(budget)));
    }
    for (limit, budget) in [(None, 1_023), (None, u32::MAX), (Some(8_000), 8_000)] {
        let chat = Chat { max_output_tokens: limit, ..asked(Some(Amount::Tokens(budget)), None) };
        assert_eq!(refused(UNKNOWN, &chat), "reasoning.budget_tokens", "{limit:?} {budget}");
    }
}

#[test]
fn what_is_shown_is_said_where_there_is_thinking() {
    let (auto, none) = (Some(Summary::Auto), Some(Summary::None));
    let tokens = Some(Amount::Tokens(2_000));
    for (model, amount, summary, thinking) in [
        (BUDGET, tokens, auto, json!({ "type": "enabled", "budget_tokens": 2000, "display": "summarized" })),
        (BUDGET, tokens, none, json!({ "type": "enabled", "budget_tokens": 2000, "display": "omitted" })),
        (EFFORT, Some(effort(Effort::Low)), auto, json!({ "type": "adaptive", "display": "summarized" })),
        (EFFORT, None, auto, json!({ "type": "adaptive", "display": "summarized" })),
        (UNASKED, None, none, json!({ "type": "adaptive", "display": "omitted" })),
        // Nothing is thought, so nothing is shown.
        (EFFORT, None, none, Value::Null),
        (BUDGET, None, none, Value::Null),
        (BOTH, Some(effort(Effort::Low)), none, Value::Null),
        (EFFORT, Some(effort(Effort::None)), auto, json!({ "type": "disabled" })),
    ] {
        assert_eq!(body(model, &asked(amount, summary))["thinking"], thinking, "{model} {amount:?} {summary:?}");
    }
}

#[test]
fn what_a_family_does_not_have_is_refused() {
    let tokens = |tokens| Some(Amount::Tokens(tokens));
    for (models, amount, field) in [
        (&[NEVER, BUDGET][..], Some(effort(Effort::High)), "reasoning.effort"),
        (&[BUDGET, BOTH, EITHER, EFFORT, UNKNOWN], Some(effort(Effort::Minimal)), "reasoning.effort"),
        (&[BOTH, EITHER], Some(effort(Effort::Xhigh)), "reasoning.effort"),
        (&[BOTH], Some(effort(Effort::Max)), "reasoning.effort"),
        (&[NEVER, EFFORT, UNASKED], tokens(2_000), "reasoning.budget_tokens"),
        (&[BUDGET, EITHER], tokens(1_023), "reasoning.budget_tokens"),
        (&[BUDGET, EITHER], tokens(4_096), "reasoning.budget_tokens"),
        (&[NEVER, BUDGET, BOTH], Some(Amount::AnyTokens), "reasoning.budget_tokens"),
    ] {
        for model in models {
            assert_eq!(refused(model, &asked(amount, None)), field, "{model} {amount:?}");
        }
    }
    for (model, amount, summary) in [
        (EFFORT, Some(effort(Effort::Low)), Summary::Concise),
        (EFFORT, Some(effort(Effort::Low)), Summary::Detailed),
        (BUDGET, None, Summary::Auto),
        (BOTH, Some(effort(Effort::Low)), Summary::Auto),
    ] {
        assert_eq!(refused(model, &asked(amount, Some(summary))), "reasoning.summary", "{model} {summary:?}");
    }
}

#[test]
fn a_model_that_thinks_takes_less_beside() {
    let forced = |choice| Chat {
        tools: vec![Tool::Provider(r#"{"name":"t"}"#.to_owned()).into()],
        tool_choice: Some(choice),
        ..asked(Some(Amount::Tokens(2_000)), None)
    };
    let thinks = || asked(Some(Amount::Tokens(2_000)), None);
    for (chat, field) in [
        (Chat { temperature: Some(0.9), ..thinks() }, "temperature"),
        (Chat { top_p: Some(0.9), ..thinks() }, "top_p"),
        (Chat { top_k: Some(5), ..thinks() }, "top_k"),
        (forced(ToolChoice::Required), "tool_choice"),
        (forced(ToolChoice::Tool("t".to_owned())), "tool_choice"),
    ] {
        assert_eq!(refused(BUDGET, &chat), field);
        let still = Chat { thinking: asked(Some(effort(Effort::None)), None).thinking, ..chat };
        assert!(Anthropic.request(BUDGET, &still).is_ok(), "{field}");
    }
    for chat in [
        Chat { temperature: Some(1.0), top_p: Some(0.95), ..thinks() },
        forced(ToolChoice::Auto),
        forced(ToolChoice::None),
    ] {
        assert!(Anthropic.request(BUDGET, &chat).is_ok());
    }
}
