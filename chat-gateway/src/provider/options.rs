//! What a caller adds to the body of a request, for what only one provider has.
//!
//! Objects are merged with objects, anything else is replaced, `null` removes: RFC 7396.
//! What is not touched goes on as the text that it was.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};

use super::{Unsupported, json_text};

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
}
