//! What is looked at once: memory, starts, images.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use tokio::{process::Command, time::sleep};

use super::{Extent, Teller, repeat::gaps};
use crate::{
    Setup,
    bench::{
        clients::Chats,
        cost::{processor_time, resident_mib},
        figures::Values,
        platform::{Kind, Platform, Trust},
        question::{PROFILE, Plan},
        result::median,
        servers::Server,
    },
    command,
    secured::Files,
};
use proto::chat::stream_chat_response::Event;

/// Streams at once, whose memory is looked at.
const STREAMS: usize = 512;

/// Such a stream: twenty chunks a second, as a model writes.
const AS_MODELS_WRITE: Plan = Plan { pace: Duration::from_millis(50), ..Plan::at_once(100, 24, 1024) };

/// A stream that says one thing, and nothing more for longer than it is looked at.
const SILENT: Plan = Plan { pace: Duration::from_mins(10), ..Plan::at_once(2, 24, 256) };

/// Streams that are opened at once, and streams of one connection.
const OPENED_AT_ONCE: usize = 200;
const STREAMS_PER_CONNECTION: usize = 1000;

/// How long a process is left alone before its memory is looked at.
const SETTLES: Duration = Duration::from_secs(2);

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Starts of a service.
const STARTS: usize = 5;

/// Looks at everything.
pub(super) async fn all(extent: &Extent, tell: &mut Teller) -> Result<Values> {
    let trust = Trust::new()?;
    let (provider, sink) = (Server::of("provider", Some(&trust.tls)).await?, Server::of("sink", None).await?);
    let kind = Kind {
        tls: true,
        collector: Some(sink.url().to_owned()),
        audit: true,
        log_filter: Some(extent.log_filter.clone()),
        ..Kind::default()
    };
    let mut values = Values::new();
    tell.tell("memory of streams");
    let platform = Platform::start(&kind, provider.url(), &trust).await?;
    streams(&platform, &mut values).await.context("the memory of streams")?;
    tell.tell("memory of idle streams");
    let platform = Platform::start(&kind, provider.url(), &trust).await?;
    idle_streams(&platform, extent.open_streams, &mut values).await.context("the memory of idle streams")?;
    tell.tell("starts");
    starts(&mut values).await.context("starts")?;
    images(&mut values).await.context("images")?;
    Ok(values)
}

async fn streams(platform: &Platform, values: &mut Values) -> Result<()> {
    sleep(SETTLES).await;
    let (gateway, vault) = (platform.gateway.id(), platform.vault.id());
    values.insert("memory.idle.gateway.mib".to_owned(), resident_mib(gateway)?);
    values.insert("memory.idle.vault.mib".to_owned(), resident_mib(vault)?);
    let mut most = 0.0_f64;
    let watch = async {
        loop {
            most = most.max(resident_mib(gateway)?);
            sleep(LOOK_EVERY).await;
        }
        #[expect(unreachable_code, reason = "says the type of what is never returned")]
        Ok::<(), anyhow::Error>(())
    };
    let all = gaps(Chats::grpc(|| platform.chat()), STREAMS, AS_MODELS_WRITE, SETTLES);
    let (begun, before) = (Instant::now(), processor_time(gateway)? + processor_time(vault)?);
    let [gaps, late] = tokio::select! {
        all = all => all?,
        failed = watch => return failed,
    };
    let busy = (processor_time(gateway)? + processor_time(vault)?).saturating_sub(before).as_secs_f64();
    values.insert("memory.streams_512.cores".to_owned(), busy / begun.elapsed().as_secs_f64());
    // Each stream has come to its end, or that would have failed.
    let rounds = (gaps.count() / STREAMS as u64).div_ceil(u64::from(AS_MODELS_WRITE.pieces - 1)).max(1);
    let expected = STREAMS as u64 * rounds * u64::from(AS_MODELS_WRITE.pieces);
    #[expect(clippy::cast_precision_loss, reason = "a few thousand events are exact")]
    values.insert("memory.streams_512.lost".to_owned(), (expected - late.count()) as f64);
    values.insert("memory.streams_512.mib".to_owned(), most);
    values.insert("memory.streams_512.late_p50_s".to_owned(), late.quantile(0.5));
    Ok(())
}

/// Opens streams that say one thing each, and looks at what each costs while they are silent.
async fn idle_streams(platform: &Platform, count: u32, values: &mut Values) -> Result<()> {
    sleep(SETTLES).await;
    let gateway = platform.gateway.id();
    let before = resident_mib(gateway)?;
    let clients: Vec<_> =
        (0..usize::try_from(count)?.div_ceil(STREAMS_PER_CONNECTION)).map(|_| platform.chat()).collect();
    let numbers: Vec<usize> = (0..usize::try_from(count)?).collect();
    let mut open = Vec::with_capacity(numbers.len());
    for some in numbers.chunks(OPENED_AT_ONCE) {
        let some = some.iter().map(|number| {
            let mut client = clients[number / STREAMS_PER_CONNECTION].clone();
            async move {
                let mut events = client.stream_chat(SILENT.stream()).await?.into_inner();
                loop {
                    let event = events.message().await?.context("the stream goes on")?;
                    if matches!(event.event, Some(Event::TextDelta(_))) {
                        return Ok::<_, anyhow::Error>(events);
                    }
                }
            }
        });
        open.extend(try_join_all(some).await?);
    }
    sleep(SETTLES).await;
    let after = resident_mib(gateway)?;
    values.insert("memory.open_streams.mib".to_owned(), after);
    values.insert("memory.open_stream.kib".to_owned(), (after - before) * 1024.0 / f64::from(count));
    ensure!(open.len() == numbers.len(), "all are open for {PROFILE}");
    Ok(())
}

/// Starts both services, each for the first time and then again.
async fn starts(values: &mut Values) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = Files(folder.path());
    files.make().await?;
    let setup = files.setup(&Setup { database: crate::Storage::Sqlite, ..Setup::default() });
    let (mut first, mut vaults, mut gateways) = (None, Vec::new(), Vec::new());
    for _ in 0..=STARTS {
        let begun = Instant::now();
        let vault = crate::start_vault(folder.path(), &setup).await?;
        let took = milliseconds(begun.elapsed());
        if first.is_none() {
            first = Some(took);
        } else {
            vaults.push(took);
        }
        let begun = Instant::now();
        let gateway = crate::start_ready_gateway(folder.path(), &vault.url(), "http://127.0.0.1:9", &setup).await?;
        gateways.push(milliseconds(begun.elapsed()));
        gateway.stop().await;
        vault.stop().await;
    }
    values.insert("start.vault.first.ms".to_owned(), first.unwrap_or_default());
    values.insert("start.vault.ms".to_owned(), median(&vaults));
    values.insert("start.gateway.ms".to_owned(), median(&gateways));
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The root file systems of the images, as `deploy/image/rootfs.sh` makes them.
async fn images(values: &mut Values) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/image/rootfs.sh");
    let mut larger = 0.0_f64;
    for (name, service) in [("vault", "key-vault"), ("gateway", "chat-gateway")] {
        let root = folder.path().join(name);
        let binary = command(service).as_std().get_program().to_owned();
        let made = Command::new("sh").arg(&script).arg(binary).arg(&root).arg(service).stdout(Stdio::null()).status();
        ensure!(made.await?.success(), "{} fails", script.display());
        let output = Command::new("du").args(["-sk", "--apparent-size"]).arg(&root).output().await?;
        let text = String::from_utf8(output.stdout)?;
        let mib = text.split_whitespace().next().context("a size")?.parse::<f64>()? / 1024.0;
        values.insert(format!("image.{name}.mib"), mib);
        larger = larger.max(mib);
    }
    values.insert("image.larger.mib".to_owned(), larger);
    Ok(())
}
