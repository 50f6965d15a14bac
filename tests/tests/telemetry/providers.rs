//! Each provider in its own words: what it counts, and what our counts are then.

use serde_json::{Value, json};
use system_tests::{
    answer::ask,
    collector::{Kind, Metric, Span},
    fake_provider::Answer as Said,
    stage::wire::{Api, data},
};

use super::desk::Desk;

/// What a provider says, and what its span must say.
struct Case {
    api: Api,
    provider: &'static str,
    operation: &'static str,
    says: Vec<Value>,
    /// Attributes of the operation.
    attributes: Value,
}

fn cases() -> Vec<Case> {
    vec![
        // What was read from a cache and what was written to it is not among its input.
        Case {
            api: Api::Messages,
            provider: "anthropic",
            operation: "chat",
            says: vec![
                json!({"type": "message_start", "message": {"id": "msg_7", "model": "claude-sonnet-4-5-20250929", "usage": {
                    "input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 1000, "output_tokens": 1}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}),
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens", "stop_sequence": null}, "usage": {"output_tokens": 7}}),
                json!({"type": "message_stop"}),
            ],
            attributes: json!({
                "gen_ai.response.id": "msg_7",
                "gen_ai.response.model": "claude-sonnet-4-5-20250929",
                "gen_ai.response.finish_reasons": ["length"],
                "gen_ai.usage.input_tokens": 1110,
                "gen_ai.usage.cache_read.input_tokens": 100,
                "gen_ai.usage.cache_creation.input_tokens": 1000,
                "gen_ai.usage.output_tokens": 7,
            }),
        },
        // Both are.
        Case {
            api: Api::ChatCompletions,
            provider: "openai",
            operation: "chat",
            says: vec![
                json!({"id": "chatcmpl_7", "model": "gpt-4o-2024-08-06", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hello"}, "finish_reason": null}]}),
                json!({"id": "chatcmpl_7", "model": "gpt-4o-2024-08-06", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
                json!({"id": "chatcmpl_7", "model": "gpt-4o-2024-08-06", "choices": [], "usage": {
                    "prompt_tokens": 50, "prompt_tokens_details": {"cached_tokens": 20},
                    "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 59}}),
            ],
            attributes: json!({
                "gen_ai.response.id": "chatcmpl_7",
                "gen_ai.response.model": "gpt-4o-2024-08-06",
                "gen_ai.response.finish_reasons": ["stop"],
                "gen_ai.usage.input_tokens": 50,
                "gen_ai.usage.cache_read.input_tokens": 20,
                "gen_ai.usage.output_tokens": 9,
                "gen_ai.usage.reasoning.output_tokens": 4,
                "openai.api.type": "chat_completions",
            }),
        },
        // Thoughts are not among its output.
        Case {
            api: Api::Gemini,
            provider: "gcp.gemini",
            operation: "generate_content",
            says: vec![json!({
                "candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": "Hello"}]}, "finishReason": "STOP"}],
                "modelVersion": "gemini-2.5-flash-001",
                "responseId": "resp_7",
                "usageMetadata": {"promptTokenCount": 30, "cachedContentTokenCount": 12, "candidatesTokenCount": 5,
                    "thoughtsTokenCount": 6, "totalTokenCount": 41},
            })],
            attributes: json!({
                "gen_ai.response.id": "resp_7",
                "gen_ai.response.model": "gemini-2.5-flash-001",
                "gen_ai.response.finish_reasons": ["stop"],
                "gen_ai.usage.input_tokens": 30,
                "gen_ai.usage.cache_read.input_tokens": 12,
                "gen_ai.usage.output_tokens": 11,
                "gen_ai.usage.reasoning.output_tokens": 6,
            }),
        },
    ]
}

impl Case {
    fn said(&self) -> Said {
        let end = if self.api == Api::ChatCompletions { "data: [DONE]\n\n" } else { "" };
        Said::stream(data(&self.says) + end)
    }

    /// What must stand on its span beside [`Case::attributes`], of the request.
    fn request_attributes(&self) -> Value {
        json!({
            "gen_ai.operation.name": self.operation,
            "gen_ai.provider.name": self.provider,
            "gen_ai.request.model": self.api.model(),
            "gen_ai.request.stream": true,
            "gen_ai.request.max_tokens": 64,
            "gen_ai.request.temperature": 0.5,
            "server.address": "127.0.0.1",
        })
    }

    fn assert(&self, span: &Span, tokens: &Metric) {
        let (asked, answered) = (self.request_attributes(), self.attributes.clone());
        for (name, value) in
            asked.as_object().expect("an object").iter().chain(answered.as_object().expect("an object"))
        {
            assert_eq!(span.attributes.get(name), Some(value), "{name} of {}", self.provider);
        }
        let usage = |name: &&String| name.starts_with("gen_ai.usage.");
        let said: Vec<_> = span.attributes.keys().filter(usage).collect();
        let mut known: Vec<_> = answered.as_object().expect("an object").keys().filter(usage).collect();
        known.sort();
        assert_eq!(said, known, "nothing is invented for {}", self.provider);
        for kind in ["input", "output"] {
            let model = self.attributes["gen_ai.response.model"].as_str().expect("a text");
            let points = tokens.with(&[
                ("gen_ai.provider.name", self.provider),
                ("gen_ai.response.model", model),
                ("gen_ai.token.type", kind),
            ]);
            let [point] = points.as_slice() else { panic!("one set of attributes: {points:?}") };
            let expected = self.attributes[format!("gen_ai.usage.{kind}_tokens")].as_f64().expect("a number");
            assert!((point.value - expected).abs() < 0.5, "{} {kind} tokens: {point:?}", self.provider);
            assert_eq!(point.text("gen_ai.request.model"), self.api.model());
        }
    }
}

#[tokio::test]
async fn tokens_are_counted_alike_for_all_providers() {
    let mut desk = Desk::start().await;
    let mut traces = Vec::new();
    for case in cases() {
        desk.system.provider.always_answers(case.said());
        let mut request = ask(case.api.model(), None, "Hi");
        request.max_output_tokens = Some(64);
        request.temperature = Some(0.5);
        let chatted = desk.chat(request).await;
        assert_eq!(chatted.answer.text, "Hello", "{:?}", chatted.answer.failure);
        traces.push(chatted.trace);
    }
    let seen = desk.ends().await;
    let tokens = seen.collector.metric("chat-gateway", "gen_ai.client.token.usage").expect("tokens are counted");
    for (case, trace) in cases().iter().zip(traces) {
        let trace = seen.trace(&trace);
        let name = format!("{} {}", case.operation, case.api.model());
        case.assert(trace.one(Kind::Client, &name), &tokens);
    }
}

#[tokio::test]
async fn a_long_stream_makes_no_larger_span_than_a_short_one() {
    const CHUNKS: [usize; 2] = [10, 5_000];
    let mut desk = Desk::start().await;
    desk.warms(Api::ChatCompletions, None).await;
    let mut traces = Vec::new();
    for chunks in CHUNKS {
        desk.system.provider.always_answers(Api::ChatCompletions.whole(chunks));
        let chatted = desk.chat(ask(Api::ChatCompletions.model(), None, "Hi")).await;
        chatted.answer.is_whole(Api::ChatCompletions, chunks);
        traces.push(chatted.trace);
    }
    let seen = desk.ends().await;
    let [short, long] = [&traces[0], &traces[1]].map(|trace| seen.trace(trace));
    assert_eq!(short.spans().len(), long.spans().len());
    for (short, long) in short.spans().iter().zip(long.spans()) {
        // Numbers are larger, by some digits.
        assert!(long.bytes <= short.bytes + 16, "{}: {} and {} bytes", long.name, short.bytes, long.bytes);
        assert_eq!((short.events.len(), &short.name), (long.events.len(), &long.name));
    }
}
