//! Joins characters that a provider cuts in two.
//!
//! A program that counts text in UTF-16 may end a piece in the middle of a character
//! beyond the basic plane, and writes each half as an escape (RFC 8259, section 7):
//! `"\ud83d"`, then `"\ude00"`. By themselves they are no text. A half at the end of a
//! string is held back and put before the half that a later event's string begins with;
//! a half that fits nowhere becomes U+FFFD.

use std::{borrow::Cow, sync::LazyLock};

use memchr::memmem;

/// What is held back of one answer.
#[derive(Debug, Default)]
pub(crate) struct Surrogates {
    high: Option<[u8; ESCAPE_BYTES]>,
}

/// A backslash, `u`, and four hexadecimal digits.
const ESCAPE_BYTES: usize = 6;

/// What escapes of halves begin with. To make a finder takes longer than to search an event.
static HALVES: LazyLock<[memmem::Finder<'static>; 2]> =
    LazyLock::new(|| [memmem::Finder::new(br"\ud"), memmem::Finder::new(br"\uD")]);

const REPLACEMENT: &[u8] = br"\ufffd";

/// The half of a character that an escape stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    High,
    Low,
}

impl Surrogates {
    /// The data of an event without halves of characters. What has none is not copied.
    pub(crate) fn mend<'a>(&mut self, data: &'a [u8]) -> Cow<'a, [u8]> {
        let may_have_halves = HALVES.iter().any(|escape| escape.find(data).is_some());
        if may_have_halves { Cow::Owned(self.mended(data)) } else { Cow::Borrowed(data) }
    }

    fn mended(&mut self, data: &[u8]) -> Vec<u8> {
        let mut mended = Vec::with_capacity(data.len() + ESCAPE_BYTES);
        let (mut rest, mut in_string, mut begins) = (data, false, false);
        while let Some((&byte, after)) = rest.split_first() {
            let is_first = std::mem::take(&mut begins);
            match byte {
                b'"' => {
                    in_string = !in_string;
                    begins = in_string;
                    mended.push(byte);
                    rest = after;
                }
                b'\\' if in_string => rest = self.escape(rest, is_first, &mut mended),
                _ => {
                    mended.push(byte);
                    rest = after;
                }
            }
        }
        mended
    }

    /// Writes the escape that `rest` begins with, or what stands for it. Returns what follows.
    fn escape<'a>(&mut self, rest: &'a [u8], is_first: bool, mended: &mut Vec<u8>) -> &'a [u8] {
        let Some((escape, half)) = half(rest) else {
            // The escaped byte may be a quote, which ends nothing.
            let (both, after) = rest.split_at(rest.len().min(2));
            mended.extend_from_slice(both);
            return after;
        };
        let after = &rest[ESCAPE_BYTES..];
        match half {
            Half::High => {
                if let Some((low, Half::Low)) = self::half(after) {
                    mended.extend_from_slice(escape);
                    mended.extend_from_slice(low);
                    return &after[ESCAPE_BYTES..];
                }
                if after.first() == Some(&b'"') {
                    self.high = Some(*escape);
                } else {
                    mended.extend_from_slice(REPLACEMENT);
                }
            }
            Half::Low => match self.high.take().filter(|_| is_first) {
                Some(high) => {
                    mended.extend_from_slice(&high);
                    mended.extend_from_slice(escape);
                }
                None => mended.extend_from_slice(REPLACEMENT),
            },
        }
        after
    }
}

/// The escape of half a character that `text` begins with.
fn half(text: &[u8]) -> Option<(&[u8; ESCAPE_BYTES], Half)> {
    let escape = text.first_chunk::<ESCAPE_BYTES>()?;
    let digits = escape.strip_prefix(br"\u").and_then(|digits| std::str::from_utf8(digits).ok())?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xD800..=0xDBFF => Some((escape, Half::High)),
        0xDC00..=0xDFFF => Some((escape, Half::Low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_was_cut_is_joined() {
        for (events, expected) in [
            (vec![r#"{"t":"a"}"#], vec![r#"{"t":"a"}"#]),
            (vec![r#"{"t":"\ud83d\ude00 \u00e9\n"}"#], vec![r#"{"t":"\ud83d\ude00 \u00e9\n"}"#]),
            (vec![r#"{"t":"a\ud83d"}"#, r#"{"t":"\ude00b"}"#], vec![r#"{"t":"a"}"#, r#"{"t":"\ud83d\ude00b"}"#]),
            (
                vec![r#"{"t":"\uD83D"}"#, r#"{"p":1}"#, r#"{"k":"x","t":"\uDE00\uD83D"}"#, r#"{"t":"\uDE01"}"#],
                vec![r#"{"t":""}"#, r#"{"p":1}"#, r#"{"k":"x","t":"\uD83D\uDE00"}"#, r#"{"t":"\uD83D\uDE01"}"#],
            ),
            // Halves that fit nowhere.
            (vec![r#"{"t":"\ud83d-"}"#, r#"{"t":"\ude00"}"#], vec![r#"{"t":"\ufffd-"}"#, r#"{"t":"\ufffd"}"#]),
            (vec![r#"{"t":"\ud83d"}"#, r#"{"t":"-\ude00"}"#], vec![r#"{"t":""}"#, r#"{"t":"-\ufffd"}"#]),
            // An escaped backslash, and no escapes at all outside of strings.
            (vec![r#"{"t":"\\ud83d"}"#, r#"{"t":"\"\\"}"#], vec![r#"{"t":"\\ud83d"}"#, r#"{"t":"\"\\"}"#]),
            (vec![r"\ud83d", r#""\ud"#, r#""\"#], vec![r"\ud83d", r#""\ud"#, r#""\"#]),
        ] {
            let mut surrogates = Surrogates::default();
            let mended: Vec<_> = events
                .iter()
                .map(|event| String::from_utf8(surrogates.mend(event.as_bytes()).into_owned()).unwrap())
                .collect();
            assert_eq!(mended, expected);
        }
    }

    #[test]
    fn what_has_no_halves_is_not_copied() {
        assert!(matches!(Surrogates::default().mend(br#"{"t":"\u00e9"}"#), Cow::Borrowed(_)));
    }
}
