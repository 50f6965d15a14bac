//! A quarter of a minute of a bad night: chats of three teams with all providers, and everything
//! that the dashboards and alerts are about.
//!
//! The fake provider does what the prompt says. Faults come in every round, because a counter
//! that begins with an event shows no rate for it.

use std::time::Duration;

use proto::{
    chat::{DetectProviderRequest, chat_service_client::ChatServiceClient, stream_chat_response::Event},
    keyvault::{
        ApiKey, CreateApiKeyRequest, KeyMaterial, ListApiKeysRequest, RotateApiKeyRequest,
        RotateKeyEncryptionKeyRequest, api_key_service_client::ApiKeyServiceClient,
        vault_admin_service_client::VaultAdminServiceClient,
    },
    types::Provider,
};
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database};
use system_tests::{
    ORGANIZATION, Setup, Storage,
    answer::{Answer, ask},
    secured::{Secured, Service, Who, Wire},
};
use tokio::time::{Instant, interval, sleep, timeout};

use super::providers::{REVOKED, play};

/// How many rounds there are, and how long each takes at least: as long as between two scrapes.
const ROUNDS: usize = 14;
const ROUND: Duration = Duration::from_millis(1_100);

/// Chats at once. The crowd is one more than may be.
const CHATS_MAX: usize = 12;

/// Distinct keys in a minute. The thief wants more.
const DISTINCT_KEYS_MAX: usize = 6;
const STOLEN_KEYS: usize = DISTINCT_KEYS_MAX + 2;
/// How often keys are stolen until it is noticed.
const THEFTS_MAX: usize = 3;

/// How long a caller waits who leaves before the headers.
const IMPATIENCE: Duration = Duration::from_millis(150);

/// How long the vault and its database are away: until two callers in a row were refused.
const OUTAGE_CALLERS: usize = 2;

const MODELS: [&str; 3] = ["claude-sonnet-4-5", "gpt-4o", "gemini-2.5-flash"];

/// The platform that the night happens to.
pub(super) struct Night {
    pub(super) system: Secured,
    chat: ChatServiceClient<Wire>,
    keys: ApiKeyServiceClient<Wire>,
    operator: VaultAdminServiceClient<Wire>,
    everyone: ApiKey,
}

impl Night {
    /// Starts both services, and stores a key for each team.
    pub(super) async fn start() -> Self {
        let environment = ("ARCHESTRA_CHAT_GEMINI_API_KEY".to_owned(), "gemini-0123456789abcdef".to_owned());
        // Nobody listens there; traces are recorded all the same, so there are examples of them.
        let collector = "--otlp-endpoint=http://127.0.0.1:9".to_owned();
        let system = Secured::with(Setup {
            vault_environment: vec![environment],
            vault_options: vec![collector.clone(), format!("--distinct-keys-per-minute={DISTINCT_KEYS_MAX}")],
            gateway_options: vec![
                collector,
                format!("--chats-max={CHATS_MAX}"),
                "--metrics-profiles=research,revoked".to_owned(),
            ],
            database: Storage::Sqlite,
            ..Setup::default()
        })
        .await;
        play(&system.provider);
        let vault = |principal| system.connect(Service::Vault, &system.token(Service::Vault, principal));
        let mut keys = ApiKeyServiceClient::new(vault("admin"));
        let operator = VaultAdminServiceClient::new(vault("operator"));
        let gateway = system.connect(Service::Gateway, &system.token(Service::Gateway, "platform"));
        let chat = ChatServiceClient::new(gateway);
        store(&mut keys, Provider::Anthropic, "sk-research-0123456789abcdef", &["research"]).await;
        store(&mut keys, Provider::Openai, REVOKED, &["revoked"]).await;
        let everyone = store(&mut keys, Provider::Openai, "sk-everyone-0123456789abcdef", &[]).await;
        Self { system, chat, keys, operator, everyone }
    }

    /// All of it.
    pub(super) async fn passes(&mut self) {
        let mut beats = interval(ROUND);
        for round in 0..ROUNDS {
            beats.tick().await;
            self.round(round).await;
        }
        self.without_the_vault().await;
        self.without_records().await;
        self.with_a_thief().await;
    }

    async fn round(&mut self, round: usize) {
        self.chats("tell me", round).await;
        for _ in 0..2 {
            self.asks("gpt-4o", "revoked", "hello").await;
            self.asks("claude-sonnet-4-5", "research", "break off").await;
        }
        self.asks("gpt-4o", "research", "too much").await;
        self.asks("claude-sonnet-4-5", "poor", "no key").await;
        self.asks("nobodys-model", "research", "which").await;
        self.leaves().await;
        self.strangers().await;
        if round.is_multiple_of(3) {
            self.asks("gemini-2.5-flash", "research", "fall over").await;
            self.asks("gemini-2.5-flash", "research", "fall over").await;
            self.crowd().await;
            self.rotates().await;
        }
    }

    /// Everybody gets an answer.
    async fn chats(&self, prompt: &str, round: usize) {
        let chats = (0..6).map(|n| self.asks(MODELS[(n + round) % MODELS.len()], "research", prompt));
        futures_util::future::join_all(chats).await;
    }

    async fn asks(&self, model: &str, profile: &str, prompt: &str) -> Answer {
        Answer::read(self.chat.clone().stream_chat(ask(model, Some(profile), prompt)).await).await
    }

    /// Two callers leave: one before the headers, one in the middle of an answer.
    async fn leaves(&self) {
        let request = || ask("gpt-4o", Some("research"), "think long");
        // It ends with the caller's patience.
        let _ = timeout(IMPATIENCE, self.chat.clone().stream_chat(request())).await;
        let request = ask("gpt-4o", Some("research"), "pause");
        let mut events = self.chat.clone().stream_chat(request).await.expect("it begins").into_inner();
        while let Ok(Some(event)) = events.message().await {
            if matches!(event.event, Some(Event::TextDelta(_))) {
                break;
            }
        }
    }

    /// Callers that nobody knows, or who want what is not theirs.
    async fn strangers(&self) {
        let request = || ask("gpt-4o", Some("team-b"), "whose key is it");
        for who in [Who::Nobody, self.system.token(Service::Gateway, "team-a")] {
            let wire = self.system.connect(Service::Gateway, &who);
            assert!(ChatServiceClient::new(wire).stream_chat(request()).await.is_err(), "{who:?} is refused");
        }
        let list = || ListApiKeysRequest { organization_id: ORGANIZATION.to_owned(), ..Default::default() };
        for who in [Who::Nobody, self.system.token(Service::Vault, "gateway")] {
            let wire = self.system.connect(Service::Vault, &who);
            assert!(ApiKeyServiceClient::new(wire).list_api_keys(list()).await.is_err(), "{who:?} is refused");
        }
        let detect = DetectProviderRequest { model: "gpt-4o".to_owned() };
        self.chat.clone().detect_provider(detect).await.expect("everybody may ask for that");
    }

    /// More callers at once than the gateway takes.
    async fn crowd(&self) {
        let chats = (0..=CHATS_MAX + 2).map(|_| self.asks("gpt-4o", "research", "pause"));
        let answers = futures_util::future::join_all(chats).await;
        let refused = answers.iter().filter_map(|answer| answer.failure.as_ref());
        assert!(refused.into_iter().any(|failure| failure.reason == "OVERLOADED"), "the crowd is too large");
    }

    /// A key of a provider, and the one that all hang from.
    async fn rotates(&mut self) {
        let request = RotateApiKeyRequest {
            organization_id: ORGANIZATION.to_owned(),
            api_key_id: self.everyone.api_key_id.clone(),
            material: Some(KeyMaterial { api_key: "sk-everyone-anew-0123456789abcdef".to_owned() }),
            ..Default::default()
        };
        self.keys.rotate_api_key(request).await.expect("it is rotated");
        let request = RotateKeyEncryptionKeyRequest::default();
        self.operator.rotate_key_encryption_key(request).await.expect("it is rotated");
    }

    /// The vault hangs, and callers come whose key is not kept.
    async fn without_the_vault(&self) {
        self.system.vault.pause().await;
        self.newcomers("unlucky", "VAULT_UNAVAILABLE").await;
        self.system.vault.resume().await;
        self.until_answered("patient").await;
    }

    /// Somebody holds the database, so that no record can be written.
    async fn without_records(&self) {
        let path = self.system.files().folder().join("vault.db");
        let mut options = ConnectOptions::new(format!("sqlite:{}", path.display()));
        options.max_connections(1);
        let database = Database::connect(options).await.expect("the database opens");
        database.execute_unprepared("BEGIN IMMEDIATE").await.expect("it is held");
        self.newcomers("unrecorded", "AUDIT_UNAVAILABLE").await;
        database.execute_unprepared("ROLLBACK").await.expect("it is free");
        self.until_answered("recorded").await;
    }

    async fn newcomers(&self, name: &str, reason: &str) {
        for n in 0..OUTAGE_CALLERS {
            let begun = Instant::now();
            let answer = self.asks("gpt-4o", &format!("{name}-{n}"), "hello").await;
            assert_eq!(answer.failed().reason, reason, "{:?}", answer.failed());
            // Two scrapes apart, or it is one event for Prometheus.
            sleep((2 * ROUND).saturating_sub(begun.elapsed())).await;
        }
    }

    /// Waits until somebody whose key is not kept is answered.
    async fn until_answered(&self, name: &str) {
        let begun = Instant::now();
        while self.asks("gpt-4o", name, "hello").await.failure.is_some() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the vault does not come back");
        }
    }

    /// Somebody with the gateway's identity wants every key.
    async fn with_a_thief(&mut self) {
        for round in 0..2 {
            // A minute of the limit may end in the midst of one theft, and not of the next.
            let mut refused = 0;
            for theft in 0..THEFTS_MAX {
                refused = self.steals(&format!("{round}-{theft}")).await;
                if refused > 0 {
                    break;
                }
            }
            assert!(refused > 0, "the thief is stopped");
            sleep(ROUND).await;
        }
    }

    /// Asks for keys that nobody asked for before. Returns how many are refused.
    async fn steals(&mut self, theft: &str) -> usize {
        let mut refused = 0;
        for n in 0..STOLEN_KEYS {
            let (material, profile) = (format!("sk-team-{theft}-{n}-0123456789abcdef"), format!("team-{theft}-{n}"));
            store(&mut self.keys, Provider::Openai, &material, &[&profile]).await;
            let answer = self.asks("gpt-4o", &profile, "hello").await;
            refused += usize::from(answer.failure.is_some_and(|failure| failure.reason == "RATE_LIMITED"));
        }
        refused
    }
}

/// Stores a key of [`ORGANIZATION`], for all if no profile is named.
async fn store(keys: &mut ApiKeyServiceClient<Wire>, provider: Provider, key: &str, profiles: &[&str]) -> ApiKey {
    let request = CreateApiKeyRequest {
        organization_id: ORGANIZATION.to_owned(),
        provider: provider.into(),
        display_name: "a team's".to_owned(),
        material: Some(KeyMaterial { api_key: key.to_owned() }),
        set_as_organization_default: profiles.is_empty(),
        profile_ids: profiles.iter().map(|profile| (*profile).to_owned()).collect(),
        ..Default::default()
    };
    keys.create_api_key(request).await.expect("it is stored").into_inner().api_key.expect("a key")
}
