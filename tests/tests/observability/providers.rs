//! What the providers say during the night: what the prompt asks for.

use std::time::Duration;

use serde_json::{Value, json};
use system_tests::fake_provider::{Answer, End, FakeProvider, Received};

/// A key that is refused.
pub(super) const REVOKED: &str = "sk-revoked-0123456789abcdef";

/// Between two pieces of an answer.
const PACE: Duration = Duration::from_millis(15);

/// In the middle of a slow answer, and before one that nobody waits for.
const PAUSE: Duration = Duration::from_millis(250);
const THOUGHT: Duration = Duration::from_secs(4);

const WORDS: [&str; 5] = ["Nobody ", "sees ", "what ", "goes ", "well."];

/// Lets a provider do so.
pub(super) fn play(provider: &FakeProvider) {
    provider.answers_by(|received| {
        let prompt = String::from_utf8_lossy(&received.body).into_owned();
        let asked = |what: &str| prompt.contains(what);
        if received.key() == REVOKED {
            return refusal(received, 401, "invalid_request_error", "invalid_api_key");
        }
        if asked("too much") {
            return refusal(received, 429, "rate_limit_error", "rate_limit_exceeded").header("retry-after", "0");
        }
        if asked("fall over") {
            return refusal(received, 500, "INTERNAL", "internal");
        }
        if asked("think long") {
            return whole(received, PACE).thinking(THOUGHT);
        }
        if asked("break off") {
            return begun(received, PACE).ending(End::Cut);
        }
        whole(received, if asked("pause") { PAUSE } else { PACE })
    });
}

fn refusal(received: &Received, status: u16, kind: &str, code: &str) -> Answer {
    let body = match Api::of(received) {
        Api::Anthropic => json!({"type": "error", "error": {"type": kind, "message": "no"}}),
        Api::OpenAi => json!({"error": {"message": "no", "type": kind, "code": code}}),
        Api::Gemini => json!({"error": {"code": status, "message": "no", "status": kind}}),
    };
    Answer::json(status, body.to_string())
}

#[derive(Clone, Copy, Debug)]
enum Api {
    Anthropic,
    OpenAi,
    Gemini,
}

impl Api {
    fn of(received: &Received) -> Self {
        match received.path.as_str() {
            path if path.contains("/messages") => Self::Anthropic,
            path if path.contains("generateContent") || path.contains("GenerateContent") => Self::Gemini,
            _ => Self::OpenAi,
        }
    }

    /// What comes before the words.
    fn head(self) -> Vec<Value> {
        match self {
            Self::Anthropic => vec![
                json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude-sonnet-4-5",
                    "usage": {"input_tokens": 240, "output_tokens": 1}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            ],
            Self::OpenAi | Self::Gemini => Vec::new(),
        }
    }

    fn word(self, word: &str) -> Value {
        match self {
            Self::Anthropic => {
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}})
            }
            Self::OpenAi => json!({"id": "c", "model": "gpt-4o",
                "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": null}]}),
            Self::Gemini => json!({"modelVersion": "gemini-2.5-flash", "responseId": "r",
                "candidates": [{"content": {"role": "model", "parts": [{"text": word}]}}]}),
        }
    }

    /// What comes after them.
    fn tail(self) -> String {
        match self {
            Self::Anthropic => [
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 60}}),
                json!({"type": "message_stop"}),
            ]
            .iter()
            .map(event)
            .collect(),
            Self::OpenAi => {
                let end = json!({"id": "c", "model": "gpt-4o",
                    "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
                let usage = json!({"id": "c", "model": "gpt-4o", "choices": [],
                    "usage": {"prompt_tokens": 180, "completion_tokens": 45, "total_tokens": 225}});
                event(&end) + &event(&usage) + "data: [DONE]\n\n"
            }
            Self::Gemini => event(&json!({"modelVersion": "gemini-2.5-flash", "responseId": "r",
                "candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 120, "candidatesTokenCount": 30, "totalTokenCount": 150}})),
        }
    }
}

fn begun(received: &Received, pace: Duration) -> Answer {
    let api = Api::of(received);
    let head: String = api.head().iter().map(event).collect();
    WORDS.iter().fold(Answer::stream(head), |answer, word| answer.and_after(pace, event(&api.word(word))))
}

fn whole(received: &Received, pace: Duration) -> Answer {
    begun(received, pace).and_after(pace, Api::of(received).tail())
}

fn event(event: &Value) -> String {
    format!("data: {event}\n\n")
}
