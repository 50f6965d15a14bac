//! The ledger of what keys were used for: taken in, read back, and what is missing from it.

use std::ops::Range;

use chrono::{Duration, Utc};

use super::{Error, Vault};
use crate::usage::{Gap, GapKind, Hour, Labels, Report, Reporter, UsagePage, UsageQuery};

/// How long a reporter may be silent before what it has not told counts as lost. Reporters
/// give a sign of life every two seconds.
const SILENT_FOR: Duration = Duration::seconds(10);

/// How long after its last report a silent reporter may still have been in use, and its calls
/// be missing: cut off from the vault, and not dead.
const LOST_FOR: Duration = Duration::hours(24);

/// How many reporters with gaps an answer names: the last heard of.
const GAPS_MAX: u64 = 100;

impl Vault {
    /// Counts the uses of a report, each once however often it comes. Returns how many had not
    /// been counted before.
    ///
    /// # Cancel safety
    ///
    /// One transaction. Dropping the future counts all of it or nothing.
    pub(crate) async fn report_use(&self, principal: &str, report: &Report) -> Result<usize, Error> {
        Ok(self.store.count_uses(principal, report).await?)
    }

    /// Sums of uses in the order of the query's dimensions, at most `size`, after `after`.
    pub(crate) async fn usage(
        &self,
        query: &UsageQuery,
        after: Option<&Labels>,
        size: usize,
    ) -> Result<UsagePage, Error> {
        // One more than is wanted, to see whether any follows.
        let mut rows = self.store.usage(query, after, size + 1).await?;
        let more = rows.len() > size;
        rows.truncate(size);
        let next_after = rows.last().filter(|_| more).map(|row| row.labels.clone());
        Ok(UsagePage { rows, next_after })
    }

    /// What may be missing from the ledger for some hours.
    pub(crate) async fn usage_gaps(&self, hours: &Range<Hour>) -> Result<Vec<Gap>, Error> {
        let (start, end) = (hours.start.start(), hours.end.start());
        let silent_since = Utc::now() - SILENT_FOR;
        let reporters = self.store.reporters_with_gaps(start, end, silent_since, start - LOST_FOR, GAPS_MAX).await?;
        let gaps = reporters.iter().flat_map(|reporter| {
            let gap = |kind| Gap {
                kind,
                reporter: reporter.id,
                principal: reporter.principal.clone(),
                complete_until: reporter.complete_until,
                dropped: reporter.dropped,
            };
            let lost = !reporter.ended && reporter.seen < silent_since && is_lost_in(reporter, hours);
            let dropped = reporter.dropped_between.is_some_and(|(from, until)| from < end && until >= start);
            [lost.then(|| gap(GapKind::Lost)), dropped.then(|| gap(GapKind::Dropped))]
        });
        Ok(gaps.flatten().collect())
    }
}

/// Whether what a silent reporter has not told may be of some hours.
fn is_lost_in(reporter: &Reporter, hours: &Range<Hour>) -> bool {
    let until = reporter.complete_until;
    until < hours.end.start() && until + LOST_FOR >= hours.start.start()
}
