//! Arguments of a call that arrive value by value.
//!
//! Vertex AI can stream a call: each piece names a place by a path like
//! `$.recipe.steps[0].text` and has a value, or more of a text, for it. Joined, they are
//! the arguments. A path may only add the next item to a list, and what it makes is
//! counted: a step of two bytes can make a map of hundreds.

use serde::Deserialize;
use serde_json::{Map, Number, Value, value::RawValue};

use crate::provider::Broken;

/// Names and indexes in a path. JSON that is nested deeper is not read back by common
/// parsers.
const DEPTH_MAX: usize = 64;

/// What a new field or item takes of memory, beside its text.
const ENTRY_BYTES: usize = 256;

/// What a new map or list takes, with its first entry.
const CONTAINER_BYTES: usize = 640;

/// One piece.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartialArg {
    #[serde(default)]
    json_path: String,
    string_value: Option<String>,
    number_value: Option<Number>,
    bool_value: Option<bool>,
    // Its value is a null, or the name of one.
    #[serde(default, deserialize_with = "present")]
    null_value: bool,
    will_continue: Option<bool>,
}

/// True for whatever value. It is read: what is ignored counts as a field that nobody knows.
fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    Box::<RawValue>::deserialize(value).map(|_| true)
}

/// Joins the pieces of one call.
#[derive(Debug, Default)]
pub(super) struct Arguments(Map<String, Value>);

impl Arguments {
    /// Adds a piece. Returns how many bytes of memory it can come to hold.
    pub(super) fn add(&mut self, piece: PartialArg) -> Result<usize, Broken> {
        let mut bytes = piece.json_path.len() + piece.string_value.as_ref().map_or(0, String::len);
        let steps = steps(&piece.json_path)?;
        let [Step::Name(first), rest @ ..] = steps.as_slice() else {
            return Err(Broken::Malformed("a partial argument without a name"));
        };
        let mut place = field(&mut self.0, first, &mut bytes);
        for step in rest {
            place = step.of(place, &mut bytes)?;
        }
        match (place, piece.value()) {
            (Value::String(text), Some(Value::String(more))) => text.push_str(&more),
            (place, Some(value)) if is_open(place) => *place = value,
            (_, None) => {}
            (_, Some(_)) => return Err(Broken::Malformed("a partial argument replaces another")),
        }
        Ok(bytes)
    }

    /// The arguments as JSON text.
    pub(super) fn into_text(self) -> String {
        Value::Object(self.0).to_string()
    }
}

/// Whether a value may still be given: nothing is there, or a single value that is
/// said again.
fn is_open(place: &Value) -> bool {
    match place {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

impl PartialArg {
    /// Whether more of its text is to come.
    pub(super) fn is_part(&self) -> bool {
        self.will_continue == Some(true)
    }

    fn value(self) -> Option<Value> {
        let Self { string_value, number_value, bool_value, null_value, .. } = self;
        string_value
            .map(Value::String)
            .or(number_value.map(Value::Number))
            .or(bool_value.map(Value::Bool))
            .or(null_value.then_some(Value::Null))
    }
}

/// A step of a path from a value into it.
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

impl Step<'_> {
    /// Counts what the step makes.
    fn of<'v>(&self, place: &'v mut Value, bytes: &mut usize) -> Result<&'v mut Value, Broken> {
        const CONFLICT: Broken = Broken::Malformed("a partial argument leads into another");
        if place.is_null() {
            *bytes += CONTAINER_BYTES;
        }
        match self {
            Self::Name(name) => {
                if place.is_null() {
                    *place = Value::Object(Map::new());
                }
                let fields = place.as_object_mut().ok_or(CONFLICT)?;
                Ok(field(fields, name, bytes))
            }
            Self::Index(index) => {
                if place.is_null() {
                    *place = Value::Array(Vec::new());
                }
                let items = place.as_array_mut().ok_or(CONFLICT)?;
                if *index == items.len() {
                    *bytes += ENTRY_BYTES;
                    items.push(Value::Null);
                }
                items.get_mut(*index).ok_or(Broken::Malformed("a partial argument skips items of a list"))
            }
        }
    }
}

/// The field of this name, made and counted if there is none.
fn field<'v>(fields: &'v mut Map<String, Value>, name: &str, bytes: &mut usize) -> &'v mut Value {
    fields.entry(name.to_owned()).or_insert_with(|| {
        *bytes += ENTRY_BYTES;
        Value::Null
    })
}

/// Reads `$.name[0]['name']`.
fn steps(path: &str) -> Result<Vec<Step<'_>>, Broken> {
    const UNREADABLE: Broken = Broken::Malformed("a partial argument has no path");
    let mut rest = path.strip_prefix('$').unwrap_or(path);
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() >= DEPTH_MAX {
            return Err(Broken::Malformed("a partial argument is nested too deeply"));
        }
        let (step, after) = if let Some(inner) = rest.strip_prefix('[') {
            bracket(inner).ok_or(UNREADABLE)?
        } else {
            let name = rest.strip_prefix('.').unwrap_or(rest);
            let end = name.find(['.', '[']).unwrap_or(name.len());
            if end == 0 {
                return Err(UNREADABLE);
            }
            (Step::Name(&name[..end]), &name[end..])
        };
        steps.push(step);
        rest = after;
    }
    Ok(steps)
}

/// What follows an opening bracket: an index, or a name in quotes.
fn bracket(inner: &str) -> Option<(Step<'_>, &str)> {
    for quote in ['\'', '"'] {
        if let Some(quoted) = inner.strip_prefix(quote) {
            let end = quoted.find(quote)?;
            return Some((Step::Name(&quoted[..end]), quoted[end..].strip_prefix(quote)?.strip_prefix(']')?));
        }
    }
    let (index, after) = inner.split_once(']')?;
    Some((Step::Index(index.parse().ok()?), after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn joined(pieces: Value) -> Result<Value, Broken> {
        let pieces: Vec<PartialArg> = serde_json::from_value(pieces).unwrap();
        let mut arguments = Arguments::default();
        for piece in pieces {
            arguments.add(piece)?;
        }
        Ok(serde_json::from_str(&arguments.into_text()).unwrap())
    }

    #[test]
    fn pieces_join_by_their_paths() {
        let pieces = json!([
            { "jsonPath": "$.city", "stringValue": "San ", "willContinue": true },
            { "jsonPath": "$.city", "stringValue": "Francisco", "willContinue": true },
            { "jsonPath": "$.city", "stringValue": "" },
            { "jsonPath": "$.days[0].at", "numberValue": 3 },
            { "jsonPath": "$.days[0].dry", "boolValue": true },
            { "jsonPath": "$.days[1]", "nullValue": null },
            { "jsonPath": "$.days[2]", "nullValue": "NULL_VALUE" },
            { "jsonPath": "$['a.b']", "numberValue": 0.5 },
        ]);
        let expected = json!({ "city": "San Francisco", "days": [{ "at": 3, "dry": true }, null, null], "a.b": 0.5 });
        assert_eq!(joined(pieces), Ok(expected));
        assert_eq!(joined(json!([])), Ok(json!({})));
    }

    #[test]
    fn a_path_can_make_no_more_than_it_says() {
        let deep = format!("$.a{}", "[0]".repeat(DEPTH_MAX));
        for path in [
            "$",
            "",
            "$[0]",
            "$.a[1]",
            "$.a[4000000000]",
            "$.a[x]",
            "$.a[",
            "$.a['b",
            "$..",
            "$.a..b",
            "$.a.",
            "$.[0]",
            &deep,
        ] {
            assert!(joined(json!([{ "jsonPath": path, "boolValue": true }])).is_err(), "{path}");
        }
        for (first, second) in [("$.a", "$.a.b"), ("$.a", "$.a[0]"), ("$.a.b", "$.a[0]"), ("$.a[0]", "$.a.b")] {
            let pieces = json!([
                { "jsonPath": first, "stringValue": "x" },
                { "jsonPath": second, "stringValue": "x" },
            ]);
            assert!(joined(pieces).is_err(), "{first} {second}");
        }
    }

    #[test]
    fn what_a_path_makes_is_counted() {
        let mut arguments = Arguments::default();
        for (path, made) in [
            ("$.a.b", 2 * ENTRY_BYTES + CONTAINER_BYTES),
            ("$.a.b", 0),
            ("$.a.c", ENTRY_BYTES),
            ("$.d[0][0]", 3 * ENTRY_BYTES + 2 * CONTAINER_BYTES),
            ("$.d[0][1]", ENTRY_BYTES),
        ] {
            let piece: PartialArg = serde_json::from_value(json!({ "jsonPath": path, "stringValue": "é" })).unwrap();
            assert_eq!(arguments.add(piece), Ok(path.len() + 2 + made), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_has_an_answer(path in r"[$.\[\]'a0-9\u{1f980}]{0,24}") {
            let _ = joined(json!([{ "jsonPath": path, "stringValue": "x" }]));
        }
    }
}
