//! The commands of the binary. `serve` is the server; the rest is a client of it, over
//! gRPC.
//!
//! [`EXIT_STATUS`] says how they end.

mod completion;
mod conversation;
mod models;
mod output;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use proto::{
    chat::{DetectProviderRequest, chat_service_client::ChatServiceClient},
    types::Provider,
};
use service_runtime::{
    client::Wire, failure::Chain, hardening, manual, probes::Probes, server, shutdown, telemetry, token,
};
use tonic::{Code, Status, transport::Endpoint};

use crate::{
    config::{Cli, ClientOptions, Command, Output, ServeOptions, TokensCommand},
    doctor,
};

pub use completion::complete;

const CONNECT_MAX: Duration = Duration::from_secs(5);

/// The largest answer that is read in one message.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a shell reports for a command that Ctrl-C ended: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// The codes that commands end with.
const EXIT_STATUS: [(u8, &str); 7] = [
    (0, "Done."),
    (1, "Failed. Of a chat: the answer broke off."),
    (2, "The command line cannot be understood."),
    (3, "The provider has no such model."),
    (4, "Refused as it is: a wrong value, no key, a model that no rule knows, a caller that may not."),
    (5, "Not available now: try again later."),
    (INTERRUPTED, "Interrupted."),
];

/// Does what the command line asks, and says how it went.
pub async fn run(cli: Cli) -> ExitCode {
    match dispatch(cli.command).await {
        Ok(code) => code,
        Err(error) => {
            let status = error.downcast_ref::<Status>();
            match status {
                Some(status) => output::complain(&output::describe(status)),
                None => output::complain(&Chain(error.as_ref()).to_string()),
            }
            ExitCode::from(status.map_or(1, |status| exit_code(status.code())))
        }
    }
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(options) => Box::pin(serve(*options)).await,
        Command::Chat(options) => conversation::run(*options).await,
        Command::Models(options) => models::run(&options).await,
        Command::Detect { client, model } => detect(&client, model).await,
        Command::Doctor { options, output } => {
            let report = doctor::examine(&options).await;
            match output {
                Output::Json => output::json_lines(&report.findings)?,
                Output::Text => output::findings(&report.findings),
            }
            match report.failed() {
                0 => Ok(ExitCode::SUCCESS),
                failed => bail!("{failed} checks failed"),
            }
        }
        Command::Tokens(TokensCommand::Create { options, output }) => {
            let created = token::create(&options)?;
            match output {
                Output::Json => output::json_lines(&[created])?,
                Output::Text => output::token(&created)?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            completion::script(shell)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Manual { directory } => {
            manual::write(Cli::command_with_variables(), &EXIT_STATUS, &directory)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn serve(options: ServeOptions) -> anyhow::Result<ExitCode> {
    // First, before this process has anything to protect.
    let hardened = hardening::apply();
    // Held until the end: dropping it sends the last spans.
    let telemetry = telemetry::init("chat-gateway", &options.telemetry)?;
    hardened.log();
    options.server.check(options.listen)?;
    let stop = shutdown::signal_received().context("cannot listen for signals")?;
    let listener = server::bind(options.listen).await?;
    let probes = Probes::bind(options.probe_listen).await?;
    tokio::select! {
        served = crate::serve(&options, listener, probes, stop) => served?,
        () = telemetry.follow() => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn detect(client: &ClientOptions, model: String) -> anyhow::Result<ExitCode> {
    let found = connect(client)?.detect_provider(DetectProviderRequest { model }).await?.into_inner();
    let known = found.provider() != Provider::Unspecified;
    match client.output {
        Output::Json => output::json("DetectProviderResponse", &found)?,
        Output::Text if known => output::detection(&found),
        Output::Text => output::complain(&format!("no provider: {}", found.no_match_reason)),
    }
    Ok(if known { ExitCode::SUCCESS } else { ExitCode::from(4) })
}

/// Prepares a connection; it is made by the first call.
fn connect(options: &ClientOptions) -> anyhow::Result<ChatServiceClient<Wire>> {
    let tune = |endpoint: Endpoint| endpoint.connect_timeout(CONNECT_MAX);
    let wire = options.identity.credentials().connect("the client's identity", &options.server, tune)?;
    Ok(ChatServiceClient::new(wire.load().value.clone()).max_decoding_message_size(ANSWER_BYTES_MAX))
}

fn exit_code(code: Code) -> u8 {
    match code {
        Code::NotFound => 3,
        Code::InvalidArgument | Code::FailedPrecondition | Code::PermissionDenied | Code::Unauthenticated => 4,
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => 5,
        _ => 1,
    }
}
