//! Commands on the audit log.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use service_runtime::options;

use super::{ConnectionOptions, Output, ProviderName};

/// Commands on the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List events, the newest first
    List {
        /// Which vault.
        #[command(flatten)]
        connection: ConnectionOptions,
        /// Which events.
        #[command(flatten)]
        filter: Box<AuditFilter>,
        /// The oldest first
        #[arg(long)]
        oldest_first: bool,
        /// How many events, at most
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// Tables for people, JSON for programs
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Show the last events, and every new one, until interrupted
    Tail {
        /// Which vault.
        #[command(flatten)]
        connection: ConnectionOptions,
        /// Which events.
        #[command(flatten)]
        filter: Box<AuditFilter>,
        /// Tables for people, JSON for programs
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Say whether everything is as it was written. Fails and names the first event that is not
    Verify {
        /// Which vault.
        #[command(flatten)]
        connection: ConnectionOptions,
        /// Tables for people, JSON for programs
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Write all events, the oldest first, as JSON, one a line
    Export {
        /// Which vault.
        #[command(flatten)]
        connection: ConnectionOptions,
        /// Which events.
        #[command(flatten)]
        filter: Box<AuditFilter>,
    },
}

/// Which events are meant. All, unless something is given.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Filter")]
pub struct AuditFilter {
    /// Only those of this organization
    #[arg(long, value_name = "ID")]
    pub organization: Option<String>,
    /// Only those of this caller
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,
    /// Only those of this method, such as `ResolveKey`
    #[arg(long, value_name = "METHOD")]
    pub action: Option<String>,
    /// Only those of this key
    #[arg(long, value_name = "ID")]
    pub key: Option<String>,
    /// Only those of this profile
    #[arg(long, value_name = "ID")]
    pub profile: Option<String>,
    /// Only those of this provider
    #[arg(long, value_enum)]
    pub provider: Option<ProviderName>,
    /// Only resolutions that this step decided
    #[arg(long, value_enum)]
    pub source: Option<SourceName>,
    /// Only those that ended so
    #[arg(long, value_enum)]
    pub decision: Option<DecisionName>,
    /// Only those of this trace
    #[arg(long, value_name = "ID")]
    pub trace: Option<String>,
    /// Only those of the last 90s, 30m, 24h or 7d
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    pub since: Option<Duration>,
    /// Only those from before 90s, 30m, 24h or 7d ago
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    pub until: Option<Duration>,
}

/// A step of a resolution, as an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceName {
    /// The profile's own key.
    Profile,
    /// The organization's default.
    OrganizationDefault,
    /// The environment of the vault.
    Environment,
}

/// How a call ended, as an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DecisionName {
    /// It was done.
    Allowed,
    /// The caller may not do it, or is not known.
    Denied,
    /// The caller may, and it was not to be done.
    Failed,
}
