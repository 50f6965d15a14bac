//! What a caller adds to the body of a request, for what only one provider has.
//!
//! Objects are merged with objects, anything else is replaced, `null` removes: RFC 7396.
//! What is not touched goes on as the text that it was.

use std::{borrow::Cow, collections::BTreeMap};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};

use super::{Unsupported, json_text};

/// Takes the options that are headers out of `options`. Each is a word, or a list of words
/// that join those which the header has already.
pub(super) fn take_headers(
    options: &mut Map<String, Value>,
    known: &[(&str, &'static str)],
    headers: &mut HeaderMap,
) -> Result<(), Unsupported> {
    for (option, header) in known {
        let Some(value) = options.remove(*option) else { continue };
        let header = HeaderName::from_static(header);
        let refused = || Unsupported {
            field: format!("provider_options.{option}"),
            problem: "must be a word of A-Z a-z 0-9 . _ -, or a list of such words".to_owned(),
        };
        let words = match value {
            Value::Array(words) => words,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => vec![value],
        };
        let mut joined = headers.get(&header).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        for word in &words {
            let word = word.as_str().filter(|word| is_word(word)).ok_or_else(refused)?;
            if !joined.is_empty() {
                joined.push(',');
            }
            joined.push_str(word);
        }
        if !joined.is_empty() {
            headers.insert(header, HeaderValue::from_str(&joined).map_err(|_| refused())?);
        }
    }
    Ok(())
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Merges `options` into `body`, which is an object.
pub(super) fn merge(body: &[u8], options: &Map<String, Value>, fixed: &[&str]) -> Result<Vec<u8>, Unsupported> {
    for path in fixed {
        if is_set(options, path) {
            return Err(Unsupported {
                field: format!("provider_options.{path}"),
                problem: "this is the gateway's to set; leave it out".to_owned(),
            });
        }
    }
    let failed = |error: serde_json::Error| Unsupported {
        field: "provider_options".to_owned(),
        problem: format!("cannot be merged: {error}"),
    };
    let body = std::str::from_utf8(body).unwrap_or_default();
    patched(Some(body), options).map_err(failed)
}

/// Whether anything stands at `path`. A parent that is replaced by something else than an
/// object stands there too.
fn is_set(options: &Map<String, Value>, path: &str) -> bool {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    match (options.get(name), rest) {
        (None, _) => false,
        (Some(Value::Object(inner)), Some(rest)) => is_set(inner, rest),
        (Some(_), _) => true,
    }
}

/// `target` with the changes of `patch`. A target that is no object is replaced.
fn patched(target: Option<&str>, patch: &Map<String, Value>) -> serde_json::Result<Vec<u8>> {
    let target = target.filter(|target| target.trim_start().starts_with('{')).unwrap_or("{}");
    // What stays may be a file of many megabytes, and is not copied but into the result.
    let kept: BTreeMap<String, &RawValue> = serde_json::from_str(target)?;
    let mut fields: BTreeMap<String, Cow<'_, RawValue>> =
        kept.into_iter().map(|(name, field)| (name, Cow::Borrowed(field))).collect();
    for (name, change) in patch {
        let new = match change {
            Value::Null => {
                fields.remove(name);
                continue;
            }
            Value::Object(inner) => {
                let target = fields.get(name).map(|field| field.get());
                serde_json::from_slice(&patched(target, inner)?)?
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => to_raw_value(change)?,
        };
        fields.insert(name.clone(), Cow::Owned(new));
    }
    json_text::to_vec(&fields)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(body: &str, options: Value) -> Result<String, Unsupported> {
        let Value::Object(options) = options else { panic!("an object") };
        merge(body.as_bytes(), &options, &["model", "config.count"]).map(|body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn objects_are_merged_and_the_rest_is_replaced() {
        for (body, options, expected) in [
            (r#"{"a":1}"#, json!({"b": true}), r#"{"a":1,"b":true}"#),
            (
                r#"{"a":{"x":1.0,"y":2}}"#,
                json!({"a": {"y": [3], "z": {"q": null}}}),
                r#"{"a":{"x":1.0,"y":[3],"z":{}}}"#,
            ),
            (r#"{"a":[1,2],"b":"x"}"#, json!({"a": {"c": 1}, "b": null}), r#"{"a":{"c":1}}"#),
            (r#"{"big":12345678901234567890123}"#, json!({"c": "d"}), r#"{"big":12345678901234567890123,"c":"d"}"#),
        ] {
            assert_eq!(merged(body, options).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_the_gateways_is_refused() {
        for (options, field) in [
            (json!({"model": "other"}), "provider_options.model"),
            (json!({"model": null}), "provider_options.model"),
            (json!({"config": {"count": 2}}), "provider_options.config.count"),
            (json!({"config": 1}), "provider_options.config.count"),
        ] {
            assert_eq!(merged("{}", options).unwrap_err().field, field);
        }
        assert!(merged("{}", json!({"config": {"other": 2}})).is_ok());
    }

    #[test]
    fn headers_are_words_and_join_those_that_are_there() {
        let known = [("beta", "x-beta")];
        for (before, options, expected) in [
            ("", json!({ "beta": "a-1", "other": 1 }), Some("a-1")),
            ("a", json!({ "beta": ["b", "c_2"] }), Some("a,b,c_2")),
            ("a", json!({ "other": 1 }), Some("a")),
            ("", json!({ "beta": [] }), Some("")),
            ("", json!({ "beta": null }), None),
            ("", json!({ "beta": "a\r\nx-api-key: b" }), None),
            ("", json!({ "beta": ["a", 1] }), None),
            ("", json!({ "beta": "a,b" }), None),
        ] {
            let Value::Object(mut options) = options else { panic!("an object") };
            let mut headers = HeaderMap::new();
            if !before.is_empty() {
                headers.insert("x-beta", HeaderValue::from_static(before));
            }
            let taken = take_headers(&mut options, &known, &mut headers);
            let found = headers.get("x-beta").map_or("", |value| value.to_str().unwrap());
            assert_eq!(taken.is_ok().then_some(found), expected, "{options:?}");
            assert!(!options.contains_key("beta"));
        }
    }
}
