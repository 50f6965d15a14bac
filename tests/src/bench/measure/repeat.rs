//! One repeat: everything that is measured more than once.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result};
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection};
use tokio::time::{Instant, sleep};

use super::{
    Teller, WARM_UP,
    stage::{CLEAR, Part, Stage, TLS},
};
use crate::{
    bench::{
        clients::{Chats, Question, Resolutions},
        cost::processor_time,
        figures::Values,
        platform::Platform,
        provider::now,
        question::Plan,
    },
    load::{Load, Times, closed, open},
};

/// Callers at once where it is about throughput and cost.
const CALLERS: usize = 16;

/// Callers at once who ask the vault: enough to fill its batches.
const RESOLVERS: usize = 64;

/// Paced streams at once where it is about cost.
const PACED: usize = 16;

/// How often the vault is asked where it is about how long that takes.
const RECORDED_PER_S: f64 = 200.0;

/// Time between two chunks of a paced stream.
const PACE: Duration = Duration::from_millis(5);

/// Chunks of a stream.
const CHUNKS: u32 = 100;

/// A piece of text in a stream, with the time in it: four words.
const PIECE_BYTES: usize = 24;

/// A chat of 1 KB: the question, and an answer whose body is about as long.
const SMALL: Plan = Plan::at_once(1, PIECE_BYTES, 1024);

/// A stream whose chunks come at once.
const AT_ONCE: Plan = Plan::at_once(CHUNKS, PIECE_BYTES, 1024);

/// A stream whose chunks come one by one.
const ONE_BY_ONE: Plan = Plan { pace: PACE, ..AT_ONCE };

/// Questions and answers of so many kilobytes.
const fn large(kilobytes: u32) -> Plan {
    Plan::at_once(kilobytes, 1000, kilobytes as usize * 1000)
}

/// Measures everything once.
pub(super) async fn all(stage: &Stage, tell: &mut Teller) -> Result<Values> {
    let mut repeat = Repeat { stage, values: Values::new() };
    for part in &stage.extent.parts {
        tell.tell(part);
        match part {
            Part::Keys => repeat.resolutions().await?,
            Part::Chats => repeat.unary().await?,
            Part::Streams => repeat.streams().await?,
            Part::Records => repeat.recorded().await?,
            Part::FirstEvent => repeat.first_event().await?,
            Part::Between => repeat.between().await?,
            Part::Bodies => repeat.bodies().await?,
            Part::Once => {}
        }
    }
    Ok(repeat.values)
}

/// How a chat is asked for.
#[derive(Clone, Copy)]
enum As {
    Whole,
    Stream,
}

struct Repeat<'a> {
    stage: &'a Stage,
    values: Values,
}

impl Repeat<'_> {
    fn note(&mut self, name: String, value: f64) {
        self.values.insert(name, value);
    }

    /// What a load cost the processes that bore it, and how much of it there was.
    fn note_load(&mut self, name: &str, load: &Load, cost: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "calls of a few seconds are exact")]
        let calls = load.times.count() as f64;
        self.note(format!("{name}.cpu_ms"), cost.as_secs_f64() * 1e3 / calls);
        self.note(format!("{name}.per_s"), load.rate());
        self.note(format!("{name}.p50_s"), load.times.quantile(0.5));
        self.note(format!("{name}.p99_s"), load.times.quantile(0.99));
    }

    async fn resolutions(&mut self) -> Result<()> {
        let stage = self.stage;
        stage.only(None).await;
        self.resolve("resolve.bare", stage.bare_resolutions()?, &[stage.bare[TLS].id()?]).await?;
        for (name, platform) in [
            ("resolve.sqlite.unrecorded", &stage.unrecorded),
            ("resolve.sqlite.quiet", &stage.quiet),
            ("resolve.postgres.unrecorded", &stage.unrecorded_postgres),
            ("resolve.postgres.quiet", &stage.quiet_postgres),
        ] {
            stage.only(Some(platform)).await;
            self.resolve(name, Resolutions::new(|| platform.resolution()), &[platform.vault.id()]).await?;
        }
        Ok(())
    }

    async fn resolve(&mut self, name: &str, callers: Resolutions, processes: &[u32]) -> Result<()> {
        let call = move |caller| {
            let callers = callers.clone();
            async move { callers.resolve_own(caller).await }
        };
        self.load(name, processes, RESOLVERS, call).await
    }

    async fn unary(&mut self) -> Result<()> {
        let stage = self.stage;
        let haproxy = |at: usize| Ok::<_, anyhow::Error>((stage.http(&stage.haproxy[at])?, stage.haproxy[at].id()?));
        let (chats, process) = haproxy(CLEAR)?;
        self.chats("unary.haproxy.clear", chats, &[process], SMALL, As::Whole).await?;
        self.chats_of("unary.clear", &stage.clear, SMALL, As::Whole).await?;
        self.chats_of("unary.clear.quiet", &stage.clear_quiet, SMALL, As::Whole).await?;
        self.chats("unary.bare.clear", stage.bare_chats(CLEAR)?, &[stage.bare[CLEAR].id()?], SMALL, As::Whole).await?;
        let (chats, process) = haproxy(TLS)?;
        self.chats("unary.haproxy.tls", chats, &[process], SMALL, As::Whole).await?;
        self.chats_of("unary.tls", &stage.full, SMALL, As::Whole).await
    }

    async fn streams(&mut self) -> Result<()> {
        let stage = self.stage;
        let (haproxy, bare) = (&stage.haproxy[TLS], &stage.bare[TLS]);
        for (name, plan) in [("stream", AT_ONCE), ("paced", ONE_BY_ONE)] {
            let name = |of: &str| format!("{name}.{of}");
            self.chats(&name("haproxy"), stage.http(haproxy)?, &[haproxy.id()?], plan, As::Stream).await?;
            self.chats_of(&name("tls"), &stage.full, plan, As::Stream).await?;
            self.chats_of(&name("quiet"), &stage.quiet, plan, As::Stream).await?;
            self.chats(&name("bare"), stage.bare_chats(TLS)?, &[bare.id()?], plan, As::Stream).await?;
        }
        Ok(())
    }

    async fn bodies(&mut self) -> Result<()> {
        for (size, kilobytes) in [("16k", 16), ("200k", 200)] {
            for (name, how) in [("unary", As::Whole), ("stream", As::Stream)] {
                self.chats_of(&format!("bodies.{name}.{size}"), &self.stage.full, large(kilobytes), how).await?;
            }
        }
        Ok(())
    }

    /// Chats with a gateway. What its vault does meanwhile is part of the cost.
    async fn chats_of(&mut self, name: &str, platform: &Platform, plan: Plan, how: As) -> Result<()> {
        let processes = [platform.gateway.id(), platform.vault.id()];
        self.stage.only(Some(platform)).await;
        self.chats(name, Chats::grpc(|| platform.chat()), &processes, plan, how).await
    }

    async fn chats(&mut self, name: &str, chats: Chats, processes: &[u32], plan: Plan, how: As) -> Result<()> {
        let question = Arc::new(Question::from(plan));
        let call = move |caller| {
            let (chats, question) = (chats.clone(), Arc::clone(&question));
            async move {
                match how {
                    As::Whole => chats.whole(caller, &question).await,
                    As::Stream => chats.stream(caller, &question, |_| {}).await,
                }
            }
        };
        let callers = if plan.pace.is_zero() { CALLERS } else { PACED };
        self.load(name, processes, callers, call).await
    }

    async fn load<C, F>(&mut self, name: &str, processes: &[u32], callers: usize, call: C) -> Result<()>
    where
        C: Fn(usize) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<()>> + Send,
    {
        let measured = async {
            closed(callers, WARM_UP, call.clone()).await?;
            let before = total(processes)?;
            let load = closed(callers, self.stage.extent.part, call).await?;
            Ok::<_, anyhow::Error>((load, total(processes)?.saturating_sub(before)))
        };
        let (load, cost) = measured.await.with_context(|| name.to_owned())?;
        self.note_load(name, &load, cost);
        Ok(())
    }

    async fn recorded(&mut self) -> Result<()> {
        let stage = self.stage;
        let part = stage.extent.part;
        let folder = tempfile::tempdir()?;
        let file = format!("sqlite:{}?mode=rwc", folder.path().join("commits.db").display());
        let postgres = stage.postgres.create_database().await;
        for (name, platform, url) in [("sqlite", &stage.full, file), ("postgres", &stage.full_postgres, postgres)] {
            stage.only(Some(platform)).await;
            let commits = commits(url, part).await.context("commits")?;
            self.note(format!("commit.{name}.p50_s"), commits.quantile(0.5));
            self.note(format!("commit.{name}.p99_s"), commits.quantile(0.99));
            let callers = Resolutions::new(|| platform.resolution());
            self.resolve(&format!("resolve.{name}.recorded"), callers.clone(), &[platform.vault.id()]).await?;
            let load = open(RECORDED_PER_S, part, |number| {
                let callers = callers.clone();
                async move { callers.resolve_own(number).await }
            });
            let load = load.await.with_context(|| format!("keys from {name} at their time"))?;
            self.note(format!("recorded.{name}.p50_s"), load.times.quantile(0.5));
            self.note(format!("recorded.{name}.p99_s"), load.times.quantile(0.99));
        }
        Ok(())
    }

    /// One caller asks the provider, haproxy and the gateway in turn.
    async fn first_event(&mut self) -> Result<()> {
        let stage = self.stage;
        let question = Question::from(Plan { pieces: 2, ..ONE_BY_ONE });
        let ways = [
            ("direct", stage.http(&stage.provider[TLS])?),
            ("haproxy", stage.http(&stage.haproxy[TLS])?),
            ("gateway", Chats::grpc(|| stage.full.chat())),
        ];
        stage.only(Some(&stage.full)).await;
        let mut times = [Times::default(), Times::default(), Times::default()];
        let begun = Instant::now();
        while begun.elapsed() < WARM_UP + stage.extent.part * 2 {
            for ((_, chats), times) in ways.iter().zip(&mut times) {
                let (asked, mut first) = (Instant::now(), None);
                chats.stream(0, &question, |_| first = first.or_else(|| Some(asked.elapsed()))).await?;
                if begun.elapsed() > WARM_UP {
                    times.add(first.context("a first event")?);
                }
            }
        }
        for ((name, _), times) in ways.iter().zip(&times) {
            self.note(format!("first.{name}.p50_s"), times.quantile(0.5));
            self.note(format!("first.{name}.p99_s"), times.quantile(0.99));
        }
        Ok(())
    }

    async fn between(&mut self) -> Result<()> {
        let stage = self.stage;
        stage.only(Some(&stage.full)).await;
        for streams in [16, 128] {
            for (name, chats) in
                [("direct", stage.http(&stage.provider[TLS])?), ("gateway", Chats::grpc(|| stage.full.chat()))]
            {
                let [gaps, late] = gaps(chats, streams, ONE_BY_ONE, stage.extent.part).await?;
                let name = |of: &str| format!("between.{name}.{streams}.{of}");
                self.note(name("gap_p50_s"), gaps.quantile(0.5));
                self.note(name("gap_p99_s"), gaps.quantile(0.99));
                self.note(name("late_p50_s"), late.quantile(0.5));
                self.note(name("late_p99_s"), late.quantile(0.99));
            }
        }
        Ok(())
    }
}

fn total(processes: &[u32]) -> Result<Duration> {
    processes.iter().map(|process| processor_time(*process)).sum()
}

/// The time between the events of streams, and how late each event is after it was written.
pub(super) async fn gaps(chats: Chats, streams: usize, plan: Plan, part: Duration) -> Result<[Times; 2]> {
    let question = Arc::new(Question::from(plan));
    let all = Arc::new(Mutex::new([Times::default(), Times::default()]));
    let kept = Arc::clone(&all);
    let call = move |caller: usize| {
        let (chats, question, all) = (chats.clone(), Arc::clone(&question), Arc::clone(&all));
        async move {
            // Not all at the same moment.
            sleep(plan.pace.mul_f64(f64::from(u32::try_from(caller)?) / f64::from(u32::try_from(streams)?))).await;
            let (mut gaps, mut late, mut last) = (Times::default(), Times::default(), None);
            let arrived = |written: Duration| {
                late.add(now().saturating_sub(written));
                let now = Instant::now();
                if let Some(last) = last.replace(now) {
                    gaps.add(now - last);
                }
            };
            chats.stream(caller, &question, arrived).await?;
            let mut all = all.lock().expect("no panic while measuring");
            all[0].extend(&gaps);
            all[1].extend(&late);
            Ok(())
        }
    };
    closed(streams, part, call).await?;
    Ok(kept.lock().expect("no panic while measuring").clone())
}

/// What a commit takes in a database that does nothing else: one row, one after the other.
async fn commits(url: String, part: Duration) -> Result<Times> {
    let is_file = url.starts_with("sqlite:");
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    let database: DatabaseConnection = Database::connect(options).await?;
    if is_file {
        // As the vault opens its own.
        database.execute_unprepared("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL").await?;
    }
    database.execute_unprepared("CREATE TABLE IF NOT EXISTS commits (line TEXT)").await?;
    let (mut times, begun) = (Times::default(), Instant::now());
    while begun.elapsed() < part {
        let commit = Instant::now();
        database
            .execute_unprepared("INSERT INTO commits VALUES ('a line as long as a record of the audit log')")
            .await?;
        times.add(commit.elapsed());
    }
    database.execute_unprepared("DROP TABLE commits").await?;
    database.close().await?;
    Ok(times)
}
