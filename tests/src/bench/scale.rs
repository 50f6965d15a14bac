//! What a resolution costs in a vault of a thousand keys and in one of a million: `make bench-scale`.
//!
//! Keys that are asked for are real, made over gRPC while the vault grows. All others are rows beside
//! them, each with an assignment, made in the database: their seals are copies, and nobody opens them.

use std::{fmt::Write as _, fs, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    clients::Resolutions,
    cost::processor_time,
    platform::{Kind, Platform, Trust},
    result::median,
};
use crate::{Postgres, load::closed};

/// How many keys there are at first.
pub const FEW: u32 = 1_000;

/// How much more a resolution may cost in the end.
pub const GROWTH_MAX: f64 = 1.3;

/// Steps in which the vault grows: real keys are made after each, so that they stand among all others.
const STEPS: u32 = 4;

/// Callers who ask at once, and administrators who make keys.
const CALLERS: usize = 32;
const ADMINISTRATORS: usize = 8;

/// How often it is measured, and for how long.
const REPEATS: usize = 5;
const PART: Duration = Duration::from_secs(3);

/// What resolutions cost at a number of keys.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// How many keys there are, each with an assignment.
    pub keys: u32,
    /// Of the vault and the database together, for one resolution, in milliseconds of a processor.
    pub cpu_ms: f64,
    /// Resolutions a second.
    pub per_s: f64,
    /// Half of them take no longer, in milliseconds.
    pub p50_ms: f64,
}

/// Measures with [`FEW`] keys, and then with `many`. Tells what it does.
///
/// # Errors
///
/// Fails if PostgreSQL is missing or a part cannot be done.
pub async fn run(many: u32, tell: impl Fn(&str)) -> Result<[Cost; 2]> {
    ensure!(many >= FEW * 2, "{many} keys are too few: {} or more", FEW * 2);
    let Some(postgres) = Postgres::start().await else {
        bail!("PostgreSQL is missing; to install it: apt-get install postgresql")
    };
    let database_url = postgres.create_database().await;
    let database = database_url.rsplit('/').next().context("a name")?.to_owned();
    let trust = Trust::new()?;
    let kind = Kind { tls: true, database_url: Some(database_url), ..Kind::default() };
    let platform = Platform::start(&kind, "http://127.0.0.1:9", &trust).await?;
    let scale = Scale { platform: &platform, postgres: &postgres, database };

    tell(&format!("{FEW} keys are made"));
    // One is there already.
    scale.make_keys(0..FEW - 1).await?;
    let few = scale.cost(FEW - 1).await?;
    let (mut real, mut rows) = (FEW - 1, 0);
    for step in 1..=STEPS {
        let until = many / STEPS * step - FEW * (step + 1);
        tell(&format!("the vault grows to {} keys", many / STEPS * step));
        scale.make_rows(rows, until).await?;
        rows = until;
        scale.make_keys(real..real + FEW).await?;
        real += FEW;
    }
    tell("the database tidies up");
    postgres.sql(&scale.database, "VACUUM ANALYZE").await?;
    let keys = rows + real + 1;
    let many = Cost { keys, ..scale.cost(real).await? };
    Ok([few, many])
}

struct Scale<'a> {
    platform: &'a Platform,
    postgres: &'a Postgres,
    database: String,
}

impl Scale<'_> {
    async fn make_keys(&self, numbers: std::ops::Range<u32>) -> Result<()> {
        let made = stream::iter(numbers).map(|number| async move { self.platform.add_key(&profile(number)).await });
        made.buffer_unordered(ADMINISTRATORS).try_collect::<()>().await
    }

    /// Adds copies of a key under other ids, each with a profile of its own.
    async fn make_rows(&self, from: u32, until: u32) -> Result<()> {
        let columns = |table: &str, others: &str| {
            format!(
                "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute \
                 WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT IN ({others})"
            )
        };
        // Foreign keys are not looked at again for rows that are right.
        let mut statements = format!(
            "SET session_replication_role = replica; \
             CREATE TEMP TABLE filler AS SELECT gen_random_uuid() AS id, md5(n::text) AS profile FROM generate_series({}, {until}) n;",
            from + 1
        );
        for (table, replaced, values) in [
            ("api_key", "'api_key_id'", "filler.id"),
            ("secret", "'api_key_id'", "filler.id"),
            ("profile_key", "'api_key_id', 'profile_id'", "filler.id, filler.profile"),
        ] {
            let kept = self.postgres.text(&self.database, &columns(table, replaced)).await?;
            let names = replaced.replace('\'', "");
            write!(
                statements,
                "INSERT INTO {table} ({names}, {kept}) SELECT {values}, {kept} FROM filler, (SELECT * FROM {table} LIMIT 1) one;"
            )?;
        }
        self.postgres.sql(&self.database, &statements).await?;
        Ok(())
    }

    /// What it costs to resolve some of the first `real` keys.
    async fn cost(&self, real: u32) -> Result<Cost> {
        let callers = Resolutions::new(|| self.platform.resolution());
        let load = async |period| {
            let callers = callers.clone();
            let call = move |caller| {
                let callers = callers.clone();
                async move { callers.resolve(caller, &profile(fastrand::u32(..real))).await }
            };
            closed(CALLERS, period, call).await
        };
        load(PART).await?;
        let [mut cpu_ms, mut per_s, mut p50_ms] = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..REPEATS {
            let before = self.processor_time()?;
            let load = load(PART).await?;
            #[expect(clippy::cast_precision_loss, reason = "calls of a few seconds are exact")]
            cpu_ms.push(self.processor_time()?.saturating_sub(before).as_secs_f64() * 1e3 / load.times.count() as f64);
            per_s.push(load.rate());
            p50_ms.push(load.times.quantile(0.5) * 1e3);
        }
        Ok(Cost { keys: real + 1, cpu_ms: median(&cpu_ms), per_s: median(&per_s), p50_ms: median(&p50_ms) })
    }

    /// Of the vault, and of all processes of the database.
    fn processor_time(&self) -> Result<Duration> {
        let file = fs::read_to_string(self.postgres.data().join("postmaster.pid"))?;
        let server = file.lines().next().context("the server's process")?;
        let mut time = processor_time(self.platform.vault.id())?;
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            // Behind the name, which may be anything: the state, and who started it.
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            if parent == Some(server) {
                // It may end meanwhile.
                time += processor_time(process).unwrap_or_default();
            }
        }
        Ok(time)
    }
}

/// A profile with a real key. Not in the order in which they are made.
fn profile(number: u32) -> String {
    format!("{:08x}", number.wrapping_mul(0x9e37_79b1))
}
