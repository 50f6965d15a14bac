//! The same trace in a backend of others: Arize Phoenix has all its spans, knows which of them
//! are of a model, and counts the tokens.
//!
//! With `TRACE_PICTURE=FILE` it draws the page of the trace: that is the picture of the README.

use std::{collections::HashSet, path::Path, time::Duration};

use proto::types::Provider;
use system_tests::{
    Links, Setup, System,
    answer::ask,
    fake_provider::Answer as Said,
    phoenix::{Phoenix, Span, Trace},
    stage::wire::{Api, INPUT_TOKENS},
};

use super::desk::{chat_over, exporting, key};

/// What Phoenix must have of a chat whose first provider fails twice: names, kinds, and whether
/// they are errors.
const SPANS: [(&str, &str, bool); 9] = [
    // It names the model, and so it is of one for Phoenix. It has no tokens, which are counted once.
    ("archestra.chat.v1.ChatService/StreamChat", "LLM", false),
    ("archestra.keyvault.v1.KeyResolutionService/ResolveKey", "UNKNOWN", false),
    ("archestra.keyvault.v1.KeyResolutionService/ResolveKey", "UNKNOWN", false),
    ("chat claude-sonnet-4-5", "LLM", true),
    ("POST", "UNKNOWN", true),
    ("archestra.keyvault.v1.KeyResolutionService/ResolveKey", "UNKNOWN", false),
    ("archestra.keyvault.v1.KeyResolutionService/ResolveKey", "UNKNOWN", false),
    ("chat gpt-4o", "LLM", false),
    ("POST", "UNKNOWN", false),
];

const OUTPUT_TOKENS: usize = 48;

/// How long a provider thinks before it answers, and before each of its tokens.
const THOUGHT: Duration = Duration::from_millis(80);
const PAUSE: Duration = Duration::from_millis(8);

fn answer() -> Said {
    let api = Api::ChatCompletions;
    let begun = Said::stream(api.opening()).thinking(THOUGHT);
    let told = (0..OUTPUT_TOKENS).fold(begun, |told, token| told.and_after(PAUSE, api.tokens(token..token + 1)));
    told.and_after(PAUSE, api.closing(OUTPUT_TOKENS))
}

#[tokio::test]
async fn phoenix_has_the_whole_trace_of_a_chat() {
    let Some(phoenix) = Phoenix::start().await else { return };
    let mut system = System::with(exporting(Setup::default(), phoenix.collector())).await;
    for provider in [Provider::Anthropic, Provider::Openai] {
        system.add_key(provider, &key(provider), Links { default: true, profiles: &[] }).await;
    }
    // They take their time, so that there is something to see.
    system.provider.always_answers(Api::Messages.error(404).thinking(THOUGHT));
    system.provider.answers(answer());
    let mut request = ask(Api::Messages.model(), Some("research"), "Hi");
    (request.max_output_tokens, request.temperature) = (Some(256), Some(0.2));
    request.fallback_models = vec![Api::ChatCompletions.model().to_owned()];
    let answer = chat_over(&mut system.chat, request, &[]).await;
    assert!(answer.failure.is_none(), "{answer:?}");
    let System { vault, gateway, .. } = system;
    let (_, log) = gateway.stop().await;
    vault.stop().await;

    let trace = phoenix.trace(&trace_of_chat(&log), SPANS.len()).await;
    assert_whole(&trace);
    if let Some(picture) = std::env::var_os("TRACE_PICTURE") {
        let answered = trace.spans.iter().find(|span| span.name == "chat gpt-4o").expect("checked above");
        phoenix.draw(&trace, answered, Path::new(&picture)).await;
    }
}

fn assert_whole(trace: &Trace) {
    let mut found: Vec<_> = trace
        .spans
        .iter()
        .map(|span| (span.name.as_str(), span.span_kind.as_str(), span.status_code == "ERROR"))
        .collect();
    found.sort_unstable();
    let mut expected = SPANS;
    expected.sort_unstable();
    assert_eq!(found, expected);
    let ids: HashSet<_> = trace.spans.iter().map(|span| &span.span_id).collect();
    let roots: Vec<_> = trace.spans.iter().filter(|span| span.parent_id.is_none()).collect();
    let connected = |span: &&Span| span.parent_id.as_ref().is_some_and(|id| ids.contains(id));
    assert_eq!((roots.len(), roots[0].name.as_str()), (1, SPANS[0].0), "{trace:?}");
    assert_eq!(trace.spans.iter().filter(connected).count(), SPANS.len() - 1, "{trace:?}");
    let tokens = (trace.token_count_prompt, trace.token_count_completion);
    assert_eq!(tokens, (INPUT_TOKENS, i64::try_from(OUTPUT_TOKENS).expect("a small number")));
}

/// The trace of the only chat, as its line in the gateway's log names it.
fn trace_of_chat(log: &str) -> String {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut chats = lines.filter(|line| line["message"] == "RPC finished" && line["rpc.method"] == SPANS[0].0);
    let chat = chats.next().expect("the chat finished");
    chat["trace_id"].as_str().expect("it has a trace").to_owned()
}
