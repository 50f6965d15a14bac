//! Both services, a provider, and a collector that both export to.

use std::time::Duration;

use proto::{
    chat::{StreamChatRequest, chat_service_client::ChatServiceClient, stream_chat_response::Event},
    keyvault::{ListAuditEventsRequest, SetFallbackPolicyRequest, vault_admin_service_client::VaultAdminServiceClient},
    types::Provider,
};
use system_tests::{
    Links, ORGANIZATION, Setup, System,
    answer::{Answer, ask},
    collector::{Collector, Trace},
    stage::wire::Api,
};
use tonic::{Request, transport::Channel};

/// The id of the caller's span, in all traces of these tests.
pub(crate) const CALLER: &str = "b7ad6b7169203331";

/// No chat of these tests takes longer.
const CHAT_MAX: Duration = Duration::from_secs(30);

/// Between two looks at something.
const PAUSE: Duration = Duration::from_millis(20);

/// All of it.
pub(crate) struct Desk {
    pub(crate) system: System,
    pub(crate) collector: Collector,
}

/// What is left when both services have stopped: all that they exported and logged.
pub(crate) struct Seen {
    pub(crate) collector: Collector,
    pub(crate) vault_log: String,
    pub(crate) gateway_log: String,
}

/// A chat that is over.
pub(crate) struct Chatted {
    /// What came of it.
    pub(crate) answer: Answer,
    /// The id of its trace.
    pub(crate) trace: String,
}

impl Desk {
    /// With a key of everybody for each provider.
    pub(crate) async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// With further options.
    pub(crate) async fn with(setup: Setup) -> Self {
        let collector = Collector::start().await;
        let setup = exporting(setup, &collector.url());
        let mut system = System::with(setup).await;
        for api in Api::PROVIDERS {
            system.add_key(api.provider(), &key(api.provider()), Links { default: true, profiles: &[] }).await;
        }
        is_told_of_changes(&mut system).await;
        Self { system, collector }
    }

    /// Chats in a new trace of the caller's.
    pub(crate) async fn chat(&mut self, request: StreamChatRequest) -> Chatted {
        let trace = new_trace();
        let answer = self.chat_as(request, &[("traceparent", &sampled(&trace))]).await;
        Chatted { answer, trace }
    }

    /// Chats with headers of the caller's.
    pub(crate) async fn chat_as(&mut self, request: StreamChatRequest, headers: &[(&'static str, &str)]) -> Answer {
        chat_over(&mut self.system.chat, request, headers).await
    }

    /// Chats in a new trace, and leaves once there is some text. Returns the id of the trace once
    /// the provider has seen it.
    pub(crate) async fn leaves_mid_stream(&mut self, request: StreamChatRequest) -> String {
        let trace = new_trace();
        self.leaves_after(1, request, &trace).await;
        trace
    }

    /// Chats in a trace, and leaves after so many pieces of text. Returns once the provider has
    /// seen it.
    pub(crate) async fn leaves_after(&mut self, texts: usize, request: StreamChatRequest, trace: &str) {
        let hung_up = self.system.provider.hung_up();
        let request = with(request, &[("traceparent", &sampled(trace))]);
        let reads = async {
            let mut events = self.system.chat.stream_chat(request).await.expect("an answer").into_inner();
            let mut left = texts;
            while left > 0 {
                let event = events.message().await.expect("an event").expect("the answer goes on").event;
                left -= usize::from(matches!(event, Some(Event::TextDelta(_))));
            }
        };
        tokio::time::timeout(CHAT_MAX, reads).await.expect("some text comes");
        self.system.provider.sees_hang_ups(hung_up + 1, CHAT_MAX).await.expect("the provider sees it");
    }

    /// Lets the key of a model be kept, in a trace of its own.
    pub(crate) async fn warms(&mut self, api: Api, profile: Option<&str>) {
        self.system.provider.always_answers(api.whole(1));
        let chatted = self.chat(ask(api.model(), profile, "warm")).await;
        assert!(chatted.answer.failure.is_none(), "{:?}", chatted.answer);
    }

    /// Stops both services, which sends the last of what they have.
    pub(crate) async fn ends(self) -> Seen {
        let System { vault, gateway, .. } = self.system;
        // First who calls: its last calls are of the vault.
        let (_, gateway_log) = gateway.stop().await;
        let (_, vault_log) = vault.stop().await;
        Seen { collector: self.collector, vault_log, gateway_log }
    }
}

impl Seen {
    pub(crate) fn trace(&self, id: &str) -> Trace {
        self.collector.trace(id)
    }
}

/// Waits until the gateway is told of changes: before that it forgets the keys that it keeps once
/// more, when it hears of the vault for the first time.
async fn is_told_of_changes(system: &mut System) {
    const NOBODY: &str = "nobody";
    let mut admin = VaultAdminServiceClient::connect(system.vault.url()).await.expect("a connection");
    system.provider.always_answers(Api::Gemini.whole(1));
    let mut resolutions = async |system: &mut System| {
        let answer = chat_over(&mut system.chat, ask(Api::Gemini.model(), Some(NOBODY), "Hi"), &[]).await;
        assert!(answer.failure.is_none(), "{answer:?}");
        let request = ListAuditEventsRequest {
            action: "ResolveKey".to_owned(),
            organization_id: ORGANIZATION.to_owned(),
            profile_id: NOBODY.to_owned(),
            ..Default::default()
        };
        admin.list_audit_events(request).await.expect("a page").into_inner().events.len()
    };
    let before = resolutions(system).await;
    let policy = SetFallbackPolicyRequest {
        organization_id: ORGANIZATION.to_owned(),
        profile_id: Some(NOBODY.to_owned()),
        allow_environment: Some(false),
        ..Default::default()
    };
    system.keys.set_fallback_policy(policy).await.expect("a policy");
    let told = async {
        while resolutions(system).await == before {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(CHAT_MAX, told).await.expect("the gateway is told of the change");
    system.provider.forgets();
}

/// Chats with headers of the caller's.
pub(crate) async fn chat_over(
    client: &mut ChatServiceClient<Channel>,
    request: StreamChatRequest,
    headers: &[(&'static str, &str)],
) -> Answer {
    let answer = async { Answer::read(client.stream_chat(with(request, headers)).await).await };
    tokio::time::timeout(CHAT_MAX, answer).await.expect("a chat never hangs")
}

/// The same system, which exports.
pub(crate) fn exporting(mut setup: Setup, url: &str) -> Setup {
    for options in [&mut setup.vault_options, &mut setup.gateway_options] {
        options.push(format!("--otlp-endpoint={url}"));
    }
    setup
}

/// The key of everybody for a provider.
pub(crate) fn key(provider: Provider) -> String {
    format!("sk-traced-{provider:?}-0123456789abcdef")
}

/// The id of a new trace.
pub(crate) fn new_trace() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The header of a caller who records a trace.
pub(crate) fn sampled(trace: &str) -> String {
    format!("00-{trace}-{CALLER}-01")
}

/// The header of a caller who does not.
pub(crate) fn unsampled(trace: &str) -> String {
    format!("00-{trace}-{CALLER}-00")
}

/// A request with headers.
pub(crate) fn with<T>(request: T, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(request);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().expect("a header"));
    }
    request
}
