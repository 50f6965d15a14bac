//! The tokens of an answer.
//!
//! A count that is reported again replaces the one before: the first are estimates, and
//! tools of the provider add to them.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::fields::Fields;
use crate::{message, provider::Broken};

#[derive(Debug, Default)]
pub(super) struct Usage {
    counts: Counts,
    /// All that was reported.
    raw: Fields,
}

/// Counts as Anthropic reports them: the prompt without what is cached.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_creation: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
}

/// The fields of an object, by their names.
type Report<'a> = BTreeMap<String, &'a RawValue>;

impl Usage {
    /// Adds a report. Returns what is known now, unless the report is none. An answer that
    /// was relayed does not fail for its counts: one that cannot be read is not there.
    pub(super) fn report(&mut self, report: &RawValue) -> Result<Option<message::Usage>, Broken> {
        let Some(report) = fields(report) else { return Ok(None) };
        for (name, value) in &report {
            self.raw.set(name, Some(value))?;
        }
        let details = report.get("output_tokens_details").and_then(|details| fields(details)).unwrap_or_default();
        let known = &mut self.counts;
        known.input = count(&report, "input_tokens").or(known.input);
        known.cache_read = count(&report, "cache_read_input_tokens").or(known.cache_read);
        known.cache_creation = count(&report, "cache_creation_input_tokens").or(known.cache_creation);
        known.output = count(&report, "output_tokens").or(known.output);
        known.thinking = count(&details, "thinking_tokens").or(known.thinking);
        Ok(Some(known.unified()))
    }

    /// All that was reported, as JSON. Empty if nothing was.
    pub(super) fn json(&self) -> String {
        self.raw.json()
    }
}

fn fields(object: &RawValue) -> Option<Report<'_>> {
    serde_json::from_str(object.get()).ok()
}

fn count(report: &Report<'_>, name: &str) -> Option<u64> {
    serde_json::from_str(report.get(name)?.get()).ok()
}

impl Counts {
    fn unified(self) -> message::Usage {
        let cached = self.cache_read;
        let written = self.cache_creation;
        let cache = cached.unwrap_or(0).saturating_add(written.unwrap_or(0));
        let input = self.input.map(|input| input.saturating_add(cache));
        let output = self.output;
        message::Usage {
            input,
            cached_input: cached,
            cache_write: written,
            output,
            reasoning: self.thinking,
            total: input.zip(output).map(|(input, output)| input.saturating_add(output)),
        }
    }
}
