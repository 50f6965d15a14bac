//! How much memory a process has, over time.

use std::{
    fs,
    time::{Duration, Instant},
};

/// Samples of one process.
#[derive(Debug)]
pub struct Resident {
    process: u32,
    start: Instant,
    /// Minutes since the start, and KiB.
    samples: Vec<(f64, f64)>,
}

impl Resident {
    /// Of a process that runs.
    pub fn of(process: u32) -> Self {
        Self { process, start: Instant::now(), samples: Vec::new() }
    }

    /// Looks once more.
    pub fn sample(&mut self) {
        self.samples.push((self.start.elapsed().as_secs_f64() / 60.0, kib(self.process)));
    }

    /// How much it has now, in KiB.
    pub fn now(&self) -> f64 {
        kib(self.process)
    }

    /// How much more it has each minute, in KiB, and how much it has at most: the line with the
    /// least squares through all samples but those of the first time, `warm_up`.
    pub fn slope(&self, warm_up: Duration) -> (f64, f64) {
        let warm_up = warm_up.as_secs_f64() / 60.0;
        let samples: Vec<_> = self.samples.iter().filter(|(at, _)| *at >= warm_up).copied().collect();
        assert!(samples.len() > 10, "{} samples say nothing", samples.len());
        let most = samples.iter().map(|(_, kib)| *kib).fold(0.0, f64::max);
        (slope(&samples), most)
    }
}

fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.iter().map(|_| 1.0).sum::<f64>();
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (at, kib) in samples {
        covariance += (at - x) * (kib - y);
        variance += (at - x) * (at - x);
    }
    covariance / variance
}

fn kib(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("what it has");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn the_slope_of_a_line_is_its_slope() {
        let near = |slope: f64, expected: f64| assert!((slope - expected).abs() < 1e-9, "{slope}");
        near(slope(&[(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)]), 2.0);
        near(slope(&[(0.0, 5.0), (1.0, 5.0), (9.0, 5.0)]), 0.0);
        near(slope(&[(0.0, 1.0), (1.0, 0.0), (2.0, 1.0)]), 0.0);
    }
}
