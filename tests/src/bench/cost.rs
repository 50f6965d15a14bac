//! What processes cost, by their own accounting.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

/// How long a process has been on a processor so far: all threads that it has now, in the
/// kernel's nanoseconds (`schedstat`). A service keeps its threads, so none is lost.
///
/// # Errors
///
/// Fails if the process has ended.
pub fn processor_time(process: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{process}/task")).context("a process has ended")? {
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanoseconds += text.split(' ').next().and_then(|text| text.parse::<u64>().ok()).context("its time")?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The memory of a process that is resident, in MiB.
///
/// # Errors
///
/// Fails if the process has ended.
pub fn resident_mib(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("a process has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("what it has")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
