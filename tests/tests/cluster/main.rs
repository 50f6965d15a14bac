//! The production manifests, run: each container as they say, in a network namespace of its own.

mod callers;
mod containers;
mod shares;

use std::time::Duration;

use proto::{
    keyvault::{CreateApiKeyRequest, KeyMaterial, api_key_service_client::ApiKeyServiceClient},
    types::Provider,
};
use system_tests::{
    ORGANIZATION, binary,
    certs::Use,
    chats::Numbered,
    cluster::{Cluster, Manifests, Overlay},
};

use callers::{Callers, channel};

const KEY: &str = "sk-ant-of-everybody";

/// Who stores keys, and the Secret of the certificate.
const ADMINISTRATOR: &str = "key-vault-administrator";

/// Who chats: a principal of the gateways' policy.
const CALLER: &str = "spiffe://cluster.local/ns/archestra/sa/platform";

/// The step of the next version, as `system-key-vault-next` has it.
const NEXT_STEP: &str = "m9999_next";

/// How many chats at a time.
const PLACES: usize = 6;

/// How many chats are answered by each set of pods before the next of them goes.
const CHATS_BETWEEN: usize = 40;

/// How long a vault may take to see that the schema is not its own.
const REFUSAL_MAX: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_production_manifests_serve_are_replaced_and_upgraded_and_no_chat_fails() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let (provider, provider_url) = cluster.provider().await.expect("a provider");
    provider.answers_by(callers::said);
    let manifests = installed(&mut cluster, &provider_url).await;
    let ca = cluster.authority().pem();
    let identity = cluster.authority().certify(&[], &[CALLER.to_owned()], &[Use::Client]);
    let callers = Callers::new(cluster.endpoints(), &ca, &identity, PLACES);
    let chats = Numbered::begin(PLACES, move |number| callers.clone().chat(number));

    shares::are_equal(&cluster, &chats).await;
    for deployment in ["key-vault", "chat-gateway"] {
        replaced(&mut cluster, &manifests, deployment, &chats).await;
    }
    shares::are_equal(&cluster, &chats).await;
    upgraded(&mut cluster, &manifests, &provider_url, &chats).await;
    shares::are_equal(&cluster, &chats).await;

    let count = chats.end().await;
    println!("{count} chats, none of which failed");
    assert_eq!(cluster.complaints(), [""; 0], "a kubelet does nothing");
    let received = provider.received();
    assert!(received.iter().all(|received| received.key() == KEY), "each with the key");
    assert_eq!(received.len(), count, "none is asked twice");
}

/// Does what `deploy/kubernetes/README.md` says about the first start, and stores a key.
async fn installed(cluster: &mut Cluster, provider: &str) -> Manifests {
    for (image, binary_name) in [
        ("key-vault:0.1.0", "system-key-vault"),
        ("key-vault:0.2.0", "system-key-vault-next"),
        ("chat-gateway:0.1.0", "system-chat-gateway"),
    ] {
        cluster.image(image, &binary(binary_name)).await.expect("an image");
    }
    let manifests = version(cluster, "0.1.0", provider).await;
    cluster.issue(&manifests).expect("certificates");
    cluster.complete(&manifests, "key-vault-migrate").await.expect("the schema is made");
    cluster.roll_out(&manifests, "key-vault").await.expect("three vaults");
    assert_eq!(cluster.pods("key-vault").len(), 3);

    let vault = cluster.endpoints().borrow()["key-vault"][0];
    let administrator = cluster.identity(ADMINISTRATOR).expect("a certificate");
    let vault = channel(vault, "key-vault.archestra.svc", &cluster.authority().pem(), &administrator);
    let key = CreateApiKeyRequest {
        organization_id: ORGANIZATION.to_owned(),
        provider: Provider::Anthropic.into(),
        display_name: "of everybody".to_owned(),
        material: Some(KeyMaterial { api_key: KEY.to_owned() }),
        set_as_organization_default: true,
        ..Default::default()
    };
    ApiKeyServiceClient::new(vault).create_api_key(key).await.expect("the key is stored");
    cluster.roll_out(&manifests, "chat-gateway").await.expect("two gateways");
    assert_eq!(cluster.pods("chat-gateway").len(), 2);
    manifests
}

/// The manifests of a version, for a provider in the cluster.
async fn version(cluster: &Cluster, version: &str, provider: &str) -> Manifests {
    let gateway_options = vec![format!("--anthropic-base-url={provider}/v1")];
    let providers_ca = "/etc/chat-gateway/identity/ca.crt".to_owned();
    let overlay = Overlay { version: version.to_owned(), gateway_options, providers_ca };
    overlay.render(cluster.folder()).await.expect("the overlay is rendered")
}

/// Replaces the pods of a deployment, as `kubectl rollout restart` and `kubectl apply` do.
async fn replaced(cluster: &mut Cluster, manifests: &Manifests, deployment: &str, chats: &Numbered) {
    cluster.roll_out(manifests, deployment).await.expect("it is replaced");
    chats.go_on(CHATS_BETWEEN).await;
    let ended = cluster.settles().await.expect("all stop");
    assert_eq!(ended.len(), cluster.pods(deployment).len());
    for ended in ended {
        assert_eq!((ended.code, ended.killed), (0, false), "{}", ended.log);
    }
    chats.go_on(CHATS_BETWEEN).await;
}

/// Goes on to the next version: first the schema, while the old version serves, then the vaults.
async fn upgraded(cluster: &mut Cluster, old: &Manifests, provider: &str, chats: &Numbered) {
    let next = version(cluster, "0.2.0", provider).await;
    cluster.complete(&next, "key-vault-migrate").await.expect("the schema is changed");
    let step = format!("SELECT 1 FROM seaql_migrations WHERE version = '{NEXT_STEP}'");
    assert_eq!(cluster.postgres().sql("key_vault", &step).await.expect("an answer"), 1, "the step was done");
    chats.go_on(CHATS_BETWEEN).await;
    replaced(cluster, &next, "key-vault", chats).await;

    let refused = cluster.ends(old, "key-vault", REFUSAL_MAX).await.expect("the old version does not start");
    assert_eq!(refused.code, 1, "{}", refused.log);
    let reason = format!(
        "the database's schema has step {NEXT_STEP:?}, which this version does not know: run the newer version"
    );
    assert!(refused.log.contains(&reason), "{}", refused.log);
}
