//! What is done to get the values of [`super::figures`].

mod once;
mod repeat;
mod stage;

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::figures::Values;
pub use stage::{Extent, Part, Stage};

/// Measures everything, and returns the values of each repeat. What is looked at once is among those
/// of the first.
///
/// # Errors
///
/// Fails if a part cannot be done, naming it.
pub async fn run(extent: &Extent) -> Result<Vec<Values>> {
    let begun = Instant::now();
    let stage = Box::pin(Stage::start(extent)).await?;
    let mut repeats = Vec::new();
    for number in 1..=extent.repeats {
        let mut tell = Teller { begun, of: format!("repeat {number} of {}", extent.repeats) };
        repeats.push(repeat::all(&stage, &mut tell).await?);
    }
    drop(stage);
    if extent.parts.contains(&Part::Once) {
        let once = once::all(extent, &mut Teller { begun, of: "once".to_owned() }).await?;
        repeats.iter_mut().take(1).for_each(|values| values.extend(once.clone()));
    }
    Ok(repeats)
}

/// Says what is done, for people who wait.
#[derive(Debug)]
struct Teller {
    begun: Instant,
    of: String,
}

impl Teller {
    fn tell(&self, part: impl Debug) {
        eprintln!("{:>5} s  {}: {part:?}", self.begun.elapsed().as_secs(), self.of);
    }
}

/// What a call takes before it is measured: connections, caches, the pages of a program.
const WARM_UP: Duration = Duration::from_millis(400);
