//! The doors of the fuzzers (`fuzz/`): built for them only.
//!
//! Each takes any bytes. The first one says in which steps the others arrive.

use crate::provider::robustness::{check, check_sse, decoder};

/// Reads an event stream.
pub fn sse(data: &[u8]) {
    if let Some((step, body)) = data.split_first() {
        check_sse(body, usize::from(*step));
    }
}

/// Reads the stream of an answer with the decoder of this name.
pub fn answer(decoder_name: &str, data: &[u8]) {
    let new = decoder(decoder_name);
    assert!(new.is_some(), "there is a decoder {decoder_name}");
    if let (Some(new), Some((step, body))) = (new, data.split_first()) {
        check(new, body, usize::from(*step));
    }
}
