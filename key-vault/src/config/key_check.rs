//! The options of a check before a key is stored.

use std::path::PathBuf;

use clap::Args;
use service_runtime::options;

/// Whether the provider is asked before a key is stored, and through whom.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Check")]
pub struct CheckOptions {
    /// Ask the provider first, through a chat-gateway, and store nothing unless it accepts the key
    #[arg(long)]
    pub check: bool,

    /// Store the key whatever the check comes to
    #[arg(long, requires = "check")]
    pub force: bool,

    /// The chat-gateway that asks the provider. It is sent the key
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50052", value_parser = options::grpc_url)]
    pub gateway: String,

    /// A file with the bearer token to call the gateway with. The vault's own is not sent to it
    #[arg(long, value_name = "PATH")]
    pub gateway_token_file: Option<PathBuf>,
}
