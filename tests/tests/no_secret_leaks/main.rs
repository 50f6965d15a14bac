//! A marked key goes through every RPC and every error path while both services log at
//! TRACE, and is then looked for, in every form, in all that they wrote, answered and
//! stored.

mod identities;
mod scan;

use std::{fmt::Write as _, fs};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proto::{
    chat::{CheckKeyRequest, key_check_service_client::KeyCheckServiceClient},
    keyvault::{
        ApiKey, AssignProfilesRequest, BatchAssignProfilesRequest, ClearOrganizationDefaultRequest,
        CreateApiKeyRequest, DeleteApiKeyRequest, ExplainResolutionRequest, GetApiKeyRequest, GetFallbackPolicyRequest,
        GetRewrapStatusRequest, GetSealStatusRequest, KeyMaterial, KeyUse, ListApiKeysRequest, ListAuditEventsRequest,
        ListProfileKeysRequest, QueryUsageRequest, ReplaceProfilesRequest, ReportKeyUseRequest, ResolveKeyRequest,
        RewrapKeyEncryptionKeysRequest, RollbackApiKeyRequest, RotateApiKeyRequest, RotateKeyEncryptionKeyRequest,
        SetFallbackPolicyRequest, SetOrganizationDefaultRequest, UnassignProfilesRequest, UpdateApiKeyRequest,
        VerifyAuditLogRequest, WatchKeyChangesRequest, api_key::State, usage_service_client::UsageServiceClient,
        vault_admin_service_client::VaultAdminServiceClient,
    },
    types::Provider,
};
use sea_orm::{ConnectionTrait as _, Database};
use serde_json::json;
use system_tests::{
    Links, ORGANIZATION, Setup, System,
    answer::ask,
    fake_provider::{Answer as Said, End},
    openbao::{self, OpenBao},
    postgres::PASSWORD,
};

/// Marked keys, with characters that every encoding changes.
const STORED: &str = r#"sk-MARKED/+stored="\<>%&'0123456789zyx"#;
const ROTATED: &str = r#"sk-MARKED/+rotated="\<>%&'0123456789wvu"#;
const ENVIRONMENT: &str = r#"sk-MARKED/+environ="\<>%&'0123456789tsr"#;
/// Keys that are refused for how they are written.
const REFUSED: &str = "sk-MARKED refused 0123456789 qpo";
/// The last is the database's password, where it has one.
const SECRETS: [&str; 5] = [STORED, ROTATED, ENVIRONMENT, REFUSED, PASSWORD];

const PROVIDERS: [(Provider, &str); 3] =
    [(Provider::Anthropic, "claude-sonnet-4-5"), (Provider::Openai, "gpt-4o"), (Provider::Gemini, "gemini-2.5-flash")];

/// All that was answered, as a careless caller would log it.
#[derive(Default)]
struct Heard {
    answers: String,
    /// What the database held at several times, if it is no file.
    dumps: Vec<u8>,
}

impl Heard {
    fn note(&mut self, answer: &impl std::fmt::Debug) {
        writeln!(self.answers, "{answer:?}").expect("a String takes all");
    }
}

#[tokio::test]
async fn a_key_is_found_nowhere() {
    let (heard, logs, files) = play(None, Vec::new()).await;
    // The root key may be in its own file, and nowhere else.
    let (keyrings, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|(name, _)| name.ends_with("/keyring"));
    let keyring = String::from_utf8(keyrings[0].1.clone()).expect("text");
    let root = keyring.lines().last().and_then(|line| line.split(": ").nth(1)).expect("a root key").to_owned();
    let bits = BASE64_STANDARD.decode(&root).expect("base64");
    let root_as_text: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    search(&[&SECRETS[..], &[&root, &root_as_text]].concat(), &heard, &logs, &others);
}

/// The same with a secrets manager on the network: neither a key nor what opens the manager.
#[tokio::test]
async fn nothing_is_found_beside_openbao_either() {
    if !openbao::is_installed().await {
        return;
    }
    let bao = OpenBao::development().await.expect("a server");
    bao.enable_transit("root").await.expect("an engine");
    let role = bao.approle("root", "1h").await.expect("a role");
    let secret_id = fs::read_to_string(&role.secret_id_file).expect("a secret id");
    let options = vec![
        "--secrets-manager=transit".to_owned(),
        format!("--transit-address={}", bao.url()),
        "--transit-key=root".to_owned(),
        "--transit-auth=approle".to_owned(),
        format!("--transit-role-id={}", role.role_id),
        format!("--transit-secret-id-file={}", role.secret_id_file.display()),
    ];
    let (heard, logs, files) = play(None, options).await;
    // Every token of this server begins so.
    assert!(bao.root_token().starts_with("s.") || bao.root_token() == "root", "{}", bao.root_token());
    let token = logs.lines().find(|line| line.contains("\"s.") || line.contains(" s."));
    assert!(token.is_none(), "a log has a token: {token:?}");
    search(&[&SECRETS[..], &[secret_id.trim()]].concat(), &heard, &logs, &files);
}

fn search(secrets: &[&str], heard: &str, logs: &str, files: &[(String, Vec<u8>)]) {
    let mut leaks = Vec::new();
    for secret in secrets {
        for form in scan::found(secret, heard.as_bytes()) {
            leaks.push(format!("an answer has {secret:?} ({form})"));
        }
        // Whole first: it is long, and has nothing.
        let lines = if scan::found(secret, logs.as_bytes()).is_empty() { "" } else { logs };
        for line in lines.lines() {
            for form in scan::found(secret, line.as_bytes()) {
                leaks.push(format!("a log has {secret:?} ({form}): {line}"));
            }
        }
        for (name, bytes) in files {
            for form in scan::found(secret, bytes) {
                leaks.push(format!("{name} has {secret:?} ({form})"));
            }
        }
    }
    assert!(leaks.is_empty(), "{} leaks, the first:\n{}", leaks.len(), leaks[..leaks.len().min(10)].join("\n"));
    assert!(logs.contains("TRACE"), "the services logged at TRACE");
    println!("nothing in {} bytes of logs, {} of answers, {} files", logs.len(), heard.len(), files.len());
}

/// The same scan finds a key that an administrator wrote where it does not belong.
#[tokio::test]
async fn a_planted_key_is_found() {
    let (heard, _, files) = play(Some(STORED), Vec::new()).await;

    assert!(!scan::found(STORED, heard.as_bytes()).is_empty(), "the listing shows it");
    assert!(files.iter().any(|(_, bytes)| !scan::found(STORED, bytes).is_empty()), "the database shows it");
    for form in scan::forms(STORED) {
        let mut planted = b"before ".to_vec();
        planted.extend(&form.bytes);
        assert!(scan::found(STORED, &planted).contains(&form.name), "{}", form.name);
    }
    // In the middle of something longer, as headers and tokens have it.
    for before in ["", "a", "ab"] {
        let text = BASE64_STANDARD.encode(format!("{before}{STORED} and more"));
        assert!(scan::found(STORED, text.as_bytes()).contains(&"base64"), "{text}");
    }
}

/// Plays every RPC and every error path, with `name` as the display name of a key.
/// Returns what was answered, what was logged, and the files.
async fn play(name: Option<&str>, vault_options: Vec<String>) -> (String, String, Vec<(String, Vec<u8>)>) {
    let variables = ["ANTHROPIC", "OPENAI", "GEMINI"];
    let mut system = System::with(Setup {
        vault_environment: variables
            .map(|provider| (format!("ARCHESTRA_CHAT_{provider}_API_KEY"), ENVIRONMENT.to_owned()))
            .to_vec(),
        vault_options,
        gateway_options: [
            "--headers-timeout=1",
            "--first-event-timeout=1",
            "--idle-timeout=1",
            "--key-check-timeout=0.2",
        ]
        .map(str::to_owned)
        .to_vec(),
        log_filter: Some("trace".to_owned()),
        ..Setup::default()
    })
    .await;
    let mut heard = Heard::default();
    for (provider, model) in PROVIDERS {
        administer(&mut system, &mut heard, provider, name.unwrap_or("leak test")).await;
        chat(&mut system, &mut heard, provider, model).await;
    }
    let folder = system.folder().to_owned();
    let mut files = Vec::new();
    // While the vault runs: its log of unwritten pages is there.
    read_files(&folder, &mut files);
    heard.dumps.extend(system.dump().await.unwrap_or_default());
    if !heard.dumps.is_empty() {
        // Backslashes of texts are doubled in it.
        let plain = String::from_utf8_lossy(&heard.dumps).replace(r"\\", r"\");
        files.extend([("pg_dump".to_owned(), heard.dumps), ("pg_dump unescaped".to_owned(), plain.into_bytes())]);
    }
    assert!(files.len() >= 2, "a database and its log, or a dump in two forms: {files:?}");
    let folder_kept = system;
    let System { vault, gateway, .. } = folder_kept;
    let (_, vault_log) = vault.stop().await;
    let (_, gateway_log) = gateway.stop().await;
    (heard.answers, format!("{vault_log}\n{gateway_log}"), files)
}

fn read_files(folder: &std::path::Path, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        files.push((path.display().to_string(), fs::read(&path).expect("a file")));
    }
}

fn material(key: &str) -> Option<KeyMaterial> {
    Some(KeyMaterial { api_key: key.to_owned() })
}

#[expect(clippy::too_many_lines, reason = "one statement an RPC, in the order of a key's life")]
async fn administer(system: &mut System, heard: &mut Heard, provider: Provider, name: &str) {
    let organization_id = || ORGANIZATION.to_owned();
    let create = |key: &str, name: &str| CreateApiKeyRequest {
        organization_id: organization_id(),
        provider: provider.into(),
        display_name: name.to_owned(),
        material: material(key),
        set_as_organization_default: true,
        profile_ids: vec!["research".to_owned()],
        ..Default::default()
    };
    heard.note(&create(STORED, "a request"));
    let created = system.keys.create_api_key(create(STORED, name)).await;
    heard.note(&created);
    let key = created.expect("created").into_inner().api_key.expect("a key");
    let id = || key.api_key_id.clone();
    // Refused for the key, and for what stands beside it.
    let long = format!("{STORED}{}", "x".repeat(600));
    for (key, name) in
        [(REFUSED, "a"), (&long, "a"), (STORED, ""), (&format!("{STORED}\n"), "a"), (&format!("{STORED}ü"), "a")]
    {
        heard.note(&system.keys.create_api_key(create(key, name)).await);
        let rotate = RotateApiKeyRequest {
            organization_id: organization_id(),
            api_key_id: name.to_owned(),
            material: material(key),
            ..Default::default()
        };
        heard.note(&rotate);
        heard.note(&system.keys.rotate_api_key(rotate).await);
    }
    // A key where an id belongs: it is the caller's own mistake, and is answered without it.
    heard.note(
        &system
            .keys
            .get_api_key(GetApiKeyRequest { organization_id: organization_id(), api_key_id: STORED.to_owned() })
            .await,
    );
    heard.note(
        &system.keys.get_api_key(GetApiKeyRequest { organization_id: STORED.to_owned(), api_key_id: id() }).await,
    );

    let rotation = RotateApiKeyRequest {
        organization_id: organization_id(),
        api_key_id: id(),
        material: material(ROTATED),
        ..Default::default()
    };
    heard.note(&system.keys.rotate_api_key(rotation).await);
    let rollback = RollbackApiKeyRequest { organization_id: organization_id(), api_key_id: id(), ..Default::default() };
    for _ in 0..2 {
        heard.note(&system.keys.rollback_api_key(rollback.clone()).await);
    }
    // One id for two requests that both hold a key.
    for key in [STORED, ROTATED, ROTATED] {
        let request_id = format!("00000000-0000-4000-8000-00000000000{}", i32::from(provider));
        let request = CreateApiKeyRequest { request_id, profile_ids: Vec::new(), ..create(key, "twice") };
        heard.note(&system.keys.create_api_key(request).await);
    }
    operate(system, heard).await;
    heard.note(
        &system.keys.get_api_key(GetApiKeyRequest { organization_id: organization_id(), api_key_id: id() }).await,
    );
    let listing = ListApiKeysRequest { organization_id: organization_id(), ..Default::default() };
    heard.note(&system.keys.list_api_keys(listing).await);
    let profile_ids = || vec!["research".to_owned(), "ops".to_owned()];
    let assign = AssignProfilesRequest {
        organization_id: organization_id(),
        api_key_id: id(),
        profile_ids: profile_ids(),
        ..Default::default()
    };
    heard.note(&system.keys.assign_profiles(assign).await);
    let unassign = UnassignProfilesRequest {
        organization_id: organization_id(),
        api_key_id: id(),
        profile_ids: profile_ids(),
        ..Default::default()
    };
    heard.note(&system.keys.unassign_profiles(unassign).await);
    let replace = ReplaceProfilesRequest {
        organization_id: organization_id(),
        api_key_id: id(),
        profile_ids: profile_ids(),
        ..Default::default()
    };
    heard.note(&system.keys.replace_profiles(replace).await);
    let batch = BatchAssignProfilesRequest {
        organization_id: organization_id(),
        api_key_ids: vec![id()],
        profile_ids: profile_ids(),
        ..Default::default()
    };
    heard.note(&system.keys.batch_assign_profiles(batch).await);
    let profile_keys = ListProfileKeysRequest { organization_id: organization_id(), profile_id: "ops".to_owned() };
    heard.note(&system.keys.list_profile_keys(profile_keys).await);
    let clear = ClearOrganizationDefaultRequest {
        organization_id: organization_id(),
        provider: provider.into(),
        ..Default::default()
    };
    heard.note(&system.keys.clear_organization_default(clear).await);
    let default =
        SetOrganizationDefaultRequest { organization_id: organization_id(), api_key_id: id(), ..Default::default() };
    heard.note(&system.keys.set_organization_default(default).await);
    resolve(system, heard, provider).await;
    // The last leaves all as it was.
    for allow in [Some(false), None] {
        for profile_id in [Some("research".to_owned()), Some(STORED.to_owned()), None] {
            let policy = SetFallbackPolicyRequest {
                organization_id: organization_id(),
                profile_id: profile_id.clone(),
                allow_organization_default: allow,
                allow_environment: allow,
                ..Default::default()
            };
            heard.note(&system.keys.set_fallback_policy(policy).await);
            let policy = GetFallbackPolicyRequest { organization_id: organization_id(), profile_id };
            heard.note(&system.keys.get_fallback_policy(policy).await);
        }
        resolve(system, heard, provider).await;
    }

    // Disabled, then spoiled, then gone.
    for state in [State::Disabled, State::Enabled] {
        let api_key = ApiKey { state: state.into(), ..key.clone() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["state".to_owned()] });
        heard.note(
            &system
                .keys
                .update_api_key(UpdateApiKeyRequest { api_key: Some(api_key), update_mask, ..Default::default() })
                .await,
        );
        resolve(system, heard, provider).await;
    }
    let database = Database::connect(system.database_url()).await.expect("the database opens");
    let nothing = system.storage().bytes(&[0]);
    database.execute_unprepared(&format!("UPDATE secret SET payload = {nothing}")).await.expect("spoiled");
    resolve(system, heard, provider).await;
    heard.dumps.extend(system.dump().await.unwrap_or_default());
    heard.note(
        &system
            .keys
            .delete_api_key(DeleteApiKeyRequest {
                organization_id: organization_id(),
                api_key_id: id(),
                ..Default::default()
            })
            .await,
    );
    resolve(system, heard, provider).await;
}

/// What the operator can ask, and what a watcher is told.
async fn operate(system: &System, heard: &mut Heard) {
    let mut admin = VaultAdminServiceClient::connect(system.vault.url()).await.expect("a connection");
    heard.note(&admin.get_seal_status(GetSealStatusRequest {}).await);
    heard.note(&admin.rotate_key_encryption_key(RotateKeyEncryptionKeyRequest::default()).await);
    heard.note(&admin.get_rewrap_status(GetRewrapStatusRequest {}).await);
    heard.note(&admin.rewrap_key_encryption_keys(RewrapKeyEncryptionKeysRequest {}).await);
    let request = WatchKeyChangesRequest { from_revision: Some(0), ..Default::default() };
    let mut changes = system.resolution.clone().watch_key_changes(request).await.expect("a watch").into_inner();
    for _ in 0..4 {
        heard.note(&changes.message().await);
    }
    let request = WatchKeyChangesRequest { from_revision: Some(1 << 40), epoch: STORED.to_owned() };
    heard.note(&system.resolution.clone().watch_key_changes(request).await.map(drop));
    // What is on record of all that, also where a key stood for an id.
    let events = ListAuditEventsRequest { page_size: 1_000, ..Default::default() };
    heard.note(&admin.list_audit_events(events.clone()).await);
    heard.note(&admin.list_audit_events(ListAuditEventsRequest { principal: STORED.to_owned(), ..events }).await);
    heard.note(&admin.verify_audit_log(VerifyAuditLogRequest::default()).await);
    heard.note(&admin.verify_audit_log(VerifyAuditLogRequest { page_token: STORED.to_owned() }).await);
    for text in [STORED, "00000000-0000-4000-8000-000000000000"] {
        let call = KeyUse { report_id: text.to_owned(), model: "gpt-4o".to_owned(), ..Default::default() };
        let report =
            ReportKeyUseRequest { reporter_id: text.to_owned(), uses: vec![call], dropped_count: 0, r#final: false };
        heard.note(&system.resolution.clone().report_key_use(report).await);
        let mut usage = UsageServiceClient::connect(system.vault.url()).await.expect("a connection");
        let query = QueryUsageRequest {
            organization_id: ORGANIZATION.to_owned(),
            page_token: text.to_owned(),
            ..Default::default()
        };
        heard.note(&usage.query_usage(query).await);
    }
}

/// Resolves for a profile and without one. Only `Debug` of the answer is heard: its
/// material is what the call is for.
async fn resolve(system: &mut System, heard: &mut Heard, provider: Provider) {
    for profile_id in [Some("research".to_owned()), Some(STORED.to_owned()), None] {
        let organization_id = ORGANIZATION.to_owned();
        let provider = provider.into();
        let request =
            ResolveKeyRequest { organization_id: organization_id.clone(), profile_id: profile_id.clone(), provider };
        heard.note(&system.resolution.resolve_key(request).await);
        let request = ExplainResolutionRequest { organization_id, profile_id, provider };
        heard.note(&system.resolution.explain_resolution(request).await);
    }
}

/// Chats with a stored key and with the environment's, while the provider misbehaves and
/// quotes the key that it was sent.
async fn chat(system: &mut System, heard: &mut Heard, provider: Provider, model: &str) {
    let mut checks = KeyCheckServiceClient::connect(system.gateway.url()).await.expect("a connection");
    for key in [REFUSED, &format!("{STORED}ü")] {
        heard.note(&checks.check_key(CheckKeyRequest { provider: provider.into(), material: material(key) }).await);
    }
    for key in [ENVIRONMENT, STORED] {
        if key == STORED {
            system.add_key(provider, STORED, Links { default: true, profiles: &["research"] }).await;
        }
        for said in misbehaviour(key) {
            system.provider.always_answers(said);
            let check = CheckKeyRequest { provider: provider.into(), material: material(key) };
            heard.note(&checks.check_key(check).await);
            let outcome = system.chat.stream_chat(ask(model, Some("research"), "Hi")).await;
            match outcome {
                Ok(response) => {
                    let mut events = response.into_inner();
                    loop {
                        match events.message().await {
                            Ok(Some(event)) => heard.note(&event),
                            Ok(None) => break,
                            Err(status) => {
                                heard.note(&status);
                                break;
                            }
                        }
                    }
                }
                Err(status) => heard.note(&status),
            }
            let sent = system.provider.last();
            let with_key = sent.headers.values().any(|value| value.as_bytes().ends_with(key.as_bytes()));
            assert!(with_key, "the marked key was really used");
        }
    }
}

/// Errors in every form that quote a key whole, masked or cut.
fn misbehaviour(key: &str) -> Vec<Said> {
    let quote = format!("Incorrect API key provided: {key}. You can find yours elsewhere.");
    let error = |code: u16| {
        json!({"error": {"type": "authentication_error", "code": code, "status": "UNAUTHENTICATED", "message": quote, "param": key}})
            .to_string()
    };
    let mut all: Vec<_> = [400, 401, 403, 404, 413, 422, 429, 500, 503, 529]
        .into_iter()
        .map(|status| Said::json(status, error(status)).header("x-request-id", "req_1").header("request-id", "req_1"))
        .collect();
    all.push(Said::json(401, quote.clone()));
    all.push(Said::json(200, error(401)));
    all.push(Said::json(307, "").header("location", "http://127.0.0.1:1/elsewhere"));
    all.push(Said::stream(format!(
        "data: {}\n\n",
        json!({"type": "error", "error": {"type": "authentication_error", "message": quote}})
    )));
    all.push(Said::stream(format!("data: {}\n\n", error(401))));
    all.push(Said::stream(format!("data: {quote}\n\n")));
    all.push(Said::stream("").ending(End::Cut));
    all.push(Said::stream("").ending(End::SilenceBeforeHeaders));
    all.push(Said::stream(": ping\n\n").ending(End::Silence));
    all
}
