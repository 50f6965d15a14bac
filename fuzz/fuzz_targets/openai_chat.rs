//! Answers of OpenAI's Chat Completions API.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chat_gateway::fuzzing::answer("openai_chat", data));
