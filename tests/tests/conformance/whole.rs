//! What `Chat` returns, beside what `StreamChat` gave for the same recording.

use proto::chat::{ChatResponse, Message, ProviderEvent, content_part::Part, message::Role};
use system_tests::answer::{Answer, Failure};

/// What is different. Ids of calls are the gateway's own, and others in each answer, where
/// the provider has none.
pub(crate) fn differences(streamed: &Answer, whole: Result<ChatResponse, Failure>, knows_ids: bool) -> Vec<String> {
    let whole = match (whole, &streamed.failure) {
        (Ok(whole), None) => whole,
        (Err(whole), Some(streamed)) => {
            let of = |failure: &Failure| format!("{} {}", failure.class(), failure.value("cause"));
            return differ("failure", &of(streamed), &of(&whole)).into_iter().collect();
        }
        (whole, failure) => return vec![format!("Chat: {whole:?}, and streamed: {failure:?}")],
    };
    let mut found = Vec::new();
    let message = whole.message.unwrap_or_default();
    if message.role() != Role::Assistant {
        found.push(format!("the model speaks as {:?}", message.role()));
    }
    found.extend(differ("parts", &shown(streamed.parts.iter().cloned(), knows_ids), &parts(message, knows_ids)));
    found.extend(differ("refusal", &streamed.refusal, &whole.refusal));
    found.extend(differ("citations", &streamed.citations, &whole.citations));
    let beside: Vec<ProviderEvent> =
        streamed.provider_events.iter().filter(|event| !event.replayable).cloned().collect();
    found.extend(differ("provider events", &beside, &whole.provider_events));
    found.extend(differ("started", &streamed.started, &whole.started));
    found.extend(differ("finished", &streamed.finished, &whole.finished));
    found
}

fn parts(message: Message, knows_ids: bool) -> Vec<Part> {
    shown(message.parts.into_iter().map(|part| part.part.expect("a part is set")), knows_ids)
}

fn shown(parts: impl Iterator<Item = Part>, knows_ids: bool) -> Vec<Part> {
    let shown = parts.map(|part| match part {
        Part::ToolCall(mut call) if !knows_ids => {
            call.id.clear();
            Part::ToolCall(call)
        }
        other => other,
    });
    shown.collect()
}

fn differ<T: PartialEq + std::fmt::Debug>(what: &str, streamed: &T, whole: &T) -> Option<String> {
    (streamed != whole).then(|| format!("{what} of Chat: {whole:?}, and streamed: {streamed:?}"))
}
