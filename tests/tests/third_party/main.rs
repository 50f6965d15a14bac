//! Servers that others wrote stand for the providers: what they send comes through, and what
//! is sent to them they understand.
//!
//! Each is a program from a public package: `aimock` (npm), `llmock` (`PyPI`), and llama.cpp's
//! server (`xllamacpp`, `PyPI`) with a tiny model of random weights. They share no line with this
//! project, and none with each other.

mod aimock;
mod llama;
mod llmock;

use std::{process::Stdio, time::Duration};

use proto::chat::{
    ChatRequest, ChatResponse, ContentPart, StreamChatRequest, TextPart, chat_service_client::ChatServiceClient,
    content_part::Part,
};
use system_tests::{
    Process, Setup,
    answer::{Answer, ask},
    skip_without, start_gateway, start_vault,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};
use tonic::transport::Channel;

/// A cold interpreter that loads its libraries on a busy machine.
const START_MAX: Duration = Duration::from_mins(1);

/// A server that somebody else wrote. Killed when dropped.
struct Server {
    url: String,
    _child: Child,
}

impl Server {
    /// Starts it, and reads its URL from what it prints. `None` if its program is missing.
    async fn start(name: &str, command: &mut Command) -> Option<Self> {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let Ok(mut child) = command.spawn() else {
            skip_without(name);
            return None;
        };
        let (lines, mut printed) = mpsc::channel(64);
        tokio::spawn(relay(child.stdout.take().expect("piped"), lines.clone()));
        tokio::spawn(relay(child.stderr.take().expect("piped"), lines));
        let mut log = String::new();
        let url = timeout(START_MAX, async {
            while let Some(line) = printed.recv().await {
                if let Some(url) = url(&line) {
                    return Some(url);
                }
                log.push_str(&line);
                log.push('\n');
            }
            None
        });
        let url = url.await.expect("it starts in time");
        // What it prints from now on is read, so that it can go on printing.
        tokio::spawn(async move { while printed.recv().await.is_some() {} });
        match url {
            Some(url) => Some(Self { url, _child: child }),
            None if log.contains("No module named") => {
                skip_without(name);
                None
            }
            None => panic!("{name} does not start:\n{log}"),
        }
    }
}

async fn relay(output: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let mut output = BufReader::new(output).lines();
    while let Ok(Some(line)) = output.next_line().await {
        if lines.send(line).await.is_err() {
            return;
        }
    }
}

/// The address of a line that says where a server listens, once it has a port.
fn url(line: &str) -> Option<String> {
    let says = ["listening http://", "listening on http://", "running on http://"];
    let at = says.iter().find_map(|says| line.find(says).map(|at| at + says.len()))?;
    let address = line[at..].split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).next()?;
    (!address.ends_with(":0")).then(|| format!("http://{address}"))
}

/// A vault and a gateway whose providers are all at one URL.
struct Desk {
    chat: ChatServiceClient<Channel>,
    _gateway: Process,
    _vault: Process,
    _folder: TempDir,
}

impl Desk {
    async fn at(url: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = ["ANTHROPIC", "OPENAI", "GEMINI"];
        let setup = Setup {
            vault_environment: keys
                .map(|name| (format!("ARCHESTRA_CHAT_{name}_API_KEY"), "key-of-a-test".to_owned()))
                .to_vec(),
            ..Setup::default()
        };
        let vault = start_vault(folder.path(), &setup).await.expect("a vault");
        let gateway = start_gateway(folder.path(), &vault.url(), url, &setup).await.expect("a gateway");
        let chat = ChatServiceClient::connect(gateway.url()).await.expect("it serves");
        Self { chat, _gateway: gateway, _vault: vault, _folder: folder }
    }

    /// The answer as a stream and as a whole, which must say the same.
    async fn answers(&mut self, request: StreamChatRequest) -> (Answer, ChatResponse) {
        let streamed = Answer::read(self.chat.stream_chat(request.clone()).await).await;
        assert!(streamed.failure.is_none(), "{streamed:?}");
        let whole = self.chat.chat(whole(&request)).await.expect("an answer").into_inner();
        (streamed, whole)
    }

    async fn fails(&mut self, request: StreamChatRequest) -> Answer {
        let answer = Answer::read(self.chat.stream_chat(request).await).await;
        assert!(answer.failure.is_some(), "{answer:?}");
        answer
    }
}

fn whole(request: &StreamChatRequest) -> ChatRequest {
    use prost::Message as _;
    // Both have the same fields.
    ChatRequest::decode(request.encode_to_vec().as_slice()).expect("the same fields")
}

/// The endpoints, each by a model that leads to it and the choice of the API.
const ENDPOINTS: [(&str, Endpoint); 4] = [
    ("claude-sonnet-4-5", Endpoint::Messages),
    ("gpt-4o", Endpoint::ChatCompletions),
    ("gpt-4o", Endpoint::Responses),
    ("gemini-2.5-flash", Endpoint::Gemini),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Messages,
    ChatCompletions,
    Responses,
    Gemini,
}

/// A request of one endpoint that says one thing.
fn says(model: &str, endpoint: Endpoint, text: &str) -> StreamChatRequest {
    let mut request = ask(model, None, text);
    if endpoint == Endpoint::Responses {
        request.set_openai_api(proto::chat::OpenAiApi::Responses);
    }
    request
}

fn part(part: Part) -> ContentPart {
    ContentPart { part: Some(part), cache_control: None }
}

/// All texts of a whole answer.
fn text(answer: &ChatResponse) -> String {
    parts(answer)
        .filter_map(|part| match part {
            Part::Text(TextPart { text, .. }) => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

fn parts(answer: &ChatResponse) -> impl Iterator<Item = &Part> {
    answer.message.iter().flat_map(|message| &message.parts).filter_map(|part| part.part.as_ref())
}
