//! The binary of the chat gateway: its server and its command line.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    chat_gateway::run(chat_gateway::Cli::from_command_line()).await
}
