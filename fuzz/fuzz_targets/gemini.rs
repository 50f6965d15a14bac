//! Answers of the Gemini API.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chat_gateway::fuzzing::answer("gemini", data));
