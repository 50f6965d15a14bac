//! The provider of every model name of the lists, asked of the gateway itself.

use std::fs;

use proto::{chat::DetectProviderRequest, types::Provider};
use system_tests::{
    System,
    answer::{Answer, ask},
    fixtures::folder,
    skip_without,
};

/// Ambiguous: Google's own agent has this name, and so do others' listings of it.
const AMBIGUOUS: &str = "deep-research-pro-preview-12-2025";

/// The rows of a list, without its header. `None` if the folder is absent.
fn rows(file: &str) -> Option<Vec<(String, String)>> {
    let path = folder().join(file);
    let Ok(text) = fs::read_to_string(&path) else {
        skip_without(&format!("the list {}", path.display()));
        return None;
    };
    let row = |line: &str| {
        let mut columns = line.split('\t');
        (columns.next().unwrap_or_default().to_owned(), columns.next().unwrap_or_default().to_owned())
    };
    Some(text.lines().skip(1).map(row).collect())
}

async fn provider(system: &mut System, model: &str) -> Provider {
    let request = DetectProviderRequest { model: model.to_owned() };
    system.chat.detect_provider(request).await.expect("an answer").into_inner().provider()
}

/// The lists also say `text-completion-openai`, for OpenAI's oldest models.
fn by_name(name: &str) -> Provider {
    match name.rsplit('-').next() {
        Some("anthropic") => Provider::Anthropic,
        Some("openai") => Provider::Openai,
        Some("gemini") => Provider::Gemini,
        _ => panic!("the list names the provider {name:?}"),
    }
}

#[tokio::test]
async fn every_chat_model_finds_its_provider() {
    let Some(rows) = rows("models_chat.tsv") else { return };
    let mut system = System::start().await;
    for (model, expected) in &rows {
        assert_eq!(provider(&mut system, model).await, by_name(expected), "{model}");
    }
    println!("{} chat models found their provider", rows.len());
    assert!(!rows.is_empty());
}

#[tokio::test]
async fn names_of_others_are_refused_as_unknown() {
    let Some(rows) = rows("models_reject.tsv") else { return };
    let mut system = System::start().await;
    let mut refused = 0;
    for (model, _) in rows.iter().filter(|(model, _)| model != AMBIGUOUS) {
        assert_eq!(provider(&mut system, model).await, Provider::Unspecified, "{model}");
        let answer = Answer::read(system.chat.stream_chat(ask(model, None, "Hi")).await).await;
        assert_eq!(answer.failed().class(), "InvalidArgument MODEL_UNKNOWN", "{model}");
        refused += 1;
    }
    println!("{refused} names were refused; ambiguous and not asked: {AMBIGUOUS}");
    assert!(system.provider.received().is_empty(), "nothing was sent anywhere");
}

#[tokio::test]
async fn models_that_do_not_chat_find_their_provider_and_are_refused() {
    let Some(rows) = rows("models_nonchat.tsv") else { return };
    let mut system = System::start().await;
    let mut refused = 0;
    for (model, expected) in &rows {
        // Keys of a price list, not names of models: `1024-x-1024/…`, `azure/…`.
        if model.starts_with("azure/") || model.contains("-x-") {
            continue;
        }
        assert_eq!(provider(&mut system, model).await, by_name(expected), "{model}");
        let answer = Answer::read(system.chat.stream_chat(ask(model, None, "Hi")).await).await;
        assert_eq!(answer.failed().class(), "InvalidArgument MODEL_UNSUPPORTED", "{model}");
        refused += 1;
    }
    println!("{refused} models do not chat");
    assert!(refused > 0);
}
