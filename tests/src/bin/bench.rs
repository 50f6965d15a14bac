//! Measures both services beside what cannot be beaten: `make bench`. See docs/performance.md.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use proto::chat::chat_service_client::ChatServiceClient;
use system_tests::{
    bench::{
        bare, check,
        clients::{Chats, Question},
        measure::{self, Extent, Part},
        platform::Trust,
        provider,
        question::Plan,
        result::Run,
        scale,
        servers::{Tls, haproxy},
        table,
    },
    services_from, skip_without,
};
use tokio::net::TcpListener;

#[derive(Parser)]
#[command(about = "Measures both services beside what cannot be beaten")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures everything, prints the table and keeps the result
    Run {
        #[command(flatten)]
        options: Options,
        /// The folder that gets the result
        #[arg(long, default_value = "bench/results")]
        into: PathBuf,
    },
    /// Measures what is compared, and fails if a row is more than 15 % worse than it was
    Check {
        #[command(flatten)]
        options: Options,
        /// The result to compare with
        #[arg(long, default_value = "bench/baseline.json")]
        baseline: PathBuf,
    },
    /// Measures what a resolution costs with a thousand keys and with many, in PostgreSQL
    Scale {
        /// The folder with the binaries of the services. This program's, unless given
        #[arg(long)]
        services: Option<PathBuf>,
        /// How many keys there are in the end
        #[arg(long, default_value_t = 1_000_000)]
        keys: u32,
    },
    /// Prints the table of a result that was kept
    Show {
        /// The result
        result: PathBuf,
    },
    /// Asks a gateway in the clear for chats, one after the other: for profilers
    #[command(hide = true)]
    Ask {
        url: String,
        #[arg(long, default_value_t = 1000)]
        calls: u32,
        #[arg(long, default_value_t = 1)]
        pieces: u32,
        #[arg(long)]
        stream: bool,
    },
    /// Is a server of a measurement, until it is killed
    #[command(hide = true)]
    Server {
        kind: Kind,
        #[arg(long, requires = "key")]
        certificate: Option<PathBuf>,
        #[arg(long)]
        key: Option<PathBuf>,
    },
}

#[derive(Args)]
struct Options {
    /// The folder with the binaries of the services. This program's, unless given
    #[arg(long)]
    services: Option<PathBuf>,
    /// Only these parts. All, unless given; to check, those that are compared
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 3.0)]
    part_seconds: f64,
    /// How often everything is measured
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// How many idle streams are opened
    #[arg(long, default_value_t = 10_000)]
    open_streams: u32,
    /// What the services log. More than `info` slows them down: a way to see that a slowdown is seen
    #[arg(long, default_value = "info")]
    log_filter: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Provider,
    Bare,
    Sink,
}

#[tokio::main]
async fn main() -> ExitCode {
    service_runtime::tls::install_crypto_provider();
    match run(Cli::parse().command).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<bool> {
    match command {
        Command::Run { options, into } => {
            let parts = if options.only.is_empty() { Part::value_variants() } else { &options.only };
            measured(&options, parts).await?.map_or(Ok(true), |run| keep(&run, &into))
        }
        Command::Check { options, baseline } => {
            let before = Run::read(&baseline)?;
            let parts = if options.only.is_empty() { &Part::COMPARED[..] } else { &options.only };
            Ok(measured(&options, parts).await?.is_none_or(|now| compare(&before, &now, options.only.is_empty())))
        }
        Command::Scale { services, keys } => {
            take_services(services.as_deref())?;
            grows(keys).await
        }
        Command::Show { result } => {
            println!("{}", table::table(&Run::read(&result)?));
            Ok(true)
        }
        Command::Ask { url, calls, pieces, stream } => {
            let question = Question::from(Plan::at_once(pieces, 24, 1024));
            let trust = Trust::new()?;
            let chats = Chats::Grpc(vec![ChatServiceClient::new(trust.wire(&url)?)]);
            for _ in 0..calls {
                if stream { chats.stream(0, &question, |_| {}).await? } else { chats.whole(0, &question).await? }
            }
            Ok(true)
        }
        Command::Server { kind, certificate, key } => {
            let tls = certificate.zip(key).map(|(certificate, key)| Tls { certificate, key });
            serve(kind, tls.as_ref()).await?;
            Ok(true)
        }
    }
}

async fn serve(kind: Kind, tls: Option<&Tls>) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    match kind {
        Kind::Provider => provider::serve(listener, tls).await,
        Kind::Bare => bare::serve(listener, tls).await,
        Kind::Sink => {
            provider::sink(listener).await;
            Ok(())
        }
    }
}

/// Measures. `None`, said loudly, where haproxy is missing; fails then in CI.
async fn measured(options: &Options, parts: &[Part]) -> Result<Option<Run>> {
    if haproxy().is_none() {
        skip_without("haproxy (apt-get install haproxy)");
        return Ok(None);
    }
    take_services(options.services.as_deref())?;
    let begun = Instant::now();
    let extent = Extent {
        part: Duration::from_secs_f64(options.part_seconds),
        repeats: options.repeats,
        parts: parts.to_vec(),
        open_streams: options.open_streams,
        log_filter: options.log_filter.clone(),
    };
    let repeats = Box::pin(measure::run(&extent)).await?;
    let run = Run::of(repeats, begun.elapsed().as_secs_f64());
    println!("{}", table::table(&run));
    Ok(Some(run))
}

fn take_services(folder: Option<&Path>) -> Result<()> {
    let Some(folder) = folder else { return Ok(()) };
    ensure!(folder.join("key-vault").exists(), "{} has no key-vault", folder.display());
    services_from(&std::path::absolute(folder)?);
    Ok(())
}

async fn grows(keys: u32) -> Result<bool> {
    let begun = Instant::now();
    let costs = scale::run(keys, |what| eprintln!("{:>5} s  {what}", begun.elapsed().as_secs())).await?;
    for cost in &costs {
        println!(
            "{:>9} keys: {} CPU s for 1,000 resolutions, {:.0}/s, p50 {} ms",
            cost.keys,
            table::number(cost.cpu_ms),
            cost.per_s,
            table::number(cost.p50_ms)
        );
    }
    let [few, many] = costs;
    let growth = many.cpu_ms / few.cpu_ms;
    let is_good = growth < scale::GROWTH_MAX;
    let verdict = if is_good { "pass" } else { "SHORTFALL" };
    println!("the cost grows {growth:.2} times, must be less than {}: {verdict}", scale::GROWTH_MAX);
    Ok(is_good)
}

fn keep(run: &Run, into: &Path) -> Result<bool> {
    let (time, commit) = (run.time.format("%Y-%m-%dT%H%M"), run.commit.trim_end_matches('+'));
    let path = into.join(format!("{time}-{commit}.json"));
    run.write(&path)?;
    let short: Vec<_> = run.figures.iter().filter(|row| row.is_good() == Some(false)).collect();
    println!("\n{} rows, {} shortfalls, in {:.0} s: {}", run.figures.len(), short.len(), run.seconds, path.display());
    for row in short {
        println!("SHORTFALL {}: {} {}", row.name, table::number(row.median()), row.unit);
    }
    Ok(true)
}

fn compare(before: &Run, now: &Run, is_whole: bool) -> bool {
    println!("\ncompared with {} of {}", before.commit, before.time);
    let worse = check::regressions(before, now);
    for row in &worse {
        println!("REGRESSION {}: {} was {}", row.name, table::number(row.is), table::number(row.was));
    }
    let missing = if is_whole { check::missing(before, now) } else { Vec::new() };
    for name in &missing {
        println!("MISSING {name}: it was not measured");
    }
    if worse.is_empty() && missing.is_empty() {
        println!("no row is more than 15 % worse");
    }
    worse.is_empty() && missing.is_empty()
}
