//! Whether a provider accepts a key is asked before the key is stored: by the gateway, and by
//! the command line through it.

use std::time::{Duration, Instant};

use proto::{
    chat::{
        CheckKeyRequest, CheckKeyResponse,
        check_key_response::Result::{self as Checked, *},
        key_check_service_client::KeyCheckServiceClient,
    },
    keyvault::{KeyMaterial, ListApiKeysRequest},
    types::Provider,
};
use serde_json::json;
use system_tests::{
    FakeProvider, Links, ORGANIZATION, Setup, System,
    answer::Failure,
    client::{Ran, key_vault},
    fake_provider::{Answer, End},
    fixtures::Fixtures,
    skip_without,
};
use tonic::Request;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

const KEY: &str = "sk-checked-0123456789abcdefghijklmnop";
const PROVIDERS: [Provider; 3] = [Provider::Anthropic, Provider::Openai, Provider::Gemini];

/// A body of every provider's own that lists a model.
fn models(provider: Provider) -> String {
    let list = match provider {
        Provider::Gemini => json!({"models": [{"name": "models/gemini-2.5-flash"}], "nextPageToken": "x"}),
        _ => json!({"object": "list", "data": [{"id": "model-1", "object": "model"}]}),
    };
    list.to_string()
}

/// A refusal in the form of each provider, which quotes the key.
fn refusal(provider: Provider, status: u16, word: &str) -> Answer {
    let message = format!("refused {KEY} and {}", &KEY[..20]);
    let body = match provider {
        Provider::Anthropic => json!({"type": "error", "error": {"type": word, "message": message}}),
        Provider::Openai => json!({"error": {"code": word, "message": message, "param": null}}),
        _ => json!({"error": {"code": status, "message": message, "details": [{"reason": word}]}}),
    };
    Answer::json(status, body.to_string())
}

async fn check(system: &System, provider: Provider, key: &str) -> CheckKeyResponse {
    try_check(system, provider.into(), key).await.expect("an answer")
}

async fn try_check(system: &System, provider: i32, key: &str) -> Result<CheckKeyResponse, Failure> {
    let mut gateway = KeyCheckServiceClient::connect(system.gateway.url()).await.expect("a connection");
    let request = CheckKeyRequest { provider, material: Some(KeyMaterial { api_key: key.to_owned() }) };
    gateway.check_key(request).await.map(tonic::Response::into_inner).map_err(Failure::from)
}

#[tokio::test]
async fn every_class_of_every_provider_is_told_apart_and_without_the_key() {
    let system = System::with(Setup { log_filter: Some("trace".to_owned()), ..Setup::default() }).await;
    for provider in PROVIDERS {
        let page = Answer::json(200, "<html>Welcome</html>").header("content-type", "text/html");
        for (answer, expected, status) in [
            (Answer::json(200, models(provider)), Accepted, 200),
            (refusal(provider, 403, "permission_error"), Accepted, 403),
            (refusal(provider, 402, "billing_error"), Accepted, 402),
            (refusal(provider, 401, "authentication_error"), Rejected, 401),
            (refusal(provider, 429, "rate_limit_error"), RateLimited, 429),
            (refusal(provider, 500, "api_error"), Unreachable, 500),
            (refusal(provider, 503, "overloaded_error"), Unreachable, 503),
            (refusal(provider, 529, "overloaded_error"), Unreachable, 529),
            (Answer::json(200, models(provider)).ending(End::Cut), Accepted, 200),
            (Answer::json(200, &models(provider)[..20]).ending(End::Cut), Unreachable, 200),
            (refusal(provider, 404, "not_found_error"), WrongEndpoint, 404),
            (refusal(provider, 405, "method_not_allowed"), WrongEndpoint, 405),
            (Answer::json(200, "{}"), WrongEndpoint, 200),
            (page, WrongEndpoint, 200),
            (Answer::json(401, "<html>Sign in</html>"), WrongEndpoint, 401),
        ] {
            let said = format!("{provider:?} {answer:?}");
            system.provider.always_answers(answer);
            let found = check(&system, provider, KEY).await;
            assert_eq!((found.result(), found.upstream_status), (expected, status), "{said}: {found:?}");
            assert!(found.detail.len() > 10, "{found:?}");
            let told = format!("{found:?}");
            assert!(!told.contains("0123456789") && !told.contains("sk-checked"), "{told}");
        }
    }
    let System { vault, gateway, .. } = system;
    let (_, vault_log) = vault.stop().await;
    let (_, gateway_log) = gateway.stop().await;
    assert!(gateway_log.contains("key checked") && gateway_log.contains("TRACE"));
    assert!(!vault_log.contains("0123456789abcdef") && !gateway_log.contains("0123456789abcdef"), "a log has the key");
}

#[tokio::test]
async fn each_provider_is_asked_for_its_models_with_its_own_header() {
    let system = System::start().await;
    for (provider, path, header, value) in [
        (Provider::Anthropic, "/v1/models", "x-api-key", KEY.to_owned()),
        (Provider::Openai, "/v1/models", "authorization", format!("Bearer {KEY}")),
        (Provider::Gemini, "/v1beta/models", "x-goog-api-key", KEY.to_owned()),
    ] {
        system.provider.always_answers(Answer::json(200, models(provider)));
        check(&system, provider, KEY).await;
        let asked = system.provider.last();
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", path));
        assert_eq!(asked.header(header), value);
        let credentials = asked.headers.values().filter(|value| value.to_str().is_ok_and(|text| text.contains(KEY)));
        assert_eq!(credentials.count(), 1, "in one header and nothing else: {asked:?}");
        assert_eq!(asked.header("anthropic-version").is_empty(), provider != Provider::Anthropic);
        assert!(asked.body.is_empty());
    }
}

/// What is particular to one provider's wire.
#[tokio::test]
async fn valid_keys_that_are_refused_a_list_are_accepted_with_a_reservation() {
    let system = System::start().await;
    let scopes = "You have insufficient permissions for this operation. Missing scopes: api.model.read.";
    let openai = |code: &str, message: &str| json!({"error": {"code": code, "message": message}}).to_string();
    let quota = json!({"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED",
        "details": [{"violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]}]}});
    let credit = json!({"error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}});
    let country = "unsupported_country_region_territory";
    for (provider, answer, expected, word) in [
        (Provider::Openai, Answer::json(403, openai("missing_scope", scopes)), Accepted, "may not list models"),
        (Provider::Openai, Answer::json(401, openai("", scopes)), Accepted, "may not list models"),
        (Provider::Openai, Answer::json(429, openai("insufficient_quota", "No quota")), Accepted, "quota"),
        (Provider::Openai, Answer::json(403, openai(country, "Not here")), Unreachable, "Not here"),
        (Provider::Gemini, Answer::json(429, quota.to_string()), Accepted, "quota"),
        (Provider::Anthropic, Answer::json(400, credit.to_string()), Accepted, "quota"),
    ] {
        system.provider.always_answers(answer);
        let found = check(&system, provider, KEY).await;
        assert_eq!(found.result(), expected, "{found:?}");
        assert!(found.detail.contains(word), "{found:?}");
    }
}

#[tokio::test]
async fn recorded_refusals_mean_what_they_meant() {
    let Some(fixtures) = Fixtures::load() else { return skip_without("the recordings") };
    let system = System::start().await;
    let mut checked = 0;
    for recording in fixtures.recordings.iter().filter(|recording| recording.kind == "error") {
        let body = fixtures.body(recording);
        let invalid = String::from_utf8_lossy(&body).contains("API_KEY_INVALID");
        let expected: &[Checked] = match recording.http_status {
            401 => &[Rejected],
            400 if invalid => &[Rejected],
            // A limit that counts per day is a quota: the key is accepted.
            429 => &[RateLimited, Accepted],
            404 => &[WrongEndpoint],
            _ => &[Unreachable],
        };
        let provider = match recording.provider.as_str() {
            "anthropic" => Provider::Anthropic,
            "openai" => Provider::Openai,
            _ => Provider::Gemini,
        };
        let mut answer = Answer::json(recording.http_status, body);
        answer.headers = recording.headers();
        system.provider.always_answers(answer);
        let found = check(&system, provider, KEY).await;
        assert!(expected.contains(&found.result()), "{}: {found:?}", recording.id);
        checked += 1;
    }
    println!("{checked} recorded refusals");
    assert!(checked > 0);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let system = System::start().await;
    let elsewhere = FakeProvider::start().await.expect("a port");
    elsewhere.always_answers(Answer::json(200, models(Provider::Openai)));
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/v1/models", elsewhere.url());
        system.provider.always_answers(Answer::json(status, "").header("location", &location));
        for provider in PROVIDERS {
            let found = check(&system, provider, KEY).await;
            assert_eq!((found.result(), found.upstream_status), (WrongEndpoint, status.into()), "{found:?}");
        }
    }
    assert!(elsewhere.received().is_empty(), "the key went elsewhere");
}

#[tokio::test]
async fn a_body_without_end_is_not_read_to_its_end() {
    let system = System::start().await;
    // Silent after 2 MiB: reading on would wait until the check's own time is over.
    for filler in [" ", "x"] {
        system.provider.always_answers(Answer::json(200, filler.repeat(2 * 1024 * 1024)).ending(End::Silence));
        let begun = Instant::now();
        let found = check(&system, Provider::Openai, KEY).await;
        assert_eq!(found.result(), WrongEndpoint, "{found:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    system.provider.sees_hang_ups(2, Duration::from_secs(10)).await.expect("the connections are closed");
}

#[tokio::test]
async fn a_provider_that_is_silent_or_gone_is_unreachable() {
    let gateway_options = vec!["--key-check-timeout=0.5".to_owned()];
    let mut system = System::with(Setup { gateway_options, ..Setup::default() }).await;
    for (answer, status) in [
        (Answer::json(200, "").ending(End::SilenceBeforeHeaders), 0),
        (Answer::json(200, "{\"data\":[").ending(End::Silence), 200),
        (Answer::json(503, "{\"error\":").ending(End::Silence), 503),
    ] {
        system.provider.always_answers(answer);
        let begun = Instant::now();
        let found = check(&system, Provider::Openai, KEY).await;
        assert_eq!((found.result(), found.upstream_status), (Unreachable, status), "{found:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    system.provider = FakeProvider::start().await.expect("another port: nothing listens where the provider was");
    let found = check(&system, Provider::Openai, KEY).await;
    assert_eq!((found.result(), found.upstream_status), (Unreachable, 0), "{found:?}");
    assert!(!found.detail.contains("127.0.0.1"), "an address is the operator's: {found:?}");
}

#[tokio::test]
async fn a_caller_who_leaves_ends_the_check() {
    let system = System::start().await;
    system.provider.always_answers(Answer::json(200, "{\"data\":[").ending(End::Silence));
    let mut gateway = KeyCheckServiceClient::connect(system.gateway.url()).await.expect("a connection");
    let material = Some(KeyMaterial { api_key: KEY.to_owned() });
    let request = Request::new(CheckKeyRequest { provider: Provider::Openai.into(), material });
    let call = tokio::spawn(async move { gateway.check_key(request).await });
    system.provider.has_begun(1).await;
    call.abort();
    system.provider.sees_hang_ups(1, Duration::from_secs(10)).await.expect("the connection is closed");
}

#[tokio::test]
async fn each_bad_field_is_named_and_nothing_is_sent() {
    let system = System::start().await;
    let long = "k".repeat(513);
    for (provider, key, field) in [
        (0, KEY, "provider"),
        (99, KEY, "provider"),
        (1, "", "material.api_key"),
        (1, "with space", "material.api_key"),
        (1, "line\r\nX-Injected: 1", "material.api_key"),
        (1, "ümlaut", "material.api_key"),
        (1, long.as_str(), "material.api_key"),
    ] {
        let failure = try_check(&system, provider, key).await.expect_err("refused");
        assert_eq!(
            (failure.class().as_str(), failure.fields.as_slice()),
            ("InvalidArgument INVALID_FIELD", [field.to_owned()].as_slice())
        );
    }
    assert!(system.provider.received().is_empty());
}

#[tokio::test]
async fn the_health_service_knows_the_check() {
    let system = System::start().await;
    let channel = tonic::transport::Endpoint::from_shared(system.gateway.url()).expect("a URL").connect_lazy();
    let request = HealthCheckRequest { service: "archestra.chat.v1.KeyCheckService".to_owned() };
    let health = HealthClient::new(channel).check(request).await.expect("known").into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
}

/// Adds a key, or rotates `id`, with the options of a check.
async fn store(system: &System, id: Option<&str>, gateway: &str, options: &[&str]) -> Ran {
    let mut arguments = match id {
        None => vec!["keys", "add", "--provider", "openai", "--name", "Checked"],
        Some(id) => vec!["keys", "rotate", id],
    };
    arguments.extend(["--check", "--gateway", gateway]);
    arguments.extend(options);
    key_vault(&system.vault.url(), &arguments, KEY).await
}

async fn versions(system: &System) -> Vec<i64> {
    let request = ListApiKeysRequest { organization_id: ORGANIZATION.to_owned(), ..Default::default() };
    let listed = system.keys.clone().list_api_keys(request).await.expect("a listing").into_inner();
    listed.api_keys.iter().map(|key| key.version).collect()
}

#[tokio::test]
async fn the_command_line_stores_no_key_that_the_provider_refuses_unless_it_is_forced() {
    let mut system = System::start().await;
    let id = system.add_key(Provider::Openai, "sk-before", Links::default()).await.api_key_id;
    let gateway = system.gateway.url();
    for (answer, code, word) in [
        (refusal(Provider::Openai, 401, "invalid_api_key"), 4, "does not accept the key"),
        (Answer::json(200, "<html></html>"), 4, "--openai-base-url"),
        (refusal(Provider::Openai, 503, "overloaded"), 5, "nothing is known of the key"),
    ] {
        system.provider.always_answers(answer);
        let before = versions(&system).await;
        for id in [None, Some(id.as_str())] {
            let ran = store(&system, id, &gateway, &[]).await;
            assert_eq!(ran.code, code, "{ran:?}");
            assert!(ran.err.contains("not stored") && ran.err.contains(word) && ran.err.contains("--force"), "{ran:?}");
            assert!(ran.out.is_empty() && !ran.err.contains("0123456789"), "{ran:?}");
        }
        assert_eq!(versions(&system).await, before, "nothing is stored");

        for id in [None, Some(id.as_str())] {
            let ran = store(&system, id, &gateway, &["--force"]).await;
            assert!(ran.code == 0 && ran.err.contains(word), "{ran:?}");
        }
        let mut expected = before;
        expected[0] += 1;
        expected.push(1);
        assert_eq!(versions(&system).await, expected, "both are stored");
    }
}

#[tokio::test]
async fn the_command_line_stores_a_key_that_the_provider_knows() {
    let mut system = System::start().await;
    let id = system.add_key(Provider::Openai, "sk-before", Links::default()).await.api_key_id;
    let gateway = system.gateway.url();
    for (answer, word) in [
        (Answer::json(200, models(Provider::Openai)), "accepts the key"),
        (refusal(Provider::Openai, 429, "insufficient_quota"), "quota"),
        (refusal(Provider::Openai, 429, "rate_limit_exceeded"), "too many requests"),
    ] {
        system.provider.always_answers(answer);
        let before = versions(&system).await;
        for id in [None, Some(id.as_str())] {
            let ran = store(&system, id, &gateway, &["--output", "json"]).await;
            assert_eq!(ran.json()["hint"], "mnop");
            assert!(ran.err.contains(word), "{ran:?}");
        }
        assert_eq!(versions(&system).await.len(), before.len() + 1);
    }
    let asked = system.provider.received().len();
    let arguments = ["keys", "add", "--provider", "openai", "--name", "Unchecked"];
    assert_eq!(key_vault(&system.vault.url(), &arguments, KEY).await.code, 0);
    assert_eq!(system.provider.received().len(), asked, "nobody is asked unless that is wanted");
}

#[tokio::test]
async fn a_check_without_a_gateway_says_so_and_stores_nothing() {
    let mut system = System::start().await;
    let id = system.add_key(Provider::Openai, "sk-before", Links::default()).await.api_key_id;
    let nobody = "http://127.0.0.1:1";
    for id in [None, Some(id.as_str())] {
        let ran = store(&system, id, nobody, &[]).await;
        assert_eq!(ran.code, 5, "{ran:?}");
        assert!(ran.err.contains("no chat-gateway answers at http://127.0.0.1:1"), "{ran:?}");
    }
    let ran = store(&system, None, &system.vault.url(), &[]).await;
    assert!(ran.code != 0 && ran.err.contains("no chat-gateway that checks keys"), "{ran:?}");
    assert_eq!(versions(&system).await, [1], "nothing is stored");

    assert_eq!(store(&system, None, nobody, &["--force"]).await.code, 0);
    assert_eq!(versions(&system).await, [1, 1]);
    let unchecked = ["keys", "add", "--provider", "openai", "--name", "Forced", "--force"];
    assert_eq!(key_vault(&system.vault.url(), &unchecked, KEY).await.code, 2, "there is nothing to force");
    let ran = store(&system, Some("01900000-0000-7000-8000-000000000000"), nobody, &[]).await;
    assert_eq!(ran.code, 3, "no such key: {ran:?}");
}
