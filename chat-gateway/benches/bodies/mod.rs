//! Answers as providers stream them, of any length. The events and their fields are those of each
//! provider; what they say is made up.

use chat_gateway::benchmarks::Api;

/// What a chunk says: tokens of a usual answer, with what has to be escaped in JSON, and a letter
/// of more than one byte.
const WORDS: [&str; 20] = [
    "The", " river", " rises", " in", " the", " hills", " and", " reaches", " the", " sea", " near", " Zürich", ":",
    "\n\n", "-", " 42", " miles", " of", "\"slow\"", " water.",
];

/// What the chunk with this number says.
pub(crate) fn text(chunk: usize) -> &'static str {
    WORDS[chunk % WORDS.len()]
}

/// The events of an answer of so many chunks of text, as they arrive.
pub(crate) fn body(api: Api, chunks: usize) -> Vec<String> {
    match api {
        Api::Anthropic => anthropic(chunks),
        Api::OpenAiChat => openai_chat(chunks),
        Api::OpenAiResponses => openai_responses(chunks),
        Api::Gemini => gemini(chunks),
    }
}

/// The text of each chunk, as JSON writes it.
fn pieces(chunks: usize) -> impl Iterator<Item = String> {
    (0..chunks).map(|chunk| json(text(chunk)))
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What hides how long the text of a chunk is: `OpenAI` adds a field of it, Anthropic as many spaces.
fn padding(chunk: usize) -> &'static str {
    &"Xk3vQz81LmTrPw0b"[..16 - chunk % 15]
}

fn anthropic(chunks: usize) -> Vec<String> {
    let event = |kind: &str, data: &str| format!("event: {kind}\ndata: {data}\n\n");
    let usage = r#""input_tokens":472,"cache_creation_input_tokens":0,"cache_read_input_tokens":0"#;
    let start = format!(
        r#"{{"type":"message_start","message":{{"model":"claude-sonnet-4-5-20250929","id":"msg_01BenchmarkBenchmarkBench","type":"message","role":"assistant","content":[],"stop_reason":null,"stop_sequence":null,"usage":{{{usage},"cache_creation":{{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0}},"output_tokens":1,"service_tier":"standard"}}}}     }}"#
    );
    let block = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}           }"#;
    let mut events =
        vec![event("message_start", &start), event("content_block_start", block), event("ping", r#"{"type": "ping"}"#)];
    events.extend(pieces(chunks).enumerate().map(|(chunk, text)| {
        let spaces = padding(chunk).len();
        let data = format!(
            r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":{text}}}{:spaces$}}}"#,
            ""
        );
        event("content_block_delta", &data)
    }));
    let delta = format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{{{usage},"output_tokens":{chunks}}}           }}"#
    );
    events.extend([
        event("content_block_stop", r#"{"type":"content_block_stop","index":0      }"#),
        event("message_delta", &delta),
        event("message_stop", r#"{"type":"message_stop"    }"#),
    ]);
    events
}

fn openai_chat(chunks: usize) -> Vec<String> {
    let chunk = |choices: &str, usage: &str, padding: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-BenchmarkBenchmarkBenchmarkB\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_0123456789\",\"choices\":[{choices}],\"usage\":{usage},\"obfuscation\":\"{padding}\"}}\n\n"
        )
    };
    let choice = |delta: &str, reason: &str| {
        format!(r#"{{"index":0,"delta":{{{delta}}},"logprobs":null,"finish_reason":{reason}}}"#)
    };
    let usage = format!(
        r#"{{"prompt_tokens":472,"completion_tokens":{chunks},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
        472 + chunks
    );
    let first = choice(r#""role":"assistant","content":"","refusal":null"#, "null");
    let mut events = vec![chunk(&first, "null", padding(0))];
    events.extend(pieces(chunks).enumerate().map(|(number, text)| {
        let choice = choice(&format!(r#""content":{text}"#), "null");
        chunk(&choice, "null", padding(number))
    }));
    events.extend([
        chunk(&choice("", r#""stop""#), "null", padding(1)),
        chunk("", &usage, padding(2)),
        "data: [DONE]\n\n".to_owned(),
    ]);
    events
}

fn openai_responses(chunks: usize) -> Vec<String> {
    const ITEM: &str = "msg_0123456789abcdef0123456789abcdef0123456789abcdef01";
    let whole = json(&(0..chunks).map(text).collect::<String>());
    let part = |text: &str| format!(r#"{{"type":"output_text","annotations":[],"logprobs":[],"text":{text}}}"#);
    let item = |status: &str, content: &str| {
        format!(r#"{{"id":"{ITEM}","type":"message","status":"{status}","content":[{content}],"role":"assistant"}}"#)
    };
    let response = |status: &str, output: &str, usage: &str| {
        format!(
            r#"{{"id":"resp_0123456789abcdef0123456789abcdef0123456789abcdef","object":"response","created_at":1760000000,"status":"{status}","background":false,"error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"gpt-4o-2024-08-06","output":[{output}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{{"effort":null,"summary":null}},"service_tier":"default","store":false,"temperature":1.0,"text":{{"format":{{"type":"text"}},"verbosity":"medium"}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":{usage},"user":null,"metadata":{{}}}}"#
        )
    };
    let usage = format!(
        r#"{{"input_tokens":472,"input_tokens_details":{{"cached_tokens":0}},"output_tokens":{chunks},"output_tokens_details":{{"reasoning_tokens":0}},"total_tokens":{}}}"#,
        472 + chunks
    );
    let at = format!(r#""item_id":"{ITEM}","output_index":0,"content_index":0"#);
    let begun = response("in_progress", "", "null");
    let mut told = vec![
        ("response.created", format!(r#""response":{begun}"#)),
        ("response.in_progress", format!(r#""response":{begun}"#)),
        ("response.output_item.added", format!(r#""output_index":0,"item":{}"#, item("in_progress", ""))),
        ("response.content_part.added", format!(r#"{at},"part":{}"#, part(r#""""#))),
    ];
    told.extend(pieces(chunks).enumerate().map(|(chunk, text)| {
        let padding = padding(chunk);
        let data = format!(r#"{at},"delta":{text},"logprobs":[],"obfuscation":"{padding}""#);
        ("response.output_text.delta", data)
    }));
    let ended = item("completed", &part(&whole));
    told.extend([
        ("response.output_text.done", format!(r#"{at},"text":{whole},"logprobs":[]"#)),
        ("response.content_part.done", format!(r#"{at},"part":{}"#, part(&whole))),
        ("response.output_item.done", format!(r#""output_index":0,"item":{ended}"#)),
        ("response.completed", format!(r#""response":{}"#, response("completed", &ended, &usage))),
    ]);
    let event = |(number, (kind, data)): (usize, (&str, String))| {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number},{data}}}\n\n")
    };
    told.into_iter().enumerate().map(event).collect()
}

fn gemini(chunks: usize) -> Vec<String> {
    let event = |(chunk, text): (usize, String)| {
        let answered = chunk + 1;
        let reason = if answered == chunks { r#""finishReason": "STOP","# } else { "" };
        format!(
            "data: {{\"candidates\": [{{\"content\": {{\"parts\": [{{\"text\": {text}}}],\"role\": \"model\"}},{reason}\"index\": 0}}],\"usageMetadata\": {{\"promptTokenCount\": 472,\"candidatesTokenCount\": {answered},\"totalTokenCount\": {},\"promptTokensDetails\": [{{\"modality\": \"TEXT\",\"tokenCount\": 472}}]}},\"modelVersion\": \"gemini-2.5-flash\",\"responseId\": \"BenchmarkBenchmarkBen\"}}\r\n\r\n",
            472 + answered
        )
    };
    pieces(chunks).enumerate().map(event).collect()
}
