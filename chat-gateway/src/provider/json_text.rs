//! JSON as text: what the caller gave and goes upstream as it is, what is written, and
//! the objects that come back.

use std::{fmt, io};

use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_ignored::Path;
use serde_json::value::RawValue;

use super::Unsupported;

/// Borrows `text` as JSON; nothing in it is reordered or rounded on its way.
pub(super) fn borrow(text: &str, field: impl FnOnce() -> String) -> Result<&RawValue, Unsupported> {
    serde_json::from_str(text)
        .map_err(|_| Unsupported { field: field(), problem: "this is not JSON; send an object".to_owned() })
}

/// Writes a request. Nothing of ours fails to be written; the type says so nowhere.
pub(super) fn serialize(body: &impl Serialize) -> Result<Vec<u8>, Unsupported> {
    to_vec(body).map_err(|error| Unsupported {
        field: String::new(),
        problem: format!("the request has no JSON form: {error}"),
    })
}

/// Writes JSON into no more memory than it needs. A large one is measured first and then
/// written: to grow with it would take up to three times its memory.
pub(super) fn to_vec(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut measured = Measured::default();
    serde_json::to_writer(&mut measured, value)?;
    if measured.bytes == measured.written.len() {
        return Ok(measured.written);
    }
    drop(measured.written);
    let mut written = Vec::with_capacity(measured.bytes);
    serde_json::to_writer(&mut written, value)?;
    Ok(written)
}

/// Counts what is written, and keeps it while it is small.
#[derive(Default)]
struct Measured {
    written: Vec<u8>,
    bytes: usize,
}

/// Text of usual conversations is written once.
const WRITTEN_ONCE_MAX: usize = 256 * 1024;

impl io::Write for Measured {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.bytes += piece.len();
        if self.bytes <= WRITTEN_ONCE_MAX {
            self.written.extend_from_slice(piece);
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads an object. `None` if it is none or not of this form; serde by itself would also
/// read a struct from an array.
pub(super) fn object<'a, T: Deserialize<'a>>(data: &'a [u8]) -> Option<T> {
    data.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(data).ok()).flatten()
}

/// Reads an object, and says whether it has a field that nobody reads: one that `T` does
/// not have, that is not null, and whose name is not in `passed_over`.
pub(super) fn noting<'a, T: Deserialize<'a>>(data: &'a [u8], passed_over: &[&str]) -> Option<(T, bool)> {
    if !data.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let mut json = serde_json::Deserializer::from_slice(data);
    let mut unread: Vec<Vec<String>> = Vec::new();
    let read = serde_ignored::deserialize(&mut json, |path| {
        let is_known = matches!(&path, Path::Map { key, .. } if passed_over.contains(&key.as_str()));
        if !is_known && unread.len() < UNREAD_MAX {
            unread.push(steps(&path));
        }
    });
    let read: T = read.ok()?;
    json.end().ok()?;
    Some((read, unread.iter().any(|steps| says_something(data, steps))))
}

/// As many fields that nobody reads are looked at. One that says something is enough.
const UNREAD_MAX: usize = 32;

/// The names and numbers that lead to a place.
fn steps(path: &Path<'_>) -> Vec<String> {
    let (parent, step) = match path {
        Path::Root => return Vec::new(),
        Path::Seq { parent, index } => (parent, index.to_string()),
        Path::Map { parent, key } => (parent, key.clone()),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            return steps(parent);
        }
    };
    let mut steps = steps(parent);
    steps.push(step);
    steps
}

/// Whether something else than null stands at a place. Only the way to it is read.
fn says_something(data: &[u8], steps: &[String]) -> bool {
    let found = steps.iter().try_fold(std::str::from_utf8(data).unwrap_or_default(), |json, step| {
        let found = Step(step).deserialize(&mut serde_json::Deserializer::from_str(json));
        found.ok().flatten().map(RawValue::get)
    });
    // What cannot be found again is not lost either.
    found.is_none_or(|value| value != "null")
}

/// Finds what one step leads to, and reads over everything else.
struct Step<'s>(&'s str);

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let index: usize = self.0.parse().map_err(de::Error::custom)?;
        for _ in 0..index {
            items.next_element::<IgnoredAny>()?;
        }
        let found = items.next_element()?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// Bytes, written in base64 straight into the body.
#[derive(Debug)]
pub(super) struct Base64<'a>(pub(super) &'a [u8]);

impl fmt::Display for Base64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Base64Display::new(self.0, &STANDARD).fmt(f)
    }
}

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Bytes as a URL (RFC 2397), written straight into the body.
#[derive(Debug)]
pub(super) struct DataUrl<'a> {
    pub(super) media_type: &'a str,
    pub(super) data: &'a [u8],
}

impl Serialize for DataUrl<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("data:{};base64,{}", self.media_type, Base64(self.data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Outer<'a> {
        name: String,
        #[serde(borrow)]
        raw: Option<&'a RawValue>,
        inner: Option<Vec<Inner>>,
    }

    #[derive(Deserialize)]
    struct Inner {
        #[expect(dead_code, reason = "read to be known")]
        x: u32,
    }

    #[test]
    fn a_field_that_nobody_reads_is_noted() {
        for (data, noted) in [
            (r#"{"name":"a"}"#, false),
            (r#"{"name":"a","raw":{"anything":[1]},"inner":[{"x":1}]}"#, false),
            (r#"{"name":"a","padding":"xyz"}"#, false),
            (r#"{"name":"a","new":null}"#, false),
            (r#"{"name":"a","new":null,"inner":[{"x":1,"new":null},{"x":2}]}"#, false),
            (r#"{"name":"a","new":null,"inner":[{"x":1,"new":null},{"x":2,"new":{}}]}"#, true),
            (r#"{"name":"a","new":0}"#, true),
            (r#"{"name":"a","inner":[{"x":1},{"x":2,"y":{"z":1}}]}"#, true),
        ] {
            let (read, found): (Outer<'_>, bool) = noting(data.as_bytes(), &["padding"]).unwrap();
            assert_eq!((read.name.as_str(), found), ("a", noted), "{data}");
            assert!(
                read.raw.is_none_or(|raw| raw.get() == r#"{"anything":[1]}"#)
                    && read.inner.is_none_or(|i| !i.is_empty())
            );
        }
        for data in ["[]", "{", r#"{"name":1}"#, r#"{"name":"a"} x"#] {
            assert!(noting::<Outer<'_>>(data.as_bytes(), &[]).is_none(), "{data}");
        }
    }

    #[test]
    fn a_request_takes_no_more_memory_than_it_has_bytes() {
        for length in [0, 1, WRITTEN_ONCE_MAX - 2, WRITTEN_ONCE_MAX - 1, WRITTEN_ONCE_MAX, 3_000_000] {
            let text = ["x".repeat(length), String::new()];
            let written = to_vec(&text).unwrap();
            assert_eq!(written, format!("[\"{}\",\"\"]", text[0]).into_bytes(), "{length}");
            assert!(written.len() <= WRITTEN_ONCE_MAX || written.capacity() == written.len(), "{length}");
        }
    }

    #[test]
    fn bytes_are_written_in_base64() {
        assert_eq!(serde_json::to_string(&Base64(b"\xff\x00?")).unwrap(), r#""/wA/""#);
        let url = DataUrl { media_type: "image/png", data: b"ab" };
        assert_eq!(serde_json::to_string(&url).unwrap(), r#""data:image/png;base64,YWI=""#);
    }
}
