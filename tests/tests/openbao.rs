//! The harness of the real OpenBao server does what its names say.

use serde_json::json;
use system_tests::openbao::{self, Health, OpenBao};

#[tokio::test]
async fn a_server_in_development_mode_has_a_transit_key_and_a_role_for_it() {
    if !openbao::is_installed().await {
        return;
    }
    let mut bao = OpenBao::development().await.expect("it starts");
    bao.enable_transit("root").await.expect("an engine");
    let role = bao.approle("root", "1h").await.expect("a role");
    let secret_id = std::fs::read_to_string(&role.secret_id_file).expect("a secret id");
    let login = bao.post("auth/approle/login", json!({"role_id": role.role_id, "secret_id": secret_id})).await;
    let token = login.expect("a login")["auth"]["client_token"].clone();
    bao.post("auth/token/lookup", json!({"token": token})).await.expect("the token is alive");
    bao.revoke_tokens().await.expect("revocation");
    assert!(bao.post("auth/token/lookup", json!({"token": token})).await.is_err());

    bao.rotate_transit_key("root").await.expect("rotation");
    bao.set_min_decryption_version("root", 2).await.expect("a configuration");
    bao.seal().await.expect("sealing");
    bao.unseal().await.expect("unsealing");
    let key = bao.get("transit/keys/root").await.expect("the key outlives sealing");
    assert_eq!(key["data"]["min_decryption_version"], json!(2));
    bao.kill().await.expect("a kill");
    assert_eq!(bao.health().await, Health::Unreachable);
}

#[tokio::test]
async fn a_clustered_server_keeps_its_keys_and_is_sealed_after_a_restart() {
    if !openbao::is_installed().await {
        return;
    }
    let mut bao = OpenBao::uninitialized().await.expect("it starts");
    assert!(bao.url().starts_with("https://") && bao.ca_file().is_some_and(|path| path.exists()));
    bao.initialize().await.expect("initialization");
    assert_eq!(bao.health().await, Health::Sealed);
    bao.unseal().await.expect("unsealing");
    bao.enable_transit("root").await.expect("an engine");
    bao.restart().await.expect("a restart");
    assert_eq!(bao.health().await, Health::Sealed);
    bao.unseal().await.expect("unsealing");
    bao.get("transit/keys/root").await.expect("the key outlives the restart");
}
