//! Callers are bound to what the policy names, and gateways to what they usually need.

use std::time::Duration;

use proto::{
    chat::chat_service_client::ChatServiceClient,
    keyvault::{
        AuditEvent, CreateApiKeyRequest, KeyMaterial, ListApiKeysRequest, ListAuditEventsRequest, ResolveKeyRequest,
        UpdateApiKeyRequest, WatchKeyChangesRequest, api_key_service_client::ApiKeyServiceClient,
        audit_event::Decision, key_resolution_service_client::KeyResolutionServiceClient,
        vault_admin_service_client::VaultAdminServiceClient, watch_key_changes_response::Event,
    },
    types::Provider,
};
use system_tests::{
    Setup,
    answer::{Answer, Failure, ask},
    certs::replace,
    secured::{Secured, Service, policy, vault_roles},
};
use tokio::time::timeout;
use tonic::Code;

use super::rotation::ANSWER;

/// Stores a key of `acme`, for these profiles.
pub(crate) async fn store(system: &Secured, material: &str, profiles: &[&str]) -> String {
    let request = CreateApiKeyRequest {
        organization_id: "acme".to_owned(),
        provider: Provider::Anthropic.into(),
        display_name: "a key".to_owned(),
        material: Some(KeyMaterial { api_key: material.to_owned() }),
        set_as_organization_default: profiles.is_empty(),
        profile_ids: profiles.iter().map(|profile| (*profile).to_owned()).collect(),
        ..Default::default()
    };
    let wire = system.connect(Service::Vault, &system.certificate("admin"));
    let stored = ApiKeyServiceClient::new(wire).create_api_key(request).await.expect("a key is stored");
    stored.into_inner().api_key.expect("a key").api_key_id
}

/// The events of the audit log that the filter lets pass, the oldest first.
async fn events(system: &Secured, filter: ListAuditEventsRequest) -> Vec<AuditEvent> {
    let wire = system.connect(Service::Vault, &system.token(Service::Vault, "auditor"));
    let request = ListAuditEventsRequest { oldest_first: true, page_size: 1_000, ..filter };
    VaultAdminServiceClient::new(wire).list_audit_events(request).await.expect("events").into_inner().events
}

fn resolutions() -> ListAuditEventsRequest {
    ListAuditEventsRequest { action: "ResolveKey".to_owned(), ..Default::default() }
}

fn of(profile: Option<&str>) -> ResolveKeyRequest {
    ResolveKeyRequest {
        organization_id: "acme".to_owned(),
        profile_id: profile.map(str::to_owned),
        provider: Provider::Anthropic.into(),
    }
}

#[tokio::test]
async fn a_team_cannot_chat_as_another_and_nobody_learns_of_the_attempt() {
    let system = Secured::start().await;
    system.provider.always_answers(system_tests::fake_provider::Answer::stream(ANSWER));
    store(&system, "sk-ant-of-team-a", &["team-a"]).await;
    store(&system, "sk-ant-of-team-b", &["team-b"]).await;
    store(&system, "sk-ant-of-everyone", &[]).await;

    for who in [system.certificate("team-a"), system.token(Service::Gateway, "team-a")] {
        let mut chat = ChatServiceClient::new(system.connect(Service::Gateway, &who));
        for (organization, profile, model, denied) in [
            ("acme", Some("team-b"), "claude-sonnet-4-5", "profile"),
            ("acme", None, "claude-sonnet-4-5", "profile"),
            ("acme", Some(""), "claude-sonnet-4-5", "profile"),
            ("acme", Some("team-A"), "claude-sonnet-4-5", "profile"),
            ("acme", Some("team-a "), "claude-sonnet-4-5", "profile"),
            ("acme", Some("nobody"), "claude-sonnet-4-5", "profile"),
            ("other", Some("team-a"), "claude-sonnet-4-5", "organization"),
            ("nobodys", Some("team-a"), "claude-sonnet-4-5", "organization"),
            ("acme", Some("team-a"), "claude-opus-4-5", "model"),
            ("acme", Some("team-a"), "gpt-5", "model"),
            ("acme", Some("team-a"), "no-such-model", "model"),
        ] {
            let mut asked = ask(model, profile, "Hi");
            organization.clone_into(&mut asked.organization_id);
            let answer = Answer::read(chat.stream_chat(asked).await).await;
            let failure = answer.failed();
            assert_eq!(failure.class(), "PermissionDenied CALLER_NOT_ALLOWED", "{organization} {profile:?} {model}");
            assert_eq!(failure.value("denied"), denied, "{organization} {profile:?} {model}");
        }
    }
    assert!(system.provider.received().is_empty(), "nothing reached the provider");
    assert!(events(&system, resolutions()).await.is_empty(), "nothing reached the vault");

    // The same caller, for what it may do.
    let mut chat = ChatServiceClient::new(system.connect(Service::Gateway, &system.certificate("team-a")));
    let answer = Answer::read(chat.stream_chat(ask("claude-sonnet-4-5", Some("team-a"), "Hi")).await).await;
    assert!(answer.finished.is_some(), "{answer:?}");
    assert_eq!(system.provider.last().header("x-api-key"), "sk-ant-of-team-a");
    let resolved = events(&system, resolutions()).await;
    let [event] = resolved.as_slice() else { panic!("{resolved:?}") };
    assert_eq!((event.principal.as_str(), event.authentication.as_str()), ("gateway", "certificate"));
    assert_eq!((event.profile_id.as_str(), event.decision()), ("team-a", Decision::Allowed));
    assert!(!event.trace_id.is_empty() && !event.peer_address.is_empty());
}

#[tokio::test]
async fn who_was_refused_is_on_record() {
    let system = Secured::start().await;
    let mut reader = ApiKeyServiceClient::new(system.connect(Service::Vault, &system.certificate("reader")));
    let foreign = ListApiKeysRequest { organization_id: "other".to_owned(), ..Default::default() };
    let failure = Failure::from(reader.list_api_keys(foreign).await.expect_err("not for the reader"));
    assert_eq!(failure.class(), "PermissionDenied CALLER_NOT_ALLOWED");

    let denied =
        events(&system, ListAuditEventsRequest { decision: Decision::Denied.into(), ..Default::default() }).await;
    let [event] = denied.as_slice() else { panic!("{denied:?}") };
    assert_eq!((event.principal.as_str(), event.action.as_str()), ("reader", "ListApiKeys"));
    assert_eq!((event.organization_id.as_str(), event.reason.as_str()), ("other", "CALLER_NOT_ALLOWED"));
    assert_eq!(event.trace_id, failure.trace_id);

    let nobody = system.connect(Service::Vault, &system_tests::secured::Who::Nobody);
    let mut nobody = ApiKeyServiceClient::new(nobody);
    for _ in 0..50 {
        let failure = Failure::from(nobody.list_api_keys(ListApiKeysRequest::default()).await.expect_err("unknown"));
        assert_eq!(
            (failure.class().as_str(), failure.value("cause")),
            ("Unauthenticated CALLER_UNAUTHENTICATED", "nothing_presented")
        );
    }
    let counted = async {
        loop {
            let filter = ListAuditEventsRequest { decision: Decision::Denied.into(), ..Default::default() };
            let all = events(&system, filter).await;
            let unknown: Vec<_> =
                all.into_iter().filter(|event| event.authentication == "none:nothing_presented").collect();
            if unknown.iter().map(|event| event.count).sum::<i64>() == 50 {
                return unknown;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let unknown = timeout(Duration::from_secs(20), counted).await.expect("all are counted");
    assert!(unknown.len() < 50, "a flood is few records: {}", unknown.len());
}

#[tokio::test]
async fn a_gateway_that_asks_for_unusually_many_keys_is_refused_and_said() {
    let setup = Setup { vault_options: vec!["--distinct-keys-per-minute=3".to_owned()], ..Setup::default() };
    let system = Secured::with(setup).await;
    for n in 0..5 {
        store(&system, &format!("sk-ant-many-{n}"), &[&format!("profile-{n}")]).await;
    }
    let mut thief =
        KeyResolutionServiceClient::new(system.connect(Service::Vault, &system.certificate("gateway-acme")));
    for n in [0, 1, 2, 1, 0] {
        thief.resolve_key(of(Some(&format!("profile-{n}")))).await.expect("a few keys are usual");
    }
    for n in [3, 4, 3] {
        let refused = thief.resolve_key(of(Some(&format!("profile-{n}")))).await.expect_err("too many");
        let failure = Failure::from(refused);
        assert_eq!(failure.class(), "ResourceExhausted RATE_LIMITED");
        assert_eq!((failure.value("of"), failure.value("limit")), ("distinct_keys_per_minute", "3"));
    }
    thief.resolve_key(of(Some("profile-2"))).await.expect("what it has, it keeps");
    assert_eq!(system.vault.log().matches("unusually many distinct keys").count(), 1, "said once");
    let denied = ListAuditEventsRequest { decision: Decision::Denied.into(), ..resolutions() };
    assert!(events(&system, denied).await.iter().any(|event| event.reason == "RATE_LIMITED"));

    let mut another = KeyResolutionServiceClient::new(system.connect(Service::Vault, &system.certificate("gateway")));
    another.resolve_key(of(Some("profile-3"))).await.expect("another principal has a limit of its own");
}

#[tokio::test]
async fn a_rate_is_a_principals_own() {
    let options = ["--resolves-per-second=5", "--mutations-per-second=5"];
    let setup = Setup { vault_options: options.map(str::to_owned).to_vec(), ..Setup::default() };
    let system = Secured::with(setup).await;
    store(&system, "sk-ant-rate", &[]).await;
    let mut busy = KeyResolutionServiceClient::new(system.connect(Service::Vault, &system.certificate("gateway")));
    let limited = async {
        loop {
            if let Err(status) = busy.resolve_key(of(None)).await {
                return Failure::from(status);
            }
        }
    };
    let failure = timeout(Duration::from_secs(20), limited).await.expect("the limit is reached");
    assert_eq!(
        (failure.class().as_str(), failure.value("of")),
        ("ResourceExhausted RATE_LIMITED", "resolves_per_second")
    );
    let mut other =
        KeyResolutionServiceClient::new(system.connect(Service::Vault, &system.certificate("gateway-acme")));
    other.resolve_key(of(None)).await.expect("nobody pays for another");

    let mut admin = ApiKeyServiceClient::new(system.connect(Service::Vault, &system.certificate("admin")));
    let limited = async {
        loop {
            let absent = UpdateApiKeyRequest {
                api_key: Some(proto::keyvault::ApiKey { organization_id: "acme".to_owned(), ..Default::default() }),
                ..Default::default()
            };
            let failure = Failure::from(admin.update_api_key(absent).await.expect_err("no such key"));
            if failure.code == Code::ResourceExhausted {
                return failure;
            }
        }
    };
    let failure = timeout(Duration::from_secs(20), limited).await.expect("the limit is reached");
    assert_eq!(failure.value("of"), "mutations_per_second");
}

#[tokio::test]
async fn a_watch_tells_of_the_gateways_organizations_and_ends_with_its_right() {
    let system = Secured::start().await;
    let mut gateway =
        KeyResolutionServiceClient::new(system.connect(Service::Vault, &system.certificate("gateway-acme")));
    let mut watch = gateway.watch_key_changes(WatchKeyChangesRequest::default()).await.expect("a watch").into_inner();
    let first = watch.message().await.expect("a heartbeat").expect("a heartbeat");
    assert!(matches!(first.event, Some(Event::Heartbeat(_))));

    let mut other = ApiKeyServiceClient::new(system.connect(Service::Vault, &system.certificate("admin-other")));
    let foreign = CreateApiKeyRequest {
        organization_id: "other".to_owned(),
        provider: Provider::Gemini.into(),
        display_name: "not for acme".to_owned(),
        material: Some(KeyMaterial { api_key: "AIzaNotForAcme".to_owned() }),
        ..Default::default()
    };
    other.create_api_key(foreign).await.expect("a key of another organization");
    let own = store(&system, "sk-ant-own", &[]).await;
    let change = loop {
        let news = watch.message().await.expect("news").expect("news");
        if let Some(Event::Change(change)) = news.event {
            break change;
        }
    };
    assert_eq!((change.organization_id.as_str(), change.api_key_ids), ("acme", vec![own]));

    let roles: Vec<_> = vault_roles().into_iter().filter(|(name, _)| *name != "gateway-acme").collect();
    replace(&system.files().policy(Service::Vault), &policy(&roles, &system.vault_tokens));
    let ended = async {
        loop {
            match watch.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a watch never ends by itself"),
                Err(status) => return Failure::from(status),
            }
        }
    };
    let failure = timeout(Duration::from_secs(30), ended).await.expect("the right is taken back");
    assert_eq!(failure.class(), "PermissionDenied CALLER_NOT_ALLOWED");
}
