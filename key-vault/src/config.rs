//! The command line: every command and option, its default and its variable.
//!
//! Each option of `serve` and `migrate`, and each that says where a client connects, is
//! also `KEY_VAULT_<NAME>`; the command line wins.

mod audit;
mod database;
mod declared;
mod key_check;
mod limits;
mod policy;
mod secrets_managers;
mod usage;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use chrono::TimeDelta;
use clap::{
    ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
    builder::BoolishValueParser,
};
use clap_complete::Shell;
use service_runtime::{
    client::ClientIdentityOptions, options, server::ServerOptions, telemetry::TelemetryOptions, token,
};
use zeroize::Zeroizing;

use crate::{
    environment::{Environment, EnvironmentError},
    key::OrganizationId,
    limits::Rates,
    seal::secrets_manager::TransitOptions,
    store,
    vault::Upkeep,
};

pub(crate) use audit::{AuditCommand, AuditFilter, DecisionName, SourceName};
use database::DatabaseUrlError;
pub use database::{DatabaseLocation, DatabaseOptions};
pub(crate) use declared::{ApplyOptions, DeclaredOptions, ExportOptions};
pub(crate) use key_check::CheckOptions;
use limits::LimitOptions;
pub(crate) use policy::{Permission, PolicyChange, PolicyCommand};
use secrets_managers::SecretsManagerName;
pub(crate) use secrets_managers::managers;
pub(crate) use usage::{UsageDimensionName, UsageOptions, UsageOutput};

const DEV_DATABASE: &str = "sqlite:var/key-vault.db";
const DEV_KEYRING: &str = "var/keyring";

/// Keeps LLM provider keys sealed, and decides which one a call may use
#[derive(Debug, Parser)]
#[command(name = "key-vault", version, arg_required_else_help = true)]
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
        options::named_in_environment(Self::command(), "KEY_VAULT")
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the vault
    Serve(Box<ServeOptions>),
    /// Check a deployment from inside, with the options of `serve`, and say what to fix
    Doctor {
        /// What would be served.
        #[command(flatten)]
        options: Box<ServeOptions>,
        /// Tables for people, JSON for programs
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Make bearer tokens. A policy says whose they are
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Bring the database's schema up to date, and exit
    Migrate {
        /// Which.
        #[command(flatten)]
        database: DatabaseOptions,
    },
    /// Copy an SQLite database while it is served. PostgreSQL has `pg_dump`
    Backup {
        /// Which.
        #[command(flatten)]
        database: DatabaseLocation,
        /// A new file for the copy, or `-` for standard output
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },
    /// Move all that an SQLite database holds to an empty PostgreSQL database
    Transfer {
        /// `sqlite:PATH`. The vault must not be serving it
        #[arg(long, value_name = "URL")]
        from: String,
        /// Where to.
        #[command(flatten)]
        database: DatabaseOptions,
    },
    /// After the database was restored from a backup: begin a new history, so that nobody goes
    /// on from what they saw before. No vault may be serving a file
    Restored {
        /// What `backup` wrote, to put in the place of a file that is gone: a path, or `-` for standard input
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// Which.
        #[command(flatten)]
        database: DatabaseOptions,
    },
    /// Make and check keyrings, and rotate the keys that all others hang from
    #[command(subcommand)]
    Keyring(KeyringCommand),
    /// Add, list, rotate and delete provider keys
    Keys {
        /// Where and how.
        #[command(flatten)]
        client: ClientOptions,
        /// What.
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Set and clear the organization's default keys
    Defaults {
        /// Where and how.
        #[command(flatten)]
        client: ClientOptions,
        /// What.
        #[command(subcommand)]
        command: DefaultsCommand,
    },
    /// Say which profile uses which key
    Profiles {
        /// Where and how.
        #[command(flatten)]
        client: ClientOptions,
        /// What.
        #[command(subcommand)]
        command: ProfilesCommand,
    },
    /// Say what calls without a key of their own may fall back to
    Policy {
        /// Where and how.
        #[command(flatten)]
        client: ClientOptions,
        /// What.
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Explain which key a call would use, and why
    Explain {
        /// Where and how.
        #[command(flatten)]
        client: ClientOptions,
        /// The profile that calls; none asks for the default and the environment only
        #[arg(long)]
        profile: Option<String>,
        /// The provider that is called
        #[arg(long, value_enum)]
        provider: ProviderName,
    },
    /// Make keys, defaults, profiles and policies be as a file says
    Apply(Box<ApplyOptions>),
    /// Show where they are not as a file says. Exits with 6 if they differ
    Diff(Box<DeclaredOptions>),
    /// Write down how they are, as a file for `apply`. Key material is not in it
    Export(ExportOptions),
    /// Show what keys were used for: calls and tokens
    Usage(UsageOptions),
    /// Read the audit log, and check that it is as it was written
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Print a completion script for a shell
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

/// How the vault is served.
#[derive(Args, Clone, Debug)]
pub struct ServeOptions {
    /// Where to listen for gRPC
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    pub listen: SocketAddr,

    /// Where to listen for probes and scrapes over HTTP: /livez, /readyz, /metrics. Nothing there is
    /// secret, and everyone is answered
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9101", help_heading = "Server")]
    pub probe_listen: SocketAddr,

    /// What keeps the key that all others hang from. The other one unwraps what it wrapped
    /// before, if its options are there too
    #[arg(long, value_enum, value_name = "KIND", default_value = "local")]
    pub secrets_manager: SecretsManagerName,

    /// The keyring: a file or a mounted directory. With --dev: `var/keyring`, made if new
    #[arg(long, value_name = "PATH")]
    pub keyring: Option<PathBuf>,

    /// The organizations that the environment's keys serve. All, unless given
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = organization, action = ArgAction::Append)]
    pub environment_fallback_organizations: Vec<OrganizationId>,

    /// How many changes are kept for those who resume a watch
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(1_000..))]
    pub changes_kept: i64,

    /// How many data keys are wrapped anew in a second, at most, after a key encryption key
    /// was promoted
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub rewrap_rows_per_second: u32,

    /// For how many days it is remembered what keys were used for
    #[arg(long, value_name = "DAYS", default_value_t = 400, value_parser = clap::value_parser!(u32).range(31..=36_500))]
    pub usage_retention_days: u32,

    /// How many days events of the audit log are kept. 0 keeps them for ever
    #[arg(long, value_name = "DAYS", default_value_t = 400, value_parser = clap::value_parser!(u32).range(..=36_500))]
    pub audit_retention_days: u32,

    /// Release keys without a record in the audit log: faster, and nobody can say later who had
    /// which key. Changes and refusals are recorded all the same
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub unrecorded_resolutions: bool,

    /// Which database, and how it is reached.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// How much one principal may ask.
    #[command(flatten)]
    pub limits: LimitOptions,

    /// Where the transit engine is.
    #[command(flatten)]
    pub transit: TransitOptions,

    /// How it listens and stops.
    #[command(flatten)]
    pub server: ServerOptions,

    /// What it logs.
    #[command(flatten)]
    pub telemetry: TelemetryOptions,
}

impl ServeOptions {
    /// The database to use.
    ///
    /// # Errors
    ///
    /// [`DatabaseUrlError`], if a file cannot be used.
    pub(crate) fn place(&self) -> Result<store::Place, DatabaseUrlError> {
        self.database.place(Some(DEV_DATABASE))
    }

    /// The keyring to use.
    pub(crate) fn keyring(&self) -> PathBuf {
        self.keyring.clone().unwrap_or_else(|| PathBuf::from(DEV_KEYRING))
    }

    /// Whether a keyring is made where none is: in development only.
    pub(crate) fn makes_keyring(&self) -> bool {
        self.server.dev && self.secrets_manager == SecretsManagerName::Local
    }

    /// What is chosen about upkeep.
    pub(crate) fn upkeep(&self) -> Upkeep {
        Upkeep {
            changes_kept: self.changes_kept,
            rewrap_rows_per_second: self.rewrap_rows_per_second,
            usage_retention: TimeDelta::days(self.usage_retention_days.into()),
            audit_kept_for: (self.audit_retention_days > 0)
                .then(|| Duration::from_hours(24) * self.audit_retention_days),
            records_resolutions: !self.unrecorded_resolutions,
        }
    }

    /// How much one principal may ask.
    pub(crate) fn rates(&self) -> Rates {
        self.limits.rates(self.server.dev)
    }

    /// The fallback keys of this process' environment.
    pub(crate) fn environment(&self) -> Result<Environment, EnvironmentError> {
        #[expect(clippy::disallowed_methods, reason = "this is where configuration is read")]
        // What is not text is not a key either, and is refused as one.
        let lookup = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Environment::read(lookup, &self.environment_fallback_organizations)
    }
}

/// Whether a variable of this process' environment has a value.
pub(crate) fn is_set(name: &str) -> bool {
    #[expect(clippy::disallowed_methods, reason = "this is where configuration is read")]
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// The key that a variable of this process' environment holds, if it has one.
pub(crate) fn secret_variable(name: &str) -> Option<Zeroizing<String>> {
    #[expect(clippy::disallowed_methods, reason = "this is where configuration is read")]
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(Zeroizing::new)
}

fn organization(text: &str) -> Result<OrganizationId, String> {
    OrganizationId::try_from(text.to_owned()).map_err(|problem| problem.to_string())
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
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

/// Commands on keyrings, and on the key encryption keys of a vault.
#[derive(Debug, Subcommand)]
pub enum KeyringCommand {
    /// Write a new keyring with one random key. Never overwrites one
    Init {
        /// The file to write
        path: PathBuf,
    },
    /// Say whether a keyring can be used
    Check {
        /// The file or directory to read
        path: PathBuf,
    },
    /// Show whether a replica is sealed and why, its key encryption keys, and the replicas
    Status {
        /// Which vault.
        #[command(flatten)]
        connection: ConnectionOptions,
        /// Tables for people, JSON for programs
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Replace the key encryption key, and wrap all data keys anew
    Rotate {
        /// Which vault.
        #[command(flatten)]
        connection: ConnectionOptions,
        /// Tables for people, JSON for programs
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
        /// Only make the new key, which every replica then learns
        #[arg(long, conflicts_with_all = ["promote", "detach"])]
        add: bool,
        /// Only let the key that was made seal. Refused while a live replica does not know it
        #[arg(long)]
        promote: bool,
        /// Do not wait until all data keys are wrapped anew
        #[arg(long)]
        detach: bool,
    },
    /// Show how far the wrapping of data keys is
    Progress {
        /// Which vault.
        #[command(flatten)]
        connection: ConnectionOptions,
        /// Tables for people, JSON for programs
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
        /// Wait until it is done
        #[arg(long)]
        follow: bool,
    },
    /// Wrap the key encryption keys anew with the configured secrets manager and its current
    /// key: to move from another one, or after its key was rotated
    Migrate {
        /// Which vault.
        #[command(flatten)]
        connection: ConnectionOptions,
        /// Tables for people, JSON for programs
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

/// Which vault to ask, and as whom.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Client")]
pub struct ConnectionOptions {
    /// The vault to ask
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50051", value_parser = options::grpc_url, global = true)]
    pub server: String,

    /// Whom to trust, and as whom to call.
    #[command(flatten)]
    pub identity: ClientIdentityOptions,
}

/// Which vault to ask, for whom, and how to print.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Client")]
pub struct ClientOptions {
    /// Which vault.
    #[command(flatten)]
    pub connection: ConnectionOptions,

    /// The organization whose keys are meant
    #[arg(long, short, value_name = "ID", default_value = "default", global = true)]
    pub organization: String,

    /// Tables for people, JSON for programs
    #[arg(long, value_enum, default_value_t = Output::Table, global = true)]
    pub output: Output,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// The response of the RPC, in the JSON form of protocol buffers with the field names of
    /// the contract.
    Json,
}

/// A provider, as an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProviderName {
    /// Anthropic.
    Anthropic,
    /// OpenAI.
    Openai,
    /// Google's Gemini API.
    Gemini,
}

/// Where a key's material comes from. Never from the command line, which others can read.
#[derive(Args, Clone, Debug)]
pub struct MaterialOptions {
    /// Reads the key from this file, `-` for standard input. Without it: a prompt, or
    /// standard input if that is not a terminal
    #[arg(long, value_name = "PATH")]
    pub key_file: Option<PathBuf>,
}

/// Commands on keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Add a key
    Add {
        /// Who issued it
        #[arg(long, value_enum)]
        provider: ProviderName,
        /// What people call it
        #[arg(long)]
        name: String,
        /// Make it the organization's default for its provider
        #[arg(long)]
        default: bool,
        /// Give it to this profile; may be repeated
        #[arg(long = "profile", value_name = "ID", action = ArgAction::Append)]
        profiles: Vec<String>,
        /// Where the key comes from.
        #[command(flatten)]
        material: MaterialOptions,
        /// Whether the provider is asked first.
        #[command(flatten)]
        check: CheckOptions,
    },
    /// List keys
    List {
        /// Only those of this provider
        #[arg(long, value_enum)]
        provider: Option<ProviderName>,
        /// Only those of this profile
        #[arg(long)]
        profile: Option<String>,
    },
    /// Show one key
    Get {
        /// The key
        id: String,
    },
    /// Replace a key's material. Its id and its links stay
    Rotate {
        /// The key
        id: String,
        /// How long the previous material is kept for a rollback: 90s, 30m, 24h, 7d; 0 destroys
        /// it at once, as is right for a key that leaked
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = options::duration)]
        keep_previous_for: Duration,
        /// Where the new key comes from.
        #[command(flatten)]
        material: MaterialOptions,
        /// Whether the provider is asked first.
        #[command(flatten)]
        check: CheckOptions,
    },
    /// Bring the previous material of a key back, as a new version
    Rollback {
        /// The key
        id: String,
    },
    /// Change what people call a key
    Rename {
        /// The key
        id: String,
        /// The new name
        name: String,
    },
    /// Let a key be used again
    Enable {
        /// The key
        id: String,
    },
    /// Keep a key and refuse its use
    Disable {
        /// The key
        id: String,
    },
    /// Destroy a key and its links
    Delete {
        /// The key
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Commands on defaults.
#[derive(Debug, Subcommand)]
pub enum DefaultsCommand {
    /// List the organization's default keys
    List,
    /// Make a key the default of its provider
    Set {
        /// The key
        id: String,
    },
    /// Leave the organization without a default of a provider
    Clear {
        /// The provider
        #[arg(value_enum)]
        provider: ProviderName,
    },
}

/// Commands on profiles.
#[derive(Debug, Subcommand)]
pub enum ProfilesCommand {
    /// Show what each provider's calls of a profile use
    Show {
        /// The profile
        profile: String,
    },
    /// Give keys to profiles, all or nothing: one key, or one of each provider
    Assign {
        /// A key; may be repeated, once per provider
        #[arg(long = "key", value_name = "ID", required = true, action = ArgAction::Append)]
        keys: Vec<String>,
        /// The profiles
        #[arg(required = true)]
        profiles: Vec<String>,
    },
    /// Take a key away from profiles
    Unassign {
        /// The key
        #[arg(long = "key", value_name = "ID")]
        key: String,
        /// The profiles
        #[arg(required = true)]
        profiles: Vec<String>,
    },
    /// Set the whole list of a key's profiles
    Replace {
        /// The key
        #[arg(long = "key", value_name = "ID")]
        key: String,
        /// The profiles; none takes the key away from all
        profiles: Vec<String>,
    },
}
