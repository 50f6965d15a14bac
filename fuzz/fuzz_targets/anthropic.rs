//! Answers of Anthropic's Messages API.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chat_gateway::fuzzing::answer("anthropic", data));
