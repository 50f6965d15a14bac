//! What a fallback policy forbids is forbidden for whoever asks, and everybody is told so. The
//! whole table of resolutions is in `resolution_table`.

use proto::{
    keyvault::{ExplainResolutionRequest, ListApiKeysRequest, SetFallbackPolicyRequest, resolution_step::Outcome},
    types::{Provider, Source},
};
use system_tests::{
    Links, ORGANIZATION, Setup, System,
    answer::{Answer, ask},
    client::key_vault,
};

const VARIABLE: &str = "ARCHESTRA_CHAT_OPENAI_API_KEY";

async fn with_environment() -> System {
    let vault_environment = vec![(VARIABLE.to_owned(), "sk-environment".to_owned())];
    System::with(Setup { vault_environment, ..Setup::default() }).await
}

async fn set(system: &System, profile: Option<&str>, default: bool, environment: bool) {
    let request = SetFallbackPolicyRequest {
        organization_id: ORGANIZATION.to_owned(),
        profile_id: profile.map(str::to_owned),
        allow_organization_default: Some(default),
        allow_environment: Some(environment),
        ..Default::default()
    };
    system.keys.clone().set_fallback_policy(request).await.expect("set");
}

async fn environment_fallbacks(system: &System, profile: &str) -> usize {
    let request = ListApiKeysRequest {
        organization_id: ORGANIZATION.to_owned(),
        profile_id: profile.to_owned(),
        ..Default::default()
    };
    system.keys.clone().list_api_keys(request).await.expect("a listing").into_inner().environment_fallbacks.len()
}

#[tokio::test]
async fn a_call_without_a_profile_is_under_the_organizations_policy_alone() {
    let system = with_environment().await;
    set(&system, Some("research"), false, false).await;
    let outcomes = async || {
        let request = ExplainResolutionRequest {
            organization_id: ORGANIZATION.to_owned(),
            profile_id: None,
            provider: Provider::Openai.into(),
        };
        let explained = system.resolution.clone().explain_resolution(request).await.expect("explained").into_inner();
        explained.steps.iter().map(proto::keyvault::ResolutionStep::outcome).collect::<Vec<_>>()
    };
    assert_eq!(outcomes().await, [Outcome::NotConfigured, Outcome::NotConfigured, Outcome::Chosen]);
    set(&system, None, true, false).await;
    assert_eq!(outcomes().await, [Outcome::NotConfigured, Outcome::NotConfigured, Outcome::Forbidden]);
}

#[tokio::test]
async fn a_listing_shows_the_environment_only_to_whom_it_is_allowed() {
    let system = with_environment().await;
    assert_eq!(environment_fallbacks(&system, "").await, 1);
    set(&system, Some("research"), true, false).await;
    assert_eq!(environment_fallbacks(&system, "").await, 1);
    assert_eq!(environment_fallbacks(&system, "research").await, 0);
    set(&system, None, true, false).await;
    assert_eq!(environment_fallbacks(&system, "").await, 0);
    assert_eq!(environment_fallbacks(&system, "ops").await, 0);
}

#[tokio::test]
async fn a_chat_that_a_policy_leaves_without_a_key_says_what_is_forbidden() {
    let mut system = with_environment().await;
    system.add_key(Provider::Openai, "sk-default", Links { default: true, profiles: &[] }).await;
    set(&system, None, true, false).await;
    set(&system, Some("research"), false, true).await;

    let answer = Answer::read(system.chat.stream_chat(ask("gpt-4o", Some("research"), "Hi")).await).await;

    let failure = answer.failed();
    assert_eq!(failure.class(), "FailedPrecondition NO_KEY_CONFIGURED");
    assert_eq!(failure.value("forbidden"), "organization_default environment");
    for words in [
        "organization_default is forbidden by the profile's fallback policy",
        "environment is forbidden by the organization's fallback policy",
        "Assign one to the profile, or change the policy.",
    ] {
        assert!(failure.message.contains(words), "{}", failure.message);
    }
    assert!(system.provider.received().is_empty(), "nothing was sent to the provider");
}

#[tokio::test]
async fn the_command_line_sets_one_step_and_leaves_the_other() {
    let system = with_environment().await;
    let vault = system.vault.url();
    let policy = async |arguments: &[&str]| {
        let arguments = [&["policy"], arguments, &["--output", "json"]].concat();
        key_vault(&vault, &arguments, "").await.json()
    };
    let allows = |policy: &serde_json::Value| {
        [&policy["allow_organization_default"], &policy["allow_environment"]].map(|value| value.as_bool().expect("set"))
    };
    let set = policy(&["set", "--organization-default", "forbid"]).await;
    assert_eq!(allows(&set["fallback_policy"]), [false, true]);
    let set = policy(&["set", "--environment", "forbid"]).await;
    assert_eq!(allows(&set["fallback_policy"]), [false, false], "what is not named stays");
    let set = policy(&["set", "--organization-default", "allow"]).await;
    assert_eq!(allows(&set["fallback_policy"]), [true, false]);
    let set = policy(&["set", "--profile", "research", "--organization-default", "forbid"]).await;
    assert_eq!(allows(&set["fallback_policy"]), [false, true], "the profile's own, of which nothing was set");
    let shown = policy(&["show", "--profile", "research"]).await;
    assert_eq!(allows(&shown["fallback_policy"]), [false, true]);
    assert_eq!(allows(&shown["effective_policy"]), [false, false]);
    assert_eq!(shown["fallback_policy"]["profile_id"], "research");

    let table = key_vault(&vault, &["policy", "show", "--profile", "research"], "").await.out;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1], ["organization", "default", "forbid", "forbid"], "{table}");
    assert_eq!(rows[2], ["environment", "allow", "forbid"], "{table}");
    let explain = ["explain", "--profile", "research", "--provider", "openai"];
    let explained = key_vault(&vault, &explain, "").await.out;
    assert_eq!(explained.matches("forbidden by a policy").count(), 2, "{explained}");
    assert_eq!(key_vault(&vault, &["policy", "set"], "").await.code, 2, "nothing is to be set");
}

/// The key of a step that is forbidden is not opened: it cannot make a call fail.
#[tokio::test]
async fn a_disabled_default_that_is_forbidden_is_passed_over() {
    let mut system = with_environment().await;
    let default = system.add_key(Provider::Openai, "sk-default", Links { default: true, profiles: &[] }).await;
    let disabled = key_vault(&system.vault.url(), &["keys", "disable", &default.api_key_id], "").await;
    assert_eq!(disabled.code, 0, "{disabled:?}");
    set(&system, None, false, true).await;
    let request = proto::keyvault::ResolveKeyRequest {
        organization_id: ORGANIZATION.to_owned(),
        profile_id: Some("research".to_owned()),
        provider: Provider::Openai.into(),
    };
    let resolved = system.resolution.resolve_key(request).await.expect("a key").into_inner();
    assert_eq!(resolved.source(), Source::Environment);
}
