//! What it costs to seal a provider's key, and to open it for a call. `make bench-micro` runs it.

use std::{alloc::System, hint::black_box, time::Duration};

use anyhow::ensure;
use criterion::Criterion;
use key_vault::{benchmarks::Seal, key::KeyMaterial};
use zeroizing_alloc::ZeroAlloc;

/// That of the binary: to wipe what is freed takes time too.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// How long each benchmark runs before it is measured, and then.
const WARM_UP: Duration = Duration::from_secs(1);
const MEASUREMENT: Duration = Duration::from_secs(3);
const SAMPLES: usize = 50;

/// The longest keys of today are of about this length.
const KEY_CHARS: usize = 164;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(WARM_UP)
        .measurement_time(MEASUREMENT)
        .sample_size(SAMPLES)
        .configure_from_args();
    let seal = Seal::new().await?;
    let material = KeyMaterial::try_from("k".repeat(KEY_CHARS))?;
    let sealed = seal.seal(&material)?;
    ensure!(seal.open(&sealed)?.expose() == material.expose(), "another key was opened");
    let mut group = criterion.benchmark_group("key");
    group.bench_function("seal", |bencher| bencher.iter(|| seal.seal(black_box(&material))));
    group.bench_function("open", |bencher| bencher.iter(|| seal.open(black_box(&sealed))));
    group.finish();
    criterion.final_summary();
    Ok(())
}
