//! The binary of the chat gateway: its server and its command line.

use std::{alloc::System, process::ExitCode};

use zeroizing_alloc::ZeroAlloc;

/// Wipes all memory that is given back: a key passes through buffers of libraries that do
/// not wipe what they free.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    // A shell that asks for completions is answered while there is one thread only.
    chat_gateway::complete().unwrap_or_else(run)
}

#[tokio::main]
async fn run() -> ExitCode {
    chat_gateway::run(chat_gateway::Cli::from_command_line()).await
}
