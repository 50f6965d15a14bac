//! The parts of a message: their beginnings, and what only their ends have.
//!
//! The whole of a part is repeated twice, when it ends and when its item ends. Of each is
//! relayed what was not heard before.

use serde_json::value::RawValue;

use super::{
    ResponseDecoder,
    items::Place,
    kind_of, parse, pass_on_if, read,
    wire::{self, AnnotationEvent, ContentPart, PartEvent},
};
use crate::{
    message::Event,
    provider::{Broken, Output, openai::responses::type_of},
};

/// The beginning of a part. What is in it comes with other events, or with its end.
pub(super) fn part_begun(data: &[u8], out: &mut Output) -> Result<(), Broken> {
    let (event, more): (PartEvent<'_>, bool) = parse(data)?;
    let json = event.part.get();
    let more_inside = wire::is_known_part(&type_of(json)) && parse::<ContentPart<'_>>(json.as_bytes())?.1;
    pass_on_if(more || more_inside, data, out);
    Ok(())
}

impl ResponseDecoder {
    pub(super) fn part_done(&mut self, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        let (event, more): (PartEvent<'_>, bool) = parse(data)?;
        let mut cited = self.items.at(event.output_index)?.cited_of_part();
        let more_inside =
            self.end_part(event.output_index, event.index.unwrap_or_default(), event.part, &mut cited, out)?;
        self.items.at(event.output_index)?.end_part();
        pass_on_if(more || more_inside, data, out);
        Ok(())
    }

    /// The parts of a message that ends. Says whether those of which nothing was heard have
    /// fields that nobody reads.
    pub(super) fn end_parts(
        &mut self,
        item: u64,
        content: Option<&RawValue>,
        out: &mut Output,
    ) -> Result<bool, Broken> {
        let parts = content.and_then(|content| serde_json::from_str::<Vec<&RawValue>>(content.get()).ok());
        let mut cited = self.items.at(item)?.cited();
        let mut has_more = false;
        for (index, part) in (0..).zip(parts.unwrap_or_default()) {
            let is_unheard = self.items.at(item)?.is_unheard(index);
            has_more |= self.end_part(item, index, part, &mut cited, out)? && is_unheard;
        }
        Ok(has_more)
    }

    /// Relays what was not heard of a part. The first `cited` of the citations were. Says
    /// whether there are fields that nobody reads.
    fn end_part(
        &mut self,
        item: u64,
        index: u64,
        part: &RawValue,
        cited: &mut usize,
        out: &mut Output,
    ) -> Result<bool, Broken> {
        let (json, kind) = (part.get(), kind_of(part.get())?);
        if !wire::is_known_part(&kind) {
            if self.items.at(item)?.hear(Place::Content(index)) {
                self.relay(wire::own(kind.as_ref(), json, false), out);
            }
            return Ok(false);
        }
        let (part, more): (ContentPart<'_>, bool) = parse(json.as_bytes())?;
        // The parts of a thought are told with its item.
        if matches!(kind.as_ref(), "output_text" | "refusal") && self.items.at(item)?.is_unheard(index) {
            self.say_whole(item, index, &kind, &part, out)?;
            if part.logprobs.is_some_and(wire::has_items) {
                out.pass_on("logprobs", json);
            }
        }
        for annotation in part.annotations.unwrap_or_default() {
            if *cited > 0 {
                *cited -= 1;
                continue;
            }
            self.items.at(item)?.cite();
            self.relay(Event::Citation(wire::citation(annotation)?), out);
        }
        Ok(more)
    }

    fn say_whole(
        &mut self,
        item: u64,
        index: u64,
        kind: &str,
        part: &ContentPart<'_>,
        out: &mut Output,
    ) -> Result<(), Broken> {
        let Some(text) = part.text.or(part.refusal) else { return Ok(()) };
        let text: String =
            serde_json::from_str(text.get()).map_err(|_| Broken::Malformed("the text of a part is none"))?;
        if !text.is_empty() {
            self.items.at(item)?.hear(Place::Content(index));
            self.say(kind, text, out);
        }
        Ok(())
    }

    pub(super) fn annotation(&mut self, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        let event: AnnotationEvent<'_> = read(data, out)?;
        self.items.at(event.output_index)?.cite();
        self.relay(Event::Citation(wire::citation(event.annotation)?), out);
        Ok(())
    }
}
