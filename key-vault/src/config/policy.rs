//! The options of `policy`.

use clap::{Args, Subcommand, ValueEnum};

/// Commands on fallback policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Show what was set, and what it comes to
    Show {
        /// Whose policy.
        #[command(flatten)]
        place: PolicyPlace,
    },
    /// Allow or forbid steps. What is not named stays as it is
    Set {
        /// Whose policy.
        #[command(flatten)]
        place: PolicyPlace,
        /// What changes.
        #[command(flatten)]
        change: PolicyChange,
    },
}

/// Whose policy is meant.
#[derive(Args, Clone, Debug)]
pub struct PolicyPlace {
    /// The profile; none means the whole organization
    #[arg(long, value_name = "ID")]
    pub profile: Option<String>,
}

/// The steps that are allowed or forbidden.
#[derive(Args, Clone, Copy, Debug)]
#[group(required = true, multiple = true)]
pub struct PolicyChange {
    /// Whether calls may fall back to the organization's default key
    #[arg(long, value_enum)]
    pub organization_default: Option<Permission>,
    /// Whether calls may fall back to the key in the environment of the vault
    #[arg(long, value_enum)]
    pub environment: Option<Permission>,
}

/// Whether a step may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Permission {
    /// It may.
    Allow,
    /// It is passed over.
    Forbid,
}
