//! What keys were used for, as plain data: uses as gateways report them, and their sums.

use std::{
    collections::BTreeMap,
    ops::{AddAssign, Range},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::key::{KeyId, OrganizationId, ProfileId, Provider, Source};

const HOUR_SECONDS: i64 = 60 * 60;
const DAY_HOURS: i64 = 24;

/// An hour, counted from the beginning of 1970 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hour(pub(crate) i64);

impl Hour {
    /// The hour that a time is in.
    pub(crate) fn of(time: DateTime<Utc>) -> Self {
        Self(time.timestamp().div_euclid(HOUR_SECONDS))
    }

    /// The first hour that begins at a time or after it.
    pub(crate) fn from(time: DateTime<Utc>) -> Self {
        let begun = Self::of(time);
        if begun.start() == time { begun } else { Self(begun.0 + 1) }
    }

    /// The first hour of a day, counted from the beginning of 1970.
    pub(crate) fn of_day(day: i64) -> Self {
        Self(day * DAY_HOURS)
    }

    /// When it begins.
    pub(crate) fn start(self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.0 * HOUR_SECONDS, 0).unwrap_or_default()
    }
}

/// What a gateway reports at once.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) reporter: Uuid,
    /// Each id once.
    pub(crate) uses: Vec<KeyUse>,
    /// How many uses the reporter has dropped since it started.
    pub(crate) dropped: i64,
    /// It ends, and has nothing left.
    pub(crate) last: bool,
}

/// One call of a provider.
#[derive(Clone, Debug)]
pub(crate) struct KeyUse {
    pub(crate) report_id: Uuid,
    pub(crate) cell: Cell,
    pub(crate) outcome: Outcome,
    pub(crate) tokens: Tokens,
    /// When it ended. Never in the future.
    pub(crate) time: DateTime<Utc>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The answer is whole.
    Complete,
    /// The answer was cut short.
    Partial,
    /// The provider refused or failed before it answered.
    Failed,
    /// The provider refused the key.
    Rejected,
}

/// Tokens of calls, as far as providers said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) input: i64,
    pub(crate) cached_input: i64,
    pub(crate) cache_write: i64,
    pub(crate) output: i64,
    pub(crate) reasoning: i64,
}

/// What sums are kept apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) organization: OrganizationId,
    pub(crate) hour: Hour,
    /// `None` for calls without one.
    pub(crate) profile: Option<ProfileId>,
    pub(crate) provider: Provider,
    /// `None` for the environment's.
    pub(crate) key: Option<KeyId>,
    pub(crate) version: i64,
    pub(crate) source: Source,
    pub(crate) model: String,
}

/// What several calls came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// All of them.
    pub(crate) calls: i64,
    pub(crate) partial: i64,
    pub(crate) failed: i64,
    pub(crate) rejected: i64,
    /// Of all of them.
    pub(crate) tokens: Tokens,
    /// Of calls that were cut short.
    pub(crate) partial_input: i64,
    pub(crate) partial_output: i64,
}

impl AddAssign<&KeyUse> for Sums {
    fn add_assign(&mut self, call: &KeyUse) {
        self.calls += 1;
        match call.outcome {
            Outcome::Complete => {}
            Outcome::Partial => {
                self.partial += 1;
                self.partial_input += call.tokens.input;
                self.partial_output += call.tokens.output;
            }
            Outcome::Failed => self.failed += 1,
            Outcome::Rejected => self.rejected += 1,
        }
        self.tokens.input += call.tokens.input;
        self.tokens.cached_input += call.tokens.cached_input;
        self.tokens.cache_write += call.tokens.cache_write;
        self.tokens.output += call.tokens.output;
        self.tokens.reasoning += call.tokens.reasoning;
    }
}

/// The sums of some uses, in the order of their cells.
pub(crate) fn summed<'a>(uses: impl IntoIterator<Item = &'a KeyUse>) -> BTreeMap<Cell, Sums> {
    let mut sums: BTreeMap<Cell, Sums> = BTreeMap::new();
    for call in uses {
        *sums.entry(call.cell.clone()).or_default() += call;
    }
    sums
}

/// When a key was last used, and refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastUse {
    pub(crate) used: DateTime<Utc>,
    pub(crate) rejected: Option<DateTime<Utc>>,
}

/// When each key of some uses was last used, in the order of keys. Whose it is, is what the
/// reporter says.
pub(crate) fn last_uses<'a>(
    uses: impl IntoIterator<Item = &'a KeyUse>,
) -> BTreeMap<(KeyId, &'a OrganizationId), LastUse> {
    let mut last: BTreeMap<_, LastUse> = BTreeMap::new();
    for call in uses {
        let Some(key) = call.cell.key else { continue };
        let rejected = (call.outcome == Outcome::Rejected).then_some(call.time);
        let now = LastUse { used: call.time, rejected };
        let noted = last.entry((key, &call.cell.organization)).or_insert(now);
        *noted = LastUse { used: noted.used.max(now.used), rejected: noted.rejected.max(now.rejected) };
    }
    last
}

/// What rows of usage can be told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dimension {
    Profile,
    Key,
    Version,
    Provider,
    Source,
    Model,
    Day,
    Hour,
}

/// What is asked of the ledger.
#[derive(Clone, Debug)]
pub(crate) struct UsageQuery {
    pub(crate) organization: OrganizationId,
    pub(crate) hours: Range<Hour>,
    pub(crate) profile: Option<ProfileId>,
    pub(crate) key: Option<KeyId>,
    pub(crate) provider: Option<Provider>,
    pub(crate) model: Option<String>,
    /// Each once. Rows are in the order of the first, then of the second, and so on.
    pub(crate) dimensions: Vec<Dimension>,
}

/// What tells a row from the others. What was not asked for is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Labels {
    pub(crate) profile: Option<ProfileId>,
    pub(crate) key: Option<KeyId>,
    pub(crate) version: i64,
    pub(crate) provider: Option<Provider>,
    pub(crate) source: Option<Source>,
    pub(crate) model: String,
    /// Counted from the beginning of 1970.
    pub(crate) day: i64,
    /// Counted from the beginning of 1970.
    pub(crate) hour: i64,
}

/// One row of an answer.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) labels: Labels,
    pub(crate) sums: Sums,
}

/// A part of an answer.
#[derive(Debug)]
pub(crate) struct UsagePage {
    pub(crate) rows: Vec<Row>,
    /// The last row of the page, if others follow.
    pub(crate) next_after: Option<Labels>,
}

/// A process that reports.
#[derive(Debug)]
pub(crate) struct Reporter {
    pub(crate) id: Uuid,
    pub(crate) principal: String,
    /// When it was last heard of.
    pub(crate) seen: DateTime<Utc>,
    /// Every use that ended before was reported, or dropped.
    pub(crate) complete_until: DateTime<Utc>,
    /// It said that it ends, and has nothing left.
    pub(crate) ended: bool,
    pub(crate) dropped: i64,
    /// The time in which uses were dropped.
    pub(crate) dropped_between: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// What may be missing from an answer.
#[derive(Debug)]
pub(crate) struct Gap {
    pub(crate) kind: GapKind,
    pub(crate) reporter: Uuid,
    pub(crate) principal: String,
    /// Every use that ended before is in the ledger, but for what was dropped.
    pub(crate) complete_until: DateTime<Utc>,
    pub(crate) dropped: i64,
}

/// Why something may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GapKind {
    /// The reporter fell silent without a last report.
    Lost,
    /// The reporter could not report for too long.
    Dropped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_begins_on_the_hour() {
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let one = Hour::of(time("2026-03-01T01:00:00Z"));
        assert_eq!(Hour::of(time("2026-03-01T01:59:59.999Z")), one);
        assert_eq!(Hour::from(time("2026-03-01T01:00:00Z")), one);
        assert_eq!(Hour::from(time("2026-03-01T00:00:00.001Z")), one);
        assert_eq!(one.start(), time("2026-03-01T01:00:00Z"));
        assert_eq!(Hour::of_day(one.0 / DAY_HOURS).start(), time("2026-03-01T00:00:00Z"));
        assert_eq!(Hour::of(time("1969-12-31T23:30:00Z")), Hour(-1));
    }
}
