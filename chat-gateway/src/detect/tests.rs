use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::message::Provider::{Anthropic, Gemini, OpenAi};

#[test]
fn a_name_leads_to_its_provider_and_goes_upstream_as_written() {
    for (model, provider, provider_model, rule) in [
        ("claude-sonnet-4-5", Anthropic, "claude-sonnet-4-5", "name claude-"),
        ("  Claude-Opus-5\n", Anthropic, "Claude-Opus-5", "name claude-"),
        ("gpt-5", OpenAi, "gpt-5", "name gpt-"),
        ("GPT-4o", OpenAi, "GPT-4o", "name gpt-"),
        ("chat-latest", OpenAi, "chat-latest", "name chat-latest"),
        ("o1", OpenAi, "o1", "name o[1-9]*"),
        ("o3-deep-research", OpenAi, "o3-deep-research", "name o[1-9]*"),
        ("o10-mini", OpenAi, "o10-mini", "name o[1-9]*"),
        ("ft:gpt-4o-2024-08-06:org:name:id", OpenAi, "ft:gpt-4o-2024-08-06:org:name:id", "name ft:"),
        ("gemini-2.5-pro", Gemini, "gemini-2.5-pro", "name gemini-"),
        ("gemma-3-27b-it", Gemini, "gemma-3-27b-it", "name gemma-"),
        ("text-embedding-004", Gemini, "text-embedding-004", "name text-embedding-004-"),
        ("text-embedding-3-large", OpenAi, "text-embedding-3-large", "name text-embedding-3-"),
        ("openai/gpt-oss-20b", OpenAi, "gpt-oss-20b", "prefix openai/"),
        ("OpenAI/GPT-5", OpenAi, "GPT-5", "prefix openai/"),
        ("openai/claude-3", OpenAi, "claude-3", "prefix openai/"),
        ("anthropic/anything", Anthropic, "anything", "prefix anthropic/"),
        ("google/gemini-2.5-pro", Gemini, "gemini-2.5-pro", "prefix google/"),
        ("google_ai_studio/gemini-2.5-pro", Gemini, "gemini-2.5-pro", "prefix google_ai_studio/"),
        ("gemini/models/gemini-2.5-pro", Gemini, "gemini-2.5-pro", "prefix gemini/"),
        ("models/gemini-2.5-pro", Gemini, "gemini-2.5-pro", "prefix models/"),
        ("tunedModels/mine-1", Gemini, "tunedModels/mine-1", "prefix tunedmodels/"),
        ("gemini/tunedModels/mine-1", Gemini, "tunedModels/mine-1", "prefix gemini/"),
    ] {
        let found = detect(model).unwrap_or_else(|no| panic!("{model}: {}", no.reason));
        assert_eq!(
            (found.provider, found.provider_model.as_str(), found.rule.as_str()),
            (provider, provider_model, rule)
        );
    }
}

#[test]
fn what_no_rule_knows_stays_unknown() {
    for (model, reason) in [
        ("", "empty"),
        (" \t", "empty"),
        ("azure/gpt-4o", "the prefix azure/ is not one of"),
        ("openrouter/anthropic/claude-3", "the prefix openrouter/ is not one of"),
        ("vertex_ai/gemini-2.5-pro", "the prefix vertex_ai/ is not one of"),
        ("/gpt-4o", "the prefix / is not one of"),
        ("openai/", "no model follows the prefix openai/"),
        ("openai/  ", "no model follows the prefix openai/"),
        ("claude-3-5-sonnet@20240620", "Vertex AI"),
        ("claude-3-haiku-20240307-v1:0", "Bedrock"),
        ("claude-3-haiku-20240307-v1:0:200k", "Bedrock"),
        ("gpt-oss-120b", "open weights"),
        ("gpt-oss:20b", "open weights"),
        ("gpt-j-6b", "open weights"),
        ("anthropic.claude-3-haiku", "no rule"),
        ("us.openai.gpt-6-luna", "no rule"),
        ("my-gpt-4", "no rule"),
        ("claudette-1", "no rule"),
        ("gemini2", "no rule"),
        ("gemma3:27b", "no rule"),
        ("medlm-large", "no rule"),
        ("o", "no rule"),
        ("o0", "no rule"),
        ("o1mini", "no rule"),
        ("olmo-2", "no rule"),
        ("openchat-3.5", "no rule"),
        ("orca-mini", "no rule"),
        ("ft:", "no rule"),
        ("gpt-", "no rule"),
        ("\u{212a}laude-3", "no rule"),
        ("claude\u{301}-3", "no rule"),
    ] {
        let no_match = detect(model).expect_err(model);
        assert!(no_match.reason.contains(reason), "{model}: {}", no_match.reason);
    }
}

#[test]
fn a_prefix_names_one_provider_and_a_text_is_a_rule_of_one() {
    let prefixes: Vec<_> = prefixes().map(|(prefix, _)| prefix).collect();
    let names = Provider::ALL.into_iter().map(|provider| provider::of(provider).model_names());
    let rules: Vec<_> = names.flat_map(|names| names.rules.iter().map(|(text, _)| *text)).collect();
    for texts in [prefixes, rules] {
        let mut once = texts.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), texts.len(), "{texts:?}");
        assert!(texts.iter().all(|text| *text == text.to_lowercase()), "{texts:?}");
    }
}

#[test]
fn the_words_of_a_name_tell_whether_it_chats() {
    for (model, chats) in [
        ("gpt-4o-audio-preview", true),
        ("gpt-audio-mini", true),
        ("gpt-5-codex", true),
        ("o1-pro", true),
        ("ft:gpt-4o:acme:image-tts:1", true),
        ("gemini-2.5-pro", true),
        ("lyria-3.5", true),
        ("tunedModels/image-1", true),
        ("claude-image-1", true),
        ("gpt-image-3", false),
        ("chatgpt-image-latest", false),
        ("gpt-4o-realtime-preview", false),
        ("gpt-4o-mini-tts", false),
        ("gpt-3.5-turbo-instruct", false),
        ("ft:davinci-002:acme", false),
        ("openai/sora-2", false),
        ("dall-e-3", false),
        ("gemini-3-pro-image", false),
        ("gemini-embedding-001", false),
        ("gemini/models/imagen-4.0", false),
        ("veo-3.1", false),
        ("aqa", false),
    ] {
        assert_eq!(detect(model).map(|found| found.chats), Ok(chats), "{model}");
    }
}

/// Listed as foreign, but anchored like Gemini's own: the catalogue names another seller
/// of a model that Google sells under the same name.
const AMBIGUOUS: &str = "deep-research-pro-preview-12-2025";

#[test]
fn names_of_the_catalogues_are_read_as_they_should() {
    let (Some(chat), Some(reject), Some(other)) =
        (rows("models_chat.tsv"), rows("models_reject.tsv"), rows("models_nonchat.tsv"))
    else {
        return;
    };
    for row in &chat {
        let found = detect(&row[0]).unwrap_or_else(|no| panic!("{}: {}", row[0], no.reason));
        assert_eq!(found.provider.name(), row[1], "{}", row[0]);
        // A few names stand in both lists. The list of those that do not chat is the newer.
        let elsewhere =
            |other: &&Vec<String>| detect(&other[0]).is_ok_and(|o| o.provider_model == found.provider_model);
        assert_eq!(found.chats, !other.iter().any(|row| elsewhere(&row)), "{}", row[0]);
    }
    for row in reject.iter().filter(|row| row[0] != AMBIGUOUS) {
        assert!(detect(&row[0]).is_err(), "{} must not be taken for one of ours", row[0]);
    }
    for row in other.iter().filter(|row| !is_price_key(&row[0])) {
        let found = detect(&row[0]).unwrap_or_else(|no| panic!("{}: {}", row[0], no.reason));
        assert!(row[1].ends_with(found.provider.name()), "{}", row[0]);
        assert!(!found.chats, "{}", row[0]);
    }
}

/// `1024-x-1024/dall-e-2` and the like name a price, not a model.
fn is_price_key(model: &str) -> bool {
    model.contains("-x-") || model.starts_with("azure/")
}

/// The rows of a list, without its heading. `None` where the lists are absent.
#[expect(clippy::disallowed_methods, reason = "where a test finds its material is no configuration of the service")]
fn rows(file: &str) -> Option<Vec<Vec<String>>> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
    let folder = std::env::var_os("PROVIDER_FIXTURES").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let Ok(text) = std::fs::read_to_string(folder.join(file)) else {
        let missing = format!("{file} is not in {}; set PROVIDER_FIXTURES", folder.display());
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        skip(&missing);
        return None;
    };
    Some(text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}

proptest! {
    #[test]
    fn any_text_has_an_answer(model in any::<String>()) {
        if let Ok(found) = detect(&model) {
            prop_assert!(model.contains(found.provider_model.trim_start_matches("tunedModels/")));
        }
    }

    #[test]
    fn case_and_surrounding_space_do_not_matter(model in "[a-zA-Z0-9:/.-]{1,24}") {
        let spaced = detect(&format!(" \t{}\u{a0}", model.to_ascii_uppercase()));
        let plain = detect(&model);
        prop_assert_eq!(plain.as_ref().map(|f| (f.provider, f.chats)).ok(), spaced.as_ref().map(|f| (f.provider, f.chats)).ok());
    }
}
