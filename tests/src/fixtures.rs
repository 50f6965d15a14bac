//! Recorded provider traffic, and what the vendors' own libraries understood of it.
//!
//! The folder comes from `PROVIDER_FIXTURES`, default `../shared/fixtures` beside this
//! workspace; any folder of the same form works. Its `README.md` defines the fields.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

/// A folder of recordings.
#[derive(Debug)]
pub struct Fixtures {
    folder: PathBuf,
    /// What was recorded.
    pub recordings: Vec<Recording>,
    oracle: HashMap<String, Value>,
}

/// One recorded response.
#[derive(Clone, Debug, Deserialize)]
pub struct Recording {
    /// Its name.
    pub id: String,
    file: String,
    /// `anthropic`, `openai` or `gemini`.
    pub provider: String,
    /// Which API of the provider.
    pub endpoint: String,
    /// `stream`, `error` or `json`.
    pub kind: String,
    /// The recorded status.
    pub http_status: u16,
    #[serde(default)]
    response_headers: HashMap<String, String>,
    /// The model that was asked.
    pub model: Option<String>,
}

impl Fixtures {
    /// The configured folder, or `None` if it is absent.
    pub fn load() -> Option<Self> {
        let folder = folder();
        let manifest = fs::read(folder.join("manifest.json")).ok()?;
        let oracle = fs::read(folder.join("sdk_oracle.json")).expect("sdk_oracle.json stands beside manifest.json");
        Some(Self {
            recordings: serde_json::from_slice(&manifest).expect("manifest.json is of the known form"),
            oracle: serde_json::from_slice(&oracle).expect("sdk_oracle.json is of the known form"),
            folder,
        })
    }

    /// What the vendor's library understood of a recording.
    pub fn oracle(&self, recording: &Recording) -> Option<&Value> {
        self.oracle.get(&recording.id)
    }

    /// The recorded body.
    pub fn body(&self, recording: &Recording) -> Vec<u8> {
        fs::read(self.folder.join(&recording.file)).expect("a recording's file exists")
    }
}

impl Recording {
    /// The recorded headers as far as they can be sent again: bodies are stored decoded.
    pub fn headers(&self) -> Vec<(String, String)> {
        const NOT_REPLAYED: [&str; 3] = ["content-encoding", "transfer-encoding", "content-length"];
        let mut headers: Vec<_> = self
            .response_headers
            .iter()
            .filter(|(name, _)| !NOT_REPLAYED.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let has_type = headers.iter().any(|(name, _)| name == "content-type");
        if !has_type {
            let stream = self.file.ends_with(".sse");
            let value = if stream { "text/event-stream" } else { "application/json" };
            headers.push(("content-type".to_owned(), value.to_owned()));
        }
        headers
    }

    /// A recorded header. Empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.response_headers.get(name).map(String::as_str).unwrap_or_default()
    }
}

/// The data of the server-sent events in a body, as far as it is JSON.
pub fn events(body: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(body);
    let (mut events, mut data) = (Vec::new(), String::new());
    for line in text.lines().chain([""]) {
        if let Some(more) = line.strip_prefix("data:") {
            data.push_str(more);
            data.push('\n');
        } else if line.is_empty() {
            events.extend(serde_json::from_str::<Value>(&data));
            data.clear();
        }
    }
    events
}

/// Where the recordings are.
pub fn folder() -> PathBuf {
    std::env::var_os("PROVIDER_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures"),
        |folder| {
            let folder = PathBuf::from(folder);
            // Relative to the workspace, from which `make` runs, not to this crate.
            if folder.is_relative() { Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder) } else { folder }
        },
    )
}
