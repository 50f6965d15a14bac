//! Marked keys, prompts, answers and tool calls are in nothing that is exported, logged or
//! scraped, whatever becomes of the chat.

use memchr::memmem;
use proto::chat::{Message, Tool, content_part::Part, message::Role};
use serde_json::json;
use system_tests::{
    Links, Setup, System,
    answer::ask,
    fake_provider::{Answer as Said, End},
    stage::wire::{Api, data},
};

use super::{
    desk::Desk,
    spans::{RESOLVE_KEY, STREAM_CHAT},
};

/// What nothing may have, and what it is.
const CANARIES: [(&str, &str); 7] = [
    ("a key", "sk-CANARY-key-0123456789abcdef"),
    ("a prompt", "CANARY-prompt"),
    ("a system prompt", "CANARY-system"),
    ("an answer", "CANARY-answer"),
    ("a tool", "CANARY-tool"),
    ("a value of metadata", "CANARY-metadata"),
    ("a provider's words", "CANARY-words"),
];

const KEY: &str = CANARIES[0].1;

/// What a provider does that has read all of them.
fn answers() -> Vec<Said> {
    let quote: String = CANARIES.iter().map(|(_, canary)| format!("{canary} ")).collect();
    let text = data(&[Api::ChatCompletions.delta(CANARIES[3].1, 1)]);
    let call = json!({"id": "c", "model": "gpt-4o", "choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "CANARY-tool", "arguments": "{\"a\":\"CANARY-answer\"}"}}]}, "finish_reason": null}]});
    let begun = Api::ChatCompletions.opening() + &text;
    vec![
        Said::stream(begun.clone() + &Api::ChatCompletions.stops("stop", 1)),
        Said::stream(data(&[call]) + &Api::ChatCompletions.stops("tool_calls", 1)),
        Said::stream(begun.clone() + &data(&[json!({"error": {"message": quote, "type": quote, "code": quote}})])),
        Said::stream(begun.clone() + "data: {CANARY-words\n\n"),
        Said::stream(begun).ending(End::Cut),
        Said::stream(format!("data: {quote}\n\n")),
        Api::ChatCompletions.error_saying(400, &quote),
        Api::ChatCompletions.error_saying(401, &quote),
        Api::ChatCompletions.error_saying(500, &quote),
        Said::json(
            418,
            json!({"error": {"message": quote, "type": "CANARY-words", "code": "CANARY-words"}}).to_string(),
        ),
        Said::json(307, "").header("location", "http://127.0.0.1:1/CANARY-words"),
    ]
}

#[tokio::test]
async fn nothing_that_is_told_has_a_key_or_what_was_said() {
    let setup = Setup {
        log_filter: Some("debug".to_owned()),
        gateway_options: vec!["--attempts-max=1".to_owned(), "--circuit-faults=0".to_owned()],
        ..Setup::default()
    };
    let mut desk = Desk::with(setup).await;
    desk.system.add_key(Api::ChatCompletions.provider(), KEY, Links { default: false, profiles: &["research"] }).await;
    let mut request = ask("gpt-4o", Some("research"), CANARIES[1].1);
    request.system = CANARIES[2].1.to_owned();
    request.tools = vec![Tool {
        name: CANARIES[4].1.to_owned(),
        parameters: "{\"type\":\"object\"}".to_owned(),
        ..Tool::default()
    }];
    request.metadata.insert("user".to_owned(), CANARIES[5].1.to_owned());
    let said = Message { role: Role::Assistant.into(), parts: request.messages[0].parts.clone() };
    assert!(matches!(said.parts[0].part, Some(Part::Text(_))));
    let asked = request.messages[0].clone();
    request.messages = vec![asked.clone(), said, asked];
    let mut whole = 0;
    for answer in answers() {
        desk.system.provider.always_answers(answer);
        let chatted = desk.chat(request.clone()).await;
        whole += usize::from(chatted.answer.failure.is_none());
    }
    assert_eq!(whole, 2, "two answers are whole");
    let sent = desk.system.provider.received();
    assert!(sent.iter().all(|sent| sent.key() == KEY && memmem::find(&sent.body, b"CANARY-prompt").is_some()));
    let scraped = scrape(&desk.system).await;
    let seen = desk.ends().await;
    let places = [
        ("/metrics", scraped.into_bytes(), "gen_ai_client_operation_duration_seconds"),
        ("what is exported", seen.collector.raw(), "gen_ai.client.operation.duration"),
        ("the vault's log", seen.vault_log.into_bytes(), RESOLVE_KEY),
        ("the gateway's log", seen.gateway_log.into_bytes(), STREAM_CHAT),
    ];
    for (place, bytes, present) in &places {
        assert!(memmem::find(bytes, present.as_bytes()).is_some(), "{place} has what belongs there");
    }
    for (what, canary) in CANARIES {
        for (place, bytes, _) in &places {
            let at = memmem::find(bytes, canary.as_bytes());
            let around =
                at.map(|at| String::from_utf8_lossy(&bytes[at.saturating_sub(120)..(at + 120).min(bytes.len())]));
            assert!(around.is_none(), "{place} has {what}: {around:?}");
        }
    }
}

/// What both services show at `/metrics`, in each of its forms.
async fn scrape(system: &System) -> String {
    service_runtime::tls::install_crypto_provider();
    let client = reqwest::Client::new();
    let mut scraped = String::new();
    for process in [&system.gateway, &system.vault] {
        for form in ["application/openmetrics-text", "text/plain"] {
            let ask = client.get(format!("{}/metrics", process.probe_url())).header("accept", form);
            let answer = ask.send().await.expect("an answer");
            assert!(answer.status().is_success(), "{answer:?}");
            scraped.push_str(&String::from_utf8_lossy(&answer.bytes().await.expect("a body")));
        }
    }
    scraped
}
