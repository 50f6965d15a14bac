//! Arize Phoenix, a backend of others for traces (`PyPI` `arize-phoenix`): takes what is exported,
//! and says what it understood.

use std::{collections::HashMap, path::Path, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, process::Command, time::timeout};

use crate::foreign_server::ForeignServer;

/// Where spans go that name no project.
const PROJECT: &str = "default";

/// How long [`Phoenix::trace`] waits: it writes what came in batches.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is asked meanwhile.
const PAUSE: Duration = Duration::from_millis(200);

/// How long one question may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long a browser may take to draw a page.
const PICTURE_MAX: Duration = Duration::from_mins(1);

/// A Phoenix on ports of its own, with a folder of its own. Killed when dropped.
#[derive(Debug)]
pub struct Phoenix {
    server: ForeignServer,
    collector: String,
    client: reqwest::Client,
    folder: TempDir,
}

/// A trace as Phoenix understood it.
#[derive(Clone, Debug, Deserialize)]
pub struct Trace {
    /// Its id, as hexadecimal digits.
    pub trace_id: String,
    /// The tokens of all prompts.
    pub token_count_prompt: i64,
    /// The tokens of all answers.
    pub token_count_completion: i64,
    /// Its spans.
    #[serde(default)]
    pub spans: Vec<Span>,
    project_id: String,
}

/// A span as Phoenix understood it.
#[derive(Clone, Debug, Deserialize)]
pub struct Span {
    /// Its id, as hexadecimal digits.
    pub span_id: String,
    /// Its parent's id.
    pub parent_id: Option<String>,
    /// Its name.
    pub name: String,
    /// What it is for Phoenix: `LLM`, or `UNKNOWN`.
    pub span_kind: String,
    /// `OK`, `ERROR` or `UNSET`.
    pub status_code: String,
    id: String,
}

#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
}

impl Phoenix {
    /// Starts one. `None` if it is not installed.
    pub async fn start() -> Option<Self> {
        let (page, collector) = (free_port().await, free_port().await);
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("phoenix");
        command.arg("serve").current_dir(folder.path());
        for (name, value) in [
            ("PHOENIX_HOST", "127.0.0.1"),
            ("PHOENIX_PORT", &page.to_string()),
            ("PHOENIX_GRPC_PORT", &collector.to_string()),
            ("PHOENIX_WORKING_DIR", &folder.path().display().to_string()),
            // It asks nobody outside, and tells nobody.
            ("PHOENIX_TELEMETRY_ENABLED", "false"),
            ("PHOENIX_ALLOW_EXTERNAL_RESOURCES", "false"),
            ("PHOENIX_DISABLE_AGENT_ASSISTANT", "true"),
        ] {
            command.env(name, value);
        }
        let server = ForeignServer::start("Phoenix (PyPI arize-phoenix)", &mut command).await?;
        service_runtime::tls::install_crypto_provider();
        let client = reqwest::Client::builder().timeout(ANSWER_MAX).build().expect("a client");
        Some(Self { server, collector: format!("http://127.0.0.1:{collector}"), client, folder })
    }

    /// Where it takes spans, over gRPC.
    pub fn collector(&self) -> &str {
        &self.collector
    }

    /// Waits until it has a trace of so many spans.
    pub async fn trace(&self, id: &str, spans: usize) -> Trace {
        let has = async {
            loop {
                let traces: Page<Trace> = self.get("traces?include_spans=true&limit=100").await;
                let found = traces.data.into_iter().find(|trace| trace.trace_id == id);
                if let Some(trace) = found.filter(|trace| trace.spans.len() >= spans) {
                    return trace;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        timeout(PATIENCE, has).await.unwrap_or_else(|_| panic!("Phoenix has no trace {id} of {spans} spans"))
    }

    /// The attributes of all spans of a trace, by the ids of the spans.
    pub async fn attributes(&self, trace: &Trace) -> HashMap<String, Value> {
        let spans: Page<Value> = self.get(&format!("spans?trace_id={}&limit=1000", trace.trace_id)).await;
        let id = |span: &Value| span["context"]["span_id"].as_str().unwrap_or_default().to_owned();
        spans.data.into_iter().map(|mut span| (id(&span), span["attributes"].take())).collect()
    }

    async fn get<T: for<'a> Deserialize<'a>>(&self, what: &str) -> T {
        let url = format!("{}/v1/projects/{PROJECT}/{what}", self.server.url);
        let answer = self.client.get(url).send().await.expect("Phoenix answers");
        assert!(answer.status().is_success(), "{answer:?}");
        let text = answer.bytes().await.expect("a whole answer");
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text)))
    }

    /// Draws the page of a trace with headless Chromium, as a file of PNG. One of its spans is
    /// looked at.
    pub async fn draw(&self, trace: &Trace, span: &Span, picture: &Path) {
        let mut browser = Command::new("chromium");
        // Without its sandbox, since it may run as root, and only ever sees this page.
        browser.args(["--headless", "--no-sandbox", "--no-first-run", "--hide-scrollbars", "--disable-gpu"]);
        // A page that slides in would be drawn half way.
        browser.args(["--force-prefers-reduced-motion", "--run-all-compositor-stages-before-draw"]);
        browser.args(["--window-size=1600,900", "--virtual-time-budget=30000"]);
        browser.arg(format!("--user-data-dir={}", self.folder.path().join("browser").display()));
        browser.arg(format!("--screenshot={}", picture.display()));
        let page = format!("{}/projects/{}/traces/{}", self.server.url, trace.project_id, trace.trace_id);
        browser.arg(format!("{page}?selectedSpanNodeId={}", span.id));
        let drawn = timeout(PICTURE_MAX, browser.kill_on_drop(true).output()).await.expect("it draws in time");
        let drawn = drawn.expect("chromium is installed");
        assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    }
}

/// A port that was free a moment ago: Phoenix does not choose one itself.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address").port()
}
