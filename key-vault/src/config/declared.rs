//! The options of `apply`, `diff` and `export`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use service_runtime::options;

use super::{ConnectionOptions, Output};

/// Which file says how the keys should be, and which vault is compared with it.
#[derive(Args, Clone, Debug)]
pub struct DeclaredOptions {
    /// Which vault.
    #[command(flatten)]
    pub connection: ConnectionOptions,

    /// The file that says how the keys should be: YAML or JSON, or a list of keys as CSV
    #[arg(long, short, value_name = "PATH")]
    pub file: PathBuf,

    /// The organization of the keys of a list that does not say it
    #[arg(long, short, value_name = "ID", default_value = "default")]
    pub organization: String,

    /// Delete the keys that the organizations of the file have and that it does not name
    #[arg(long)]
    pub prune: bool,

    /// Tables for people, JSON for programs
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How the vault is made to be as a file says.
#[derive(Args, Clone, Debug)]
pub struct ApplyOptions {
    /// Which file, and which vault.
    #[command(flatten)]
    pub declared: DeclaredOptions,

    /// The folder of the files that hold keys: a mounted secret, for example. The folder of the
    /// declaring file, unless given
    #[arg(long, value_name = "PATH")]
    pub material_folder: Option<PathBuf>,

    /// How long the previous material of a rotated key is kept for a rollback: 90s, 30m, 24h, 7d; 0
    /// destroys it at once
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = options::duration)]
    pub keep_previous_for: Duration,

    /// Change nothing, and say what would change: the same as `diff`
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,

    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// What of a vault is written down.
#[derive(Args, Clone, Debug)]
pub struct ExportOptions {
    /// Which vault.
    #[command(flatten)]
    pub connection: ConnectionOptions,

    /// The organization whose keys are meant
    #[arg(long, short, value_name = "ID", default_value = "default")]
    pub organization: String,

    /// A profile that no key names, and whose policy is to be written too; may be repeated
    #[arg(long = "profile", value_name = "ID")]
    pub profiles: Vec<String>,
}
