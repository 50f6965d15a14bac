//! How the load is spread over the vaults.

use system_tests::{chats::Numbered, cluster::Cluster};

/// How many chats are looked at. Each asks a vault for a key once.
const CHATS: u16 = 240;

/// How far each vault may be from an equal share.
const DEVIATION_MAX: f64 = 0.15;

/// Waits for further chats, and panics unless each vault had its share of them. To be called when
/// all pods have settled: by then gateways have looked the vaults' name up again.
pub(crate) async fn are_equal(cluster: &Cluster, chats: &Numbered) {
    let before = resolves(cluster).await;
    chats.go_on(usize::from(CHATS)).await;
    let counts: Vec<f64> = resolves(cluster).await.iter().zip(&before).map(|(after, before)| after - before).collect();
    let sum: f64 = counts.iter().sum();
    println!("keys resolved by each vault: {counts:?}");
    // Some of the chats had their key before.
    assert!(sum >= f64::from(CHATS) * 0.9, "each chat asks: {counts:?}");
    let share = sum / f64::from(u32::try_from(counts.len()).expect("a few"));
    for count in &counts {
        assert!((count / share - 1.0).abs() <= DEVIATION_MAX, "more than 15 % off: {counts:?}");
    }
}

/// How many keys each vault has resolved so far.
async fn resolves(cluster: &Cluster) -> Vec<f64> {
    let mut counts = Vec::new();
    for pod in cluster.pods("key-vault") {
        let metrics = cluster.metrics(pod).await.expect("metrics");
        let series = metrics.lines().filter(|line| {
            line.starts_with("rpc_server_call_duration_seconds_count{") && line.contains("/ResolveKey\"")
        });
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.trim().parse::<f64>().ok());
        counts.push(series.map(|line| value(line).expect("a number")).sum());
    }
    counts
}
