//! What the vault does not take: bad input, by name of the field; links that must never
//! be, by the schema itself; keyrings that do not fit, until the right one is back.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proto::{
    keyvault::{
        ApiKey, AssignProfilesRequest, BatchAssignProfilesRequest, CreateApiKeyRequest, GetApiKeyRequest,
        GetSealStatusRequest, KeyMaterial, ListApiKeysRequest, ResolveKeyRequest, UpdateApiKeyRequest,
        key_resolution_service_client::KeyResolutionServiceClient, vault_admin_service_client::VaultAdminServiceClient,
    },
    types::Provider,
};
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection};
use system_tests::{Links, ORGANIZATION, Setup, Storage, System, answer::Failure, start_vault};
use tokio::time::Instant;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

fn create() -> CreateApiKeyRequest {
    CreateApiKeyRequest {
        organization_id: ORGANIZATION.to_owned(),
        provider: Provider::Openai.into(),
        display_name: "Research".to_owned(),
        material: Some(KeyMaterial { api_key: "sk-0123456789".to_owned() }),
        set_as_organization_default: false,
        profile_ids: vec!["research".to_owned()],
        ..Default::default()
    }
}

fn key(text: impl Into<String>) -> Option<KeyMaterial> {
    Some(KeyMaterial { api_key: text.into() })
}

#[tokio::test]
async fn each_bad_field_of_a_new_key_is_named() {
    type Spoil = fn(&mut CreateApiKeyRequest);
    let mut system = System::start().await;
    let cases: Vec<(&str, Spoil)> = vec![
        ("organization_id", |r| r.organization_id.clear()),
        ("organization_id", |r| r.organization_id = "a b".to_owned()),
        ("organization_id", |r| r.organization_id = "o".repeat(129)),
        ("provider", |r| r.provider = 0),
        ("provider", |r| r.provider = 99),
        ("provider", |r| r.provider = -1),
        ("display_name", |r| r.display_name.clear()),
        ("display_name", |r| r.display_name = "n".repeat(129)),
        ("display_name", |r| r.display_name = "line\nbreak".to_owned()),
        ("material.api_key", |r| r.material = None),
        ("material.api_key", |r| r.material = key("")),
        ("material.api_key", |r| r.material = key("with space")),
        ("material.api_key", |r| r.material = key("tab\t")),
        ("material.api_key", |r| r.material = key("line\r\nX-Injected: 1")),
        ("material.api_key", |r| r.material = key("nul\0")),
        ("material.api_key", |r| r.material = key("ümlaut")),
        ("material.api_key", |r| r.material = key("k".repeat(513))),
        ("profile_ids[1]", |r| r.profile_ids.push("no/slash".to_owned())),
        ("profile_ids", |r| r.profile_ids = (0..1_001).map(|n| format!("p{n}")).collect()),
    ];
    for (field, spoil) in cases {
        let mut request = create();
        spoil(&mut request);
        let failure = Failure::from(system.keys.create_api_key(request).await.expect_err("refused"));
        assert_eq!(
            (failure.class().as_str(), failure.fields.as_slice()),
            ("InvalidArgument INVALID_FIELD", [field.to_owned()].as_slice())
        );
    }
    let listing = ListApiKeysRequest { organization_id: ORGANIZATION.to_owned(), ..Default::default() };
    let stored = system.keys.list_api_keys(listing).await.expect("a listing").into_inner().api_keys;
    assert!(stored.is_empty(), "nothing half done: {stored:?}");
}

#[tokio::test]
async fn an_update_says_what_it_changes() {
    let mut system = System::start().await;
    let stored = system.add_key(Provider::Openai, "sk-1", Links::default()).await;
    for (paths, state, field) in [
        (&[][..], 1, "update_mask"),
        (&["material"], 1, "update_mask"),
        (&["display_name", "profile_ids"], 1, "update_mask"),
        (&["state"], 0, "api_key.state"),
        (&["state"], 7, "api_key.state"),
    ] {
        let update_mask = prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() };
        let api_key = ApiKey { state, ..stored.clone() };
        let request =
            UpdateApiKeyRequest { api_key: Some(api_key), update_mask: Some(update_mask), ..Default::default() };
        let failure = Failure::from(system.keys.update_api_key(request).await.expect_err("refused"));
        assert_eq!(failure.fields, [field], "{paths:?}");
    }
    let failure = Failure::from(system.keys.update_api_key(UpdateApiKeyRequest::default()).await.expect_err("refused"));
    assert_eq!(failure.fields, ["api_key"]);
}

#[tokio::test]
async fn a_page_token_is_good_for_its_own_query_only() {
    let mut system = System::start().await;
    for n in 0..3 {
        system.add_key(Provider::Openai, &format!("sk-{n}"), Links::default()).await;
    }
    let request = |organization: &str, token: &str| ListApiKeysRequest {
        organization_id: organization.to_owned(),
        page_size: 2,
        page_token: token.to_owned(),
        ..Default::default()
    };
    let first = system.keys.list_api_keys(request(ORGANIZATION, "")).await.expect("a page").into_inner();
    assert_eq!(first.api_keys.len(), 2);
    let token = first.next_page_token;
    let rest = system.keys.list_api_keys(request(ORGANIZATION, &token)).await.expect("a page").into_inner();
    assert_eq!((rest.api_keys.len(), rest.next_page_token.as_str()), (1, ""));

    for (organization, token) in [("other", token.as_str()), (ORGANIZATION, "garbage"), (ORGANIZATION, "AQ")] {
        let failure =
            Failure::from(system.keys.list_api_keys(request(organization, token)).await.expect_err("refused"));
        assert_eq!(failure.fields, ["page_token"], "{organization} {token}");
    }
    let negative = ListApiKeysRequest { page_size: -1, ..request(ORGANIZATION, "") };
    let failure = Failure::from(system.keys.list_api_keys(negative).await.expect_err("refused"));
    assert_eq!(failure.fields, ["page_size"]);
}

#[tokio::test]
async fn a_page_ends_early_at_its_size_in_bytes_and_nothing_is_lost() {
    let mut system = System::start().await;
    let profile = |key: usize, n: usize| format!("{key:03}-{n:04}-{}", "p".repeat(119));
    for number in 0..12 {
        let profile_ids = (0..1_000).map(|n| profile(number, n)).collect();
        system.keys.create_api_key(CreateApiKeyRequest { profile_ids, ..create() }).await.expect("created");
    }
    let (mut pages, mut keys, mut page_token) = (0, Vec::new(), String::new());
    loop {
        let request = ListApiKeysRequest {
            organization_id: ORGANIZATION.to_owned(),
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        // The default limit of gRPC clients is 4 MiB, and this client has it.
        let page = system.keys.list_api_keys(request).await.expect("a page").into_inner();
        pages += 1;
        keys.extend(page.api_keys.into_iter().map(|key| key.api_key_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let count = keys.len();
    keys.dedup();
    assert_eq!((count, keys.len()), (12, 12), "each key once");
    assert_eq!(pages, 2, "1.5 MiB make two pages");
}

#[tokio::test]
async fn a_key_has_a_thousand_profiles_at_most() {
    let mut system = System::start().await;
    let profiles = |range: std::ops::Range<usize>| range.map(|n| format!("p{n}")).collect::<Vec<_>>();
    let stored = system.keys.create_api_key(CreateApiKeyRequest { profile_ids: profiles(0..1_000), ..create() }).await;
    let id = stored.expect("created").into_inner().api_key.expect("a key").api_key_id;
    let request = AssignProfilesRequest {
        organization_id: ORGANIZATION.to_owned(),
        api_key_id: id.clone(),
        profile_ids: profiles(1_000..1_001),
        ..Default::default()
    };
    let failure = Failure::from(system.keys.assign_profiles(request).await.expect_err("refused"));
    assert_eq!(failure.fields, ["profile_ids"]);
    let request = GetApiKeyRequest { organization_id: ORGANIZATION.to_owned(), api_key_id: id };
    let now = system.keys.get_api_key(request).await.expect("the key").into_inner().api_key.expect("a key");
    assert_eq!(now.profile_ids.len(), 1_000, "nothing half done");
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_with_its_limit() {
    let mut system = System::start().await;
    let request = CreateApiKeyRequest { display_name: "n".repeat(256 * 1024), ..create() };
    let failure = Failure::from(system.keys.create_api_key(request).await.expect_err("refused"));
    assert_eq!(failure.class(), "ResourceExhausted REQUEST_TOO_LARGE");
    assert_eq!(failure.value("limit"), "262144");
    assert!(!failure.trace_id.is_empty(), "the refusal has a trace");
}

#[tokio::test]
async fn another_organizations_key_looks_exactly_like_an_absent_one() {
    let mut system = System::start().await;
    let stored = system.add_key(Provider::Openai, "sk-1", Links::default()).await;
    let ask = |id: &str| GetApiKeyRequest { organization_id: "other".to_owned(), api_key_id: id.to_owned() };
    let absent = "01900000-0000-7000-8000-000000000000";
    let foreign = Failure::from(system.keys.get_api_key(ask(&stored.api_key_id)).await.expect_err("not found"));
    let gone = Failure::from(system.keys.get_api_key(ask(absent)).await.expect_err("not found"));
    assert_eq!((foreign.code, foreign.reason.as_str()), (Code::NotFound, "KEY_NOT_FOUND"));
    assert_eq!(foreign.message.replace(&stored.api_key_id, absent), gone.message);
    let batch = BatchAssignProfilesRequest {
        organization_id: "other".to_owned(),
        api_key_ids: vec![stored.api_key_id],
        profile_ids: vec!["p".to_owned()],
        ..Default::default()
    };
    let failure = Failure::from(system.keys.batch_assign_profiles(batch).await.expect_err("not found"));
    assert_eq!(failure.reason, "KEY_NOT_FOUND");
}

#[tokio::test]
async fn the_schema_itself_refuses_impossible_links() {
    let mut system = System::start().await;
    let links = Links { default: true, profiles: &["research"] };
    let openai = system.add_key(Provider::Openai, "sk-1", links).await;
    let other = system.add_key(Provider::Openai, "sk-2", Links::default()).await;
    let database = open(&system).await;
    let id = |key: &ApiKey| system.storage().uuid(&key.api_key_id);
    for (what, statement) in [
        ("a second default", format!("INSERT INTO organization_default VALUES ('acme', 'openai', {})", id(&other))),
        (
            "a second key of a profile",
            format!("INSERT INTO profile_key VALUES ('acme', 'research', 'openai', {})", id(&other)),
        ),
        (
            "another organization's key",
            format!("INSERT INTO organization_default VALUES ('other', 'openai', {})", id(&openai)),
        ),
        (
            "another provider's key",
            format!("INSERT INTO profile_key VALUES ('acme', 'ops', 'gemini', {})", id(&openai)),
        ),
        (
            "a version of another organization",
            format!("UPDATE secret SET organization_id = 'other' WHERE api_key_id = {}", id(&openai)),
        ),
        ("a key that loses its links", format!("DELETE FROM api_key WHERE api_key_id = {}", id(&openai))),
        ("an unknown provider", format!("UPDATE api_key SET provider = 'azure' WHERE api_key_id = {}", id(&other))),
        ("an unknown state", format!("UPDATE api_key SET state = 'maybe' WHERE api_key_id = {}", id(&other))),
    ] {
        let outcome = database.execute_unprepared(&statement).await;
        assert!(outcome.is_err_and(|error| error.to_string().contains("constraint")), "{what} was possible");
    }
}

#[tokio::test]
async fn a_row_that_does_not_open_harms_its_own_key_only() {
    let mut system = System::start().await;
    let broken = system.add_key(Provider::Openai, "sk-broken", Links { default: true, profiles: &[] }).await;
    system.add_key(Provider::Gemini, "sk-fine", Links { default: true, profiles: &[] }).await;
    let (id, nothing) = (system.storage().uuid(&broken.api_key_id), system.storage().bytes(&[0]));
    let statement = format!("UPDATE secret SET dek = {nothing} WHERE api_key_id = {id}");
    open(&system).await.execute_unprepared(&statement).await.expect("spoiled");
    let folder = system.folder().to_owned();
    let System { vault, gateway, provider, .. } = &mut system;
    // Also after a restart, which looks at every row.
    let _ = (gateway, provider);
    let stopped = std::process::Command::new("kill").arg(vault.id().to_string()).status().expect("kill runs");
    assert!(stopped.success());
    let restarted = restart(&folder).await;
    let url = restarted.url();
    let mut resolution = proto::keyvault::key_resolution_service_client::KeyResolutionServiceClient::connect(url)
        .await
        .expect("it serves");
    for (provider, expected) in [(Provider::Openai, Err("KEY_UNUSABLE")), (Provider::Gemini, Ok("sk-fine"))] {
        let request =
            ResolveKeyRequest { organization_id: ORGANIZATION.to_owned(), profile_id: None, provider: provider.into() };
        let outcome = resolution.resolve_key(request).await.map_err(Failure::from);
        match expected {
            Ok(material) => assert_eq!(outcome.expect("resolved").into_inner().material.expect("m").api_key, material),
            Err(reason) => assert_eq!(outcome.expect_err("unusable").reason, reason),
        }
    }
    assert!(restarted.log().contains("a stored key does not open"), "{}", restarted.log());
}

#[tokio::test]
async fn a_vault_whose_keyring_does_not_fit_waits_and_says_why() {
    let mut system = System::start().await;
    system.add_key(Provider::Openai, "sk-1", Links { default: true, profiles: &[] }).await;
    let keyring = system.folder().join("keyring");
    let good = fs::read_to_string(&keyring).expect("the keyring");
    let id = good.lines().find_map(|line| line.strip_prefix("primary: ")).expect("a primary").to_owned();
    let random = BASE64_STANDARD.encode((0..32).map(|n: u8| n.wrapping_mul(37).wrapping_add(11)).collect::<Vec<_>>());
    let weak = BASE64_STANDARD.encode([7; 32]);
    let database = format!("--database-url={}", system.database_url());
    let folder = system.folder().to_owned();
    assert!(system.vault.stop().await.0.success());

    fs::remove_file(&keyring).expect("the keyring is lost");
    let setup = Setup { sealed: true, vault_options: vec![database], ..Setup::default() };
    let vault = start_vault(&folder, &setup).await.expect("it listens");
    let mut admin = VaultAdminServiceClient::connect(vault.url()).await.expect("a connection");
    let mut resolution = KeyResolutionServiceClient::connect(vault.url()).await.expect("a connection");
    let channel = Endpoint::from_shared(vault.url()).expect("a URL").connect_lazy();
    let mut health = HealthClient::new(channel);
    for (text, mode, reason) in [
        (None, 0o600, "cannot be read"),
        (Some(String::new()), 0o600, "names no `primary`"),
        (Some(format!("primary: {id}\n{id}: {weak}\n")), 0o600, "is weak"),
        (Some(format!("primary: {id}\n{id}: {random}\n")), 0o600, "same name, other key"),
        (Some(format!("primary: other\nother: {random}\n")), 0o600, "has no key"),
        (Some(format!("primary: {id}\n{id}: short\n")), 0o600, "not 32 bytes"),
        (Some(good.clone()), 0o644, "chmod o-rwx"),
    ] {
        if let Some(text) = text {
            let _ = fs::remove_file(&keyring);
            write(&keyring, &text, mode);
        }
        until(reason, async || {
            let status = admin.get_seal_status(GetSealStatusRequest {}).await.expect("it answers").into_inner();
            status.sealed && status.reason.contains(reason)
        })
        .await;
        let refused = resolution.resolve_key(default_key()).await.expect_err("no keys are served");
        let refused = Failure::from(refused);
        assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "VAULT_SEALED"));
        assert_eq!(serving(&mut health).await, ServingStatus::NotServing);
    }
    write(&keyring, &good, 0o600);
    until("the right keyring unseals, unharmed by the wrong ones", async || {
        resolution.resolve_key(default_key()).await.is_ok()
    })
    .await;
    until("health follows", async || serving(&mut health).await == ServingStatus::Serving).await;
}

fn default_key() -> ResolveKeyRequest {
    let provider = Provider::Openai.into();
    ResolveKeyRequest { organization_id: ORGANIZATION.to_owned(), profile_id: None, provider }
}

async fn serving(health: &mut HealthClient<Channel>) -> ServingStatus {
    let request = HealthCheckRequest { service: "archestra.keyvault.v1.KeyResolutionService".to_owned() };
    health.check(request).await.expect("health is answered").into_inner().status()
}

/// Asks again until it is so, for ten seconds.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_caller_who_leaves_in_the_middle_of_a_change_leaves_no_half_of_it() {
    let mut system = System::start().await;
    for attempt in 0..200_usize {
        let mut keys = system.keys.clone();
        let profile_ids = vec![format!("p{attempt}")];
        let request = CreateApiKeyRequest { set_as_organization_default: true, profile_ids, ..create() };
        let call = tokio::spawn(async move { keys.create_api_key(request).await.map(drop) });
        // Each leaves a little later than the one before.
        for _ in 0..attempt * 4 {
            tokio::task::yield_now().await;
        }
        call.abort();
    }
    // The vault still writes, and what was written is whole.
    let last = system.add_key(Provider::Openai, "sk-last", Links { default: true, profiles: &["last"] }).await;
    let listing =
        ListApiKeysRequest { organization_id: ORGANIZATION.to_owned(), page_size: 1_000, ..Default::default() };
    let stored = system.keys.list_api_keys(listing).await.expect("a listing").into_inner().api_keys;
    let defaults: Vec<_> = stored.iter().filter(|key| key.organization_default).map(|key| &key.api_key_id).collect();
    assert_eq!(defaults, [&last.api_key_id]);
    for key in &stored {
        assert_eq!(key.profile_ids.len(), 1, "{key:?}");
        let request = ResolveKeyRequest {
            organization_id: ORGANIZATION.to_owned(),
            profile_id: Some(key.profile_ids[0].clone()),
            provider: Provider::Openai.into(),
        };
        let resolved = system.resolution.resolve_key(request).await.expect("it opens").into_inner();
        assert_eq!(resolved.api_key_id, key.api_key_id);
    }
    println!("{} of 200 calls had changed something when their caller left", stored.len() - 1);
}

#[tokio::test]
async fn a_path_that_sqlite_would_read_otherwise_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for path in ["//vault.db", ":memory:", "vault.db?mode=ro", "a%20b.db", ""] {
        let vault_options = vec![format!("--database-url=sqlite:{path}")];
        let setup = Setup { vault_options, ..Setup::default() };
        let problem = start_vault(folder.path(), &setup).await.expect_err("refused").to_string();
        assert!(problem.contains("plain path of a file"), "{path}: {problem}");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing was made");
}

#[tokio::test]
async fn a_disabled_key_may_be_taken_away_and_not_be_given() {
    let mut system = System::start().await;
    let stored = system.add_key(Provider::Openai, "sk-1", Links { default: false, profiles: &["p1", "p2"] }).await;
    let mut api_key = stored.clone();
    api_key.set_state(proto::keyvault::api_key::State::Disabled);
    let update_mask = Some(prost_types::FieldMask { paths: vec!["state".to_owned()] });
    system
        .keys
        .update_api_key(UpdateApiKeyRequest { api_key: Some(api_key), update_mask, ..Default::default() })
        .await
        .expect("disabled");
    let replace = |profiles: &[&str]| proto::keyvault::ReplaceProfilesRequest {
        organization_id: ORGANIZATION.to_owned(),
        api_key_id: stored.api_key_id.clone(),
        profile_ids: profiles.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let failure = Failure::from(system.keys.replace_profiles(replace(&["p1", "p3"])).await.expect_err("refused"));
    assert_eq!(failure.class(), "FailedPrecondition KEY_UNUSABLE");
    let shrunk = system.keys.replace_profiles(replace(&["p1"])).await.expect("taken away").into_inner();
    assert_eq!(shrunk.api_key.expect("a key").profile_ids, ["p1"]);
}

#[tokio::test]
async fn two_vaults_do_not_share_a_file() {
    let setup = || Setup { database: Storage::Sqlite, ..Setup::default() };
    let system = System::with(setup()).await;
    let problem = start_vault(system.folder(), &setup()).await.expect_err("refused").to_string();
    assert!(problem.contains("in use by another key-vault"), "{problem}");
}

async fn open(system: &System) -> DatabaseConnection {
    Database::connect(system.database_url()).await.expect("the database opens")
}

/// Starts a vault on a folder that another is about to leave.
async fn restart(folder: &Path) -> system_tests::Process {
    loop {
        match start_vault(folder, &Setup::default()).await {
            Ok(vault) => return vault,
            Err(error) if error.to_string().contains("in use") => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}
