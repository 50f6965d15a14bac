//! Load: callers that call again as soon as they are answered, and calls that come at their time
//! whoever is still waiting.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// The longest time that is told from others: a call that takes longer counts as this.
const LONGEST: Duration = Duration::from_mins(1);

/// Figures of a time that are kept.
const DIGITS: u8 = 3;

/// Calls that may be open at once when they come at their time. Far beyond what anything here answers.
const OPEN_MAX: usize = 20_000;

/// What calls took.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, nanoseconds(LONGEST), DIGITS).expect("bounds in order"))
    }
}

impl Times {
    /// One more.
    pub fn add(&mut self, time: Duration) {
        self.0.saturating_record(nanoseconds(time).max(1));
    }

    /// Those of others too.
    pub fn extend(&mut self, other: &Self) {
        self.0.add(&other.0).expect("bounds are the same");
    }

    /// How many they are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Such a share of them took no longer, in seconds. 0 if there are none.
    #[expect(clippy::cast_precision_loss, reason = "times of less than a hundred days are exact")]
    pub fn quantile(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e9
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What came of a load.
#[derive(Debug)]
pub struct Load {
    /// What each call took. Of calls at their time: since their time, and not since they were made.
    pub times: Times,
    /// How long all of it took.
    pub elapsed: Duration,
}

impl Load {
    /// Calls in a second.
    #[expect(clippy::cast_precision_loss, reason = "calls of a few seconds are exact")]
    pub fn rate(&self) -> f64 {
        self.times.count() as f64 / self.elapsed.as_secs_f64()
    }
}

/// So many callers, each of which calls again as soon as it is answered. A call knows its caller by
/// the number.
///
/// # Errors
///
/// The first failure of a call.
///
/// # Cancel safety
///
/// Dropping the future drops the calls.
pub async fn closed<C, F>(callers: usize, period: Duration, call: C) -> Result<Load>
where
    C: Fn(usize) -> F + Send + Sync + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let call = Arc::new(call);
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let call = Arc::clone(&call);
        tasks.spawn(async move {
            let mut times = Times::default();
            while begin.elapsed() < period {
                let called = Instant::now();
                call(caller).await?;
                times.add(called.elapsed());
            }
            Ok::<_, anyhow::Error>(times)
        });
    }
    let mut times = Times::default();
    while let Some(ended) = tasks.join_next().await {
        times.extend(&ended??);
    }
    Ok(Load { times, elapsed: begin.elapsed() })
}

/// So many calls a second, each at its time. What a call takes counts from that time on, so that a
/// server that stops for a while does not look as if it had stopped for one call.
///
/// # Errors
///
/// The first failure of a call, and if calls pile up without end.
///
/// # Cancel safety
///
/// Dropping the future drops the calls.
pub async fn open<C, F>(rate: f64, period: Duration, call: C) -> Result<Load>
where
    C: Fn(usize) -> F,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let begin = Instant::now();
    let (mut tasks, mut times, mut number) = (JoinSet::new(), Times::default(), 0);
    let mut at = begin;
    while at.duration_since(begin) < period {
        sleep_until(at).await;
        let (call, due) = (call(number), at);
        tasks.spawn(async move { call.await.map(|()| due.elapsed()) });
        while let Some(ended) = tasks.try_join_next() {
            times.add(ended??);
        }
        ensure!(tasks.len() < OPEN_MAX, "{rate} calls a second are more than are answered");
        number += 1;
        at = begin + Duration::from_secs_f64(f64::from(u32::try_from(number)?) / rate);
    }
    while let Some(ended) = tasks.join_next().await {
        times.add(ended??);
    }
    Ok(Load { times, elapsed: begin.elapsed() })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn callers_call_again_and_again() {
        let load = closed(3, Duration::from_secs(1), |_| async {
            sleep(Duration::from_millis(100)).await;
            Ok(())
        });
        let load = load.await.expect("no call fails");
        assert_eq!(load.times.count(), 30);
        assert!((load.times.quantile(0.5) - 0.1).abs() < 0.001);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_is_seen_by_all_whose_time_came_meanwhile() {
        let stopped_until = Instant::now() + Duration::from_secs(1);
        let load = open(100.0, Duration::from_secs(2), move |_| async move {
            sleep_until(stopped_until).await;
            Ok(())
        });
        let load = load.await.expect("no call fails");
        assert_eq!(load.times.count(), 200);
        // Half of them came while it stopped, and waited for half a second on average.
        assert!((load.times.quantile(0.75) - 0.5).abs() < 0.02, "{}", load.times.quantile(0.75));
    }

    #[tokio::test]
    async fn a_call_that_fails_ends_the_load() {
        let calls = AtomicUsize::new(0);
        let load = closed(1, Duration::from_mins(1), move |_| {
            let fails = calls.fetch_add(1, Ordering::Relaxed) == 2;
            async move {
                ensure!(!fails, "no");
                Ok(())
            }
        });
        assert!(load.await.is_err());
    }
}
