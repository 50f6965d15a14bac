//! A message of the assistant, put together from events as the contract tells clients to.

use std::collections::HashMap;

use proto::{
    chat::{
        ContentPart, Message, ProviderPart, ReasoningDelta, ReasoningPart, RefusalPart, Started, StreamChatResponse,
        TextDelta, TextPart, ToolCallFinished, ToolCallPart, content_part::Part, message::Role,
        stream_chat_response::Event,
    },
    types::Provider,
};
use tonic::{Response, Streaming};

/// Reads a stream to its end.
pub(crate) async fn message(events: Response<Streaming<StreamChatResponse>>) -> Message {
    let mut events = events.into_inner();
    let mut assembly = Assembly::default();
    while let Some(response) = events.message().await.expect("the stream does not fail") {
        assembly.add(response.event.expect("an event is set"));
    }
    assert!(assembly.finished, "a stream that does not fail ends with `finished`");
    let part =
        |part: Option<Part>| ContentPart { part: Some(part.expect("all calls have finished")), ..Default::default() };
    Message { role: Role::Assistant.into(), parts: assembly.parts.into_iter().map(part).collect() }
}

#[derive(Default)]
struct Assembly {
    provider: Provider,
    /// `None` is a call that has begun.
    parts: Vec<Option<Part>>,
    /// The places of calls and of thoughts by their index.
    calls: HashMap<i32, usize>,
    thoughts: HashMap<i32, usize>,
    finished: bool,
}

impl Assembly {
    fn add(&mut self, event: Event) {
        match event {
            Event::Started(Started { provider, .. }) => {
                self.provider = Provider::try_from(provider).expect("a known provider");
            }
            Event::TextDelta(TextDelta { text, signature }) => self.text(&text, signature),
            Event::RefusalDelta(delta) => match self.parts.last_mut() {
                Some(Some(Part::Refusal(refusal))) => refusal.text.push_str(&delta.text),
                _ => self.parts.push(Some(Part::Refusal(RefusalPart { text: delta.text }))),
            },
            Event::ReasoningDelta(delta) => self.reasoning(delta),
            Event::ToolCallStarted(call) => {
                self.calls.insert(call.index, self.parts.len());
                self.parts.push(None);
            }
            Event::ToolCallFinished(call) => {
                let ToolCallFinished { index, id, name, arguments, incomplete, signature } = call;
                let call = ToolCallPart { id, name, arguments, incomplete, signature };
                self.parts[self.calls[&index]] = Some(Part::ToolCall(call));
            }
            Event::ProviderEvent(event) if event.replayable => {
                let part = ProviderPart { provider: self.provider.into(), json: event.json };
                self.parts.push(Some(Part::Provider(part)));
            }
            Event::Finished(_) => self.finished = true,
            Event::ToolCallDelta(_) | Event::Citation(_) | Event::ProviderEvent(_) | Event::Usage(_) => {}
        }
    }

    fn text(&mut self, more: &str, signature: String) {
        if let Some(Some(Part::Text(last))) = self.parts.last_mut()
            && last.signature.is_empty()
            && signature.is_empty()
        {
            last.text.push_str(more);
        } else {
            self.parts.push(Some(Part::Text(TextPart { text: more.to_owned(), signature })));
        }
    }

    fn reasoning(&mut self, delta: ReasoningDelta) {
        let place = *self.thoughts.entry(delta.index).or_insert_with(|| {
            let begun = ReasoningPart { provider: self.provider.into(), ..ReasoningPart::default() };
            self.parts.push(Some(Part::Reasoning(begun)));
            self.parts.len() - 1
        });
        let Some(Part::Reasoning(block)) = &mut self.parts[place] else { panic!("a block is a block") };
        block.text.push_str(&delta.text);
        for (known, said) in [
            (&mut block.signature, delta.signature),
            (&mut block.redacted_data, delta.redacted_data),
            (&mut block.id, delta.id),
        ] {
            if !said.is_empty() {
                assert!(known.is_empty(), "it is said once");
                *known = said;
            }
        }
    }
}
