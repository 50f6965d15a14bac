//! The same search for what callers show who they are with: tokens, good and bad, and the
//! private keys of certificates.

use std::{fs, time::Duration};

use proto::{
    chat::chat_service_client::ChatServiceClient,
    keyvault::{
        ListApiKeysRequest, ListAuditEventsRequest, ResolveKeyRequest, VerifyAuditLogRequest,
        api_key_service_client::ApiKeyServiceClient, key_resolution_service_client::KeyResolutionServiceClient,
        vault_admin_service_client::VaultAdminServiceClient,
    },
    types::Provider,
};
use system_tests::{
    Setup,
    answer::ask,
    certs::Leaf,
    secured::{Secured, Service, Who, token, uri},
};

use super::{Heard, read_files, scan, search};

#[tokio::test]
async fn what_callers_present_is_found_nowhere() {
    let setup = Setup { log_filter: Some("trace".to_owned()), ..Setup::default() };
    let system = Secured::with(setup).await;
    let mut heard = Heard::default();
    let mut secrets: Vec<String> = Vec::new();

    let unknown = token(Duration::from_hours(1)).token;
    let good = |service, principal| match system.token(service, principal) {
        Who::Authorization(value) => value,
        Who::Nobody | Who::Certificate(_) => panic!("a token"),
    };
    for (service, principals) in [
        (Service::Vault, &["admin", "gateway", "auditor", "operator"][..]),
        (Service::Gateway, &["team-a", "other"][..]),
    ] {
        for principal in principals {
            let bearer = good(service, principal);
            let bare = bearer.trim_start_matches("Bearer ").to_owned();
            secrets.push(bare.clone());
            let cut = format!("Bearer {}", &bare[..bare.len() - 1]);
            let values = [bearer.clone(), cut, bare.clone(), format!("Basic {bare}"), format!("{bearer}, {bearer}")];
            for value in values.into_iter().chain([format!("Bearer {unknown}")]) {
                call(&system, service, &Who::Authorization(value), &mut heard).await;
            }
            let named = uri(principal);
            for uris in [&[named.as_str()][..], &[], &[named.as_str(), "spiffe://test.example/b"]] {
                let issued = system.authority.issue(&Leaf { uris, ..Leaf::default() });
                secrets.extend(pieces(&issued.key));
                call(&system, service, &Who::Certificate(issued), &mut heard).await;
            }
        }
    }
    // What the vault may not log is the secret, so the checksum and the id do not count.
    let secret = |token: &String| if token.starts_with("akv1_") { token[18..61].to_owned() } else { token.clone() };
    secrets.push(unknown);
    let mut secrets: Vec<String> = secrets.iter().map(secret).collect();
    for key in [system.files().key(Service::Vault), system.files().key(Service::Gateway), system.files().gateways_key()]
    {
        secrets.extend(pieces(&fs::read_to_string(key).expect("a key")));
    }

    // The private keys are in their own files, and the policies know no token.
    let mut files = Vec::new();
    read_files(system.files().folder(), &mut files);
    files.retain(|(name, _)| !name.ends_with(".key"));
    assert!(files.iter().any(|(name, _)| name.ends_with(".policy.json")), "{files:?}");
    let Secured { vault, gateway, .. } = system;
    let logs = format!("{}\n{}", vault.stop().await.1, gateway.stop().await.1);
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    search(&secrets, &heard.answers, &logs, &files);
    assert!(heard.answers.contains("authentication: \"token:"), "the audit log was heard");
    assert!(!scan::found(secrets[0], format!("x{}x", secrets[0]).as_bytes()).is_empty(), "the search finds a token");
}

/// The lines of a private key that only it has.
fn pieces(pem: &str) -> Vec<String> {
    let lines = pem.lines().filter(|line| !line.starts_with('-') && line.len() >= 40);
    // The first one begins as all keys of its kind do.
    lines.skip(1).map(str::to_owned).collect()
}

async fn call(system: &Secured, service: Service, who: &Who, heard: &mut Heard) {
    let wire = system.connect(service, who);
    if service == Service::Gateway {
        let asked = ask("claude-sonnet-4-5", Some("team-a"), "Hi");
        heard.note(&ChatServiceClient::new(wire).stream_chat(asked).await.map(drop));
        return;
    }
    let organization_id = || "acme".to_owned();
    let listing = ListApiKeysRequest { organization_id: organization_id(), ..Default::default() };
    heard.note(&ApiKeyServiceClient::new(wire.clone()).list_api_keys(listing).await);
    let request =
        ResolveKeyRequest { organization_id: organization_id(), profile_id: None, provider: Provider::Gemini.into() };
    heard.note(&KeyResolutionServiceClient::new(wire.clone()).resolve_key(request).await);
    let mut admin = VaultAdminServiceClient::new(wire);
    heard.note(&admin.list_audit_events(ListAuditEventsRequest { page_size: 1_000, ..Default::default() }).await);
    heard.note(&admin.verify_audit_log(VerifyAuditLogRequest::default()).await);
}
