//! Certificates, authorities and policies are replaced under load.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use proto::{
    chat::chat_service_client::ChatServiceClient,
    keyvault::{
        CreateApiKeyRequest, KeyMaterial, ListApiKeysRequest, ResolveKeyRequest,
        api_key_service_client::ApiKeyServiceClient, key_resolution_service_client::KeyResolutionServiceClient,
    },
    types::Provider,
};
use serde_json::json;
use system_tests::{
    Process,
    answer::{Answer, ask},
    certs::{Authority, Issued, Leaf, replace},
    fake_provider::Answer as Said,
    secured::{Secured, Service, Who, connect, gateway_roles, policy, uri, vault_roles},
    soak,
};

use super::{rpc::call, rpc::methods, rpc::request};

/// What the old authority vouched for must be refused after this.
const OLD_REFUSED_MAX: Duration = Duration::from_secs(30);

const ANSWER: &str = "\
event: message_start
data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}

event: content_block_start
data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"Hello\"}}

event: content_block_stop
data: {\"type\":\"content_block_stop\",\"index\":0}

event: message_delta
data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}

event: message_stop
data: {\"type\":\"message_stop\"}

";

/// What callers present and trust at the moment.
#[derive(Clone, Debug)]
struct Current {
    ca: String,
    admin: Issued,
    caller: Issued,
}

/// Calls without a pause until it is told to stop.
#[derive(Debug, Default)]
struct Load {
    stop: AtomicBool,
    calls: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Load {
    async fn run<F: Future<Output = Result<(), String>>>(&self, mut one: impl FnMut() -> F) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(failure) = one().await {
                self.failures.lock().expect("no panic").push(failure);
            }
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_policies_rotate_without_a_failed_call() {
    let rounds = soak::times(50, 500);
    let mut system = Secured::start().await;
    system.provider.always_answers(Said::stream(ANSWER));
    store_default(&system).await;
    let current = Arc::new(Mutex::new(Current {
        ca: system.authority.pem(),
        admin: leaf(&system.authority, "admin"),
        caller: leaf(&system.authority, "team-a"),
    }));
    let load = Arc::new(Load::default());
    let running = under_load(&system, &load, &current);

    let mut slowest = Duration::ZERO;
    for round in 1..=rounds {
        if round % 5 == 0 {
            slowest = slowest.max(replace_authority(&mut system, &current).await);
        } else {
            let bundle = system.authority.pem();
            replace_certificates(&system, &current, &bundle).await;
        }
        replace_policies(&system, round).await;
    }

    load.stop.store(true, Ordering::Relaxed);
    for task in running {
        task.await.expect("the load does not panic");
    }
    let failures = load.failures.lock().expect("no panic").clone();
    let calls = load.calls.load(Ordering::Relaxed);
    println!(
        "{rounds} rotations, {calls} calls, {} failed; an old authority was refused within {slowest:?}",
        failures.len()
    );
    assert!(failures.is_empty(), "{} of {calls} calls failed: {:?}", failures.len(), failures.first());
    assert!(calls > 10 * rounds, "{calls} calls are no load");
}

async fn store_default(system: &Secured) {
    let request = CreateApiKeyRequest {
        organization_id: "acme".to_owned(),
        provider: Provider::Anthropic.into(),
        display_name: "default".to_owned(),
        material: Some(KeyMaterial { api_key: "sk-ant-rotation-of-identities".to_owned() }),
        set_as_organization_default: true,
        ..Default::default()
    };
    let wire = system.connect(Service::Vault, &system.certificate("admin"));
    ApiKeyServiceClient::new(wire).create_api_key(request).await.expect("a key is stored");
}

fn leaf(authority: &Authority, principal: &str) -> Issued {
    authority.issue(&Leaf { uris: &[&uri(principal)], ..Leaf::default() })
}

/// One who keeps a connection and one who makes a new one for each call, on each service.
fn under_load(system: &Secured, load: &Arc<Load>, current: &Arc<Mutex<Current>>) -> Vec<tokio::task::JoinHandle<()>> {
    let (vault, gateway) = (system.vault.url(), system.gateway.url());
    let kept_vault = system.connect(Service::Vault, &system.token(Service::Vault, "gateway"));
    let kept_gateway = system.connect(Service::Gateway, &system.token(Service::Gateway, "platform"));
    let now = |current: &Arc<Mutex<Current>>| current.lock().expect("no panic").clone();
    let task = Arc::clone(load);
    let resolving = tokio::spawn(async move {
        task.run(|| {
            let mut client = KeyResolutionServiceClient::new(kept_vault.clone());
            let request = ResolveKeyRequest {
                organization_id: "acme".to_owned(),
                profile_id: None,
                provider: Provider::Anthropic.into(),
            };
            async move { client.resolve_key(request).await.map(|_| ()).map_err(|status| format!("resolve: {status}")) }
        })
        .await;
    });
    let (task, presented) = (Arc::clone(load), Arc::clone(current));
    let listing = tokio::spawn(async move {
        task.run(|| {
            let Current { ca, admin, .. } = now(&presented);
            let mut client = ApiKeyServiceClient::new(connect(&vault, &ca, &Who::Certificate(admin)));
            let request = ListApiKeysRequest { organization_id: "acme".to_owned(), ..Default::default() };
            async move { client.list_api_keys(request).await.map(|_| ()).map_err(|status| format!("list: {status}")) }
        })
        .await;
    });
    let task = Arc::clone(load);
    let chatting = tokio::spawn(async move {
        task.run(|| {
            let client = ChatServiceClient::new(kept_gateway.clone());
            chat(client, "chat on one connection")
        })
        .await;
    });
    let (task, presented) = (Arc::clone(load), Arc::clone(current));
    let reconnecting = tokio::spawn(async move {
        task.run(|| {
            let Current { ca, caller, .. } = now(&presented);
            chat(ChatServiceClient::new(connect(&gateway, &ca, &Who::Certificate(caller))), "chat on a new connection")
        })
        .await;
    });
    vec![resolving, listing, chatting, reconnecting]
}

async fn chat(mut client: ChatServiceClient<system_tests::secured::Wire>, what: &'static str) -> Result<(), String> {
    let answer = Answer::read(client.stream_chat(ask("claude-sonnet-4-5", Some("team-a"), "Hi")).await).await;
    answer.failure.map_or(Ok(()), |failure| Err(format!("{what}: {failure:?}")))
}

/// New certificates for everybody, of the same authority or of one that is trusted already.
async fn replace_certificates(system: &Secured, current: &Arc<Mutex<Current>>, bundle: &str) {
    let files = system.files();
    let seen = read_anew(system);
    for service in [Service::Vault, Service::Gateway] {
        system.authority.server().write(&files.certificate(service), &files.key(service));
    }
    leaf(&system.authority, "gateway").write(&files.gateways_certificate(), &files.gateways_key());
    {
        let mut current = current.lock().expect("no panic");
        current.ca = bundle.to_owned();
        current.admin = leaf(&system.authority, "admin");
        current.caller = leaf(&system.authority, "team-a");
    }
    have_read(system, seen).await;
}

/// Another authority for everybody: first it is trusted too, then it vouches for everybody,
/// then the old one is not trusted any more. Returns how long that took to be felt.
async fn replace_authority(system: &mut Secured, current: &Arc<Mutex<Current>>) -> Duration {
    let old = leaf(&system.authority, "admin");
    let kept = system.connect(Service::Vault, &Who::Certificate(old.clone()));
    let methods = methods("archestra.keyvault.v1");
    let list = &methods.iter().find(|method| method.name() == "ListApiKeys").expect("a method").descriptor;
    assert_eq!(call(&kept, list, request(list, "acme")).await.name(), "admitted");

    let next = Authority::new("next");
    let bundle = format!("{}{}", system.authority.pem(), next.pem());
    let seen = read_anew(system);
    replace(&system.files().ca(), &bundle);
    current.lock().expect("no panic").ca = bundle.clone();
    have_read(system, seen).await;
    system.authority = next;
    replace_certificates(system, current, &bundle).await;

    let since = Instant::now();
    replace(&system.files().ca(), &system.authority.pem());
    current.lock().expect("no panic").ca = system.authority.pem();
    let refused = |outcome: &str| outcome == "unauthenticated" || outcome == "no connection";
    loop {
        // The one that is open and one that is new.
        let fresh = system.connect(Service::Vault, &Who::Certificate(old.clone()));
        let open = call(&kept, list, request(list, "acme")).await;
        let new = call(&fresh, list, request(list, "acme")).await;
        if refused(open.name()) && refused(new.name()) {
            return since.elapsed();
        }
        assert!(since.elapsed() < OLD_REFUSED_MAX, "the old authority still counts: {open:?} {new:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Policies that name one more.
async fn replace_policies(system: &Secured, round: usize) {
    let seen = read_anew(system);
    let files = system.files();
    let newcomer = format!("newcomer-{round}");
    let (mut vault, mut gateway) = (vault_roles(), gateway_roles());
    vault.push((&newcomer, json!([{"role": "operator"}])));
    gateway.push((&newcomer, json!([{"role": "admin"}])));
    replace(&files.policy(Service::Vault), &policy(&vault, &system.vault_tokens));
    replace(&files.policy(Service::Gateway), &policy(&gateway, &system.gateway_tokens));
    have_read(system, seen).await;
}

/// How often each service has said that it read something anew.
fn read_anew(system: &Secured) -> [usize; 2] {
    let count = |process: &Process| process.log().matches("was read anew").count();
    [count(&system.vault), count(&system.gateway)]
}

/// Waits until both have read something since.
async fn have_read(system: &Secured, seen: [usize; 2]) {
    let deadline = Instant::now() + OLD_REFUSED_MAX;
    while read_anew(system).iter().zip(seen).any(|(now, before)| *now <= before) {
        assert!(Instant::now() < deadline, "the files are not read anew:\n{}", system.vault.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
