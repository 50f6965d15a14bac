//! The ledger by itself: reports by hand, and what is asked of it.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use proto::{
    keyvault::{
        KeyUse, QueryUsageRequest, ReportKeyUseRequest, ReportKeyUseResponse, RotateApiKeyRequest, UsageDimension,
        UsageRow, key_use::Outcome, usage_gap::Kind,
    },
    types::{Provider, Source},
};
use system_tests::{Links, ORGANIZATION, System, answer::Failure};
use uuid::Uuid;

use super::{by, ledger};

const HOUR: Duration = Duration::from_hours(1);

fn call(key: &str) -> KeyUse {
    KeyUse {
        report_id: Uuid::new_v4().to_string(),
        organization_id: ORGANIZATION.to_owned(),
        profile_id: Some("research".to_owned()),
        provider: Provider::Anthropic.into(),
        api_key_id: key.to_owned(),
        version: 1,
        source: Source::Profile.into(),
        model: "claude-sonnet-4-5".to_owned(),
        outcome: Outcome::Complete.into(),
        input_tokens: Some(10),
        cached_input_tokens: Some(4),
        cache_write_tokens: Some(3),
        output_tokens: Some(5),
        reasoning_tokens: Some(2),
        use_time: Some(SystemTime::now().into()),
    }
}

fn report(uses: Vec<KeyUse>) -> ReportKeyUseRequest {
    ReportKeyUseRequest { reporter_id: Uuid::new_v4().to_string(), uses, dropped_count: 0, r#final: true }
}

async fn told(system: &System, report: ReportKeyUseRequest) -> Result<ReportKeyUseResponse, Failure> {
    Ok(system.resolution.clone().report_key_use(report).await?.into_inner())
}

async fn rows(system: &System, request: QueryUsageRequest) -> Vec<UsageRow> {
    ledger(system).query_usage(request).await.expect("an answer").into_inner().rows
}

#[tokio::test]
async fn a_report_that_comes_again_counts_nothing() {
    let mut system = System::start().await;
    let key = system.add_key(Provider::Anthropic, "sk-ant", Links::default()).await.api_key_id;
    let first = report(vec![call(&key), call(&key)]);
    let mut again = first.clone();
    again.uses.push(call(&key));
    again.uses.push(again.uses[2].clone());

    let counted = told(&system, first.clone()).await.expect("counted");
    assert_eq!((counted.accepted_count, counted.duplicate_count), (2, 0));
    let counted = told(&system, again).await.expect("counted");
    assert_eq!((counted.accepted_count, counted.duplicate_count), (1, 3), "also within one report");
    // Two at once, as when a gateway gives up on the first.
    let pair = report(vec![call(&key)]);
    let (one, other) = tokio::join!(told(&system, pair.clone()), told(&system, pair));
    assert_eq!(one.expect("counted").accepted_count + other.expect("counted").accepted_count, 1);

    let row = rows(&system, by(&[])).await.remove(0);
    let counts = [row.call_count, row.input_tokens, row.cached_input_tokens, row.cache_write_tokens];
    assert_eq!(counts, [4, 40, 16, 12]);
    assert_eq!((row.output_tokens, row.reasoning_tokens, row.partial_count), (20, 8, 0));
    assert_eq!((row.api_key_id.as_str(), row.provider(), row.start_time), ("", Provider::Unspecified, None));
}

#[tokio::test]
async fn each_bad_field_of_a_report_is_named_and_nothing_of_it_is_counted() {
    type Spoil = fn(&mut KeyUse);
    let mut system = System::start().await;
    let key = system.add_key(Provider::Anthropic, "sk-ant", Links::default()).await.api_key_id;
    let cases: Vec<(&str, Spoil)> = vec![
        ("report_id", |u| u.report_id = "1".to_owned()),
        ("organization_id", |u| u.organization_id.clear()),
        ("profile_id", |u| u.profile_id = Some(String::new())),
        ("provider", |u| u.provider = 0),
        ("api_key_id", |u| u.api_key_id.clear()),
        ("api_key_id", |u| u.source = Source::Environment.into()),
        ("version", |u| u.version = 0),
        ("version", |u| {
            u.source = Source::Environment.into();
            u.api_key_id.clear();
        }),
        ("source", |u| u.source = 0),
        ("source", |u| u.source = 9),
        ("model", |u| u.model.clear()),
        ("model", |u| u.model = "m".repeat(257)),
        ("model", |u| u.model = "nul\0".to_owned()),
        ("outcome", |u| u.outcome = 0),
        ("input_tokens", |u| u.input_tokens = Some(-1)),
        ("reasoning_tokens", |u| u.reasoning_tokens = Some(i64::MAX)),
        ("use_time", |u| u.use_time = None),
        ("use_time", |u| u.use_time = Some(Timestamp { seconds: i64::MAX, nanos: 0 })),
        ("use_time", |u| u.use_time = Some(Timestamp { seconds: 0, nanos: -1 })),
        ("use_time", |u| u.use_time = Some((SystemTime::now() - 24 * 31 * HOUR).into())),
    ];
    for (field, spoil) in cases {
        let mut bad = call(&key);
        spoil(&mut bad);
        let failure = told(&system, report(vec![call(&key), bad])).await.expect_err(field);
        assert_eq!(
            (failure.class().as_str(), failure.fields),
            ("InvalidArgument INVALID_FIELD", vec![format!("uses[1].{field}")])
        );
    }
    for (field, spoil) in [
        ("reporter_id", (|r| r.reporter_id.clear()) as fn(&mut ReportKeyUseRequest)),
        ("dropped_count", |r| r.dropped_count = -1),
        ("uses", |r| r.uses = vec![KeyUse::default(); 501]),
    ] {
        let mut bad = report(vec![call(&key)]);
        spoil(&mut bad);
        assert_eq!(told(&system, bad).await.expect_err(field).fields, [field]);
    }
    assert_eq!(rows(&system, by(&[])).await[0].call_count, 0);
}

#[tokio::test]
async fn a_query_groups_filters_and_pages() {
    let mut system = System::start().await;
    let key = system.add_key(Provider::Anthropic, "sk-ant", Links::default()).await.api_key_id;
    let now = SystemTime::now();
    let mut uses = Vec::new();
    for (profile, model, hours_ago, version) in [
        (Some("research"), "claude-sonnet-4-5", 0, 2),
        (Some("research"), "claude-opus-4-1", 0, 2),
        (Some("Research"), "claude-opus-4-1", 1, 1),
        (None, "claude-opus-4-1", 24, 1),
        (Some("research"), "Z, \"quoted\"", 24 * 20, 1),
    ] {
        let use_time = Some((now - hours_ago * HOUR).into());
        let profile_id = profile.map(str::to_owned);
        uses.push(KeyUse { profile_id, model: model.to_owned(), version, use_time, ..call(&key) });
    }
    let outside = KeyUse { organization_id: "other".to_owned(), ..call(&key) };
    told(&system, report([uses, vec![outside]].concat())).await.expect("counted");
    let profiles = |rows: &[UsageRow]| rows.iter().map(|row| row.profile_id.clone()).collect::<Vec<_>>();

    use UsageDimension::{Day, Hour, Key, Model, Profile, Version};
    let grouped = rows(&system, by(&[Profile])).await;
    assert_eq!(profiles(&grouped), ["", "Research", "research"], "byte by byte, on every database");
    assert_eq!(grouped.iter().map(|row| row.call_count).collect::<Vec<_>>(), [1, 1, 3]);
    let versions = rows(&system, by(&[Version])).await;
    let versions: Vec<_> = versions.iter().map(|row| (row.api_key_id.as_str(), row.version, row.call_count)).collect();
    assert_eq!(versions, [(key.as_str(), 1, 3), (key.as_str(), 2, 2)]);
    let days = rows(&system, by(&[Day, Key])).await;
    let starts: Vec<i64> = days.iter().map(|row| row.start_time.expect("a day").seconds).collect();
    assert!(starts.len() >= 3 && starts.is_sorted() && starts.iter().all(|day| day % 86_400 == 0), "{starts:?}");
    let hours = rows(&system, by(&[Hour])).await;
    assert_eq!(hours.iter().map(|row| row.call_count).collect::<Vec<_>>(), [1, 1, 1, 2]);
    assert!(hours.iter().all(|row| row.start_time.expect("an hour").seconds % 3_600 == 0));

    let filter = |change: fn(&mut QueryUsageRequest)| {
        let mut request = by(&[]);
        change(&mut request);
        request
    };
    let count = async |request| rows(&system, request).await[0].call_count;
    assert_eq!(count(filter(|r| r.profile_id = "research".to_owned())).await, 3);
    assert_eq!(count(filter(|r| r.model = "claude-opus-4-1".to_owned())).await, 3);
    assert_eq!(count(filter(|r| r.provider = Provider::Openai.into())).await, 0);
    assert_eq!(count(QueryUsageRequest { api_key_id: key.clone(), ..by(&[]) }).await, 5);
    assert_eq!(count(filter(|r| r.organization_id = "other".to_owned())).await, 1);
    // Hours are whole: from the one that the start is in, up to the one that the end is in.
    let span = |start: Duration, end: Duration| QueryUsageRequest {
        start_time: Some((now - start).into()),
        end_time: Some((now - end).into()),
        ..by(&[])
    };
    assert_eq!(count(span(2 * HOUR, Duration::ZERO)).await, 3);
    assert_eq!(count(span(24 * HOUR, HOUR)).await, 2);

    let asked = QueryUsageRequest { page_size: 2, ..by(&[Model, Profile]) };
    let mut paged = Vec::new();
    let mut request = asked.clone();
    loop {
        let page = ledger(&system).query_usage(request.clone()).await.expect("a page").into_inner();
        paged.extend(page.rows);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(paged, rows(&system, by(&[Model, Profile])).await);
    assert_eq!(paged.len(), 5);
    for other in [
        QueryUsageRequest { group_by: by(&[Profile, Model]).group_by, ..request.clone() },
        QueryUsageRequest { organization_id: "other".to_owned(), ..request.clone() },
        QueryUsageRequest { model: "claude-opus-4-1".to_owned(), ..request.clone() },
        QueryUsageRequest { start_time: Some((now - HOUR).into()), ..request.clone() },
        QueryUsageRequest { page_token: "AQ".to_owned(), ..asked },
    ] {
        let failure = Failure::from(ledger(&system).query_usage(other).await.expect_err("another query"));
        assert_eq!(failure.fields, ["page_token"]);
    }
}

#[tokio::test]
async fn each_bad_field_of_a_query_is_named() {
    let system = System::start().await;
    type Spoil = fn(&mut QueryUsageRequest);
    let cases: Vec<(&str, Spoil)> = vec![
        ("organization_id", |r| r.organization_id.clear()),
        ("start_time", |r| r.start_time = Some(Timestamp { seconds: i64::MIN, nanos: 0 })),
        ("start_time", |r| r.start_time = Some((SystemTime::now() + 2 * HOUR).into())),
        ("end_time", |r| r.end_time = Some(Timestamp { seconds: 0, nanos: 1_000_000_000 })),
        ("profile_id", |r| r.profile_id = "a b".to_owned()),
        ("api_key_id", |r| r.api_key_id = "1".to_owned()),
        ("provider", |r| r.provider = 99),
        ("model", |r| r.model = "nul\0".to_owned()),
        ("group_by[1]", |r| r.group_by = vec![1, 0]),
        ("page_size", |r| r.page_size = -1),
        ("page_token", |r| r.page_token = "!".to_owned()),
    ];
    for (field, spoil) in cases {
        let mut request = by(&[]);
        spoil(&mut request);
        let failure = Failure::from(ledger(&system).query_usage(request).await.expect_err(field));
        assert_eq!(
            (failure.class().as_str(), failure.fields),
            ("InvalidArgument INVALID_FIELD", vec![field.to_owned()])
        );
    }
    // The oldest and the latest time that there are.
    let request = QueryUsageRequest {
        start_time: Some(Timestamp { seconds: -62_135_596_800, nanos: 0 }),
        end_time: Some(Timestamp { seconds: 253_402_300_799, nanos: 999_999_999 }),
        ..by(&[])
    };
    assert_eq!(rows(&system, request).await[0].call_count, 0);
}

#[tokio::test]
async fn what_a_reporter_dropped_is_told_for_the_time_in_which_it_did() {
    let mut system = System::start().await;
    let key = system.add_key(Provider::Anthropic, "sk-ant", Links::default()).await.api_key_id;
    let reporter = report(vec![]);
    told(&system, ReportKeyUseRequest { dropped_count: 0, r#final: false, ..reporter.clone() }).await.expect("noted");
    let dropped = ReportKeyUseRequest { dropped_count: 7, uses: vec![call(&key)], ..reporter.clone() };
    told(&system, dropped).await.expect("noted");
    // A report of before that comes late takes nothing back.
    told(&system, ReportKeyUseRequest { dropped_count: 0, r#final: false, ..reporter.clone() }).await.expect("noted");

    let gaps = async |request| ledger(&system).query_usage(request).await.expect("an answer").into_inner().gaps;
    let own = |gaps: Vec<proto::keyvault::UsageGap>| -> Vec<_> {
        gaps.into_iter().filter(|gap| gap.reporter_id == reporter.reporter_id).collect()
    };
    let told = own(gaps(by(&[])).await);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].kind(), told[0].dropped_count), (Kind::Dropped, 7));
    let yesterday = QueryUsageRequest { end_time: Some((SystemTime::now() - 2 * HOUR).into()), ..by(&[]) };
    assert_eq!(own(gaps(yesterday).await), [], "then nothing was dropped");
}

#[tokio::test]
async fn use_is_shown_with_a_key_and_is_no_change_of_it() {
    let mut system = System::start().await;
    let key = system.add_key(Provider::Anthropic, "sk-ant", Links::default()).await;
    assert_eq!((key.last_used_time, key.last_rejected_time), (None, None));
    let at = |hours_ago: u32| Some(Timestamp::from(SystemTime::now() - hours_ago * HOUR));
    let used = |use_time, outcome: Outcome, organization_id: &str| KeyUse {
        use_time,
        outcome: outcome.into(),
        organization_id: organization_id.to_owned(),
        ..call(&key.api_key_id)
    };
    let (last, rejected) = (at(2), at(3));
    let uses = vec![
        used(rejected, Outcome::Rejected, ORGANIZATION),
        used(last, Outcome::Complete, ORGANIZATION),
        used(at(4), Outcome::Rejected, ORGANIZATION),
        // Whoever reports for another organization says nothing of this one's key.
        used(at(1), Outcome::Rejected, "other"),
    ];
    told(&system, report(uses)).await.expect("counted");
    // An older one that comes later.
    told(&system, report(vec![used(at(5), Outcome::Partial, ORGANIZATION)])).await.expect("counted");

    let seconds = |time: Option<Timestamp>| time.map(|time| time.seconds);
    // Guarded by the etag of before: the use has not changed it.
    let rotate = RotateApiKeyRequest {
        organization_id: ORGANIZATION.to_owned(),
        api_key_id: key.api_key_id.clone(),
        material: Some(proto::keyvault::KeyMaterial { api_key: "sk-ant-2".to_owned() }),
        etag: key.etag.clone(),
        ..Default::default()
    };
    let shown = system.keys.rotate_api_key(rotate).await.expect("rotated").into_inner().api_key.expect("a key");
    assert_eq!(seconds(shown.last_used_time), seconds(last));
    assert_eq!(seconds(shown.last_rejected_time), seconds(rejected));

    // A future time is now, and a key that is gone takes nothing with it.
    let future = Some(Timestamp::from(SystemTime::now() + 24 * HOUR));
    told(&system, report(vec![used(future, Outcome::Complete, ORGANIZATION)])).await.expect("counted");
    let key_id = key.api_key_id.clone();
    let request = proto::keyvault::GetApiKeyRequest { organization_id: ORGANIZATION.to_owned(), api_key_id: key_id };
    let shown = system.keys.get_api_key(request).await.expect("a key").into_inner().api_key.expect("a key");
    assert!(seconds(shown.last_used_time) <= seconds(at(0)), "{shown:?}");
    let delete = proto::keyvault::DeleteApiKeyRequest {
        organization_id: ORGANIZATION.to_owned(),
        api_key_id: key.api_key_id.clone(),
        ..Default::default()
    };
    system.keys.delete_api_key(delete).await.expect("deleted");
    told(&system, report(vec![call(&key.api_key_id)])).await.expect("a late report of it counts");
    assert_eq!(rows(&system, by(&[])).await[0].call_count, 6);
}
