//! Replicas that are replaced one after another, while chats go on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use system_tests::{
    FakeProvider, ORGANIZATION, Process, Replicas, Setup, Storage,
    answer::Answer,
    chats::{Caller, Numbered, chat, says_its_key},
    fault_proxy::FaultProxy,
    stage::wire::text,
    start_gateway,
    vault_stage::{chat_client, creation, does},
};
use tokio::{sync::watch, time::sleep};
use tonic::Code;

use super::{begins_to_stop, question, system, value};

const PLACES: usize = 4;

/// How many chats are answered by each set of replicas before the next of them goes.
const CHATS_BETWEEN: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_vaults_are_replaced_and_every_chat_has_its_key() {
    const KEY: &str = "sk-of-everybody";
    let Some(mut replicas) = Replicas::start(Storage::Postgres, 3).await else { return };
    does(&replicas.door(0), ORGANIZATION, creation(KEY, true, &[])).await;
    let mut doors = Vec::new();
    for replica in 0..3 {
        doors.push(FaultProxy::to(&replicas.process(replica).url()).await);
    }
    let gateway_options = doors.iter().map(|door| format!("--vault-address={}", door.address())).collect();
    let setup = Setup { gateway_options, ..Setup::default() };
    let provider = FakeProvider::start().await.expect("a provider");
    says_its_key(&provider);
    let gateway = start_gateway(replicas.folder(), "http://localhost:50051", &provider.url(), &setup).await;
    let gateway = gateway.expect("a gateway");

    // Each is of a profile that nobody chatted as, so that the vault is asked for each key.
    let client = chat_client(&gateway);
    let chats = Numbered::begin(PLACES, move |number| {
        let (client, profile) = (client.clone(), format!("newcomer-{number}"));
        async move {
            let caller = Caller { organization: ORGANIZATION.to_owned(), profile };
            let chatted = chat(&client, &caller).await;
            assert_eq!(chatted.key.as_deref(), Ok(KEY), "nobody notices");
        }
    });
    for (replica, door) in doors.iter().enumerate() {
        chats.go_on(CHATS_BETWEEN).await;
        replicas.stop_one(replica).await;
        chats.go_on(CHATS_BETWEEN).await;
        replicas.start_again(replica).await;
        door.lead_to(&replicas.process(replica).url());
    }
    chats.go_on(CHATS_BETWEEN).await;
    println!("{} chats while three vaults were replaced", chats.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_are_replaced_and_every_chat_is_answered_once() {
    const TOKENS: usize = 5;
    let system = system(&[], &[]).await;
    let start = async || {
        let gateway =
            start_gateway(system.folder(), &system.vault.url(), &system.provider.url(), &Setup::default()).await;
        gateway.expect("a gateway")
    };
    let mut gateways: Vec<Process> = Vec::new();
    for _ in 0..2 {
        gateways.push(start().await);
    }
    let clients = Arc::new(watch::Sender::new(gateways.iter().map(chat_client).collect::<Vec<_>>()));
    // Until when each is left alone, as its refusals ask for.
    let alone = Arc::new(Mutex::new([Instant::now(); 2]));
    let known = Arc::clone(&clients);
    let chats = Numbered::begin(PLACES, move |number| {
        let (clients, alone) = (Arc::clone(&known), Arc::clone(&alone));
        async move {
            let start = Instant::now();
            loop {
                // Half of the chats go to each, unless it said that it stops.
                let now = Instant::now();
                let is_alone = alone.lock().expect("no panic before").map(|until| until > now);
                let at = if is_alone[number % 2] { (number + 1) % 2 } else { number % 2 };
                let mut client = clients.borrow()[at].clone();
                let answer = Answer::read(client.stream_chat(question(&number.to_string(), TOKENS)).await).await;
                let Some(failure) = answer.failure else {
                    assert_eq!(answer.text, text(0..TOKENS));
                    return;
                };
                assert_eq!(failure.code, Code::Unavailable, "only what may be repeated: {failure:?}");
                assert!(start.elapsed() < Duration::from_secs(20), "nobody answers");
                let wait = failure.retry_after.unwrap_or(Duration::from_secs(1));
                alone.lock().expect("no panic before")[at] = Instant::now() + wait;
                sleep(Duration::from_millis(10)).await;
            }
        }
    });
    for at in 0..2 {
        chats.go_on(CHATS_BETWEEN).await;
        let new = start().await;
        let client = chat_client(&new);
        let old = std::mem::replace(&mut gateways[at], new);
        old.is_told("TERM").await;
        begins_to_stop(&old).await;
        let (status, log) = old.ends().await;
        assert_eq!(status.code(), Some(0), "{log}");
        chats.go_on(CHATS_BETWEEN).await;
        clients.send_modify(|clients| clients[at] = client);
    }
    chats.go_on(CHATS_BETWEEN).await;
    let count = chats.end().await;
    let mut asked: HashMap<String, usize> = HashMap::new();
    for received in system.provider.received() {
        *asked.entry(value(&received, "name")).or_default() += 1;
    }
    println!("{count} chats while two gateways were replaced");
    assert_eq!(asked.len(), count);
    assert!(asked.values().all(|asked| *asked == 1), "none is asked twice: {asked:?}");
}
