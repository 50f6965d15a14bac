//! What chunks have that nobody reads, and whether it was passed on before.
//!
//! Servers that imitate the API say the same of an answer in each of its chunks, whose own
//! fields differ. So what counts is a field by its place and its value. A delta is another
//! matter: its pieces may be equal and are still pieces.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
};

use serde_json::Value;

use super::chunk::{Chunk, PASSED_OVER};

/// How many fields are remembered. No server is known that adds as many.
const PASSED_ON_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Unread {
    /// Hashes of fields: what was said may be large.
    passed_on: VecDeque<u64>,
}

impl Unread {
    /// Whether a chunk says something that nobody reads and that no chunk before it said.
    pub(super) fn says_more(&mut self, data: &[u8]) -> bool {
        let whole: Value = serde_json::from_slice(data).unwrap_or_default();
        // All are looked at, so that all are remembered.
        places(data).iter().filter(|place| self.is_new(place, &whole)).count() > 0
    }

    fn is_new(&mut self, place: &str, whole: &Value) -> bool {
        // A name with a dot is not found again, and not lost either.
        let Some(value) = at(place, whole) else { return true };
        if says_nothing(value) {
            return false;
        }
        if place.split('.').any(|step| step == "delta") {
            return true;
        }
        let mut hasher = DefaultHasher::new();
        (place, value).hash(&mut hasher);
        let hash = hasher.finish();
        if self.passed_on.contains(&hash) {
            return false;
        }
        if self.passed_on.len() >= PASSED_ON_MAX {
            self.passed_on.pop_front();
        }
        self.passed_on.push_back(hash);
        true
    }
}

/// Where what nobody reads stands: names and numbers with dots between them.
fn places(data: &[u8]) -> Vec<String> {
    let mut places = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(data);
    let read: Result<Chunk<'_>, _> = serde_ignored::deserialize(&mut json, |path| {
        let place = path.to_string();
        if !place.rsplit('.').next().is_some_and(|name| PASSED_OVER.contains(&name)) {
            places.push(place);
        }
    });
    // It was read before.
    if read.is_ok() { places } else { Vec::new() }
}

fn at<'a>(place: &str, whole: &'a Value) -> Option<&'a Value> {
    // What is optional is a step of its own.
    place.split('.').filter(|step| *step != "?").try_fold(whole, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => value.get(step),
    })
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_again_is_no_more() {
        let mut unread = Unread::default();
        for (data, more) in [
            (r#"{"id":"1","citations":["a"],"stats":{}}"#, true),
            (r#"{"id":"2","citations":["a"],"stats":{}}"#, false),
            (r#"{"id":"2","citations":["a","b"]}"#, true),
            (r#"{"citations":["a"],"search":{"n":1}}"#, true),
            (r#"{"search":{"n":1}}"#, false),
            (r#"{"stats":{},"list":[],"word":"","none":null}"#, false),
            (r#"{"choices":[{"seen":true}]}"#, true),
            (r#"{"choices":[{"seen":true,"delta":{"content":"x"}}]}"#, false),
            (r#"{"choices":[{"delta":{"piece":"ha"}}]}"#, true),
            (r#"{"choices":[{"delta":{"piece":"ha"}}]}"#, true),
            (r#"{"choices":[{"delta":{"token_id":7}}],"p":"abc"}"#, false),
            (r#"{"a.b":1}"#, true),
            (r#"{"a.b":1}"#, true),
        ] {
            assert_eq!(unread.says_more(data.as_bytes()), more, "{data}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut unread = Unread::default();
        for n in 0..=PASSED_ON_MAX {
            assert!(unread.says_more(format!(r#"{{"n":{n}}}"#).as_bytes()));
        }
        assert_eq!(unread.passed_on.len(), PASSED_ON_MAX);
        assert!(unread.says_more(br#"{"n":0}"#) && !unread.says_more(br#"{"n":0}"#));
    }
}
