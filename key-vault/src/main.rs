//! The binary of the key vault: its server and its command line.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    key_vault::run(key_vault::Cli::from_command_line()).await
}
