//! The commands of the binary. `serve` is the server; the rest is a client of it, over
//! gRPC, or works on files.
//!
//! [`EXIT_STATUS`] says how they end.

mod audit;
mod database;
mod declared;
mod key_check;
mod keyring;
mod material;
mod output;
mod policy;
mod session;
mod usage;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use service_runtime::{failure::Chain, hardening, manual, probes::Probes, server, shutdown, telemetry, token};
use tonic::{Code, Status};

use crate::{
    config::{Cli, Command, Output, ServeOptions, TokensCommand},
    doctor,
};
use key_check::NotStored;
use session::Session;

/// The codes that commands end with.
const EXIT_STATUS: [(u8, &str); 7] = [
    (0, "Done."),
    (1, "Failed."),
    (2, "The command line cannot be understood."),
    (3, "There is no such key."),
    (4, "Refused as it is: a wrong value, a disabled key, a caller that may not."),
    (5, "Not available now: try again later."),
    (6, "The vault is not as a file says (`diff`, `apply --dry-run`)."),
];

/// Does what the command line asks, and says how it went.
pub async fn run(cli: Cli) -> ExitCode {
    match Box::pin(dispatch(cli.command)).await {
        Ok(()) => ExitCode::SUCCESS,
        // What differs was printed: that was the question.
        Err(error) if error.is::<declared::Differs>() => ExitCode::from(6),
        Err(error) => {
            let status = error.downcast_ref::<Status>();
            match status {
                Some(status) => output::complain(&output::describe(status)),
                None => output::complain(&Chain(error.as_ref()).to_string()),
            }
            let refused = error.downcast_ref::<NotStored>().map(|refused| refused.code);
            let broken = error.is::<declared::Refused>().then_some(Code::InvalidArgument);
            ExitCode::from(status.map(Status::code).or(refused).or(broken).map_or(1, exit_code))
        }
    }
}

async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(options) => Box::pin(serve(*options)).await,
        Command::Doctor { options, output } => {
            let report = doctor::examine(&options).await;
            match output {
                Output::Json => output::json_lines(&report.findings)?,
                Output::Table => output::findings(&report.findings),
            }
            match report.failed() {
                0 => Ok(()),
                failed => bail!("{failed} checks failed"),
            }
        }
        Command::Tokens(TokensCommand::Create { options, output }) => {
            let created = token::create(&options)?;
            match output {
                Output::Json => output::json_lines(&[created]),
                Output::Table => output::token(&created),
            }
        }
        Command::Migrate { database } => database::migrate(&database).await,
        Command::Backup { database, to } => database::back_up(&database, &to).await,
        Command::Transfer { from, database } => database::transfer(&from, &database).await,
        Command::Restored { database, from } => database::restored(&database, from.as_deref()).await,
        Command::Keyring(command) => keyring::run(command).await,
        Command::Keys { client, command } => Session::open(client)?.keys(command).await,
        Command::Defaults { client, command } => Session::open(client)?.defaults(command).await,
        Command::Profiles { client, command } => Session::open(client)?.profiles(command).await,
        Command::Policy { client, command } => policy::run(client, command).await,
        Command::Explain { client, profile, provider } => Session::open(client)?.explain(profile, provider).await,
        Command::Apply(options) => Box::pin(declared::apply(*options)).await,
        Command::Diff(options) => declared::diff(*options).await,
        Command::Export(options) => declared::export(options).await,
        Command::Audit(command) => audit::run(command).await,
        Command::Usage(options) => usage::run(options).await,
        Command::Completions { shell } => {
            let mut command = Cli::command_with_variables();
            clap_complete::generate(shell, &mut command, "key-vault", &mut std::io::stdout());
            Ok(())
        }
        Command::Manual { directory } => manual::write(Cli::command_with_variables(), &EXIT_STATUS, &directory),
    }
}

async fn serve(options: ServeOptions) -> anyhow::Result<()> {
    // First, before this process has anything to protect.
    let hardened = hardening::apply();
    // Held until the end: dropping it sends the last spans.
    let telemetry = telemetry::init("key-vault", &options.telemetry)?;
    hardened.log();
    options.server.check(options.listen)?;
    let environment = options.environment().context("the environment's keys are refused")?;
    let stop = shutdown::signal_received().context("cannot listen for signals")?;
    let listener = server::bind(options.listen).await?;
    let probes = Probes::bind(options.probe_listen).await?;
    tokio::select! {
        served = Box::pin(crate::serve(&options, environment, listener, probes, stop)) => served,
        () = telemetry.follow() => Ok(()),
    }
}

fn exit_code(code: Code) -> u8 {
    match code {
        Code::NotFound => 3,
        Code::InvalidArgument | Code::FailedPrecondition | Code::PermissionDenied | Code::Unauthenticated => 4,
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => 5,
        _ => 1,
    }
}
