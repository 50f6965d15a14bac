//! What keys were used for: every call of a provider is counted once, whatever became of it,
//! and what is missing is said.

mod ledger;
mod plan;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    process::Output,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt as _, stream};
use prost_types::Timestamp;
use proto::{
    chat::{ChatRequest, StreamChatRequest, chat_service_client::ChatServiceClient, stream_chat_response::Event},
    keyvault::{
        GetApiKeyRequest, ListAuditEventsRequest, QueryUsageRequest, QueryUsageResponse, UsageDimension, UsageRow,
        usage_gap::Kind, usage_service_client::UsageServiceClient, vault_admin_service_client::VaultAdminServiceClient,
    },
    types::{Provider, Source},
};
use system_tests::{
    Links, ORGANIZATION, Setup, System,
    answer::{Answer, ask},
    command,
    fake_provider::{Answer as Said, End},
    replicas::eventually,
    start_gateway,
};
use tonic::transport::{Channel, Endpoint};

use plan::{Cut, PROFILES, Plan, Tokens};

const CHATS: usize = 1_000;
const AT_ONCE: usize = 48;

/// Keys that a thousand chats ask the vault for, at most. One for each profile and provider is
/// enough while all leases last; a slow machine needs each again.
const RESOLVES_MAX: usize = CHATS / 10;

/// What a gateway may lose that is killed.
const LOSS_MAX: Duration = Duration::from_secs(5);

const OPENAI_ENVIRONMENT: &str = "sk-openai-of-the-environment";
const GEMINI_ENVIRONMENT: &str = "gemini-of-the-environment";

/// A client of the ledger.
pub(crate) fn ledger(system: &System) -> UsageServiceClient<Channel> {
    UsageServiceClient::new(Endpoint::from_shared(system.vault.url()).expect("a URL").connect_lazy())
}

pub(crate) fn by(dimensions: &[UsageDimension]) -> QueryUsageRequest {
    QueryUsageRequest {
        organization_id: ORGANIZATION.to_owned(),
        group_by: dimensions.iter().map(|dimension| (*dimension).into()).collect(),
        page_size: 1_000,
        ..Default::default()
    }
}

async fn usage(system: &System, request: QueryUsageRequest) -> QueryUsageResponse {
    ledger(system).query_usage(request).await.expect("an answer").into_inner()
}

/// Waits until the ledger has so many calls.
async fn has_calls(system: &System, count: usize) {
    let wanted = i64::try_from(count).expect("a small number");
    eventually(&format!("{count} calls in the ledger"), async || {
        let calls = usage(system, by(&[])).await.rows[0].call_count;
        assert!(calls <= wanted, "{calls} calls are too many");
        (calls == wanted).then_some(())
    })
    .await;
}

/// Who called what: profile, key, provider, model.
type Who = (String, String, i32, String);

/// Calls, of those cut, tokens, of those of calls that were cut.
type What = (i64, i64, Tokens, Tokens);

fn told(row: &UsageRow) -> (Who, What) {
    let who = (row.profile_id.clone(), row.api_key_id.clone(), row.provider, row.model.clone());
    let tokens = Tokens { input: row.input_tokens, output: row.output_tokens };
    let partial = Tokens { input: row.partial_input_tokens, output: row.partial_output_tokens };
    (who, (row.call_count, row.partial_count, tokens, partial))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_chats_are_counted_as_the_provider_counted_them() {
    use UsageDimension::{Key, Model, Profile, Provider as OfProvider};
    let environment =
        [("ARCHESTRA_CHAT_OPENAI_API_KEY", OPENAI_ENVIRONMENT), ("ARCHESTRA_CHAT_GEMINI_API_KEY", GEMINI_ENVIRONMENT)];
    let vault_environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut system = System::with(Setup { vault_environment, folder_in_memory: true, ..Setup::default() }).await;
    let keys = keys(&mut system).await;
    system.provider.answers_by(|received| Plan::of(received).answer());

    stream::iter((0..CHATS).map(Plan)).for_each_concurrent(AT_ONCE, |plan| chat(&system, plan)).await;
    has_calls(&system, CHATS).await;
    most_keys_were_kept(&system).await;

    // What the provider counted, by the key that came with each request.
    let mut counted: BTreeMap<Who, What> = BTreeMap::new();
    let received = system.provider.received();
    let plans: HashSet<usize> = received.iter().map(|request| Plan::of(request).0).collect();
    assert_eq!((received.len(), plans.len()), (CHATS, CHATS), "each was asked once");
    for request in &received {
        let (plan, key) = (Plan::of(request), &keys[request.key()]);
        let who = (plan.profile(), key.clone(), plan.provider().into(), plan.model().to_owned());
        let (calls, cut, tokens, partial) = counted.entry(who).or_default();
        *calls += 1;
        add(tokens, plan.tokens());
        if plan.cut().is_some() {
            *cut += 1;
            add(partial, plan.tokens());
        }
    }

    let answer = usage(&system, by(&[Profile, Key, OfProvider, Model])).await;
    let told_rows: BTreeMap<Who, What> = answer.rows.iter().map(told).collect();
    assert_eq!(told_rows.len(), answer.rows.len());
    assert_eq!(told_rows, counted);
    assert_eq!(answer.gaps, [], "nothing is missing");
    let cut: i64 = counted.values().map(|(_, cut, ..)| cut).sum();
    assert_eq!(cut, i64::try_from(CHATS / 5).expect("a small number"), "one of five was cut");
    read_back_by_the_command(&system, &counted).await;
    times_are_shown(&mut system, &keys).await;
}

/// The vault was asked for few of the keys that chats used: the ledger is right about kept ones.
async fn most_keys_were_kept(system: &System) {
    let channel = Endpoint::from_shared(system.vault.url()).expect("a URL").connect_lazy();
    let page_size = i32::try_from(CHATS).expect("a page");
    let request = ListAuditEventsRequest { action: "ResolveKey".to_owned(), page_size, ..Default::default() };
    let events = VaultAdminServiceClient::new(channel).list_audit_events(request).await.expect("a page").into_inner();
    let resolves = events.events.len();
    println!("{CHATS} chats, {resolves} resolutions");
    assert!((1..=RESOLVES_MAX).contains(&resolves), "{resolves} resolutions for {CHATS} chats");
}

/// The keys by their material. Those of the environment have no id.
async fn keys(system: &mut System) -> HashMap<String, String> {
    let mut keys = HashMap::from([OPENAI_ENVIRONMENT, GEMINI_ENVIRONMENT].map(|key| (key.to_owned(), String::new())));
    for (provider, material, default, profiles) in [
        (Provider::Anthropic, "sk-ant-default", true, &[][..]),
        (Provider::Anthropic, "sk-ant-shared", false, &["p0", "p1", "p2"]),
        (Provider::Anthropic, "sk-ant-own", false, &["p3"]),
        (Provider::Openai, "sk-openai-shared", false, &["p0", "p4"]),
        (Provider::Gemini, "gemini-shared", false, &["p1", "p4", "p5"]),
    ] {
        let key = system.add_key(provider, material, Links { default, profiles }).await;
        keys.insert(material.to_owned(), key.api_key_id);
    }
    keys
}

fn add(sum: &mut Tokens, more: Tokens) {
    sum.input += more.input;
    sum.output += more.output;
}

/// Asks, and leaves where the plan says.
async fn chat(system: &System, plan: Plan) {
    let request = ask(plan.model(), Some(&plan.profile()), &plan.text());
    let mut client = system.chat.clone();
    match plan.cut() {
        None if plan.is_whole() => {
            let answer = client.chat(whole(request)).await.expect("an answer").into_inner();
            assert_tokens(plan, answer.finished.and_then(|finished| finished.usage));
        }
        None => {
            let answer = Answer::read(client.stream_chat(request).await).await;
            assert_tokens(plan, answer.finished.and_then(|finished| finished.usage));
        }
        Some(Cut::BeforeTheHeaders) => {
            let call = tokio::spawn(async move { client.stream_chat(request).await.map(drop) });
            eventually("the provider is asked", async || {
                system.provider.received().iter().any(|request| Plan::of(request) == plan).then_some(())
            })
            .await;
            call.abort();
        }
        Some(Cut::InTheMiddle) => {
            let mut events = client.stream_chat(request).await.expect("an answer").into_inner();
            loop {
                let event = events.message().await.expect("an event").expect("the answer goes on").event;
                if matches!(event, Some(Event::TextDelta(_))) {
                    break;
                }
            }
        }
    }
}

fn whole(stream: StreamChatRequest) -> ChatRequest {
    ChatRequest {
        organization_id: stream.organization_id,
        profile_id: stream.profile_id,
        model: stream.model,
        messages: stream.messages,
        ..Default::default()
    }
}

/// The caller is told what the ledger is.
fn assert_tokens(plan: Plan, usage: Option<proto::chat::Usage>) {
    let usage = usage.expect("usage");
    let Tokens { input, output } = plan.tokens();
    assert_eq!((usage.input_tokens, usage.output_tokens), (Some(input), Some(output)), "{plan:?}");
}

async fn run_usage(system: &System, options: &[&str]) -> Output {
    let command = &mut command("key-vault");
    let command = command.args(["usage", "--server", &system.vault.url(), "-o", ORGANIZATION]).args(options);
    let output = command.output().await.expect("it runs");
    assert!(output.status.success(), "{output:?}");
    output
}

async fn read_back_by_the_command(system: &System, counted: &BTreeMap<Who, What>) {
    let by = "profile,key,provider,model";
    let csv = run_usage(system, &["--by", by, "--output", "csv"]).await;
    let text = String::from_utf8(csv.stdout).expect("text");
    let mut lines = text.split_terminator("\r\n");
    assert_eq!(
        lines.next(),
        Some(
            "profile_id,api_key_id,provider,model,call_count,partial_count,failed_count,rejected_count,input_tokens,\
             cached_input_tokens,cache_write_tokens,output_tokens,reasoning_tokens,partial_input_tokens,\
             partial_output_tokens"
        )
    );
    let expected: HashSet<String> = counted
        .iter()
        .map(|((profile, key, provider, model), (calls, cut, tokens, partial))| {
            let provider = Provider::try_from(*provider).expect("a provider").as_str_name();
            let provider = provider.trim_start_matches("PROVIDER_").to_ascii_lowercase();
            let (Tokens { input, output }, Tokens { input: cut_input, output: cut_output }) = (tokens, partial);
            format!(
                "{profile},{key},{provider},{model},{calls},{cut},0,0,{input},0,0,{output},0,{cut_input},{cut_output}"
            )
        })
        .collect();
    assert_eq!(lines.map(str::to_owned).collect::<HashSet<_>>(), expected);

    let json = run_usage(system, &["--by", "source", "--since", "24h", "--output", "json"]).await;
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let sources: Vec<_> = json["rows"].as_array().expect("rows").iter().map(|row| &row["source"]).collect();
    assert_eq!(sources, ["SOURCE_ENVIRONMENT", "SOURCE_ORGANIZATION_DEFAULT", "SOURCE_PROFILE"]);

    let table = run_usage(system, &["--by", "provider", "--profile", "p0"]).await;
    let table = String::from_utf8(table.stdout).expect("text");
    assert!(table.contains("PROVIDER") && table.contains("PARTIAL") && !table.contains("REJECTED"), "{table}");
}

/// Listings show when keys were used, and only that changed.
async fn times_are_shown(system: &mut System, keys: &HashMap<String, String>) {
    for id in keys.values().filter(|id| !id.is_empty()) {
        let request = GetApiKeyRequest { organization_id: ORGANIZATION.to_owned(), api_key_id: id.clone() };
        let key = system.keys.get_api_key(request).await.expect("a key").into_inner().api_key.expect("a key");
        assert!(key.last_used_time.is_some(), "{key:?}");
        assert_eq!((key.last_rejected_time, key.update_time), (None, key.create_time), "{key:?}");
    }
    assert!(keys.len() > PROFILES / 2, "several keys");
}

#[tokio::test]
async fn refusals_and_failures_are_counted_apart_and_what_was_not_sent_is_not() {
    let mut system = System::with(Setup::asking_once()).await;
    let key = system.add_key(Provider::Anthropic, "sk-ant-revoked", Links { default: true, profiles: &[] }).await;
    let say = || ask("claude-sonnet-4-5", None, "chat 1");
    let error = |kind: &str| format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"no"}}}}"#);
    for (said, class) in [
        (Said::json(401, error("authentication_error")), "FailedPrecondition PROVIDER_KEY_INVALID"),
        (Said::json(400, error("invalid_request_error")), "InvalidArgument PROVIDER_INVALID_REQUEST"),
        (Said::json(529, error("overloaded_error")), "Unavailable PROVIDER_OVERLOADED"),
        (Said::stream(format!("data: {}\n\n", error("overloaded_error"))), "Unavailable PROVIDER_OVERLOADED"),
        (Said::stream("data: {\"type\":\"ping\"}\n\n").ending(End::Cut), "Unavailable PROVIDER_UNREACHABLE"),
    ] {
        system.provider.always_answers(said);
        let answer = Answer::read(system.chat.stream_chat(say()).await).await;
        assert_eq!(answer.failed().class(), class);
    }
    // Refused before anything is asked, and without a connection.
    let refused = StreamChatRequest { seed: Some(1), ..say() };
    assert!(Answer::read(system.chat.stream_chat(refused).await).await.failure.is_some());
    let setup = Setup::asking_once();
    let nowhere = start_gateway(system.folder(), &system.vault.url(), "http://127.0.0.1:1", &setup).await;
    let nowhere = nowhere.expect("another gateway");
    let mut client = ChatServiceClient::new(Endpoint::from_shared(nowhere.url()).expect("a URL").connect_lazy());
    let answer = Answer::read(client.stream_chat(say()).await).await;
    assert_eq!(answer.failed().class(), "Unavailable PROVIDER_UNREACHABLE");
    nowhere.stop().await;

    has_calls(&system, 5).await;
    let row = usage(&system, by(&[UsageDimension::Version])).await.rows.remove(0);
    assert_eq!((row.failed_count, row.rejected_count, row.partial_count), (3, 1, 1), "{row:?}");
    assert_eq!((row.api_key_id, row.version), (key.api_key_id.clone(), 1));
    let request = GetApiKeyRequest { organization_id: ORGANIZATION.to_owned(), api_key_id: key.api_key_id };
    let shown = system.keys.get_api_key(request).await.expect("a key").into_inner().api_key.expect("a key");
    let nanos = |time: Option<Timestamp>| time.map(|time| (time.seconds, time.nanos));
    let (used, rejected) = (nanos(shown.last_used_time), nanos(shown.last_rejected_time));
    assert!(rejected.is_some() && used > rejected, "{shown:?}");
    assert_eq!(shown.etag, key.etag, "use is no change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_loses_seconds_and_says_so_and_one_that_stops_loses_nothing() {
    let mut system = System::start().await;
    system.add_key(Provider::Anthropic, "sk-ant-default", Links { default: true, profiles: &[] }).await;
    system.provider.answers_by(|_| Plan(3).answer());
    let ask = |profile| ask("claude-sonnet-4-5", Some(profile), "chat 3");

    // One chats and stops at once: what it has not reported yet is reported then.
    let setup = Setup::default();
    let stops = start_gateway(system.folder(), &system.vault.url(), &system.provider.url(), &setup).await;
    let stops = stops.expect("another gateway");
    let channel = Endpoint::from_shared(stops.url()).expect("a URL").connect_lazy();
    let mut client = ChatServiceClient::new(channel);
    for _ in 0..20 {
        Answer::read(client.stream_chat(ask("stops")).await).await.finished.expect("an answer");
    }
    let (status, log) = stops.stop().await;
    assert!(status.success(), "{log}");

    // The other is killed while it chats.
    let mut ends = Vec::new();
    let until = SystemTime::now() + LOSS_MAX + Duration::from_secs(2);
    while SystemTime::now() < until {
        Answer::read(system.chat.stream_chat(ask("killed")).await).await.finished.expect("an answer");
        ends.push(SystemTime::now());
    }
    let System { gateway, .. } = system;
    gateway.kill().await;
    let killed = SystemTime::now();
    let mut ledger = UsageServiceClient::new(Endpoint::from_shared(system.vault.url()).expect("a URL").connect_lazy());

    let answer = eventually("the gap is told", async || {
        let answer = ledger.clone().query_usage(by(&[UsageDimension::Profile])).await.expect("an answer").into_inner();
        (!answer.gaps.is_empty()).then_some(answer)
    })
    .await;
    assert_eq!(answer.gaps.len(), 1, "of the one that was killed only: {:?}", answer.gaps);
    let gap = &answer.gaps[0];
    let complete_until = SystemTime::try_from(gap.last_report_time.expect("a time")).expect("a time");
    assert_eq!((gap.kind(), gap.principal.as_str()), (Kind::Lost, "dev"));
    assert!(killed.duration_since(complete_until).expect("before") < LOSS_MAX, "{gap:?}");

    let calls: HashMap<_, _> = answer.rows.iter().map(|row| (row.profile_id.as_str(), row.call_count)).collect();
    assert_eq!(calls["stops"], 20);
    let reported = i64::try_from(ends.iter().filter(|end| **end < complete_until).count()).expect("a small number");
    let all = i64::try_from(ends.len()).expect("a small number");
    assert!((reported..=all).contains(&calls["killed"]), "{reported} to {all}: {calls:?}");

    // Not of an hour before.
    let hour_ago = SystemTime::now() - Duration::from_hours(1);
    let before = QueryUsageRequest { end_time: Some(hour_ago.into()), ..by(&[]) };
    let hour_is_over = ledger.query_usage(before).await.expect("an answer").into_inner();
    assert_eq!((hour_is_over.gaps.len(), hour_is_over.rows[0].call_count), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_was_away_counts_everything_once() {
    const OPEN: usize = 40;
    let mut system = System::start().await;
    system.add_key(Provider::Gemini, "gemini-default", Links { default: true, profiles: &[] }).await;
    // Begun, and in the middle for as long as the caller stays.
    let plan = Plan(5);
    assert_eq!((plan.provider(), plan.cut()), (Provider::Gemini, Some(Cut::InTheMiddle)));
    system.provider.answers_by(move |_| plan.answer());
    let mut open = Vec::new();
    for _ in 0..OPEN {
        let mut events =
            system.chat.stream_chat(ask(plan.model(), None, "chat 5")).await.expect("an answer").into_inner();
        while !matches!(events.message().await.expect("an event").expect("an event").event, Some(Event::TextDelta(_))) {
        }
        open.push(events);
    }

    system.vault.pause().await;
    open.drain(..OPEN / 2).for_each(drop);
    // What was under way when the vault fell silent is sent again, and comes twice.
    eventually("the gateway notices", async || system.gateway.log().contains("does not take reports").then_some(()))
        .await;
    open.clear();
    system.vault.resume().await;

    has_calls(&system, OPEN).await;
    let row = usage(&system, by(&[UsageDimension::Source])).await.rows.remove(0);
    let count = i64::try_from(OPEN).expect("a small number");
    assert_eq!((row.source(), row.partial_count), (Source::OrganizationDefault, count));
    assert_eq!(row.partial_input_tokens, count * plan.tokens().input);
    let (status, _) = system.gateway.stop().await;
    assert!(status.success());
}
