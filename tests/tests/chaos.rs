//! Providers of which every fifth answer is faulty: what a caller gets is the whole answer or a
//! status, and in good time.
//!
//! The faults are those of two programs that others wrote, `aimock` (npm) and `llmock` (`PyPI`),
//! and of our own fake provider, which breaks answers at any byte. Each says known texts, with
//! which the answers are compared.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Mutex,
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures_util::{StreamExt as _, stream};
use proto::chat::{
    ChatRequest, OpenAiApi, StreamChatRequest, TextPart, chat_service_client::ChatServiceClient, content_part::Part,
};
use serde_json::{Value, json};
use system_tests::{
    FakeProvider, Process, Setup,
    answer::{Answer, Failure, ask},
    chats::answer_of_openai,
    fake_provider::{Answer as Said, End},
    foreign_server::ForeignServer,
    start_gateway, start_vault,
    vault_stage::chat_client,
};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};
use tonic::transport::Channel;

const CHATS: usize = 1_000;
const AT_ONCE: usize = 16;

/// The longest time that a chat may take, attempts and their pauses included.
const CHAT_MAX: Duration = Duration::from_secs(40);

/// Of so many chats with aimock one is cut in the middle, whatever the dice say.
const CUT_OF: usize = 10;

/// The texts of aimock. Of several lengths, with characters of one to four bytes.
const STORIES: usize = 5;

/// The seed of all dice that are ours.
const SEED: u64 = 20;

/// A chat, and the only text that may come of it.
struct Case {
    who: &'static str,
    client: ChatServiceClient<Channel>,
    request: StreamChatRequest,
    text: String,
    /// It is cut each time, unless it fails before.
    always_cut: bool,
    /// As a stream or as a whole.
    streamed: bool,
}

impl Case {
    /// Chats, and returns how it failed if it did. Panics over an answer that is not whole.
    async fn run(self) -> (&'static str, Option<Failure>) {
        let mut client = self.client;
        let request = self.request.clone();
        let chat = async {
            if self.streamed {
                let answer = Answer::read(client.stream_chat(request).await).await;
                return answer.failure.map_or(Ok(answer.text), Err);
            }
            let response = client.chat(whole(&request)).await.map_err(Failure::from)?.into_inner();
            assert!(response.finished.is_some(), "a whole answer has its end");
            let parts = response.message.into_iter().flat_map(|message| message.parts);
            let texts = parts
                .map(|part| if let Some(Part::Text(TextPart { text, .. })) = part.part { text } else { String::new() });
            Ok(texts.collect())
        };
        let outcome = timeout(CHAT_MAX, chat).await;
        match outcome.unwrap_or_else(|_| panic!("a chat with {} hangs: {:?}", self.who, self.request)) {
            Ok(text) => {
                assert!(!self.always_cut, "{}: a cut answer was passed off as whole: {text:?}", self.who);
                assert_eq!(text, self.text, "{}: an answer is whole", self.who);
                (self.who, None)
            }
            Err(failure) => {
                assert!(!failure.reason.is_empty(), "{}: a failure says what it is: {failure:?}", self.who);
                let class = failure.class();
                assert!(!class.starts_with("Unauthenticated") && !class.starts_with("Internal"), "{failure:?}");
                (self.who, Some(failure))
            }
        }
    }
}

fn whole(request: &StreamChatRequest) -> ChatRequest {
    use prost::Message as _;
    // Both have the same fields.
    ChatRequest::decode(request.encode_to_vec().as_slice()).expect("the same fields")
}

/// A gateway for each server, and one vault for all.
struct Stage {
    folder: TempDir,
    setup: Setup,
    vault: Process,
    gateways: Vec<Process>,
}

impl Stage {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let variable = |name| (format!("ARCHESTRA_CHAT_{name}_API_KEY"), "key-of-a-test".to_owned());
        let vault_environment = ["ANTHROPIC", "OPENAI", "GEMINI"].map(variable).to_vec();
        let setup = Setup { vault_environment, ..Setup::default() };
        let vault = start_vault(folder.path(), &setup).await.expect("a vault");
        Self { folder, setup, vault, gateways: Vec::new() }
    }

    async fn gateway(&mut self, provider: &str) -> ChatServiceClient<Channel> {
        let gateway = start_gateway(self.folder.path(), &self.vault.url(), provider, &self.setup).await;
        let gateway = gateway.expect("a gateway");
        let client = chat_client(&gateway);
        self.gateways.push(gateway);
        client
    }
}

fn story(number: usize) -> String {
    let words = ["a plain word, ", "\u{e9}t\u{e9}, ", "\u{6f22}\u{5b57}, ", "\u{1f980}, "];
    (0..=number * 12).map(|word| words[word % words.len()]).collect::<String>() + "the end."
}

/// Faults before output by dice, and in the middle for those who ask for it.
async fn aimock(folder: &TempDir) -> Option<ForeignServer> {
    let stories = (0..STORIES).flat_map(|number| {
        let response = json!({ "content": story(number) });
        [
            json!({ "match": { "userMessage": format!("cut {number}.") }, "response": response, "truncateAfterChunks": 8, "latency": 5, "chunkSize": 4 }),
            json!({ "match": { "userMessage": format!("story {number}.") }, "response": response, "chunkSize": 16 }),
        ]
    });
    let fixtures = folder.path().join("fixtures.json");
    let written: Vec<Value> = stories.collect();
    std::fs::write(&fixtures, json!({ "fixtures": written }).to_string()).expect("written");
    let config = folder.path().join("aimock.json");
    let chaos = json!({ "dropRate": 0.03, "malformedRate": 0.03, "rateLimitRate": 0.03, "disconnectRate": 0.03 });
    std::fs::write(&config, json!({ "llm": { "fixtures": fixtures, "chaos": chaos } }).to_string()).expect("written");
    let mut command = Command::new("aimock");
    command.arg("--config").arg(config).args(["--port", "0"]);
    ForeignServer::start("aimock (npm @copilotkit/aimock)", &mut command).await
}

/// Faults before output and in the middle, by dice. Repeats what it is asked.
async fn llmock() -> Option<ForeignServer> {
    let mut command = Command::new("python3");
    command.args([
        "-m",
        "llmock.cli",
        "serve",
        "--port",
        "0",
        "--response-style",
        "echo",
        "--stream-stall-seconds",
        "1",
    ]);
    for fault in ["truncate=0.04", "disconnect=0.04", "malformed=0.04", "stall=0.03"] {
        command.args(["--stream-fault", fault]);
    }
    for error in ["500=0.02", "503=0.02", "429=0.01"] {
        command.args(["--error-rate", error]);
    }
    ForeignServer::start("llmock (PyPI llmock)", &mut command).await
}

/// Our own: answers that break at any byte, in writes of any size.
fn breaks_at_any_byte(provider: &FakeProvider) {
    let dice = Mutex::new(Rng::with_seed(SEED));
    provider.answers_by(move |received| {
        let body = String::from_utf8_lossy(&received.body);
        let question = body.split_once("question ").and_then(|(_, rest)| rest.split_once('.')).expect("a question").0;
        let Said { body, .. } = answer_of_openai(&own_text(question));
        let mut dice = dice.lock().expect("no panic before");
        let size = dice.usize(1..200);
        if dice.usize(..5) > 0 {
            return Said::stream(body).in_writes_of(size);
        }
        let at = dice.usize(..body.len());
        match dice.usize(..6) {
            0 => Said::stream(&body[..at]).in_writes_of(size).ending(End::Cut),
            1 => Said::stream(&body[..at]).in_writes_of(size),
            2 => {
                let mut spoilt = body[..at].to_vec();
                spoilt.extend(b"\n\ndata: {\"choices\":[{\xff");
                Said::stream(spoilt).in_writes_of(size)
            }
            3 => Said::json(500, r#"{"error":{"message":"no","type":"server_error"}}"#),
            4 => Said::json(503, "busy"),
            _ => Said::stream(""),
        }
    });
}

fn own_text(question: &str) -> String {
    let length = question.bytes().map(usize::from).sum::<usize>() % 40;
    format!("Answer {question}: {}", "word ".repeat(length))
}

/// How it ended, how often.
#[derive(Default)]
struct Counts(BTreeMap<&'static str, BTreeMap<String, usize>>);

impl Counts {
    fn of(&self, class: &str) -> usize {
        self.0.values().filter_map(|of| of.get(class)).sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (who, counts) in &self.0 {
            let counts: Vec<_> = counts.iter().map(|(class, count)| format!("{count} {class}")).collect();
            write!(f, "\n  {who}: {}", counts.join(", "))?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_providers_that_fail_in_every_fifth_answer_each_answer_is_whole_or_a_status() {
    let mut stage = Stage::start().await;
    let (Some(aimock), Some(llmock)) = (aimock(&stage.folder).await, llmock().await) else { return };
    let own = FakeProvider::start().await.expect("a provider");
    breaks_at_any_byte(&own);
    let with_aimock = stage.gateway(&aimock.url).await;
    let with_llmock = stage.gateway(&llmock.url).await;
    let with_own = stage.gateway(&own.url()).await;

    let case = |number: usize| {
        let streamed = number.is_multiple_of(2);
        match number % 10 {
            0..4 => aimock_case(with_aimock.clone(), number / 10 * 4 + number % 10, streamed),
            4..7 => llmock_case(with_llmock.clone(), number, streamed),
            _ => {
                let question = number.to_string();
                let request = ask("gpt-4o", None, &format!("question {question}."));
                let text = own_text(&question);
                Case { who: "own", client: with_own.clone(), request, text, always_cut: false, streamed }
            }
        }
    };
    let start = Instant::now();
    let mut counts = Counts::default();
    let mut outcomes = stream::iter((0..CHATS).map(|number| case(number).run())).buffer_unordered(AT_ONCE);
    while let Some((who, failure)) = outcomes.next().await {
        let class = failure.map_or_else(|| "whole".to_owned(), |failure| failure.class());
        *counts.0.entry(who).or_default().entry(class).or_default() += 1;
    }

    println!("{CHATS} chats in {:?}: {counts}", start.elapsed());
    let (whole, cut) = (counts.of("whole"), counts.of("Aborted STREAM_TRUNCATED"));
    assert!(whole > CHATS / 2 && cut > 0, "most are whole, and some were cut: {counts}");
}

fn aimock_case(client: ChatServiceClient<Channel>, number: usize, streamed: bool) -> Case {
    let always_cut = number % CUT_OF == CUT_OF - 1;
    let (wish, chosen) = (if always_cut { "cut" } else { "story" }, number % STORIES);
    // What is cut after some pieces must have more of them.
    let chosen = if always_cut { chosen.max(1) } else { chosen };
    let model = ["claude-sonnet-4-5", "gpt-4o", "gemini-2.5-flash"][number % 3];
    let mut request = ask(model, None, &format!("{wish} {chosen}."));
    if model == "gpt-4o" && number.is_multiple_of(2) {
        request.set_openai_api(OpenAiApi::Responses);
    }
    Case { who: "aimock", client, request, text: story(chosen), always_cut, streamed }
}

fn llmock_case(client: ChatServiceClient<Channel>, number: usize, streamed: bool) -> Case {
    let said = format!("Say this again, number {number}, and nothing else.");
    let mut request = ask("gpt-4o", None, &said);
    if number.is_multiple_of(3) {
        request.set_openai_api(OpenAiApi::Responses);
    }
    Case { who: "llmock", client, request, text: format!("Hello! You said: {said}"), always_cut: false, streamed }
}
