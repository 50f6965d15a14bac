//! The tokens of an answer.
//!
//! A count that is reported again replaces the one before: the first are estimates, and
//! tools of the provider add to them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::Fields;
use crate::{
    message,
    provider::{Broken, json_text},
};

#[derive(Debug, Default)]
pub(super) struct Usage {
    counts: Counts,
    /// All that was reported.
    raw: Fields,
}

/// Counts as Anthropic reports them: the prompt without what is cached.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Counts {
    input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    #[serde(default)]
    output_tokens_details: Option<OutputTokensDetails>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct OutputTokensDetails {
    thinking_tokens: Option<u64>,
}

impl Usage {
    /// Adds a report. Returns what is known now.
    pub(super) fn report(&mut self, report: &RawValue) -> Result<message::Usage, Broken> {
        const MALFORMED: Broken = Broken::Malformed("usage that is none");
        let new: Counts = json_text::object(report.get().as_bytes()).ok_or(MALFORMED)?;
        let raw: BTreeMap<String, &RawValue> = serde_json::from_str(report.get()).map_err(|_| MALFORMED)?;
        for (name, value) in raw {
            self.raw.set(&name, Some(value))?;
        }
        let known = &mut self.counts;
        known.input_tokens = new.input_tokens.or(known.input_tokens);
        known.cache_read_input_tokens = new.cache_read_input_tokens.or(known.cache_read_input_tokens);
        known.cache_creation_input_tokens = new.cache_creation_input_tokens.or(known.cache_creation_input_tokens);
        known.output_tokens = new.output_tokens.or(known.output_tokens);
        known.output_tokens_details = new.output_tokens_details.or(known.output_tokens_details);
        Ok(known.unified())
    }

    /// All that was reported, as JSON. Empty if nothing was.
    pub(super) fn json(&self) -> String {
        self.raw.json()
    }
}

impl Counts {
    fn unified(self) -> message::Usage {
        let cached = self.cache_read_input_tokens;
        let written = self.cache_creation_input_tokens;
        let cache = cached.unwrap_or(0).saturating_add(written.unwrap_or(0));
        let input = self.input_tokens.map(|input| input.saturating_add(cache));
        let output = self.output_tokens;
        message::Usage {
            input,
            cached_input: cached,
            cache_write: written,
            output,
            reasoning: self.output_tokens_details.and_then(|details| details.thinking_tokens),
            total: input.zip(output).map(|(input, output)| input.saturating_add(output)),
        }
    }
}
