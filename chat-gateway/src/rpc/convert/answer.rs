//! An answer in the messages of the contract: its events, and all of it at once.

use proto::{
    chat::{self as pb, content_part::Part, stream_chat_response::Event as Sent},
    types,
};

use crate::{
    chat::{AnswerPart, Whole},
    message::{
        Citation, CitationKind, Event, Finish, FinishReason, FinishedCall, ProviderEvent, ReasoningDelta, Started,
        Usage,
    },
};

pub(in crate::rpc) fn started(started: Started) -> pb::StreamChatResponse {
    sent(Sent::Started(started.into()))
}

pub(in crate::rpc) fn event(event: Event) -> pb::StreamChatResponse {
    sent(match event {
        Event::Text(text) => Sent::TextDelta(pb::TextDelta { text, signature: String::new() }),
        Event::SignedText { text, signature } => Sent::TextDelta(pb::TextDelta { text, signature }),
        Event::Refusal(text) => Sent::RefusalDelta(pb::RefusalDelta { text }),
        Event::Reasoning(delta) => {
            let ReasoningDelta { index, text, signature, redacted_data, id } = delta;
            Sent::ReasoningDelta(pb::ReasoningDelta { index: number(index), text, signature, redacted_data, id })
        }
        Event::ToolCallStarted { index, id, name } => {
            Sent::ToolCallStarted(pb::ToolCallStarted { index: number(index), id, name })
        }
        Event::ToolCallDelta { index, arguments } => {
            Sent::ToolCallDelta(pb::ToolCallDelta { index: number(index), arguments })
        }
        Event::ToolCallFinished(call) => {
            let FinishedCall { index, id, name, arguments, incomplete, signature } = call;
            let index = number(index);
            Sent::ToolCallFinished(pb::ToolCallFinished { index, id, name, arguments, incomplete, signature })
        }
        Event::Citation(citation) => Sent::Citation(citation.into()),
        Event::Provider(event) => Sent::ProviderEvent(event.into()),
        Event::Usage(reported) => Sent::Usage(usage(reported)),
        Event::Finished(finish) => Sent::Finished(finish.into()),
    })
}

fn sent(event: Sent) -> pb::StreamChatResponse {
    pb::StreamChatResponse { event: Some(event) }
}

pub(in crate::rpc) fn whole(started: Started, whole: Whole) -> pb::ChatResponse {
    let provider = types::Provider::from(started.provider);
    let part = |part| pb::ContentPart { part: Some(self::part(provider, part)), cache_control: None };
    pb::ChatResponse {
        started: Some(started.into()),
        refusal: whole.refusal(),
        message: Some(pb::Message {
            role: pb::message::Role::Assistant.into(),
            parts: whole.parts.into_iter().map(part).collect(),
        }),
        finished: Some(whole.finish.into()),
        citations: whole.citations.into_iter().map(Into::into).collect(),
        provider_events: whole.events.into_iter().map(Into::into).collect(),
    }
}

fn part(provider: types::Provider, part: AnswerPart) -> Part {
    match part {
        AnswerPart::Text { text, signature } => Part::Text(pb::TextPart { text, signature }),
        AnswerPart::Refusal(text) => Part::Refusal(pb::RefusalPart { text }),
        AnswerPart::Reasoning(block) => {
            let ReasoningDelta { text, signature, redacted_data, id, .. } = block;
            Part::Reasoning(pb::ReasoningPart { provider: provider.into(), text, signature, redacted_data, id })
        }
        AnswerPart::ToolCall(call) => {
            let FinishedCall { id, name, arguments, incomplete, signature, .. } = call;
            Part::ToolCall(pb::ToolCallPart { id, name, arguments, incomplete, signature })
        }
        AnswerPart::Provider(event) => Part::Provider(pb::ProviderPart { provider: provider.into(), json: event.json }),
    }
}

pub(in crate::rpc) fn usage(usage: Usage) -> pb::Usage {
    let count = |tokens: Option<u64>| tokens.map(signed);
    pb::Usage {
        input_tokens: count(usage.input),
        cached_input_tokens: count(usage.cached_input),
        cache_write_tokens: count(usage.cache_write),
        output_tokens: count(usage.output),
        reasoning_tokens: count(usage.reasoning),
        total_tokens: count(usage.total),
    }
}

fn number(index: u32) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl From<Started> for pb::Started {
    fn from(started: Started) -> Self {
        Self {
            provider: types::Provider::from(started.provider).into(),
            model: started.model,
            api_key_id: started.api_key_id,
            source: types::Source::from(started.source).into(),
            provider_request_id: started.provider_request_id,
        }
    }
}

impl From<Citation> for pb::Citation {
    fn from(citation: Citation) -> Self {
        use pb::citation::Kind;
        let kind = match citation.kind {
            CitationKind::Other => Kind::Unspecified,
            CitationKind::Characters => Kind::Characters,
            CitationKind::Pages => Kind::Pages,
            CitationKind::Blocks => Kind::Blocks,
            CitationKind::Web => Kind::Web,
            CitationKind::SearchResult => Kind::SearchResult,
            CitationKind::File => Kind::File,
            CitationKind::Recitation => Kind::Recitation,
        };
        Self {
            kind: kind.into(),
            cited_text: citation.cited_text,
            title: citation.title,
            url: citation.url,
            document_index: citation.document_index.map(|index| i32::try_from(index).unwrap_or(i32::MAX)),
            start: citation.start.map(signed),
            end: citation.end.map(signed),
            json: citation.json,
        }
    }
}

impl From<ProviderEvent> for pb::ProviderEvent {
    fn from(event: ProviderEvent) -> Self {
        Self { r#type: event.kind, json: event.json, replayable: event.replayable }
    }
}

impl From<Finish> for pb::Finished {
    fn from(finish: Finish) -> Self {
        let reason = match finish.reason {
            FinishReason::Stop => pb::FinishReason::Stop,
            FinishReason::StopSequence => pb::FinishReason::StopSequence,
            FinishReason::Length => pb::FinishReason::Length,
            FinishReason::ToolCalls => pb::FinishReason::ToolCalls,
            FinishReason::ContentFilter => pb::FinishReason::ContentFilter,
            FinishReason::Refusal => pb::FinishReason::Refusal,
            FinishReason::Pause => pb::FinishReason::Pause,
            FinishReason::MalformedToolCall => pb::FinishReason::MalformedToolCall,
            FinishReason::Other => pb::FinishReason::Other,
        };
        Self {
            finish_reason: reason.into(),
            provider_finish_reason: finish.provider_reason,
            usage: finish.usage.map(usage),
            stop_sequence: finish.stop_sequence,
            provider_details: finish.provider_details,
            provider_usage: finish.provider_usage,
        }
    }
}
