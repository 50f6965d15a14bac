//! The models that a profile's keys reach: listed by the gateway, printed by its command, and
//! offered by the shell.

mod shell;

use std::time::Duration;

use proto::{
    chat::{
        ErrorReason as Reason, ListModelsRequest, ListProblem, Model, ProviderModels,
        chat_service_client::ChatServiceClient,
    },
    keyvault::{AssignProfilesRequest, KeyMaterial, RotateApiKeyRequest},
    types::{Provider, Source},
};
use serde_json::{Value, json};
use system_tests::{
    Links, ORGANIZATION, Setup, System,
    answer::Failure,
    fake_provider::{Answer, End, Received},
    replicas::eventually,
    secured::{Secured, Service},
};
use tonic::Request;

const ANTHROPIC_KEY: &str = "sk-ant-listing-0123456789abcdefghij";
const OPENAI_KEY: &str = "sk-listing-0123456789abcdefghijklmn";
const GEMINI_KEY: &str = "AIza-listing-0123456789abcdefghijkl";
const PROVIDERS: [Provider; 3] = [Provider::Anthropic, Provider::Openai, Provider::Gemini];

/// Whom a request is for.
fn provider_of(received: &Received) -> Provider {
    match received.path.starts_with("/v1beta/") {
        true => Provider::Gemini,
        false if received.header("x-api-key").is_empty() => Provider::Openai,
        false => Provider::Anthropic,
    }
}

/// The list of a provider, in its own form.
fn list(provider: Provider) -> Value {
    match provider {
        Provider::Anthropic => json!({"data": [
            {"type": "model", "id": "claude-sonnet-4-5", "display_name": "Claude Sonnet 4.5", "max_input_tokens": 200_000,
             "max_tokens": 64_000},
            {"type": "model", "id": "fable-1", "display_name": ""}], "has_more": false}),
        Provider::Openai => json!({"object": "list", "data": [
            {"id": "tts-1", "object": "model"}, {"id": "gpt-5", "object": "model"}, {"id": "ft:gpt-4o:acme::x", "object": "model"}]}),
        _ => json!({"models": [
            {"name": "models/gemini-2.5-flash", "displayName": "Gemini 2.5 Flash", "inputTokenLimit": 1_048_576,
             "outputTokenLimit": 65_536, "supportedGenerationMethods": ["generateContent", "countTokens"]},
            {"name": "models/gemini-embedding-001", "supportedGenerationMethods": ["embedContent"]}]}),
    }
}

fn lists(received: &Received) -> Answer {
    Answer::json(200, list(provider_of(received)).to_string())
}

/// A system in which the organization has a key of each provider, and each lists its models.
async fn with_keys(setup: Setup) -> System {
    let mut system = System::with(setup).await;
    for (provider, key) in PROVIDERS.into_iter().zip([ANTHROPIC_KEY, OPENAI_KEY, GEMINI_KEY]) {
        system.add_key(provider, key, Links { default: true, ..Links::default() }).await;
    }
    system.provider.answers_by(lists);
    system
}

fn request(profile: Option<&str>) -> ListModelsRequest {
    let (organization_id, profile_id) = (ORGANIZATION.to_owned(), profile.map(str::to_owned));
    ListModelsRequest { organization_id, profile_id, ..ListModelsRequest::default() }
}

async fn listed(system: &System, request: ListModelsRequest) -> Vec<ProviderModels> {
    let mut gateway = system.chat.clone();
    gateway.list_models(request).await.expect("lists").into_inner().providers
}

fn names(of: &ProviderModels) -> Vec<&str> {
    of.models.iter().map(|model| model.name.as_str()).collect()
}

/// No piece of a key that is long enough to be one.
fn assert_no_key(text: &str) {
    for key in [ANTHROPIC_KEY, OPENAI_KEY, GEMINI_KEY] {
        for piece in key.as_bytes().windows(8) {
            let piece = std::str::from_utf8(piece).expect("ASCII");
            assert!(!text.contains(piece), "{piece}: {text}");
        }
    }
}

#[tokio::test]
async fn three_lists_come_in_one_form_with_names_to_chat_with() {
    let system = with_keys(Setup::default()).await;

    let found = listed(&system, request(None)).await;

    let model = |name: &str, chats| Model { name: name.to_owned(), chat_supported: chats, ..Model::default() };
    let expected = [
        (
            Provider::Anthropic,
            vec![
                model("anthropic/fable-1", true),
                Model {
                    display_name: "Claude Sonnet 4.5".to_owned(),
                    input_tokens_max: Some(200_000),
                    output_tokens_max: Some(64_000),
                    ..model("claude-sonnet-4-5", true)
                },
            ],
        ),
        (Provider::Openai, vec![model("ft:gpt-4o:acme::x", true), model("gpt-5", true), model("tts-1", false)]),
        (
            Provider::Gemini,
            vec![
                Model {
                    display_name: "Gemini 2.5 Flash".to_owned(),
                    input_tokens_max: Some(1_048_576),
                    output_tokens_max: Some(65_536),
                    ..model("gemini-2.5-flash", true)
                },
                model("gemini-embedding-001", false),
            ],
        ),
    ];
    assert_eq!(found.len(), expected.len());
    for (of, (provider, models)) in found.iter().zip(expected) {
        assert_eq!((of.provider(), of.source(), &of.models), (provider, Source::OrganizationDefault, &models));
        assert!(of.problem.is_none() && !of.api_key_id.is_empty(), "{of:?}");
    }
    let mut asked: Vec<_> =
        system.provider.received().iter().map(|one| (one.path.clone(), one.key().to_owned())).collect();
    asked.sort();
    let expected = [
        ("/v1/models", OPENAI_KEY),
        ("/v1/models?limit=1000", ANTHROPIC_KEY),
        ("/v1beta/models?pageSize=1000", GEMINI_KEY),
    ];
    assert_eq!(asked, expected.map(|(path, key)| (path.to_owned(), key.to_owned())));

    let only = ListModelsRequest { provider: Provider::Gemini.into(), ..request(None) };
    let found = listed(&system, only).await;
    assert_eq!(found.iter().map(ProviderModels::provider).collect::<Vec<_>>(), [Provider::Gemini]);
}

#[tokio::test]
async fn one_that_fails_is_named_beside_two_good_lists_and_without_its_key() {
    let gateway_options = vec!["--model-list-timeout=0.5".to_owned()];
    let setup = Setup { gateway_options, log_filter: Some("trace".to_owned()), ..Setup::default() };
    let system = with_keys(setup).await;
    let quoting = format!("refused {OPENAI_KEY} and {}", &OPENAI_KEY[..20]);
    let error = |code: &str, message: &str| json!({"error": {"code": code, "message": message}}).to_string();
    let page = Answer::json(200, "<html>Welcome</html>").header("content-type", "text/html");
    for (answer, expected) in [
        (Answer::json(401, error("invalid_api_key", &quoting)), Reason::ProviderKeyInvalid),
        (
            Answer::json(401, error("", &format!("Missing scopes: api.model.read {quoting}"))),
            Reason::ProviderPermissionDenied,
        ),
        (Answer::json(403, error("", &quoting)), Reason::ProviderPermissionDenied),
        (Answer::json(400, error("", &quoting)), Reason::ProviderInvalidRequest),
        (Answer::json(429, error("rate_limit_exceeded", &quoting)), Reason::ProviderRateLimited),
        (Answer::json(429, error("insufficient_quota", &quoting)), Reason::ProviderQuotaExhausted),
        (Answer::json(500, error("", &quoting)), Reason::ProviderInternal),
        (Answer::json(503, error("", &quoting)), Reason::ProviderOverloaded),
        (Answer::json(404, error("", &quoting)), Reason::ProviderInternal),
        (Answer::json(307, "").header("location", "http://127.0.0.1:1/"), Reason::ProviderInternal),
        (Answer::json(200, "{}"), Reason::ProviderInternal),
        (Answer::json(200, error("invalid_api_key", &quoting)), Reason::ProviderKeyInvalid),
        (page, Reason::ProviderInternal),
        (Answer::json(200, "x".repeat(5 * 1024 * 1024)), Reason::ProviderInternal),
        (Answer::json(200, "{\"data\":[").ending(End::Cut), Reason::ProviderUnreachable),
        (Answer::json(200, "{\"data\":[").ending(End::Silence), Reason::TotalTimeout),
        (Answer::json(200, "").ending(End::SilenceBeforeHeaders), Reason::TotalTimeout),
    ] {
        let said = format!("{} {expected:?}", String::from_utf8_lossy(&answer.body[..answer.body.len().min(80)]));
        system.provider.answers_by(move |received| match provider_of(received) {
            Provider::Openai => answer.clone(),
            _ => lists(received),
        });
        let found = listed(&system, request(None)).await;
        let [anthropic, openai, gemini] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((anthropic.models.len(), gemini.models.len()), (2, 2), "{said}");
        assert!(openai.models.is_empty() && !openai.api_key_id.is_empty(), "{said}: {openai:?}");
        let problem = openai.problem.clone().expect("a problem");
        assert_eq!(problem.reason(), expected, "{said}: {problem:?}");
        assert!(problem.message.len() > 10, "{problem:?}");
        assert_no_key(&format!("{found:?}"));
    }
    let System { gateway, vault, .. } = system;
    assert_no_key(&gateway.stop().await.1);
    assert_no_key(&vault.stop().await.1);
}

#[tokio::test]
async fn a_provider_without_a_key_is_named_and_not_asked() {
    let mut system = System::start().await;
    system.add_key(Provider::Openai, OPENAI_KEY, Links { profiles: &["p1"], ..Links::default() }).await;
    system.provider.answers_by(lists);

    let found = listed(&system, request(Some("p1"))).await;

    let problems: Vec<_> = found.iter().map(|of| of.problem.as_ref().map(ListProblem::reason)).collect();
    assert_eq!(problems, [Some(Reason::NoKeyConfigured), None, Some(Reason::NoKeyConfigured)]);
    assert_eq!((found[0].source(), found[1].source()), (Source::Unspecified, Source::Profile));
    assert!(found[0].api_key_id.is_empty());
    assert_eq!(system.provider.received().len(), 1);
}

#[tokio::test]
async fn lists_of_several_pages_are_read_to_their_end_and_those_without_end_are_not() {
    let system = with_keys(Setup::default()).await;
    let pages = |received: &Received| {
        let page = match (provider_of(received), received.path.split_once('&').map(|(_, after)| after)) {
            (Provider::Anthropic, None) => {
                json!({"data": [{"id": "claude-b"}], "has_more": true, "last_id": "claude-b"})
            }
            (Provider::Anthropic, Some("after_id=claude-b")) => {
                json!({"data": [{"id": "claude-a"}, {"id": "claude-b"}]})
            }
            (Provider::Gemini, None) => json!({"models": [{"name": "models/gemini-b"}], "nextPageToken": "t/+= 2"}),
            (Provider::Gemini, Some("pageToken=t%2F%2B%3D+2")) => json!({"models": [{"name": "models/gemini-a"}]}),
            (Provider::Openai, None) => list(Provider::Openai),
            (_, after) => json!({"error": {"message": format!("no such page: {after:?}")}}),
        };
        Answer::json(200, page.to_string())
    };
    system.provider.answers_by(pages);
    let found = listed(&system, request(None)).await;
    assert_eq!(names(&found[0]), ["claude-a", "claude-b"], "{found:?}");
    assert_eq!(names(&found[2]), ["gemini-a", "gemini-b"], "{found:?}");

    let mut system = System::start().await;
    system.add_key(Provider::Gemini, GEMINI_KEY, Links { default: true, ..Links::default() }).await;
    let endless = json!({"models": [{"name": "models/gemini-a"}], "nextPageToken": "again"}).to_string();
    system.provider.always_answers(Answer::json(200, endless));
    let found = listed(&system, request(None)).await;
    assert_eq!(found[2].problem.as_ref().expect("a problem").reason(), Reason::ProviderInternal);
    assert_eq!(system.provider.received().len(), 20);
}

#[tokio::test]
async fn a_list_is_kept_for_a_key_until_it_is_rotated_or_replaced() {
    let mut system = System::start().await;
    system.provider.answers_by(lists);
    let first =
        system.add_key(Provider::Openai, "sk-first", Links { profiles: &["p1", "p2"], ..Links::default() }).await;
    let asked_with =
        |system: &System| system.provider.received().iter().map(|one| one.key().to_owned()).collect::<Vec<_>>();

    for profile in ["p1", "p1", "p2"] {
        assert_eq!(listed(&system, request(Some(profile))).await[1].models.len(), 3);
    }
    assert_eq!(asked_with(&system), ["sk-first"]);

    let rotate = RotateApiKeyRequest {
        organization_id: ORGANIZATION.to_owned(),
        api_key_id: first.api_key_id.clone(),
        material: Some(KeyMaterial { api_key: "sk-rotated".to_owned() }),
        ..Default::default()
    };
    system.keys.rotate_api_key(rotate).await.expect("rotated");
    // The gateway keeps keys until the vault tells of the change.
    eventually("a list with the rotated key", || async {
        listed(&system, request(Some("p1"))).await;
        (asked_with(&system).len() > 1).then_some(())
    })
    .await;
    assert_eq!(asked_with(&system), ["sk-first", "sk-rotated"]);

    let second = system.add_key(Provider::Openai, "sk-second", Links::default()).await;
    let assign = AssignProfilesRequest {
        organization_id: ORGANIZATION.to_owned(),
        api_key_id: second.api_key_id.clone(),
        profile_ids: vec!["p1".to_owned()],
        ..Default::default()
    };
    system.keys.assign_profiles(assign).await.expect("assigned");
    eventually("a list with the assigned key", || async {
        let found = listed(&system, request(Some("p1"))).await;
        (found[1].api_key_id == second.api_key_id).then_some(())
    })
    .await;
    assert_eq!(listed(&system, request(Some("p2"))).await[1].api_key_id, first.api_key_id, "kept for the other");
    assert_eq!(asked_with(&system), ["sk-first", "sk-rotated", "sk-second"]);
}

#[tokio::test]
async fn a_failure_is_not_kept() {
    let mut system = System::start().await;
    system.add_key(Provider::Openai, OPENAI_KEY, Links { default: true, ..Links::default() }).await;
    system.provider.answers(Answer::json(503, "{}"));
    system.provider.answers(Answer::json(200, list(Provider::Openai).to_string()));
    assert!(listed(&system, request(None)).await[1].problem.is_some());
    assert_eq!(listed(&system, request(None)).await[1].models.len(), 3);
}

#[tokio::test]
async fn callers_see_the_models_that_they_may_use() {
    let system = Secured::start().await;
    let admin = system.connect(Service::Vault, &system.certificate("admin"));
    let mut keys = proto::keyvault::api_key_service_client::ApiKeyServiceClient::new(admin);
    for (provider, key) in PROVIDERS.into_iter().zip([ANTHROPIC_KEY, OPENAI_KEY, GEMINI_KEY]) {
        let request = proto::keyvault::CreateApiKeyRequest {
            organization_id: ORGANIZATION.to_owned(),
            provider: provider.into(),
            display_name: "a key".to_owned(),
            material: Some(KeyMaterial { api_key: key.to_owned() }),
            set_as_organization_default: true,
            ..Default::default()
        };
        keys.create_api_key(request).await.expect("a key is stored");
    }
    system.provider.answers_by(|received| match provider_of(received) {
        Provider::Openai => Answer::json(200, json!({"data": [{"id": "gpt-5"}, {"id": "fable"}]}).to_string()),
        _ => lists(received),
    });
    for (principal, profile, expected) in [
        ("team-a", Some("team-a"), [&["claude-sonnet-4-5"][..], &[], &[]]),
        ("team-a-small", Some("team-a"), [&[], &["openai/fable"], &[]]),
        (
            "platform",
            None,
            [
                &["anthropic/fable-1", "claude-sonnet-4-5"][..],
                &["gpt-5", "openai/fable"],
                &["gemini-2.5-flash", "gemini-embedding-001"],
            ],
        ),
    ] {
        let wire = system.connect(Service::Gateway, &system.certificate(principal));
        let found = ChatServiceClient::new(wire).list_models(request(profile)).await.expect("lists").into_inner();
        assert!(found.providers.iter().all(|of| of.problem.is_none()), "{found:?}");
        assert_eq!(found.providers.iter().map(names).collect::<Vec<_>>(), expected, "{principal}");
    }
    for (principal, profile, denied) in [
        ("team-a", None, "profile"),
        ("team-b", Some("team-a"), "profile"),
        ("other", None, "organization"),
        ("admin", None, "method"),
    ] {
        let wire = system.connect(Service::Gateway, &system.certificate(principal));
        let refused = ChatServiceClient::new(wire).list_models(request(profile)).await.expect_err("refused");
        let failure = Failure::from(refused);
        assert_eq!(failure.class(), "PermissionDenied CALLER_NOT_ALLOWED");
        assert_eq!(failure.metadata["denied"], denied, "{principal} {profile:?}");
    }
    assert_eq!(system.provider.received().len(), 3, "one for each key");
}

#[tokio::test]
async fn a_vault_that_is_gone_is_the_status_of_the_call() {
    let system = with_keys(Setup::default()).await;
    let System { vault, chat, .. } = system;
    vault.kill().await;
    let failure = Failure::from(chat.clone().list_models(request(None)).await.expect_err("no vault"));
    assert_eq!(failure.class(), "Unavailable VAULT_UNAVAILABLE");
}

#[tokio::test]
async fn a_caller_who_leaves_ends_the_listing() {
    let system = with_keys(Setup::default()).await;
    system.provider.answers_by(|_| Answer::json(200, "{\"data\":[").ending(End::Silence));
    let mut gateway = system.chat.clone();
    let call = tokio::spawn(async move { gateway.list_models(Request::new(request(None))).await });
    system.provider.has_begun(3).await;
    call.abort();
    system.provider.sees_hang_ups(3, Duration::from_secs(10)).await.expect("the connections are closed");
}

#[tokio::test]
async fn each_bad_field_is_named() {
    let system = System::start().await;
    let good = || request(Some("p1"));
    for (request, field) in [
        (ListModelsRequest { organization_id: String::new(), ..good() }, "organization_id"),
        (ListModelsRequest { profile_id: Some("a b".to_owned()), ..good() }, "profile_id"),
        (ListModelsRequest { provider: 99, ..good() }, "provider"),
    ] {
        let failure = Failure::from(system.chat.clone().list_models(request).await.expect_err("refused"));
        assert_eq!(
            (failure.class().as_str(), failure.fields),
            ("InvalidArgument INVALID_FIELD", vec![field.to_owned()])
        );
    }
}
