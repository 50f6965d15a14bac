//! All of an answer, put together from its events.

use crate::message::{Citation, Event, Finish, FinishedCall, ProviderEvent, ReasoningDelta};

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Whole {
    /// In the order in which the model produced them.
    pub(crate) parts: Vec<AnswerPart>,
    pub(crate) citations: Vec<Citation>,
    /// What the provider said beside the parts.
    pub(crate) events: Vec<ProviderEvent>,
    pub(crate) finish: Finish,
}

/// A part of an answer, as it is sent back in the next request.
#[derive(Debug, PartialEq)]
pub(crate) enum AnswerPart {
    Text {
        text: String,
        /// Empty is none.
        signature: String,
    },
    Refusal(String),
    Reasoning(ReasoningDelta),
    ToolCall(FinishedCall),
    Provider(ProviderEvent),
}

impl Whole {
    /// The words of the refusal. Empty if there are none.
    pub(crate) fn refusal(&self) -> String {
        self.parts.iter().fold(String::new(), |all, part| match part {
            AnswerPart::Refusal(text) => all + text,
            AnswerPart::Text { .. } | AnswerPart::Reasoning(_) | AnswerPart::ToolCall(_) | AnswerPart::Provider(_) => {
                all
            }
        })
    }
}

/// An answer that is being put together.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// A call takes its place when it begins, and is there when it has finished.
    parts: Vec<Result<AnswerPart, BegunCall>>,
    citations: Vec<Citation>,
    events: Vec<ProviderEvent>,
    bytes: usize,
}

/// What a piece takes beside its texts, about.
const PIECE_BYTES: usize = 256;

/// The number of a call that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BegunCall(u32);

impl Draft {
    /// How many bytes it has so far, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an event. What says nothing of its own is passed over.
    pub(super) fn add(&mut self, event: Event) {
        let pieces = self.pieces();
        self.join(event);
        // Small pieces are mostly their own frame.
        self.bytes += (self.pieces() - pieces) * PIECE_BYTES;
    }

    fn pieces(&self) -> usize {
        self.parts.len() + self.citations.len() + self.events.len()
    }

    fn join(&mut self, event: Event) {
        match event {
            Event::Text(text) => self.text(&text),
            Event::SignedText { text, signature } => {
                self.bytes += text.len() + signature.len();
                self.parts.push(Ok(AnswerPart::Text { text, signature }));
            }
            Event::Refusal(text) => self.refusal(&text),
            Event::Reasoning(delta) => self.reasoning(delta),
            Event::ToolCallStarted { index, .. } => self.parts.push(Err(BegunCall(index))),
            Event::ToolCallFinished(call) => self.call(call),
            Event::Citation(citation) => {
                let Citation { cited_text, title, url, json, .. } = &citation;
                self.bytes += cited_text.len() + title.len() + url.len() + json.len();
                self.citations.push(citation);
            }
            Event::Provider(event) => {
                self.bytes += event.kind.len() + event.json.len();
                if event.replayable {
                    self.parts.push(Ok(AnswerPart::Provider(event)));
                } else {
                    self.events.push(event);
                }
            }
            // Said again by the end of the call, and by that of the answer.
            Event::ToolCallDelta { .. } | Event::Usage(_) | Event::Finished(_) => {}
        }
    }

    /// The answer is whole.
    pub(super) fn finished(self, finish: Finish) -> Whole {
        // Every call has finished: decoders end them before they end the answer.
        let parts = self.parts.into_iter().filter_map(Result::ok).collect();
        Whole { parts, citations: self.citations, events: self.events, finish }
    }

    fn text(&mut self, more: &str) {
        self.bytes += more.len();
        if let Some(Ok(AnswerPart::Text { text, signature })) = self.parts.last_mut()
            && signature.is_empty()
        {
            text.push_str(more);
        } else {
            self.parts.push(Ok(AnswerPart::Text { text: more.to_owned(), signature: String::new() }));
        }
    }

    fn refusal(&mut self, more: &str) {
        self.bytes += more.len();
        if let Some(Ok(AnswerPart::Refusal(text))) = self.parts.last_mut() {
            text.push_str(more);
        } else {
            self.parts.push(Ok(AnswerPart::Refusal(more.to_owned())));
        }
    }

    fn reasoning(&mut self, delta: ReasoningDelta) {
        self.bytes += delta.text.len() + delta.signature.len() + delta.redacted_data.len() + delta.id.len();
        // Deltas of a block come one after the other.
        let block = match self.parts.last_mut() {
            Some(Ok(AnswerPart::Reasoning(block))) if block.index == delta.index => block,
            Some(_) | None => return self.parts.push(Ok(AnswerPart::Reasoning(delta))),
        };
        block.text.push_str(&delta.text);
        for (known, said) in [
            (&mut block.signature, delta.signature),
            (&mut block.redacted_data, delta.redacted_data),
            (&mut block.id, delta.id),
        ] {
            if !said.is_empty() {
                *known = said;
            }
        }
    }

    fn call(&mut self, call: FinishedCall) {
        self.bytes += call.id.len() + call.name.len() + call.arguments.len() + call.signature.len();
        let place = self.parts.iter().rposition(|part| *part == Err(BegunCall(call.index)));
        match place {
            Some(place) => self.parts[place] = Ok(AnswerPart::ToolCall(call)),
            None => self.parts.push(Ok(AnswerPart::ToolCall(call))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::FinishReason;

    fn whole(events: Vec<Event>) -> Whole {
        let mut draft = Draft::default();
        for event in events {
            draft.add(event);
        }
        draft.finished(Finish {
            reason: FinishReason::Stop,
            provider_reason: String::new(),
            usage: None,
            stop_sequence: String::new(),
            provider_details: String::new(),
            provider_usage: String::new(),
        })
    }

    fn text(text: &str) -> AnswerPart {
        AnswerPart::Text { text: text.to_owned(), signature: String::new() }
    }

    fn call(index: u32) -> FinishedCall {
        let (id, name, arguments) = (format!("id-{index}"), "tool".to_owned(), "{}".to_owned());
        FinishedCall { index, id, name, arguments, incomplete: false, signature: String::new() }
    }

    fn begins(index: u32) -> Event {
        Event::ToolCallStarted { index, id: format!("id-{index}"), name: "tool".to_owned() }
    }

    fn thought(index: u32, text: &str, signature: &str) -> ReasoningDelta {
        let (text, signature) = (text.to_owned(), signature.to_owned());
        ReasoningDelta { index, text, signature, ..ReasoningDelta::default() }
    }

    #[test]
    fn parts_stand_in_the_order_in_which_they_began() {
        let whole = whole(vec![
            Event::Reasoning(thought(0, "Let", "")),
            Event::Reasoning(thought(0, " me", "")),
            Event::Reasoning(thought(0, "", "sig")),
            Event::Text("I ".to_owned()),
            Event::Text("call.".to_owned()),
            begins(0),
            begins(1),
            Event::ToolCallFinished(call(1)),
            Event::ToolCallFinished(call(0)),
            Event::Reasoning(thought(1, "Then", "")),
            Event::Text("Done.".to_owned()),
        ]);
        assert_eq!(
            whole.parts,
            [
                AnswerPart::Reasoning(thought(0, "Let me", "sig")),
                text("I call."),
                AnswerPart::ToolCall(call(0)),
                AnswerPart::ToolCall(call(1)),
                AnswerPart::Reasoning(thought(1, "Then", "")),
                text("Done."),
            ]
        );
    }

    #[test]
    fn a_signed_text_is_a_part_of_its_own() {
        let signed = |text: &str| Event::SignedText { text: text.to_owned(), signature: "s".to_owned() };
        let whole = whole(vec![Event::Text("a".to_owned()), signed("b"), Event::Text("c".to_owned())]);
        let b = AnswerPart::Text { text: "b".to_owned(), signature: "s".to_owned() };
        assert_eq!(whole.parts, [text("a"), b, text("c")]);
    }

    #[test]
    fn what_can_be_sent_back_is_a_part_and_the_rest_is_beside() {
        let event = |kind: &str, replayable| ProviderEvent { kind: kind.to_owned(), json: "{}".to_owned(), replayable };
        let whole = whole(vec![
            Event::Provider(event("search", true)),
            Event::Refusal("No".to_owned()),
            Event::Provider(event("progress", false)),
            Event::Refusal(", thanks.".to_owned()),
        ]);
        assert_eq!(whole.refusal(), "No, thanks.");
        assert_eq!(
            whole.parts,
            [AnswerPart::Provider(event("search", true)), AnswerPart::Refusal("No, thanks.".to_owned())]
        );
        assert_eq!(whole.events, [event("progress", false)]);
    }
}
