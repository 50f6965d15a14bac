//! A vault that is dead, stopped, slow or started anew: whoever's key is kept notices nothing,
//! and nobody else is told that it is their fault. With several replicas nobody notices.

use std::{
    cell::Cell,
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use futures_util::{StreamExt as _, stream};
use proto::{
    chat::chat_service_client::ChatServiceClient,
    keyvault::{AuditEvent, ListAuditEventsRequest, audit_event::Decision},
};
use system_tests::{
    FakeProvider, ORGANIZATION, Replicas, Setup, Storage,
    chats::{Caller, Chatted, Chatting, DEADLINE, chat, longest_gap, says_its_key},
    fault_proxy::{FaultProxy, Way},
    replicas::{Door, eventually},
    start_gateway,
    vault_stage::{Stage, chat_client, creation, does},
};
use tonic::transport::Channel;

const KEY: &str = "sk-of-everybody";

/// The longest time without an answer for those whose key is kept.
const GAP_MAX: Duration = Duration::from_secs(1);

/// How many chat all the time.
const PLACES: usize = 4;

/// How long a replica may be back before it has its share.
const RETURN_MAX: Duration = Duration::from_secs(10);

/// Resolutions of which each of three replicas has its share.
const RESOLVES: usize = 450;
const AT_ONCE: usize = 8;

fn caller(profile: &str) -> Caller {
    Caller { organization: ORGANIZATION.to_owned(), profile: profile.to_owned() }
}

/// A profile that nobody chatted as: its key is not kept.
fn newcomer(number: usize) -> Caller {
    caller(&format!("newcomer-{number}"))
}

/// A stage with a key of everybody, and somebody who chats all the time.
async fn with_a_kept_key() -> (Stage, Chatting) {
    let stage = Stage::start().await;
    does(&stage.door(), ORGANIZATION, creation(KEY, true, &[])).await;
    let regular = caller("regular");
    stage.watches_and_keeps(&regular).await;
    let chatting = Chatting::start(&stage.chat, &regular, PLACES);
    chatting.sees("answer", |chatted| chatted.key.as_deref() == Ok(KEY)).await;
    (stage, chatting)
}

fn assert_says_that_the_vault_is_away(chatted: &Chatted) {
    assert_eq!(chatted.key.as_ref().expect_err("nobody has this key"), "Unavailable VAULT_UNAVAILABLE");
    assert!(chatted.ended - chatted.began < DEADLINE, "{:?}", chatted.ended - chatted.began);
}

/// Newcomers who chat at once, and nobody else's key for them.
async fn newcomers(stage: &Stage, numbers: std::ops::Range<usize>) -> Vec<Chatted> {
    let callers: Vec<_> = numbers.map(newcomer).collect();
    futures_util::future::join_all(callers.iter().map(|caller| chat(&stage.chat, caller))).await
}

async fn assert_nobody_noticed(chatting: Chatting, what: &str) {
    let places = chatting.end().await;
    let gap = longest_gap(&places);
    println!("{what}: {} chats with a kept key, {gap:?} without an answer at most", places.concat().len());
    for chatted in places.concat() {
        assert_eq!(chatted.key.as_deref(), Ok(KEY), "{what}");
    }
    assert!(gap < GAP_MAX, "{what}: {gap:?}");
}

/// Waits until a newcomer is answered.
async fn is_back(stage: &Stage, first: usize) {
    let next = Cell::new(first);
    eventually("an answer for a newcomer", async || {
        next.set(next.get() + 1);
        chat(&stage.chat, &newcomer(next.get())).await.key.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_vault_is_noticed_by_those_without_a_kept_key_only() {
    let (mut stage, chatting) = with_a_kept_key().await;
    stage.kill_vault().await;
    for round in 0..3 {
        let away = newcomers(&stage, round * 10..round * 10 + 10).await;
        away.iter().for_each(assert_says_that_the_vault_is_away);
    }
    stage.start_vault_again().await;
    is_back(&stage, 100).await;
    assert_nobody_noticed(chatting, "killed and started again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_vault_is_noticed_by_those_without_a_kept_key_only() {
    let (stage, chatting) = with_a_kept_key().await;
    stage.vault.as_ref().expect("it runs").pause().await;
    let away = newcomers(&stage, 0..20).await;
    away.iter().for_each(assert_says_that_the_vault_is_away);
    stage.vault.as_ref().expect("it runs").resume().await;
    is_back(&stage, 100).await;
    assert_nobody_noticed(chatting, "stopped and resumed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_vault_is_waited_for() {
    const SLOWNESS: Duration = Duration::from_millis(300);
    let (stage, chatting) = with_a_kept_key().await;
    stage.proxy.set(Way::Slow(SLOWNESS));
    for chatted in newcomers(&stage, 0..20).await {
        assert_eq!(chatted.key.as_deref(), Ok(KEY));
        let time = chatted.ended - chatted.began;
        assert!(time >= SLOWNESS && time < SLOWNESS + Duration::from_secs(3), "{time:?}");
    }
    stage.proxy.set(Way::Open);
    assert_nobody_noticed(chatting, "slow").await;
}

/// Three vaults over one database, each behind a door of its own, and a gateway that knows all.
struct Three {
    replicas: Replicas,
    doors: Vec<FaultProxy>,
    chat: ChatServiceClient<Channel>,
    _gateway: system_tests::Process,
    _provider: FakeProvider,
}

impl Three {
    async fn start() -> Option<Self> {
        let replicas = Replicas::start(Storage::Postgres, 3).await?;
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
        Some(Self { replicas, doors, chat: chat_client(&gateway), _gateway: gateway, _provider: provider })
    }

    async fn kill(&mut self, replica: usize) {
        self.replicas.kill(replica).await;
    }

    async fn start_again(&mut self, replica: usize) {
        self.replicas.start_again(replica).await;
        self.doors[replica].lead_to(&self.replicas.process(replica).url());
    }

    /// Chats once as each newcomer, all of whom must be answered. Returns the longest time.
    async fn all_are_answered(&self, numbers: std::ops::Range<usize>) -> Duration {
        let callers: Vec<_> = numbers.map(newcomer).collect();
        let chats = stream::iter(&callers).map(|caller| chat(&self.chat, caller)).buffer_unordered(AT_ONCE);
        let chats: Vec<_> = chats.collect().await;
        for chatted in &chats {
            assert_eq!(chatted.key.as_deref(), Ok(KEY));
        }
        chats.iter().map(|chatted| chatted.ended - chatted.began).max().unwrap_or_default()
    }

    /// How many keys each replica released since then. Each start of a replica has its own chain
    /// in the audit log.
    async fn shares(&self, since: SystemTime) -> HashMap<String, usize> {
        let mut shares = HashMap::new();
        for event in resolutions(&self.replicas.door(0), since).await {
            *shares.entry(event.chain_id).or_default() += 1;
        }
        shares
    }
}

async fn resolutions(door: &Door, since: SystemTime) -> Vec<AuditEvent> {
    let mut request = ListAuditEventsRequest {
        action: "ResolveKey".to_owned(),
        decision: Decision::Allowed.into(),
        start_time: Some(since.into()),
        oldest_first: true,
        page_size: 1_000,
        ..Default::default()
    };
    let mut all = Vec::new();
    loop {
        let page = door.admin().list_audit_events(request.clone()).await.expect("a page").into_inner();
        all.extend(page.events);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_one_of_three_vaults_is_dead_and_it_has_its_share_again() {
    let Some(mut three) = Three::start().await else { return };
    three.all_are_answered(0..60).await;

    // It dies while it is asked, and stays dead.
    let calls = tokio::spawn(futures_util::future::join_all((1_000..1_200).map(|number| {
        let chat_client = three.chat.clone();
        async move {
            let pause = Duration::from_millis(number as u64 % 200 * 10);
            tokio::time::sleep(pause).await;
            chat(&chat_client, &newcomer(number)).await
        }
    })));
    three.kill(1).await;
    for chatted in calls.await.expect("no chat panics") {
        assert_eq!(chatted.key.as_deref(), Ok(KEY), "a dead replica is noticed by nobody");
    }
    let slowest = three.all_are_answered(2_000..2_150).await;
    println!("one of three is dead: every chat is answered, the slowest in {slowest:?}");

    three.start_again(1).await;
    let back = Instant::now();
    let mut number = 3_000;
    loop {
        let since = SystemTime::now();
        three.all_are_answered(number..number + 30).await;
        number += 30;
        if three.shares(since).await.len() == 3 {
            break;
        }
        assert!(back.elapsed() < RETURN_MAX, "it is not asked {RETURN_MAX:?} after it came back");
    }
    println!("it is asked again after {:?}", back.elapsed());

    let since = SystemTime::now();
    three.all_are_answered(10_000..10_000 + RESOLVES).await;
    let shares: Vec<_> = three.shares(since).await.into_values().collect();
    println!("of {RESOLVES} resolutions each has {shares:?}");
    assert_eq!(shares.iter().sum::<usize>(), RESOLVES, "each was resolved once");
    let third = RESOLVES / 3;
    assert_eq!(shares.len(), 3);
    assert!(shares.iter().all(|share| share.abs_diff(third) * 5 <= third), "a third, give or take a fifth: {shares:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_one_of_three_vaults_hangs() {
    let Some(three) = Three::start().await else { return };
    three.all_are_answered(0..60).await;
    three.replicas.process(1).pause().await;
    let slowest = three.all_are_answered(1_000..1_150).await;
    three.replicas.process(1).resume().await;
    println!("one of three hangs: every chat is answered, the slowest in {slowest:?}");
}
