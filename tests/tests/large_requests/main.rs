//! Requests as large as the gateway reads: they come through whole from gRPC clients that
//! others wrote, one byte more does not, and many at once do not exceed the gateway's memory.
//!
//! The clients are grpcio (Python), grpc-js (Node) and a stand-in for grpc-go, which share no
//! line with this project. Each reads the serialized request, writes it anew, and prints what
//! came of it: a line of JSON for each request.

mod go;
#[cfg(target_os = "linux")]
mod memory;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use prost::Message as _;
use proto::chat::{
    ContentPart, DocumentPart, ImagePart, OpenAiApi, StreamChatRequest, content_part::Part, document_part, image_part,
};
use serde::Deserialize;
use serde_json::Value;
use system_tests::{
    Setup, System,
    answer::{Failure, ask},
    fake_provider::{Answer, Received},
    skip_without,
};
use tokio::{process::Command, time::timeout};
use tonic::{Code, Status};

/// The largest request.
const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The largest document that people send.
const PDF_BYTES: usize = 20 * 1024 * 1024;

/// A debug build writes tens of megabytes in base64 in seconds, on a busy machine in more.
const CALLS_MAX: Duration = Duration::from_mins(4);

/// An endpoint of a provider.
struct Endpoint {
    model: &'static str,
    path: &'static str,
    /// Where the body has the image and the document, and what stands before their base64.
    image: (&'static str, &'static str),
    document: (&'static str, &'static str),
    answer: &'static str,
}

const ENDPOINTS: [Endpoint; 3] = [
    Endpoint {
        model: "claude-sonnet-4-5",
        path: "/v1/messages",
        image: ("/messages/0/content/1/source/data", ""),
        document: ("/messages/0/content/2/source/data", ""),
        answer: r#"data: {"type":"message_start","message":{"id":"msg_1","model":"claude-sonnet-4-5","usage":{"input_tokens":3}}}

data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"I have read it."}}

data: {"type":"content_block_stop","index":0}

data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}

data: {"type":"message_stop"}

"#,
    },
    Endpoint {
        model: "gpt-4o",
        path: "/v1/chat/completions",
        image: ("/messages/0/content/1/image_url/url", "data:image/png;base64,"),
        document: ("/messages/0/content/2/file/file_data", "data:application/pdf;base64,"),
        answer: r#"data: {"id":"chatcmpl-1","model":"gpt-4o","choices":[{"index":0,"delta":{"role":"assistant","content":"I have read it."}}]}

data: {"id":"chatcmpl-1","model":"gpt-4o","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: [DONE]

"#,
    },
    Endpoint {
        model: "gemini-2.5-flash",
        path: "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        image: ("/contents/0/parts/1/inlineData/data", ""),
        document: ("/contents/0/parts/2/inlineData/data", ""),
        answer: r#"data: {"candidates":[{"content":{"role":"model","parts":[{"text":"I have read it."}]},"finishReason":"STOP"}]}

"#,
    },
];

/// What a client printed of a call.
#[derive(Debug, Deserialize)]
struct Outcome {
    code: i32,
    /// `grpc-status-details-bin`, in base64.
    #[serde(default)]
    details: String,
    #[serde(default)]
    text: String,
}

impl Outcome {
    fn failure(&self) -> Failure {
        let details = BASE64.decode(&self.details).expect("base64");
        Status::with_details(Code::from(self.code), "", details.into()).into()
    }
}

#[tokio::test]
async fn a_document_comes_through_whole_from_python() {
    let has_grpc = ["-c", "import grpc, grpc_tools.protoc"];
    if !succeeds("python3", &has_grpc).await {
        return skip_without("Python's grpcio or grpcio-tools");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let out = |option: &str| format!("--{option}={}", folder.path().display());
    let mut arguments = vec!["-m".to_owned(), "grpc_tools.protoc".to_owned(), "-Iproto".to_owned()];
    arguments.extend([out("python_out"), out("grpc_python_out")]);
    arguments.extend(["chat", "keyvault", "types"].into_iter().flat_map(contract));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    assert!(succeeds("python3", &arguments).await, "code is generated: python3 {arguments:?}");

    come_through(async |address, files| {
        let mut command = Command::new("python3");
        command.arg(script("client.py")).arg(address).args(files).env("PYTHONPATH", folder.path());
        printed(command).await
    })
    .await;
}

#[tokio::test]
async fn a_document_comes_through_whole_from_node() {
    if !succeeds("node", &["-e", "require('@grpc/grpc-js'); require('@grpc/proto-loader')"]).await {
        return skip_without("Node's @grpc/grpc-js or @grpc/proto-loader (in NODE_PATH)");
    }
    come_through(async |address, files| {
        let mut command = Command::new("node");
        command.arg(script("client.js")).arg(address).arg(root().join("proto")).args(files);
        printed(command).await
    })
    .await;
}

#[tokio::test]
async fn a_document_comes_through_whole_from_a_client_like_go() {
    come_through(async |address, files| {
        let connection = go::Connection::open(address).await;
        let mut outcomes = Vec::new();
        for file in files {
            let request = fs::read(file).expect("a request").into();
            outcomes.push(match connection.stream_chat(request, CALLS_MAX).await {
                Ok(text) => Outcome { code: 0, details: String::new(), text },
                Err(status) => {
                    let (code, details) = (status.code().into(), BASE64.encode(status.details()));
                    Outcome { code, details, text: String::new() }
                }
            });
        }
        outcomes
    })
    .await;
}

/// Sends the largest requests to each endpoint, and one that is a byte larger. `call` sends
/// the requests in files to the gateway, one after the other.
async fn come_through(call: impl AsyncFnOnce(&str, &[PathBuf]) -> Vec<Outcome>) {
    let system = ready(&[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = Vec::new();
    for (n, endpoint) in ENDPOINTS.iter().enumerate() {
        files.push(folder.path().join(format!("{n}.binpb")));
        fs::write(&files[n], request(endpoint, REQUEST_BYTES_MAX).encode_to_vec()).expect("it is written");
    }
    files.push(folder.path().join("too-large.binpb"));
    fs::write(&files[3], request(&ENDPOINTS[0], REQUEST_BYTES_MAX + 1).encode_to_vec()).expect("it is written");

    let address = system.gateway.url();
    let outcomes = call(address.trim_start_matches("http://"), &files).await;

    let [whole @ .., too_large] = outcomes.as_slice() else { panic!("no outcome") };
    let received = system.provider.received();
    assert_eq!((whole.len(), received.len()), (3, 3), "{outcomes:?}");
    for ((outcome, received), endpoint) in whole.iter().zip(&received).zip(&ENDPOINTS) {
        assert_eq!((outcome.code, outcome.text.as_str()), (0, "I have read it."), "{}: {outcome:?}", endpoint.model);
        assert_received(received, endpoint);
    }
    let failure = too_large.failure();
    assert_eq!(failure.class(), "ResourceExhausted REQUEST_TOO_LARGE");
    assert_eq!(failure.value("limit"), REQUEST_BYTES_MAX.to_string());
}

fn assert_received(received: &Received, endpoint: &Endpoint) {
    assert_eq!(received.path, endpoint.path);
    let body = received.json();
    for (expected, (place, before)) in
        [(file(PNG_HEAD, image_bytes(endpoint)), endpoint.image), (file(PDF_HEAD, PDF_BYTES), endpoint.document)]
    {
        let written = body.pointer(place).and_then(Value::as_str).unwrap_or_else(|| panic!("{place} is a text"));
        let written = written.strip_prefix(before).unwrap_or_else(|| panic!("{place} begins with {before:?}"));
        // Not assert_eq, which would print it.
        assert!(BASE64.decode(written).expect("base64") == expected, "{place} is what was sent");
    }
}

/// A system whose provider answers everyone, and whose vault has keys of all three.
async fn ready(gateway_options: &[&str]) -> System {
    let keys = ["ANTHROPIC", "OPENAI", "GEMINI"];
    let system = System::with(Setup {
        vault_environment: keys.map(|name| (format!("ARCHESTRA_CHAT_{name}_API_KEY"), "key".to_owned())).to_vec(),
        gateway_options: gateway_options.iter().map(|option| (*option).to_owned()).collect(),
        ..Setup::default()
    })
    .await;
    system.provider.answers_by(|received| {
        let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.path == received.path);
        Answer::stream(endpoint.expect("a known endpoint").answer)
    });
    system
}

/// A request with a PDF of 20 MiB and an image that fills it to `bytes`.
fn request(endpoint: &Endpoint, bytes: usize) -> StreamChatRequest {
    let request = with_image(endpoint, image_bytes(endpoint) + bytes - REQUEST_BYTES_MAX);
    assert_eq!(request.encoded_len(), bytes);
    request
}

/// The size of the image that fills the largest request.
fn image_bytes(endpoint: &Endpoint) -> usize {
    // What stands beside the image has the same length for any of some megabytes.
    const SOME: usize = 8 * 1024 * 1024;
    REQUEST_BYTES_MAX - (with_image(endpoint, SOME).encoded_len() - SOME)
}

fn with_image(endpoint: &Endpoint, bytes: usize) -> StreamChatRequest {
    let pdf = DocumentPart {
        source: Some(document_part::Source::Data(file(PDF_HEAD, PDF_BYTES).into())),
        media_type: "application/pdf".to_owned(),
        ..DocumentPart::default()
    };
    let mut request = ask(endpoint.model, None, "Read this.");
    if endpoint.model.starts_with("gpt") {
        request.set_openai_api(OpenAiApi::ChatCompletions);
    }
    request.messages[0].parts.extend([part(Part::Image(image(bytes))), part(Part::Document(pdf))]);
    request
}

fn image(bytes: usize) -> ImagePart {
    ImagePart {
        source: Some(image_part::Source::Data(file(PNG_HEAD, bytes).into())),
        media_type: "image/png".to_owned(),
        ..ImagePart::default()
    }
}

fn part(part: Part) -> ContentPart {
    ContentPart { part: Some(part), cache_control: None }
}

const PDF_HEAD: &[u8] = b"%PDF-1.7\n";
const PNG_HEAD: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A file of so many bytes: its head, and what no compression would make smaller. The same
/// each time.
fn file(head: &[u8], bytes: usize) -> Vec<u8> {
    let mut file = vec![0; bytes];
    fastrand::Rng::with_seed(20).fill(&mut file);
    file[..head.len()].copy_from_slice(head);
    file
}

/// Runs a client to its end. Each line that it prints is an outcome.
async fn printed(mut command: Command) -> Vec<Outcome> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn();
    let output = timeout(CALLS_MAX, child.expect("it runs").wait_with_output()).await.expect("it ends in time");
    let output = output.expect("its output is read");
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("an outcome")).collect()
}

async fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    let command = command.args(arguments).current_dir(root()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().await.is_ok_and(|status| status.success())
}

/// The `.proto` files of a package, in the workspace's folder.
fn contract(package: &str) -> Vec<String> {
    let folder = format!("proto/archestra/{package}/v1");
    let entries = fs::read_dir(root().join(&folder)).expect("the contract");
    entries.map(|entry| format!("{folder}/{}", entry.expect("a file").file_name().to_string_lossy())).collect()
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/large_requests").join(name)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
