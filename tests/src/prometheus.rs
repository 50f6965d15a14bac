//! A real Prometheus that scrapes services every second, and `promtool`.
//!
//! It is configured by `deploy/observability/prometheus.yaml`, of which only the addresses and
//! the intervals are changed: what is tested is what is deployed.
//!
//! Needs `prometheus` and `promtool`: Debian's package `prometheus`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpListener,
    process::{Child, Command},
    time::{Instant, sleep},
};

/// What a machine needs that has no Prometheus.
pub const PROMETHEUS: &str = "prometheus with promtool (apt-get install prometheus)";

/// It starts within a second; a busy machine needs a few.
const START_MAX: Duration = Duration::from_secs(30);

/// Somebody may take the port that was free before Prometheus does.
const STARTS_MAX: usize = 5;

/// How long one query may take.
const QUERY_MAX: Duration = Duration::from_secs(10);

/// Where the rules, the dashboards and the example of a configuration are.
pub fn deployed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/observability")
}

/// Whether Prometheus is there. If not, says so, and fails in CI.
pub async fn is_installed() -> bool {
    let mut is_installed = true;
    for program in ["prometheus", "promtool"] {
        let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        is_installed &= version.is_ok_and(|status| status.success());
    }
    if !is_installed {
        crate::skip_without(PROMETHEUS);
    }
    is_installed
}

/// What `promtool` came to.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Whether it ended well.
    pub well: bool,
    /// All that it wrote.
    pub text: String,
}

/// Runs `promtool` with `input`.
///
/// # Errors
///
/// Fails if it cannot be run.
pub async fn promtool(arguments: &[&str], folder: &Path, input: &str) -> Result<Checked> {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run promtool")?;
    // What does not read its input has closed it.
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await?;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok(Checked { well: output.status.success(), text })
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    url: String,
    http: reqwest::Client,
    folder: TempDir,
}

/// A series, with its last value.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its labels, its name among them.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Prometheus {
    /// Starts a server that scrapes a vault and a gateway, each at its `host:port`, and waits
    /// until it serves.
    ///
    /// # Errors
    ///
    /// Fails if it does not serve in time, with what it wrote.
    pub async fn start(vault: &str, gateway: &str) -> Result<Self> {
        let mut folder = tempfile::tempdir()?;
        let configuration = fs::read_to_string(deployed().join("prometheus.yaml"))?;
        let rules = deployed().join("alerts.yaml").display().to_string();
        let configuration = configuration
            .replace("127.0.0.1:9101", vault)
            .replace("127.0.0.1:9102", gateway)
            .replace("15s", "1s")
            .replace("- alerts.yaml", &format!("- {rules}"));
        fs::write(folder.path().join("prometheus.yaml"), configuration)?;
        service_runtime::tls::install_crypto_provider();
        let http = reqwest::Client::builder().no_proxy().timeout(QUERY_MAX).build()?;
        for _ in 0..STARTS_MAX {
            let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
            let child = run(folder.path(), port)?;
            let url = format!("http://127.0.0.1:{port}");
            let mut server = Self { child, url, http: http.clone(), folder };
            if server.serves().await? {
                return Ok(server);
            }
            folder = server.folder;
        }
        bail!("no port stays free for Prometheus")
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until it serves. False if it ended, as it does when its port is taken.
    async fn serves(&mut self) -> Result<bool> {
        let begun = Instant::now();
        while begun.elapsed() < START_MAX {
            if self.child.try_wait()?.is_some() {
                let log = self.log();
                ensure!(log.contains("address already in use"), "Prometheus ended:\n{log}");
                return Ok(false);
            }
            let ready = self.http.get(format!("{}/-/ready", self.url)).send().await;
            if ready.is_ok_and(|response| response.status().is_success()) {
                return Ok(true);
            }
            sleep(Duration::from_millis(50)).await;
        }
        bail!("Prometheus does not serve:\n{}", self.log())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// What a method of its API answers.
    ///
    /// # Errors
    ///
    /// Fails with its words if it refuses.
    pub async fn get(&self, method: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let parts: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let url = format!("{}/api/v1/{method}?{}", self.url, parts.join("&"));
        let answer: Value = serde_json::from_slice(&self.http.get(url).send().await?.bytes().await?)?;
        ensure!(answer["status"] == "success", "{method} {parameters:?}: {}", answer["error"]);
        Ok(answer["data"].clone())
    }

    /// The series that a query comes to now. One without labels for a single number.
    ///
    /// # Errors
    ///
    /// Fails with the server's words if the query is refused.
    pub async fn query(&self, query: &str) -> Result<Vec<Sample>> {
        let data = self.get("query", &[("query", query)]).await?;
        let value = |value: &Value| value[1].as_str().and_then(|text| text.parse::<f64>().ok()).context("a number");
        if data["resultType"] == "scalar" {
            return Ok(vec![Sample { labels: BTreeMap::new(), value: value(&data["result"])? }]);
        }
        let series = data["result"].as_array().context("a vector")?;
        let sample = |series: &Value| {
            let labels = serde_json::from_value(series["metric"].clone())?;
            Ok(Sample { labels, value: value(&series["value"])? })
        };
        series.iter().map(sample).collect()
    }

    /// Waits until a query comes to something that is not zero.
    ///
    /// # Errors
    ///
    /// Fails if that takes longer than `limit`.
    pub async fn sees(&self, query: &str, limit: Duration) -> Result<Vec<Sample>> {
        let begun = Instant::now();
        loop {
            let samples = self.query(query).await?;
            if samples.iter().any(|sample| sample.value > 0.0) {
                return Ok(samples);
            }
            ensure!(begun.elapsed() < limit, "{query} comes to {samples:?} after {limit:?}");
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// A value of a URL.
fn escaped(value: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    value.bytes().map(byte).collect()
}

fn run(folder: &Path, port: u16) -> Result<Child> {
    let log = File::create(folder.join("log"))?;
    Command::new("prometheus")
        .arg(format!("--config.file={}", folder.join("prometheus.yaml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--enable-feature=exemplar-storage", "--log.level=warn"])
        .stdin(Stdio::null())
        .stderr(log.try_clone()?)
        .stdout(log)
        .kill_on_drop(true)
        .spawn()
        .context("cannot run prometheus")
}
