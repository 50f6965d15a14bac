//! The key vault as its next version may be: with a step of the schema more, which adds a column
//! that may be empty, and an index.

use std::{alloc::System, process::ExitCode};

use zeroizing_alloc::ZeroAlloc;

#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

#[tokio::main]
async fn main() -> ExitCode {
    key_vault::with_next_step(
        "m9999_next",
        "ALTER TABLE api_key ADD COLUMN note TEXT; CREATE INDEX api_key_by_note ON api_key (note)",
    );
    key_vault::run(key_vault::Cli::from_command_line()).await
}
