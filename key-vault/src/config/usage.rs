//! The options of `usage`.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::{Args, ValueEnum};
use service_runtime::options;

use super::{ConnectionOptions, ProviderName};

/// What is asked about the use of keys, and how it is printed.
#[derive(Args, Clone, Debug)]
pub struct UsageOptions {
    /// Which vault.
    #[command(flatten)]
    pub connection: ConnectionOptions,

    /// The organization whose keys are meant
    #[arg(long, short, value_name = "ID", default_value = "default")]
    pub organization: String,

    /// How far to look back: 24h, 30d. 30 days unless given
    #[arg(long, value_name = "DURATION", value_parser = options::duration, conflicts_with_all = ["from", "to"])]
    pub since: Option<Duration>,

    /// From this day or time on, in UTC unless it says otherwise: 2026-03-01, 2026-03-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<DateTime<Utc>>,

    /// Up to this day or time, which is not part of it. Now, unless given
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<DateTime<Utc>>,

    /// Only calls of this profile
    #[arg(long, value_name = "ID")]
    pub profile: Option<String>,

    /// Only calls with this key
    #[arg(long, value_name = "ID")]
    pub key: Option<String>,

    /// Only calls of this provider
    #[arg(long, value_enum)]
    pub provider: Option<ProviderName>,

    /// Only calls of this model
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,

    /// What rows are told apart and sorted by
    #[arg(long, value_enum, value_name = "DIMENSIONS", value_delimiter = ',', default_value = "profile,key,model")]
    pub by: Vec<UsageDimensionName>,

    /// Tables for people, JSON and CSV for programs
    #[arg(long, value_enum, default_value_t = UsageOutput::Table)]
    pub output: UsageOutput,
}

/// What rows of usage are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UsageDimensionName {
    /// The profile that called.
    Profile,
    /// The key.
    Key,
    /// The key and its version.
    Version,
    /// The provider.
    Provider,
    /// The model.
    Model,
    /// The day, in UTC.
    Day,
    /// The hour, in UTC.
    Hour,
    /// The step of the resolution that chose the key.
    Source,
}

/// How usage is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UsageOutput {
    /// For people.
    Table,
    /// The response of the RPC, all pages in one, in the JSON form of protocol buffers with the
    /// field names of the contract.
    Json,
    /// A line for each row, after one with the names of the columns (RFC 4180).
    Csv,
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|day| day.and_time(NaiveTime::MIN).and_utc());
    day.or_else(|_| text.parse())
        .map_err(|_| "must be a day or a time, such as 2026-03-01 or 2026-03-01T12:00:00Z".to_owned())
}
