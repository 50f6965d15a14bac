//! A row of the list of faults: cases of several providers over both versions of HTTP, counted.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::{
    FutureExt as _,
    future::{join, join_all},
};

use super::{Case, Stage, wire::Api};
use crate::fake_provider::Http;

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its number.
    pub number: usize,
    /// What the provider does.
    pub what: &'a str,
    /// Options of the gateway.
    pub options: &'a [&'a str],
    /// The APIs that are asked first.
    pub apis: &'a [Api],
}

impl<'a> Row<'a> {
    /// A row of an API of each provider, with a usual gateway.
    pub fn new(number: usize, what: &'a str) -> Self {
        Self { number, what, options: &[], apis: &Api::PROVIDERS }
    }

    /// With options of the gateway.
    #[must_use]
    pub fn options(self, options: &'a [&'a str]) -> Self {
        Self { options, ..self }
    }

    /// With other APIs.
    #[must_use]
    pub fn apis(self, apis: &'a [Api]) -> Self {
        Self { apis, ..self }
    }

    /// Plays the cases of one system one after the other: they fall back on one another's
    /// providers. Panics in the end if one does not hold.
    pub async fn holds(self, case: impl AsyncFn(Case)) {
        let over = async |http| {
            let stage = Stage::start(http, self.options).await;
            let mut problems = Vec::new();
            for api in self.apis {
                problems.extend(problem(&case, stage.case(*api)).await);
            }
            problems
        };
        self.tells(join(Box::pin(over(Http::One)), Box::pin(over(Http::Two))).await);
    }

    /// Plays the cases of one system at once: each waits, and for its own provider only.
    /// Panics in the end if one does not hold.
    pub async fn holds_at_once(self, case: impl AsyncFn(Case)) {
        let over = async |http| {
            let stage = Stage::start(http, self.options).await;
            let cases = self.apis.iter().map(|api| problem(&case, stage.case(*api)));
            join_all(cases).await.into_iter().flatten().collect()
        };
        self.tells(join(Box::pin(over(Http::One)), Box::pin(over(Http::Two))).await);
    }

    fn tells(self, (mut problems, more): (Vec<String>, Vec<String>)) {
        problems.extend(more);
        let count = self.apis.len() * Http::ALL.len();
        let apis = match self.apis {
            apis if apis == Api::PROVIDERS => "3 providers".to_owned(),
            apis if apis == Api::ALL => "4 APIs".to_owned(),
            apis => format!("{apis:?}"),
        };
        tell(self.number, self.what, count - problems.len(), count, &format!("{apis}, HTTP/1.1 and HTTP/2"));
        assert!(problems.is_empty(), "row {} does not hold for:\n{}", self.number, problems.join("\n"));
    }
}

/// Says how many cases of a row hold.
pub fn tell(number: usize, what: &str, hold: usize, count: usize, of: &str) {
    println!("row {number:2}  {what}: {hold} of {count} hold ({of})");
}

/// What is wrong with a case, if anything is.
async fn problem(play: &impl AsyncFn(Case), case: Case) -> Option<String> {
    let name = format!("{:?} over {:?}", case.api, case.stage.http.version());
    let panic = AssertUnwindSafe(play(case)).catch_unwind().await.err()?;
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Some(format!("{name}: {}", text.unwrap_or_default()))
}

/// Whether waits are as long as in the list of faults, with `FAULTS_FULL=1`, and not scaled down.
pub fn is_full() -> bool {
    std::env::var_os("FAULTS_FULL").is_some_and(|value| value == "1")
}

/// A wait of the list, or a shorter one in every run of the suite.
pub fn wait(scaled: Duration, full: Duration) -> Duration {
    if is_full() { full } else { scaled }
}

/// How long a case may take.
pub fn patience() -> Duration {
    wait(Duration::from_secs(30), Duration::from_mins(3))
}
