//! What each API says on the wire: small answers of counted tokens, and errors.

use std::ops::Range;

use proto::{chat::OpenAiApi, types::Provider};
use serde_json::{Value, json};

use crate::fake_provider::Answer;

/// Tokens of every prompt.
pub const INPUT_TOKENS: i64 = 3;

/// An API of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// Anthropic's Messages.
    Messages,
    /// `OpenAI`'s Chat Completions.
    ChatCompletions,
    /// `OpenAI`'s Responses.
    Responses,
    /// Gemini.
    Gemini,
}

impl Api {
    /// One of each provider.
    pub const PROVIDERS: [Self; 3] = [Self::Messages, Self::ChatCompletions, Self::Gemini];

    /// All of them.
    pub const ALL: [Self; 4] = [Self::Messages, Self::ChatCompletions, Self::Responses, Self::Gemini];

    /// Whose it is.
    pub fn provider(self) -> Provider {
        match self {
            Self::Messages => Provider::Anthropic,
            Self::ChatCompletions | Self::Responses => Provider::Openai,
            Self::Gemini => Provider::Gemini,
        }
    }

    /// A model that answers through it.
    pub fn model(self) -> &'static str {
        match self {
            Self::Messages => "claude-sonnet-4-5",
            Self::ChatCompletions | Self::Responses => "gpt-4o",
            Self::Gemini => "gemini-2.5-flash",
        }
    }

    /// What a request says to be answered through it.
    pub fn choice(self) -> OpenAiApi {
        match self {
            Self::Messages | Self::Gemini => OpenAiApi::Unspecified,
            Self::ChatCompletions => OpenAiApi::ChatCompletions,
            Self::Responses => OpenAiApi::Responses,
        }
    }

    /// One of another provider, that a request can name to fall back on.
    #[must_use]
    pub fn fallback(self) -> Self {
        match self {
            Self::Messages => Self::ChatCompletions,
            Self::ChatCompletions | Self::Responses => Self::Gemini,
            Self::Gemini => Self::Messages,
        }
    }

    /// Whose request a path is. Panics if it is none of ours.
    pub fn of(path: &str) -> Self {
        [("messages", Self::Messages), ("/chat/completions", Self::ChatCompletions), ("/responses", Self::Responses)]
            .into_iter()
            .find_map(|(end, api)| path.ends_with(end).then_some(api))
            .or_else(|| path.contains("streamGenerateContent").then_some(Self::Gemini))
            .unwrap_or_else(|| panic!("nobody asks {path}"))
    }

    /// The status of overload.
    pub fn overloaded(self) -> u16 {
        if self == Self::Messages { 529 } else { 503 }
    }

    /// A whole answer of so many tokens.
    pub fn whole(self, tokens: usize) -> Answer {
        Answer::stream([self.opening(), self.tokens(0..tokens), self.closing(tokens)].concat())
    }

    /// The beginning of an answer, in which there is no output yet.
    pub fn opening(self) -> String {
        match self {
            Self::Messages => data(&[
                json!({"type": "message_start", "message": {"id": "msg_1", "model": self.model(), "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": 1}}}),
                json!({"type": "ping"}),
            ]),
            Self::ChatCompletions => data(&[chunk(&json!({"role": "assistant", "content": ""}), &Value::Null)]),
            Self::Responses => data(&[json!({"type": "response.created", "response": {
                "id": "resp_1", "object": "response", "model": self.model(), "status": "in_progress", "output": [],
            }})]),
            // It says nothing before it says something.
            Self::Gemini => ": wait\n\n".to_owned(),
        }
    }

    /// Tokens of the text, each in an event of its own: see [`text`].
    pub fn tokens(self, tokens: Range<usize>) -> String {
        let begin = if tokens.start == 0 { self.begin_text() } else { Vec::new() };
        let events = tokens.map(|n| self.delta(&text(n..n + 1), n + 1));
        data(&begin.into_iter().chain(events).collect::<Vec<_>>())
    }

    /// An event with a piece of text, after which the answer has so many tokens.
    pub fn delta(self, text: &str, tokens: usize) -> Value {
        match self {
            Self::Messages => {
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
            }
            Self::ChatCompletions => chunk(&json!({"content": text}), &Value::Null),
            Self::Responses => {
                json!({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": text})
            }
            Self::Gemini => {
                candidate(&json!({"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}), tokens)
            }
        }
    }

    /// What comes before the first text.
    pub fn begin_text(self) -> Vec<Value> {
        match self {
            Self::Messages => {
                vec![json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})]
            }
            Self::Responses => vec![
                json!({"type": "response.output_item.added", "output_index": 0, "item": {"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}}),
                json!({"type": "response.content_part.added", "item_id": "msg_1", "output_index": 0, "content_index": 0, "part": {"type": "output_text", "text": "", "annotations": []}}),
            ],
            Self::ChatCompletions | Self::Gemini => Vec::new(),
        }
    }

    /// The end of an answer of so many tokens.
    pub fn closing(self, tokens: usize) -> String {
        self.closing_of(&text(0..tokens), tokens)
    }

    /// The end of an answer that says `text`.
    pub fn closing_of(self, text: &str, tokens: usize) -> String {
        match self {
            Self::Messages => self.stops("end_turn", tokens),
            Self::ChatCompletions => self.stops("stop", tokens),
            Self::Gemini => self.stops("STOP", tokens),
            Self::Responses => {
                let part = json!({"type": "output_text", "text": text, "annotations": []});
                data(&[
                    json!({"type": "response.output_text.done", "item_id": "msg_1", "output_index": 0, "content_index": 0, "text": text}),
                    json!({"type": "response.content_part.done", "item_id": "msg_1", "output_index": 0, "content_index": 0, "part": part}),
                    json!({"type": "response.output_item.done", "output_index": 0, "item": {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]}}),
                    json!({"type": "response.completed", "response": {"id": "resp_1", "object": "response", "model": self.model(), "status": "completed", "output": [], "usage": usage(tokens)}}),
                ])
            }
        }
    }

    /// The end of an answer for a reason of the provider's. Not of Responses.
    pub fn stops(self, reason: &str, tokens: usize) -> String {
        match self {
            Self::Messages => data(&[
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": tokens}}),
                json!({"type": "message_stop"}),
            ]),
            Self::ChatCompletions | Self::Responses => {
                let usage =
                    json!({"prompt_tokens": INPUT_TOKENS, "completion_tokens": tokens, "total_tokens": total(tokens)});
                let end = [
                    chunk(&json!({}), &json!(reason)),
                    json!({"id": "chatcmpl_1", "model": self.model(), "choices": [], "usage": usage}),
                ];
                format!("{}data: [DONE]\n\n", data(&end))
            }
            Self::Gemini => data(&[candidate(
                &json!({"index": 0, "content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": reason}),
                tokens,
            )]),
        }
    }

    /// The end of an answer that stops before its first token. Not of Responses.
    pub fn stops_early(self, reason: &str) -> String {
        data(&self.begin_text()) + &self.stops(reason, 1)
    }

    /// What a caller can know to be used when an answer breaks off after so many tokens: of the
    /// prompt and of the answer.
    pub fn known(self, tokens: usize) -> (Option<i64>, Option<i64>) {
        match self {
            Self::Messages => (Some(INPUT_TOKENS), Some(1)),
            // It is said in the end.
            Self::ChatCompletions | Self::Responses => (None, None),
            Self::Gemini => (Some(INPUT_TOKENS), Some(number(tokens))),
        }
    }

    /// A refusal.
    pub fn error(self, status: u16) -> Answer {
        self.error_saying(status, "no")
    }

    /// A refusal with words.
    pub fn error_saying(self, status: u16, message: &str) -> Answer {
        let error = match self {
            Self::Messages => json!({"type": word(self, status), "message": message}),
            Self::ChatCompletions | Self::Responses => {
                json!({"message": message, "type": "error_of_a_test", "param": null, "code": word(self, status)})
            }
            Self::Gemini => json!({"code": status, "message": message, "status": word(self, status)}),
        };
        Answer::json(status, json!({"type": "error", "error": error}).to_string())
    }

    /// A limit of requests, and how long to wait, where each provider says it.
    pub fn limited(self, seconds: u32) -> Answer {
        if self != Self::Gemini {
            return self.error(429).header("retry-after", &seconds.to_string());
        }
        let wait = json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s")});
        let error = json!({"code": 429, "message": "no", "status": "RESOURCE_EXHAUSTED", "details": [wait]});
        Answer::json(429, json!({ "error": error }).to_string())
    }

    /// An error as an event of a stream.
    pub fn error_event(self, status: u16) -> String {
        let error = match self {
            Self::Messages => json!({"type": "error", "error": {"type": word(self, status), "message": "no"}}),
            Self::ChatCompletions => {
                json!({"error": {"message": "no", "type": "error_of_a_test", "code": word(self, status)}})
            }
            Self::Responses => json!({"type": "error", "code": word(self, status), "message": "no", "param": null}),
            Self::Gemini => json!({"error": {"code": status, "message": "no", "status": word(self, status)}}),
        };
        data(&[error])
    }
}

/// The text of tokens.
pub fn text(tokens: Range<usize>) -> String {
    tokens.map(|n| format!("t{n} ")).collect()
}

/// Events of a stream.
pub fn data(events: &[Value]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

fn chunk(delta: &Value, reason: &Value) -> Value {
    json!({"id": "chatcmpl_1", "model": "gpt-4o", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": null})
}

fn candidate(candidate: &Value, tokens: usize) -> Value {
    let usage =
        json!({"promptTokenCount": INPUT_TOKENS, "candidatesTokenCount": tokens, "totalTokenCount": total(tokens)});
    json!({"candidates": [candidate], "modelVersion": "gemini-2.5-flash", "usageMetadata": usage})
}

fn usage(tokens: usize) -> Value {
    json!({"input_tokens": INPUT_TOKENS, "output_tokens": tokens, "total_tokens": total(tokens)})
}

fn total(tokens: usize) -> i64 {
    INPUT_TOKENS + number(tokens)
}

fn number(tokens: usize) -> i64 {
    i64::try_from(tokens).expect("a small number")
}

/// The provider's word for a status.
fn word(api: Api, status: u16) -> &'static str {
    let words = match status {
        401 => ["authentication_error", "invalid_api_key", "UNAUTHENTICATED"],
        403 => ["permission_error", "permission_denied", "PERMISSION_DENIED"],
        404 => ["not_found_error", "model_not_found", "NOT_FOUND"],
        429 => ["rate_limit_error", "rate_limit_exceeded", "RESOURCE_EXHAUSTED"],
        503 | 529 => ["overloaded_error", "service_unavailable", "UNAVAILABLE"],
        500.. => ["api_error", "server_error", "INTERNAL"],
        _ => ["invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"],
    };
    match api {
        Api::Messages => words[0],
        Api::ChatCompletions | Api::Responses => words[1],
        Api::Gemini => words[2],
    }
}
