//! The command line: every command and option, its default and its variable.
//!
//! Each option of `serve`, and each that says where a client connects, is also
//! `CHAT_GATEWAY_<NAME>`; the command line wins.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::Shell;
use service_runtime::{
    client::{ClientIdentityOptions, Credentials},
    options,
    server::ServerOptions,
    telemetry::TelemetryOptions,
    token,
};

use crate::{
    chat::ChatLimits, keys::KeyOptions, message::Provider, metrics::MetricsOptions, rpc::REQUEST_BYTES_MAX,
    upstream::UpstreamOptions,
};

/// Streams chat completions from the provider of a model with the key of a profile
#[derive(Debug, Parser)]
#[command(name = "chat-gateway", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line and the environment. Ends the process with a message if
    /// they cannot be understood, as users expect of `--help` and of errors.
    pub fn from_command_line() -> Self {
        let matches = Self::command_with_variables().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The command with its variables, for help texts, completions and documents.
    pub fn command_with_variables() -> clap::Command {
        options::named_in_environment(Self::command(), "CHAT_GATEWAY")
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the gateway
    Serve(Box<ServeOptions>),
    /// Chat in the terminal: one answer, or a conversation without a prompt
    Chat(Box<ChatOptions>),
    /// List the models that a profile's keys reach
    Models(Box<ModelsOptions>),
    /// Say which provider a model's name leads to, and by which rule
    Detect {
        /// Where and how.
        #[command(flatten)]
        client: ClientOptions,
        /// The model's name
        model: String,
    },
    /// Check a deployment from inside, with the options of `serve`, and say what to fix
    Doctor {
        /// What would be served.
        #[command(flatten)]
        options: Box<ServeOptions>,
        /// Text for people, JSON for programs: one finding a line
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Make bearer tokens. A policy says whose they are
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Print a completion script for a shell. It asks the gateway for the names of models
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the manual pages, one for each command
    Manual {
        /// The folder to write them into. Made if it is not there
        #[arg(long, value_name = "DIR")]
        directory: PathBuf,
    },
}

/// Commands on bearer tokens.
#[derive(Debug, Subcommand)]
pub enum TokensCommand {
    /// Make a token, and print it once with its entry for the policy
    Create {
        /// How.
        #[command(flatten)]
        options: token::CreateOptions,
        /// Text for people, JSON for programs
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

/// How the gateway is served.
#[derive(Args, Clone, Debug)]
pub struct ServeOptions {
    /// Where to listen for gRPC
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50052")]
    pub listen: SocketAddr,

    /// Where to listen for probes and scrapes over HTTP: /livez, /readyz, /metrics. Nothing there is
    /// secret, and everyone is answered
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9102", help_heading = "Server")]
    pub probe_listen: SocketAddr,

    /// How many bytes of requests may be in hand at once, those of all callers together. What
    /// is beyond is refused with OVERLOADED. Requests with files take up to three times as much
    /// memory until the provider answers
    #[arg(long, value_name = "BYTES", default_value = "512MiB", value_parser = requests_bytes)]
    pub requests_bytes_max: usize,

    /// How chats are answered.
    #[command(flatten)]
    pub chats: ChatLimits,

    /// Where the key-vault is, and as whom the gateway asks it.
    #[command(flatten)]
    pub vault: VaultOptions,

    /// Where providers are.
    #[command(flatten)]
    pub upstream: UpstreamOptions,

    /// How it listens and stops.
    #[command(flatten)]
    pub server: ServerOptions,

    /// What it logs.
    #[command(flatten)]
    pub telemetry: TelemetryOptions,

    /// What it measures one by one.
    #[command(flatten)]
    pub metrics: MetricsOptions,
}

/// With less, a single large request could shut everyone else out.
fn requests_bytes(text: &str) -> Result<usize, String> {
    const LEAST: usize = 2 * REQUEST_BYTES_MAX;
    match options::bytes(text)? {
        bytes if bytes < LEAST => Err(format!("must be {LEAST} or more: two of the largest requests")),
        bytes => Ok(bytes),
    }
}

/// Where the key-vault is, and as whom the gateway asks it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Key-vault")]
pub struct VaultOptions {
    /// The key-vault to ask for keys
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50051", value_parser = options::grpc_url)]
    pub vault_url: String,

    /// The authorities that may vouch for the key-vault, in PEM. Needed for https://
    #[arg(long, value_name = "PATH")]
    pub vault_ca: Option<PathBuf>,

    /// The certificate that the gateway asks with, in PEM. Read anew when it changes
    #[arg(long, value_name = "PATH")]
    pub vault_client_certificate: Option<PathBuf>,

    /// The private key of --vault-client-certificate, in PEM
    #[arg(long, value_name = "PATH")]
    pub vault_client_key: Option<PathBuf>,

    /// A file with the bearer token that the gateway asks with
    #[arg(long, value_name = "PATH")]
    pub vault_token_file: Option<PathBuf>,

    /// The name in the key-vault's certificate, if it is not the URL's
    #[arg(long, value_name = "NAME")]
    pub vault_server_name: Option<String>,

    /// An address of the key-vault, such as 10.0.0.1:50051, in place of those that its name
    /// leads to. May be repeated. Its certificate must have the URL's name all the same
    #[arg(long, value_name = "ADDRESS", action = ArgAction::Append, value_delimiter = ',')]
    pub vault_address: Vec<SocketAddr>,

    /// How long kept keys may be used past their lease while the key-vault cannot be reached,
    /// in seconds. 0 uses none
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = grace)]
    pub vault_grace: Duration,

    /// How many keys are kept. The least recently used goes first
    #[arg(long, value_name = "COUNT", default_value = "10000", value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub key_cache_entries: u32,
}

/// At most a day: whoever revokes a key cannot wait longer.
fn grace(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ ..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("must be a whole number of seconds, at most 86400".to_owned()),
    }
}

impl VaultOptions {
    /// Whom the gateway trusts as the vault, and as whom it asks.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials {
            prefix: "--vault-",
            ca: self.vault_ca.clone(),
            certificate: self.vault_client_certificate.clone(),
            key: self.vault_client_key.clone(),
            token: self.vault_token_file.clone(),
            server_name: self.vault_server_name.clone(),
        }
    }

    /// How keys are kept.
    pub(crate) fn keys(&self) -> KeyOptions {
        let entries = NonZeroUsize::new(self.key_cache_entries.try_into().unwrap_or(usize::MAX));
        KeyOptions { entries: entries.unwrap_or(NonZeroUsize::MIN), grace: self.vault_grace }
    }
}

/// Which gateway to ask, and how to print.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Client")]
pub struct ClientOptions {
    /// The gateway to ask
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50052", value_parser = options::grpc_url)]
    pub server: String,

    /// Whom to trust, and as whom to call.
    #[command(flatten)]
    pub identity: ClientIdentityOptions,

    /// Text for people, JSON for programs: one event a line
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Which models are listed.
#[derive(Args, Clone, Debug)]
pub struct ModelsOptions {
    /// Only those of this provider
    #[arg(long, value_enum)]
    pub provider: Option<Provider>,

    /// Those that do not chat, too
    #[arg(long)]
    pub all: bool,

    /// The organization that would chat
    #[arg(long, short, value_name = "ID", default_value = "default")]
    pub organization: String,

    /// The profile that would chat; none has the organization's default and the environment only
    #[arg(long, short, value_name = "ID")]
    pub profile: Option<String>,

    /// Where and how.
    #[command(flatten)]
    pub client: ClientOptions,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// The responses of the RPC, in the JSON form of protocol buffers with the field names of
    /// the contract.
    Json,
}

/// How much a model thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Effort {
    /// Not at all.
    None,
    /// Hardly.
    Minimal,
    /// A little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// Very much.
    Xhigh,
    /// As much as it can.
    Max,
}

/// A chat in the terminal.
#[derive(Args, Clone, Debug)]
pub struct ChatOptions {
    /// What to say. Without it: standard input, or a conversation if that is a terminal
    pub prompt: Option<String>,

    /// The model, optionally with its provider: `claude-sonnet-4-5`, `openai/gpt-5`
    #[arg(long, short)]
    pub model: String,

    /// A model to ask if that one cannot answer; may be repeated
    #[arg(long = "fallback-model", value_name = "MODEL", action = ArgAction::Append)]
    pub fallback_models: Vec<String>,

    /// The organization that chats
    #[arg(long, short, value_name = "ID", default_value = "default")]
    pub organization: String,

    /// The profile that chats; none has the organization's default and the environment only
    #[arg(long, short, value_name = "ID")]
    pub profile: Option<String>,

    /// Instructions to the model
    #[arg(long)]
    pub system: Option<String>,

    /// An image, a PDF or a recording to send with the first message; may be repeated
    #[arg(long = "file", visible_alias = "image", value_name = "PATH", action = ArgAction::Append)]
    pub files: Vec<PathBuf>,

    /// How much the model thinks before it answers. What it shows of it is printed beside the
    /// answer
    #[arg(long, value_enum)]
    pub effort: Option<Effort>,

    /// The most tokens to produce
    #[arg(long, value_name = "TOKENS")]
    pub max_output_tokens: Option<i32>,

    /// Randomness: 0 to 2
    #[arg(long)]
    pub temperature: Option<f64>,

    /// Where and how.
    #[command(flatten)]
    pub client: ClientOptions,
}
