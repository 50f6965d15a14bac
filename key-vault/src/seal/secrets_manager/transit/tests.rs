mod fake_server;
mod faults;
mod openbao;
mod options;
mod tokens;

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use ring::rand::SystemRandom;
use uuid::Uuid;

use super::options::TransitAuth;
use super::*;
use crate::seal::random_bits;
use fake_server::{FakeServer, Fault};

/// A folder with what proves who we are.
struct Credentials(tempfile::TempDir);

impl Credentials {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.0.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

/// Options that name a key and nothing else.
fn options(url: &str) -> TransitOptions {
    TransitOptions {
        transit_address: Some(url.to_owned()),
        transit_mount: "transit".to_owned(),
        transit_key: Some("root".to_owned()),
        transit_auth: None,
        transit_auth_mount: None,
        transit_token_file: None,
        transit_role_id: None,
        transit_secret_id_file: None,
        transit_role: None,
        transit_jwt_file: None,
        transit_ca_file: None,
        transit_namespace: None,
    }
}

fn with_approle(url: &str, role_id: &str, secret_id_file: PathBuf) -> TransitOptions {
    TransitOptions {
        transit_auth: Some(TransitAuth::Approle),
        transit_role_id: Some(role_id.to_owned()),
        transit_secret_id_file: Some(secret_id_file),
        ..options(url)
    }
}

fn with_token(url: &str, file: PathBuf) -> TransitOptions {
    TransitOptions { transit_auth: Some(TransitAuth::Token), transit_token_file: Some(file), ..options(url) }
}

fn transit(options: &TransitOptions) -> Transit {
    Transit::new(options.settings().unwrap()).unwrap()
}

fn kek() -> Bits256 {
    random_bits(&SystemRandom::new()).unwrap()
}

const CONTEXT: Context<'static> = Context { vault: Uuid::from_u128(7), kek_id: "kek-1" };

/// Tries until it succeeds, as often as a vault that waits would, and not for longer.
async fn recovered<T>(within: Duration, mut attempt: impl AsyncFnMut() -> Result<T, Error>) -> T {
    let until = tokio::time::Instant::now() + within;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(tokio::time::Instant::now() < until, "not within {within:?}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn what_is_wrapped_unwraps_in_its_context_and_nowhere_else() {
    let (server, credentials) = (FakeServer::start().await, Credentials::new());
    let transit = transit(&with_approle(&server.url(), "role", credentials.file("secret")));
    let kek = kek();
    let wrapped = transit.wrap(&kek, &CONTEXT).await.unwrap();
    assert_eq!((wrapped.manager.as_str(), wrapped.key_ref.as_str()), ("transit", "transit/root:v1"));
    assert!(wrapped.blob.starts_with(b"vault:v1:"));
    assert_eq!(transit.unwrap(&wrapped, &CONTEXT).await.unwrap(), kek);

    let elsewhere = Context { kek_id: "kek-2", ..CONTEXT };
    assert!(matches!(transit.unwrap(&wrapped, &elsewhere).await, Err(Error::NotDecrypted { .. })));
}

#[tokio::test]
async fn what_another_key_wrapped_is_not_even_sent() {
    let (server, credentials) = (FakeServer::start().await, Credentials::new());
    let transit = transit(&with_approle(&server.url(), "role", credentials.file("secret")));
    let good = transit.wrap(&kek(), &CONTEXT).await.unwrap();
    let sent = server.state().count("/decrypt/root");
    for (key_ref, blob, expected) in [
        ("transit/other:v1", "vault:v1:AAAA", "was sealed with the transit key \"transit/other:v1\""),
        ("other/root:v1", "vault:v1:AAAA", "was sealed with the transit key"),
        ("transit/root", "vault:v1:AAAA", "was sealed with the transit key"),
        ("transit/root:v1", "vault:v2:AAAA", "does not decrypt"),
        ("transit/root:v1", "vault:v1:", "does not decrypt"),
        ("transit/root:v1", "vault:v01:AAAA", "does not decrypt"),
        ("transit/root:v0", "vault:v0:AAAA", "does not decrypt"),
        ("transit/root:v1", "vault:v1:AA\"AA", "does not decrypt"),
        ("transit/root:v1", "rubbish", "does not decrypt"),
    ] {
        let wrapped = WrappedKek { key_ref: key_ref.to_owned(), blob: blob.as_bytes().to_vec(), ..good.clone() };
        let error = transit.unwrap(&wrapped, &CONTEXT).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{key_ref} {blob}: {error}");
        assert!(!error.is_transient());
    }
    assert_eq!(server.state().count("/decrypt/root"), sent);
    let needed = ["transit/root:v1".to_owned(), "transit/other:v3".to_owned()];
    assert!(matches!(transit.check(&needed).await, Err(Error::OtherTransitKey { .. })));
    assert!(transit.check(&needed[..1]).await.is_ok());
}

#[tokio::test]
async fn requests_carry_what_was_configured_and_the_token_only_where_it_is_needed() {
    let (server, credentials) = (FakeServer::start().await, Credentials::new());
    let options = TransitOptions {
        transit_namespace: Some("team/a".to_owned()),
        ..with_approle(&server.url(), "role", credentials.file(" secret\n"))
    };
    let transit = transit(&options);
    transit.check(&[]).await.unwrap();
    transit.wrap(&kek(), &CONTEXT).await.unwrap();
    let state = server.state();
    for seen in &state.requests {
        let header = |name| seen.headers.get(name).map(String::as_str);
        let is_health = seen.path == "/v1/sys/health";
        let is_login = seen.path == "/v1/auth/approle/login";
        assert_eq!(header("x-vault-namespace"), (!is_health).then_some("team/a"), "{}", seen.path);
        assert_eq!(header("x-vault-token"), (!is_health && !is_login).then_some("hvs.token-1"), "{}", seen.path);
        assert_eq!(header("referer"), None);
        if is_login {
            assert_eq!(seen.body, serde_json::json!({"role_id": "role", "secret_id": "secret"}));
        }
    }
}

#[tokio::test]
async fn a_pod_logs_in_with_its_account() {
    let (server, credentials) = (FakeServer::start().await, Credentials::new());
    let options = TransitOptions {
        transit_auth: Some(TransitAuth::Kubernetes),
        transit_role: Some("key-vault".to_owned()),
        transit_jwt_file: Some(credentials.file("ey.first")),
        ..options(&server.url())
    };
    let transit = transit(&options);
    transit.check(&[]).await.unwrap();
    let body = |server: &FakeServer| {
        let state = server.state();
        state.requests.iter().rfind(|seen| seen.path == "/v1/auth/kubernetes/login").unwrap().body.clone()
    };
    assert_eq!(body(&server), serde_json::json!({"role": "key-vault", "jwt": "ey.first"}));
}

#[test]
fn versions_are_read_from_what_the_engine_gives() {
    for (text, expected) in [
        ("vault:v1:AAAA", Some(1)),
        ("vault:v123:a+/=", Some(123)),
        ("vault:v0:AAAA", None),
        ("vault:v-1:AAAA", None),
        ("vault:v+1:AAAA", None),
        ("vault:v4294967296:AAAA", None),
        ("vault:v:AAAA", None),
        ("vault:v1", None),
        ("vault:v1:", None),
        ("vault:v1:A\nA", None),
        ("", None),
    ] {
        assert_eq!(version(text), expected, "{text:?}");
    }
    assert_eq!(version(&format!("vault:v1:{}", "A".repeat(CIPHERTEXT_BYTES_MAX))), None);
}
