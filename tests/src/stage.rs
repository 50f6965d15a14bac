//! A system in front of a provider that speaks one version of HTTP over TLS, and cases that
//! are played on it: what the provider says to each, what it saw, what the caller got.
//!
//! The text of a request has the number of its case, so that the answers to one case and its
//! attempts are told from those of all others.

pub mod row;
pub mod wire;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use proto::{
    chat::{ChatRequest, StreamChatRequest},
    keyvault::{QueryUsageRequest, UsageDimension, UsageRow, usage_service_client::UsageServiceClient},
};
use tempfile::TempDir;
use tonic::{Request, transport::Endpoint};

use crate::{
    FakeProvider, Links, ORGANIZATION, Setup, System,
    answer::{Answer, ask},
    certs::Authority,
    fake_provider::{Answer as Said, Http, Received},
    replicas::eventually,
};
use wire::Api;

/// No wait of a case is longer, but for those that are about waits.
pub const CASE_MAX: Duration = Duration::from_secs(30);

/// How long a provider's connection may stay open after what ended it, on a busy machine.
pub const CLOSED_WITHIN: Duration = Duration::from_secs(2);

/// Decides what a provider answers to one case.
type Script = Box<dyn FnMut(&Received) -> Said + Send>;

/// A system, and what its provider says to each case.
pub struct Stage {
    /// Both services, and the provider.
    pub system: System,
    /// What the provider speaks.
    pub http: Http,
    /// The ids of the keys, by the provider.
    pub keys: HashMap<Api, String>,
    scripts: Scripts,
    cases: AtomicUsize,
    /// The certificate that the gateway trusts.
    _folder: TempDir,
}

type Scripts = Arc<Mutex<HashMap<(usize, Api), Script>>>;

impl Stage {
    /// Starts a system with options of the gateway.
    pub async fn start(http: Http, options: &[&str]) -> Arc<Self> {
        let authority = Authority::new("providers");
        let folder = tempfile::tempdir().expect("a folder");
        let trusted = folder.path().join("providers.pem");
        std::fs::write(&trusted, authority.pem()).expect("the certificate is written");
        let setup = Setup {
            gateway_options: options.iter().map(|option| (*option).to_owned()).collect(),
            gateway_environment: vec![("SSL_CERT_FILE".to_owned(), trusted.display().to_string())],
            folder_in_memory: true,
            ..Setup::default()
        };
        let provider = FakeProvider::over_tls(&authority, http).await.expect("a provider");
        let mut system = System::between(setup, provider).await.expect("the system starts");
        let mut keys = HashMap::new();
        for api in Api::PROVIDERS {
            let links = Links { default: true, profiles: &[] };
            let key = system.add_key(api.provider(), &material(api), links).await;
            keys.insert(api, key.api_key_id);
        }
        keys.insert(Api::Responses, keys[&Api::ChatCompletions].clone());
        let scripts = Scripts::default();
        system.provider.answers_by({
            let scripts = Arc::clone(&scripts);
            move |received| {
                let place = (number(received), Api::of(&received.path));
                let mut scripts = scripts.lock().expect("no panic in a script");
                match scripts.get_mut(&place) {
                    Some(script) => script(received),
                    None => Said::json(500, format!("{{\"error\":{{\"message\":\"nothing is said to {place:?}\"}}}}")),
                }
            }
        });
        Arc::new(Self { system, http, keys, scripts, cases: AtomicUsize::new(1), _folder: folder })
    }

    /// A new case, which is about an API.
    pub fn case(self: &Arc<Self>, api: Api) -> Case {
        let number = self.cases.fetch_add(1, Ordering::Relaxed);
        Case { stage: Arc::clone(self), api, number }
    }

    /// The most memory that the gateway has had at once, in bytes.
    pub fn peak(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.system.gateway.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
        let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes * 1024
    }
}

/// The key of a provider.
pub fn material(api: Api) -> String {
    format!("key-of-{:?}-for-tests", api.provider())
}

/// The case that a request belongs to.
fn number(received: &Received) -> usize {
    let body = String::from_utf8_lossy(&received.body);
    let number = body.split("case ").nth(1).expect("a request of a case");
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("its number")
}

/// One thing that happens on a stage.
#[derive(Clone)]
pub struct Case {
    /// Where.
    pub stage: Arc<Stage>,
    /// The API that is asked first.
    pub api: Api,
    number: usize,
}

impl Case {
    /// Another case of the same kind.
    #[must_use]
    pub fn another(&self) -> Self {
        self.stage.case(self.api)
    }

    /// Answers requests of this case in order; the last answer stays.
    pub fn says(&self, api: Api, answers: impl Into<VecDeque<Said>>) {
        let mut answers: VecDeque<Said> = answers.into();
        self.says_by(api, move |_| {
            let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
            next.expect("an answer")
        });
    }

    /// Answers requests of this case as `script` says.
    pub fn says_by(&self, api: Api, script: impl FnMut(&Received) -> Said + Send + 'static) {
        self.stage.scripts.lock().expect("no panic in a script").insert((self.number, api), Box::new(script));
    }

    /// The request of this case, which names models to fall back on.
    pub fn request(&self, fallbacks: &[Api]) -> StreamChatRequest {
        let mut request = ask(self.api.model(), None, &format!("case {} ends here", self.number));
        request.set_openai_api(self.api.choice());
        request.fallback_models = fallbacks.iter().map(|api| api.model().to_owned()).collect();
        request
    }

    /// Asks, and reads the answer to its end.
    pub async fn asks(&self, request: impl tonic::IntoRequest<StreamChatRequest>) -> Answer {
        // Larger answers than clients take otherwise are what some cases are about.
        let mut client = self.stage.system.chat.clone().max_decoding_message_size(64 * 1024 * 1024);
        let answer = async { Answer::read(client.stream_chat(request).await).await };
        tokio::time::timeout(CASE_MAX.max(row::patience()), answer).await.expect("a call never hangs")
    }

    /// Asks without models to fall back on.
    pub async fn plainly(&self) -> Answer {
        self.asks(self.request(&[])).await
    }

    /// Asks with a deadline that only the gateway knows of, so that its answer and not a timer
    /// of the client is what comes.
    pub async fn asks_within(&self, limit: Duration, request: StreamChatRequest) -> Answer {
        let mut request = Request::new(request);
        let timeout = format!("{}m", limit.as_millis());
        request.metadata_mut().insert("grpc-timeout", timeout.parse().expect("a header"));
        self.asks(request).await
    }

    /// What the provider was sent of this case, at an API.
    pub fn attempts(&self, api: Api) -> Vec<Received> {
        let mut received = self.stage.system.provider.received();
        received.retain(|received| Api::of(&received.path) == api && number(received) == self.number);
        for attempt in &received {
            assert_eq!(attempt.version, self.stage.http.version(), "the version of HTTP that this is about");
        }
        received
    }

    /// Waits until the provider has the first request of this case.
    pub async fn is_asked(&self) {
        eventually("the provider is asked", async || (self.tries() > 0).then_some(())).await;
    }

    /// How many attempts there were at the API that is asked first.
    pub fn tries(&self) -> usize {
        self.attempts(self.api).len()
    }

    /// The times between the attempts at the API that is asked first.
    pub fn gaps(&self) -> Vec<Duration> {
        let times: Vec<Instant> = self.attempts(self.api).iter().map(|attempt| attempt.at).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// The id of the key of an API.
    pub fn key(&self, api: Api) -> &str {
        &self.stage.keys[&api]
    }

    /// What the key of an API was used for so far, in all cases.
    pub async fn used(&self, api: Api) -> UsageRow {
        let vault = Endpoint::from_shared(self.stage.system.vault.url()).expect("a URL").connect_lazy();
        let request = QueryUsageRequest {
            organization_id: ORGANIZATION.to_owned(),
            api_key_id: self.key(api).to_owned(),
            group_by: vec![UsageDimension::Key.into()],
            ..Default::default()
        };
        let answer = UsageServiceClient::new(vault).query_usage(request).await.expect("an answer").into_inner();
        answer.rows.into_iter().next().unwrap_or_default()
    }

    /// Waits until nothing of any case is open at the provider.
    pub async fn nothing_stays_open(&self) {
        let provider = &self.stage.system.provider;
        provider.is_idle(CLOSED_WITHIN).await.unwrap_or_else(|_| {
            panic!("{} requests are open at {:?}", provider.open_requests(), self.api);
        });
    }

    /// The provider answers another request as if nothing had been.
    pub async fn is_healthy_afterwards(&self) {
        let next = self.another();
        next.says(self.api, [self.api.whole(2)]);
        let answer = next.plainly().await;
        answer.is_whole(self.api, 2);
        assert_eq!(next.tries(), 1, "the next chat is nothing special");
    }
}

impl Answer {
    /// Panics unless it is the whole answer of so many tokens, of an API.
    pub fn is_whole(&self, api: Api, tokens: usize) {
        assert_eq!(self.failure.as_ref().map(|failure| (failure.class(), failure.message.clone())), None);
        assert_eq!(self.text, wire::text(0..tokens));
        let started = self.started.as_ref().expect("started");
        assert_eq!((started.provider(), started.model.as_str()), (api.provider(), api.model()));
        let usage = self.finished.as_ref().and_then(|finished| finished.usage).expect("the final usage");
        let output = i64::try_from(tokens).expect("a small number");
        assert_eq!((usage.input_tokens, usage.output_tokens), (Some(wire::INPUT_TOKENS), Some(output)));
    }

    /// Panics unless it is an answer that broke off for a cause after so many tokens, and says
    /// what of it is known to be used.
    pub fn is_truncated(&self, api: Api, tokens: usize, cause: &str) {
        let failure = self.failed();
        assert_eq!((failure.class().as_str(), failure.value("cause")), ("Aborted STREAM_TRUNCATED", cause));
        assert_eq!(self.text, wire::text(0..tokens), "all that came, and nothing else");
        assert!(self.finished.is_none());
        let trailer = failure.usage.clone().expect("the trailer with the usage");
        let usage: proto::chat::Usage = prost::Message::decode(trailer.as_slice()).expect("a usage");
        assert_eq!((usage.input_tokens, usage.output_tokens), api.known(tokens));
    }
}

/// The same request for the whole answer.
pub fn whole(request: StreamChatRequest) -> ChatRequest {
    ChatRequest {
        organization_id: request.organization_id,
        profile_id: request.profile_id,
        model: request.model,
        messages: request.messages,
        openai_api: request.openai_api,
        fallback_models: request.fallback_models,
        on_disconnect: request.on_disconnect,
        ..Default::default()
    }
}
