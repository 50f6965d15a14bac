//! What is asked in a measurement, and what the answer is: the question says it.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use memchr::memmem;
use proto::chat::{ChatRequest, ContentPart, Message, StreamChatRequest, TextPart, content_part::Part, message::Role};

/// The model of every question.
pub const MODEL: &str = "gpt-4o";

/// Who asks: its key is a profile's own.
pub const PROFILE: &str = "bench";

/// What stands before the plan in a question.
const MARK: &str = "bench:";

/// How long an answer takes and how large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many pieces of text it has.
    pub pieces: u32,
    /// How long each of them is, in bytes.
    pub piece_bytes: usize,
    /// The time between two pieces. Without one all are written at once.
    pub pace: Duration,
    /// How long the question is, in bytes.
    pub question_bytes: usize,
}

impl Plan {
    /// An answer whose pieces come at once.
    pub const fn at_once(pieces: u32, piece_bytes: usize, question_bytes: usize) -> Self {
        Self { pieces, piece_bytes, pace: Duration::ZERO, question_bytes }
    }

    /// The text of the question.
    pub fn text(&self) -> String {
        let Self { pieces, piece_bytes, pace, question_bytes } = self;
        let plan = format!("{MARK}{pieces},{piece_bytes},{};", pace.as_micros());
        // Words, as people write them.
        let filler = "What can be said of the weather at sea? ".bytes().cycle().map(char::from);
        plan.chars().chain(filler).take((*question_bytes).max(plan.len())).collect()
    }

    /// The plan in the body of a request.
    pub fn of(body: &[u8]) -> Option<Self> {
        let begin = memmem::find(body, MARK.as_bytes())? + MARK.len();
        let length = memchr::memchr(b';', &body[begin..])?;
        let mut numbers = std::str::from_utf8(&body[begin..begin + length]).ok()?.split(',').map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        let pieces = u32::try_from(next()?).ok()?;
        let piece_bytes = usize::try_from(next()?).ok()?;
        Some(Self { pieces, piece_bytes, pace: Duration::from_micros(next()?), question_bytes: 0 })
    }

    /// What the gateway is asked.
    pub fn chat(&self) -> ChatRequest {
        let StreamChatRequest { organization_id, profile_id, model, messages, .. } = self.stream();
        ChatRequest { organization_id, profile_id, model, messages, ..Default::default() }
    }

    /// What the gateway is asked for a stream.
    pub fn stream(&self) -> StreamChatRequest {
        let text = TextPart { text: self.text(), ..TextPart::default() };
        let part = ContentPart { part: Some(Part::Text(text)), ..ContentPart::default() };
        StreamChatRequest {
            organization_id: crate::ORGANIZATION.to_owned(),
            profile_id: Some(PROFILE.to_owned()),
            model: MODEL.to_owned(),
            messages: vec![Message { role: Role::User.into(), parts: vec![part] }],
            ..Default::default()
        }
    }

    /// What the provider is asked: the body that a client of `OpenAI` sends.
    pub fn body(&self) -> Bytes {
        let text = self.text();
        format!(
            r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"{text}"}}],"stream":true,"stream_options":{{"include_usage":true}}}}"#
        )
        .into()
    }

    /// What comes before the first piece.
    pub fn head() -> Bytes {
        event(r#"{"role":"assistant","content":"","refusal":null}"#, "null", "null")
    }

    /// A piece of text, in a chunk as `OpenAI` writes it. The text begins with the time.
    pub fn piece(&self, time: Duration) -> Bytes {
        let stamp = format!("{:019}", time.as_nanos());
        let text: String =
            stamp.chars().chain(std::iter::repeat('x')).take(self.piece_bytes.max(stamp.len())).collect();
        event(&format!(r#"{{"content":"{text}"}}"#), "null", "null")
    }

    /// What comes after the last piece.
    pub fn tail(&self) -> Bytes {
        let mut tail = BytesMut::from(&event("{}", "\"stop\"", "null")[..]);
        let pieces = self.pieces;
        tail.put_slice(
            format!(
                "data: {{{ENVELOPE},\"choices\":[],\"usage\":{{\"prompt_tokens\":256,\"completion_tokens\":{pieces},\
                 \"total_tokens\":{},\"prompt_tokens_details\":{{\"cached_tokens\":0,\"audio_tokens\":0}},\
                 \"completion_tokens_details\":{{\"reasoning_tokens\":0,\"audio_tokens\":0}}}}}}\n\ndata: [DONE]\n\n",
                256 + pieces
            )
            .as_bytes(),
        );
        tail.freeze()
    }

    /// An answer in one.
    pub fn whole(&self) -> Bytes {
        let mut whole = BytesMut::from(&Self::head()[..]);
        let piece = self.piece(Duration::ZERO);
        (0..self.pieces).for_each(|_| whole.put_slice(&piece));
        whole.put_slice(&self.tail());
        whole.freeze()
    }
}

/// What every chunk of an answer begins with.
const ENVELOPE: &str = r#""id":"chatcmpl-BenchBenchBenchBenchBenchBe","object":"chat.completion.chunk","created":1764300000,"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_0123456789""#;

fn event(delta: &str, reason: &str, usage: &str) -> Bytes {
    format!(
        "data: {{{ENVELOPE},\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{reason}}}],\"usage\":{usage}}}\n\n"
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_says_its_answer() {
        let plan = Plan { pieces: 3, piece_bytes: 40, pace: Duration::from_millis(5), question_bytes: 1024 };
        assert_eq!(plan.text().len(), 1024);
        assert_eq!(Plan::of(&plan.body()), Some(Plan { question_bytes: 0, ..plan }));
        assert_eq!(Plan::of(b"hello"), None);
    }
}
