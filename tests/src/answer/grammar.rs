//! What the contract promises of the events of a stream, checked as they come.

use std::collections::HashSet;

use proto::chat::{
    Citation, FinishReason, Finished, ProviderEvent, ProviderPart, ReasoningDelta, ReasoningPart, RefusalPart,
    TextPart, ToolCallFinished, ToolCallPart, ToolCallStarted, content_part::Part, stream_chat_response::Event,
};
use serde_json::{Map, Value};

use super::{Answer, Failure};

/// An answer while it is read.
#[derive(Debug, Default)]
pub(super) struct Reader {
    answer: Answer,
    calls: Vec<Call>,
    /// How many blocks of reasoning have begun.
    blocks: i32,
}

/// A call that has begun.
#[derive(Debug)]
struct Call {
    began: ToolCallStarted,
    /// The pieces of the arguments.
    joined: String,
    /// Where it stands among the parts.
    place: usize,
    finished: bool,
}

impl Reader {
    pub(super) fn add(&mut self, event: Event) {
        let answer = &mut self.answer;
        assert!(answer.finished.is_none(), "nothing comes after `finished`");
        assert_eq!(answer.started.is_none(), matches!(event, Event::Started(_)), "`started` comes first, once");
        answer.events += 1;
        match event {
            Event::Started(started) => answer.started = Some(started),
            Event::TextDelta(delta) => self.text(delta.text, delta.signature),
            Event::RefusalDelta(delta) => self.refusal(&delta.text),
            Event::ReasoningDelta(delta) => self.reasoning(delta),
            Event::ToolCallStarted(call) => self.begin(call),
            Event::ToolCallDelta(delta) => {
                let call = call(&mut self.calls, delta.index);
                assert!(!call.finished, "nothing of a call comes after its end");
                call.joined.push_str(&delta.arguments);
            }
            Event::ToolCallFinished(call) => self.finish(call),
            Event::Citation(citation) => self.citation(citation),
            Event::ProviderEvent(event) => self.provider_event(event),
            Event::Usage(usage) => answer.usage = Some(usage),
            Event::Finished(finished) => self.finished(finished),
        }
    }

    /// The stream is over.
    pub(super) fn ended(self, failure: Option<Failure>) -> Answer {
        let answer = Answer { failure, ..self.answer };
        assert!(
            answer.finished.is_some() != answer.failure.is_some(),
            "a stream ends with `finished` or with a status: {answer:?}"
        );
        answer
    }

    fn text(&mut self, text: String, signature: String) {
        assert!(!text.is_empty() || !signature.is_empty(), "a delta is not empty");
        self.answer.text.push_str(&text);
        if signature.is_empty()
            && let Some(Part::Text(last)) = self.answer.parts.last_mut()
            && last.signature.is_empty()
        {
            last.text.push_str(&text);
        } else {
            self.answer.parts.push(Part::Text(TextPart { text, signature }));
        }
    }

    fn refusal(&mut self, text: &str) {
        assert!(!text.is_empty(), "a delta is not empty");
        self.answer.refusal.push_str(text);
        if let Some(Part::Refusal(last)) = self.answer.parts.last_mut() {
            last.text.push_str(text);
        } else {
            self.answer.parts.push(Part::Refusal(RefusalPart { text: text.to_owned() }));
        }
    }

    fn reasoning(&mut self, delta: ReasoningDelta) {
        let ReasoningDelta { index, text, signature, redacted_data, id } = delta;
        let says_something = [&text, &signature, &redacted_data, &id].into_iter().any(|field| !field.is_empty());
        assert!(says_something, "a delta is not empty");
        let provider = self.answer.started.as_ref().expect("`started` came first").provider;
        if index == self.blocks {
            self.blocks += 1;
            self.answer.parts.push(Part::Reasoning(ReasoningPart { provider, text, signature, redacted_data, id }));
        } else {
            assert_eq!(index, self.blocks - 1, "blocks are numbered from 0, and come one after the other");
            let Some(Part::Reasoning(block)) = self.answer.parts.last_mut() else {
                panic!("the deltas of a block come one after the other")
            };
            assert!(block.signature.is_empty(), "the signature comes with the last delta of a block");
            assert!(id.is_empty() || block.id.is_empty() || id == block.id, "a block has one id");
            assert!(redacted_data.is_empty() || block.redacted_data.is_empty(), "what is hidden comes once");
            block.text.push_str(&text);
            block.signature = signature;
            block.redacted_data.push_str(&redacted_data);
            if !id.is_empty() {
                block.id = id;
            }
        }
        let Some(Part::Reasoning(block)) = self.answer.parts.last() else { return };
        assert!(
            block.redacted_data.is_empty() || (block.text.is_empty() && block.signature.is_empty()),
            "what is hidden has no text and no signature"
        );
    }

    fn begin(&mut self, began: ToolCallStarted) {
        assert!(!began.id.is_empty(), "a call has an id");
        assert!(!began.name.is_empty(), "a call has a name");
        assert_eq!(usize::try_from(began.index), Ok(self.calls.len()), "calls are numbered as they begin");
        assert!(self.calls.iter().all(|call| call.began.id != began.id), "an id is unique");
        let part = ToolCallPart { id: began.id.clone(), name: began.name.clone(), ..ToolCallPart::default() };
        let place = self.answer.parts.len();
        self.answer.parts.push(Part::ToolCall(part));
        self.calls.push(Call { began, joined: String::new(), place, finished: false });
    }

    fn finish(&mut self, end: ToolCallFinished) {
        let call = call(&mut self.calls, end.index);
        assert!(!std::mem::replace(&mut call.finished, true), "a call finishes once");
        assert_eq!((&call.began.id, &call.began.name), (&end.id, &end.name), "a call keeps its id and its name");
        let bare = call.joined.is_empty() && end.arguments == "{}";
        assert!(end.arguments == call.joined || bare, "deltas add up");
        let is_json = serde_json::from_str::<Value>(&end.arguments).is_ok();
        assert_ne!(end.incomplete, is_json, "arguments are JSON, or else incomplete: {}", end.arguments);
        self.answer.parts[call.place] = Part::ToolCall(ToolCallPart {
            id: end.id.clone(),
            name: end.name.clone(),
            arguments: end.arguments.clone(),
            incomplete: end.incomplete,
            signature: end.signature.clone(),
        });
        self.answer.calls.push(end);
    }

    fn citation(&mut self, citation: Citation) {
        assert_object("Citation.json", &citation.json);
        self.answer.citations.push(citation);
    }

    fn provider_event(&mut self, event: ProviderEvent) {
        assert!(!event.r#type.is_empty(), "a provider's event has a type: {event:?}");
        assert_object("ProviderEvent.json", &event.json);
        if event.replayable {
            let provider = self.answer.started.as_ref().expect("`started` came first").provider;
            self.answer.parts.push(Part::Provider(ProviderPart { provider, json: event.json.clone() }));
        }
        self.answer.provider_events.push(event);
    }

    fn finished(&mut self, finished: Finished) {
        let reason = FinishReason::try_from(finished.finish_reason);
        assert!(!matches!(reason, Err(_) | Ok(FinishReason::Unspecified)), "an answer ends for a reason");
        for (field, json) in
            [("provider_details", &finished.provider_details), ("provider_usage", &finished.provider_usage)]
        {
            if !json.is_empty() {
                assert_object(field, json);
            }
        }
        let open: HashSet<_> = self.calls.iter().filter(|call| !call.finished).map(|call| &call.began.id).collect();
        assert!(open.is_empty(), "calls are still open: {open:?}");
        self.answer.finished = Some(finished);
    }
}

fn call(calls: &mut [Call], index: i32) -> &mut Call {
    let call = usize::try_from(index).ok().and_then(|index| calls.get_mut(index));
    call.expect("the call has started")
}

fn assert_object(field: &str, json: &str) {
    let object: Result<Map<String, Value>, _> = serde_json::from_str(json);
    assert!(object.is_ok(), "{field} is not a JSON object: {json}");
}
