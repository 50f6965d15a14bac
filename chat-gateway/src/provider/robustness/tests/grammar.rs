//! What providers send, by their documentation: the events of which plausible answers are made.

/// What one decoder reads.
pub(super) struct Grammar {
    /// The decoder.
    pub(super) of: &'static str,
    /// Events of an answer in an order in which they may come: most kinds of them once.
    pub(super) events: &'static [&'static str],
    pub(super) endless: &'static [Endless],
}

/// An answer whose middle does not end and has to be held.
pub(super) struct Endless {
    pub(super) begins: &'static [&'static str],
    /// Has `…` where there is a text.
    pub(super) goes_on: &'static str,
    /// With it, what was held is said.
    pub(super) ends: &'static str,
}

pub(super) const ALL: [&Grammar; 4] = [&ANTHROPIC, &OPENAI_CHAT, &OPENAI_RESPONSES, &GEMINI];

pub(super) const ANTHROPIC: Grammar = Grammar { of: "anthropic", events: ANTHROPIC_EVENTS, endless: ANTHROPIC_ENDLESS };

pub(super) const OPENAI_CHAT: Grammar = Grammar { of: "openai_chat", events: CHAT_EVENTS, endless: CHAT_ENDLESS };

pub(super) const OPENAI_RESPONSES: Grammar =
    Grammar { of: "openai_responses", events: RESPONSES_EVENTS, endless: RESPONSES_ENDLESS };

pub(super) const GEMINI: Grammar = Grammar { of: "gemini", events: GEMINI_EVENTS, endless: GEMINI_ENDLESS };

const ANTHROPIC_EVENTS: &[&str] = &[
    r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"cache_creation_input_tokens":0,"cache_read_input_tokens":2,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":1,"service_tier":"standard"}}}"#,
    r#"{"type":"ping"}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let me see. 漢"}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"cmVk"}}"#,
    r#"{"type":"content_block_stop","index":1}"#,
    r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":"","citations":[]}}"#,
    r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Hello 🦀\n"}}"#,
    r#"{"type":"content_block_delta","index":2,"delta":{"type":"citations_delta","citation":{"type":"page_location","cited_text":"x","document_index":0,"document_title":"y","start_page_number":1,"end_page_number":2}}}"#,
    r#"{"type":"content_block_delta","index":2,"delta":{"type":"citations_delta","citation":{"type":"web_search_result_location","cited_text":"x","url":"https://x","title":null,"encrypted_index":"e"}}}"#,
    r#"{"type":"content_block_stop","index":2}"#,
    r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_1","name":"f","input":{},"caller":{"type":"direct"}}}"#,
    r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}"#,
    r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}"#,
    r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
    r#"{"type":"content_block_stop","index":3}"#,
    r#"{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"toolu_2","name":"f","input":{"b":[true,null]}}}"#,
    r#"{"type":"content_block_stop","index":4}"#,
    r#"{"type":"content_block_start","index":5,"content_block":{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{}}}"#,
    r#"{"type":"content_block_delta","index":5,"delta":{"type":"input_json_delta","partial_json":"{\"query\":\"q\"}"}}"#,
    r#"{"type":"content_block_stop","index":5}"#,
    r#"{"type":"content_block_start","index":6,"content_block":{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"type":"web_search_result","url":"https://x","title":"t","encrypted_content":"e","page_age":null}]}}"#,
    r#"{"type":"content_block_stop","index":6}"#,
    r#"{"type":"content_block_start","index":7,"content_block":{"type":"compaction","content":null}}"#,
    r#"{"type":"content_block_delta","index":7,"delta":{"type":"compaction_delta","content":"so far"}}"#,
    r#"{"type":"content_block_stop","index":7}"#,
    r#"{"type":"something_new","index":9,"value":{"x":[1]}}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null,"stop_details":{"category":"c","explanation":"e"},"container":{"id":"c","expires_at":"2026-01-01T00:00:00Z"}},"usage":{"input_tokens":4,"output_tokens":9,"output_tokens_details":{"thinking_tokens":3},"server_tool_use":{"web_search_requests":1}},"context_management":{"applied_edits":[]}}"#,
    r#"{"type":"error","error":{"details":null,"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#,
    r#"{"type":"message_stop"}"#,
];

const ANTHROPIC_BEGINS: &str =
    r#"{"type":"message_start","message":{"id":"m","model":"c","usage":{"input_tokens":3}}}"#;

const ANTHROPIC_ENDLESS: &[Endless] = &[
    Endless {
        begins: &[
            ANTHROPIC_BEGINS,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
        ],
        goes_on: r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"…"}}"#,
        ends: r#"{"type":"content_block_stop","index":0}"#,
    },
    Endless {
        begins: &[
            ANTHROPIC_BEGINS,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"t","name":"f","input":{}}}"#,
        ],
        goes_on: r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"…"}}"#,
        ends: r#"{"type":"content_block_stop","index":0}"#,
    },
    Endless {
        begins: &[
            ANTHROPIC_BEGINS,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"compaction","content":null}}"#,
        ],
        goes_on: r#"{"type":"content_block_delta","index":0,"delta":{"type":"compaction_delta","content":"…"}}"#,
        ends: r#"{"type":"content_block_stop","index":0}"#,
    },
];

const CHAT_EVENTS: &[&str] = &[
    r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{}}]}"#,
    r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","service_tier":"default","system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x"}"#,
    r#"{"choices":[{"index":0,"delta":{"reasoning_content":"Let me see. 漢"},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"content":"Hello 🦀\n"},"logprobs":{"content":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[]}],"refusal":null},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"refusal":"I can not"},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"annotations":[{"type":"url_citation","url_citation":{"start_index":0,"end_index":5,"title":"t","url":"https://x"}}]},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"audio":{"id":"a","transcript":"x","data":"eA=="}},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_2","type":"function","function":{"name":"g","arguments":"{}"}},{"index":2,"type":"custom","custom":{"name":"h","input":"x"}}]},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"function_call":{"name":"f","arguments":"{}"}},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":1,"delta":{"content":"another answer"},"finish_reason":"stop"}]}"#,
    r#"{"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}]}"#,
    r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#,
    r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":1,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":2,"accepted_prediction_tokens":0}}}"#,
    r#"{"error":{"message":"m","type":"server_error","param":null,"code":null}}"#,
    "[DONE]",
];

const CHAT_ENDLESS: &[Endless] = &[Endless {
    begins: &[
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}}]}"#,
    ],
    goes_on: r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"…"}}]}}]}"#,
    ends: r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"d","function":{"name":"f","arguments":""}}]},"finish_reason":"stop"}]}"#,
}];

const RESPONSES_EVENTS: &[&str] = &[
    r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":1,"status":"in_progress","model":"gpt-5","output":[],"usage":null,"error":null,"incomplete_details":null,"instructions":"i","tools":[]}}"#,
    r#"{"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_1","model":"gpt-5","status":"in_progress"}}"#,
    r#"{"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":"e"}}"#,
    r#"{"type":"response.reasoning_summary_part.added","item_id":"rs_1","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":""}}"#,
    r#"{"type":"response.reasoning_summary_text.delta","item_id":"rs_1","output_index":0,"summary_index":0,"delta":"Let me see. 漢","obfuscation":"x"}"#,
    r#"{"type":"response.reasoning_summary_text.done","item_id":"rs_1","output_index":0,"summary_index":0,"text":"Let me see. 漢"}"#,
    r#"{"type":"response.reasoning_summary_part.done","item_id":"rs_1","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":"Let me see. 漢"}}"#,
    r#"{"type":"response.reasoning_text.delta","item_id":"rs_1","output_index":0,"content_index":0,"delta":"Hm."}"#,
    r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"Let me see. 漢"}],"encrypted_content":"ZW5j"}}"#,
    r#"{"type":"response.output_item.added","output_index":1,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","phase":"final_answer","content":[]}}"#,
    r#"{"type":"response.content_part.added","item_id":"msg_1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}"#,
    r#"{"type":"response.output_text.delta","item_id":"msg_1","output_index":1,"content_index":0,"delta":"Hello 🦀\n","logprobs":[],"obfuscation":"x"}"#,
    r#"{"type":"response.output_text.annotation.added","item_id":"msg_1","output_index":1,"content_index":0,"annotation_index":0,"annotation":{"type":"url_citation","start_index":0,"end_index":5,"url":"https://x","title":"t"}}"#,
    r#"{"type":"response.refusal.delta","item_id":"msg_1","output_index":1,"content_index":1,"delta":"I can not"}"#,
    r#"{"type":"response.refusal.done","item_id":"msg_1","output_index":1,"content_index":1,"refusal":"I can not"}"#,
    r#"{"type":"response.output_text.done","item_id":"msg_1","output_index":1,"content_index":0,"text":"Hello 🦀\n","logprobs":[]}"#,
    r#"{"type":"response.content_part.done","item_id":"msg_1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"Hello 🦀\n","annotations":[]}}"#,
    r#"{"type":"response.output_item.done","output_index":1,"item":{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello 🦀\n","annotations":[]}]}}"#,
    r#"{"type":"response.output_item.added","output_index":2,"item":{"id":"fc_1","type":"function_call","status":"in_progress","call_id":"call_1","name":"f","arguments":""}}"#,
    r#"{"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":2,"delta":"{\"a\":"}"#,
    r#"{"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":2,"delta":"1}"}"#,
    r#"{"type":"response.function_call_arguments.done","item_id":"fc_1","output_index":2,"arguments":"{\"a\":1}"}"#,
    r#"{"type":"response.output_item.done","output_index":2,"item":{"id":"fc_1","type":"function_call","status":"completed","call_id":"call_1","name":"f","arguments":"{\"a\":1}"}}"#,
    r#"{"type":"response.output_item.added","output_index":3,"item":{"id":"ws_1","type":"web_search_call","status":"in_progress"}}"#,
    r#"{"type":"response.web_search_call.searching","item_id":"ws_1","output_index":3}"#,
    r#"{"type":"response.output_item.done","output_index":3,"item":{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"q"}}}"#,
    r#"{"type":"response.custom_tool_call_input.delta","item_id":"ct_1","output_index":4,"delta":"x"}"#,
    r#"{"type":"response.image_generation_call.partial_image","item_id":"ig_1","output_index":5,"partial_image_index":0,"partial_image_b64":"eA=="}"#,
    r#"{"type":"response.something_new","value":{"x":[1]}}"#,
    r#"{"type":"error","sequence_number":9,"error":{"type":"server_error","code":"rate_limit_exceeded","message":"m","param":null}}"#,
    r#"{"type":"error","code":"server_error","message":"m","param":null}"#,
    r#"{"type":"response.failed","response":{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"m"}}}"#,
    r#"{"type":"response.incomplete","response":{"id":"resp_1","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"usage":{"input_tokens":3,"output_tokens":5,"total_tokens":8}}}"#,
    r#"{"type":"response.completed","response":{"id":"resp_1","status":"completed","model":"gpt-5","service_tier":"default","usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":1},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":8}}}"#,
];

const RESPONSES_ENDLESS: &[Endless] = &[Endless {
    begins: &[
        r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"fc","type":"function_call","call_id":"c","name":"f","arguments":""}}"#,
    ],
    goes_on: r#"{"type":"response.function_call_arguments.delta","item_id":"fc","output_index":0,"delta":"…"}"#,
    ends: r#"{"type":"response.completed","response":{"id":"r","status":"completed"}}"#,
}];

const GEMINI_EVENTS: &[&str] = &[
    r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Let me see. 漢","thought":true}]},"index":0}],"usageMetadata":{"promptTokenCount":3,"totalTokenCount":3,"promptTokensDetails":[{"modality":"TEXT","tokenCount":3}]},"modelVersion":"gemini-2.5-flash","responseId":"r1"}"#,
    r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Hello 🦀\n","thoughtSignature":"c2ln"}]}}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"thoughtsTokenCount":4,"totalTokenCount":9}}"#,
    r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":1}},"thoughtSignature":"c2ln"},{"functionCall":{"name":"f"}}]}}]}"#,
    r#"{"candidates":[{"content":{"parts":[{"functionCall":{"id":"c1","name":"g","willContinue":true}}]}}]}"#,
    r#"{"candidates":[{"content":{"parts":[{"functionCall":{"id":"c1","partialArgs":[{"jsonPath":"$.a[0]","stringValue":"x","willContinue":true}],"willContinue":true}}]}}]}"#,
    r#"{"candidates":[{"content":{"parts":[{"functionCall":{"partialArgs":[{"jsonPath":"$.a[0]","stringValue":"y"},{"jsonPath":"$['b c']","numberValue":1.5},{"jsonPath":"$.n","nullValue":"NULL_VALUE"}]}}]}}]}"#,
    r#"{"candidates":[{"content":{"parts":[{"functionCall":{}}]}}]}"#,
    r#"{"candidates":[{"content":{"parts":[{"executableCode":{"language":"PYTHON","code":"1+1"}},{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"2"}}]},"finishReason":"STOP"}]}"#,
    r#"{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"eA=="}},{"fileData":{"mimeType":"image/png","fileUri":"https://x"}}]}}]}"#,
    r#"{"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"c2ln"}]}}]}"#,
    r#"{"candidates":[{"content":{},"index":1,"finishReason":"OTHER"}]}"#,
    r#"{"candidates":[{"groundingMetadata":{"webSearchQueries":["q"],"groundingChunks":[{"web":{"uri":"https://x","title":"t"}}],"groundingSupports":[{"segment":{"startIndex":0,"endIndex":5,"text":"Hello"},"groundingChunkIndices":[0]}]},"citationMetadata":{"citationSources":[{"startIndex":0,"endIndex":5,"uri":"https://x","license":""}]},"safetyRatings":[{"category":"HARM_CATEGORY_HARASSMENT","probability":"NEGLIGIBLE","blocked":false}],"urlContextMetadata":{"urlMetadata":[]}}]}"#,
    r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":3}}"#,
    r#"{"error":{"code":503,"message":"The model is overloaded","status":"UNAVAILABLE","details":[]}}"#,
    r#"[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]"#,
    r#"{"candidates":[{"content":{"parts":[{"text":"."}]},"finishReason":2}]}"#,
    r#"{"candidates":[{"finishReason":"STOP","finishMessage":"Model generated function call(s)."}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":1,"totalTokenCount":4,"trafficType":"ON_DEMAND"}}"#,
];

const GEMINI_ENDLESS: &[Endless] = &[Endless {
    begins: &[r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","willContinue":true}}]}}]}"#],
    goes_on: r#"{"candidates":[{"content":{"parts":[{"functionCall":{"partialArgs":[{"jsonPath":"$.a","stringValue":"…","willContinue":true}],"willContinue":true}}]}}]}"#,
    ends: r#"{"candidates":[{"content":{"parts":[{"functionCall":{}}]},"finishReason":"STOP"}]}"#,
}];
