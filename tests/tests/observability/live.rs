//! Both services under a bad night, a real Prometheus that scrapes them, and everything that is
//! deployed for it.
//!
//! One night serves all questions, because it takes longer than all of them. With
//! `DASHBOARDS_PICTURE=PATH` the panels are drawn there afterwards.

use std::{collections::BTreeSet, path::Path, time::Duration};

use serde_json::Value;
use system_tests::{
    Process,
    prometheus::{Prometheus, Sample, deployed, is_installed, promtool},
};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use super::{
    dashboards::{filled, panels},
    exposition::{differences, shown},
    load::Night,
    rules::{alerts, without_comparisons},
};

/// Every rate is over the whole night.
const NIGHT: &str = "5m";

/// How long until Prometheus has what happened a moment ago.
const SCRAPE_MAX: Duration = Duration::from_secs(15);

/// What a night with these faults wakes, before the times that a fault has to last.
const FIRING: [&str; 8] = [
    "AuditFailing",
    "ChatsFailing",
    "ExfiltrationAlarm",
    "ProviderCircuitOpen",
    "ProviderRefusesKey",
    "ServiceOverloaded",
    "StreamsTruncated",
    "TeamsCannotChat",
];

/// What it does not.
const SILENT: [&str; 6] =
    ["FirstEventSlow", "KeysDoNotOpen", "RecordsStayOnOldKek", "SecretsManagerAway", "ServiceDown", "VaultSealed"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_on_call_sees_a_bad_night() {
    if !is_installed().await {
        return;
    }
    let mut night = Night::start().await;
    let begun = Instant::now();
    let (vault, gateway) = (authority(&night.system.vault), authority(&night.system.gateway));
    let prometheus = Prometheus::start(&vault, &gateway).await.expect("Prometheus starts");
    prometheus.sees("sum(up) == 2", SCRAPE_MAX).await.expect("both services are scraped");

    night.passes().await;
    let alarm = "sum(increase(keyvault_exfiltration_alarms_total[5m]))";
    prometheus.sees(alarm, SCRAPE_MAX).await.expect("the end of the night is scraped");

    let mut wrong = Vec::new();
    wrong.extend(panels_without_data(&prometheus).await);
    wrong.extend(alerts_without_data(&prometheus).await);
    wrong.extend(alerts_that_do_not_see(&prometheus).await);
    wrong.extend(examples_that_lead_nowhere(&prometheus).await);
    for (service, process) in [("key-vault", &night.system.vault), ("chat-gateway", &night.system.gateway)] {
        wrong.extend(wrong_exposition(service, process).await);
    }
    if let Some(path) = std::env::var_os("DASHBOARDS_PICTURE") {
        draw(&prometheus, Path::new(&path), begun.elapsed()).await;
    }
    assert!(wrong.is_empty(), "{} things are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn authority(process: &Process) -> String {
    process.probe_url().trim_start_matches("http://").to_owned()
}

fn has_data(samples: &[Sample]) -> bool {
    samples.iter().any(|sample| !sample.value.is_nan())
}

async fn panels_without_data(prometheus: &Prometheus) -> Vec<String> {
    let nothing = prometheus.query("sum(rate(of_nothing_total[5m]))").await.expect("a query");
    assert!(!has_data(&nothing), "what is not there has no data");
    let mut wrong = Vec::new();
    for panel in panels() {
        for query in &panel.queries {
            match prometheus.query(&filled(query, NIGHT)).await {
                Ok(samples) if has_data(&samples) => {}
                Ok(samples) => wrong.push(format!("{}: no data for {query}: {samples:?}", panel.name)),
                Err(error) => wrong.push(format!("{}: {error:#}", panel.name)),
            }
        }
    }
    wrong
}

/// What an alert compares must be there, whether it fires or not.
async fn alerts_without_data(prometheus: &Prometheus) -> Vec<String> {
    let rules = prometheus.get("rules", &[("type", "alert")]).await.expect("rules");
    let groups = rules["groups"].as_array().expect("groups");
    let rules: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules")).collect();
    let names = |names: &mut dyn Iterator<Item = String>| names.collect::<BTreeSet<_>>();
    let loaded = names(&mut rules.iter().map(|rule| rule["name"].as_str().unwrap_or_default().to_owned()));
    assert_eq!(loaded, names(&mut alerts().into_iter().map(|alert| alert.name)), "Prometheus has all rules");
    let mut wrong = Vec::new();
    for rule in rules {
        if rule["health"] != "ok" {
            wrong.push(format!("{}: {} {}", rule["name"], rule["health"], rule["lastError"]));
        }
        let compared = without_comparisons(rule["query"].as_str().expect("a query"));
        // The night is shorter than what alerts look back to.
        let compared = compared.replace("offset 1m", "offset 5s");
        match prometheus.query(&compared).await {
            Ok(samples) if has_data(&samples) => {}
            Ok(samples) => wrong.push(format!("{}: no data for {compared}: {samples:?}", rule["name"])),
            Err(error) => wrong.push(format!("{}: {error:#}", rule["name"])),
        }
    }
    wrong
}

/// Whether alerts see what happened: those that are expected are pending or firing, others not.
async fn alerts_that_do_not_see(prometheus: &Prometheus) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let active = prometheus.get("alerts", &[]).await.expect("alerts");
        let active = active["alerts"].as_array().expect("alerts");
        let active: BTreeSet<_> = active.iter().filter_map(|alert| alert["labels"]["alertname"].as_str()).collect();
        let missing = FIRING.iter().filter(|name| !active.contains(*name));
        let wrong: Vec<_> = missing.map(|name| format!("{name} does not see the night: {active:?}")).collect();
        let loud = SILENT.iter().filter(|name| active.contains(*name));
        let loud: Vec<_> = loud.map(|name| format!("{name} is loud for nothing")).collect();
        if wrong.is_empty() || !loud.is_empty() || begun.elapsed() > SCRAPE_MAX {
            return [wrong, loud].concat();
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Each duration has an example with a trace.
async fn examples_that_lead_nowhere(prometheus: &Prometheus) -> Vec<String> {
    let mut wrong = Vec::new();
    for metric in [
        "rpc_server_call_duration_seconds_bucket",
        "gen_ai_client_operation_duration_seconds_bucket",
        "chatgateway_overhead_duration_seconds_bucket",
        "keyvault_resolve_duration_seconds_bucket",
    ] {
        let now = prometheus.query("time()").await.expect("the time")[0].value;
        let (start, end) = (format!("{}", now - 300.0), format!("{now}"));
        let found = prometheus.get("query_exemplars", &[("query", metric), ("start", &start), ("end", &end)]).await;
        let found = found.expect("examples");
        let series = found.as_array().expect("series");
        let examples: Vec<_> =
            series.iter().flat_map(|series| series["exemplars"].as_array().expect("exemplars")).collect();
        let is_trace = |id: &str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !examples.iter().any(|example| example["labels"]["trace_id"].as_str().is_some_and(is_trace)) {
            wrong.push(format!("{metric} has no example with a trace: {examples:?}"));
        }
    }
    wrong
}

/// The text that a person or an old scraper gets: without faults, and as the document says.
async fn wrong_exposition(service: &str, process: &Process) -> Vec<String> {
    let response = reqwest::get(format!("{}/metrics", process.probe_url())).await.expect("it answers");
    let text = response.text().await.expect("text");
    let mut wrong = differences(service, &shown(&text));
    let checked = promtool(&["check", "metrics"], &deployed(), &text).await.expect("promtool runs");
    if !checked.well || !checked.text.is_empty() {
        wrong.push(format!("{service}: promtool check metrics: {}", checked.text));
    }
    wrong
}

async fn draw(prometheus: &Prometheus, path: &Path, time: Duration) {
    let mut program = Command::new("python3");
    program.arg(deployed().join("draw.py")).arg(prometheus.url()).arg(path).arg(time.as_secs().to_string());
    let drawn = program.status().await;
    assert!(drawn.is_ok_and(|status| status.success()), "the panels are drawn");
}
