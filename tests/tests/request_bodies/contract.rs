//! The contract's messages, made of pieces of a provider's JSON.
//!
//! [`Fields`] is how every translation reads: a field is taken if it is of the form that has
//! a place in the contract, and what nobody took is left for `provider_options`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use proto::{
    chat::{
        ContentPart, DocumentPart, ImagePart, Message, ProviderPart, TextPart, ToolCallPart, ToolResultPart,
        content_part::Part, document_part, image_part, message::Role, reasoning::Effort,
    },
    types::Provider,
};
use serde_json::{Map, Value};

/// A JSON object, read field by field. Explicit nulls are not in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// `None` for what is no object.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let said = value.as_object()?.iter().filter(|(_, value)| !value.is_null());
        Some(Self(said.map(|(name, value)| (name.clone(), value.clone())).collect()))
    }

    /// Takes a field if `read` understands it.
    pub(crate) fn take<T>(&mut self, name: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let found = read(self.0.get(name)?)?;
        self.0.remove(name);
        Some(found)
    }

    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.take(name, |value| value.as_str().map(str::to_owned))
    }

    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        self.take(name, Value::as_bool)
    }

    pub(crate) fn number(&mut self, name: &str) -> Option<f64> {
        self.take(name, Value::as_f64)
    }

    pub(crate) fn whole_number(&mut self, name: &str) -> Option<i32> {
        self.take(name, |value| {
            #[expect(clippy::cast_possible_truncation, reason = "a number with a fraction is not taken")]
            let whole = value.as_i64().or_else(|| value.as_f64().filter(|n| n.fract() == 0.0).map(|n| n as i64))?;
            i32::try_from(whole).ok()
        })
    }

    pub(crate) fn list(&mut self, name: &str) -> Option<Vec<Value>> {
        self.take(name, |value| value.as_array().cloned())
    }

    /// Any JSON, as text.
    pub(crate) fn json(&mut self, name: &str) -> Option<String> {
        self.take(name, |value| Some(value.to_string()))
    }

    /// Takes an object if `read` takes all that is in it.
    pub(crate) fn object<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.take(name, |value| all_of(value, read))
    }

    /// Reads in an object; what `read` does not take stays where it was.
    pub(crate) fn within<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let mut inner = Self::of(self.0.get(name)?)?;
        let found = read(&mut inner);
        if inner.0.is_empty() {
            self.0.remove(name);
        } else {
            self.0.insert(name.to_owned(), Value::Object(inner.0));
        }
        found
    }

    /// What is left, for `provider_options`.
    pub(crate) fn options(self) -> Option<prost_types::Struct> {
        (!self.0.is_empty()).then(|| structure(self.0))
    }
}

/// Reads an object if `read` takes all that is in it.
pub(crate) fn all_of<T>(value: &Value, read: impl FnOnce(&mut Fields) -> Option<T>) -> Option<T> {
    let mut fields = Fields::of(value)?;
    let found = read(&mut fields)?;
    fields.0.is_empty().then_some(found)
}

fn structure(fields: Map<String, Value>) -> prost_types::Struct {
    prost_types::Struct { fields: fields.into_iter().map(|(name, value)| (name, structured(value))).collect() }
}

fn structured(value: Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().expect("a number that a double holds")),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.into_iter().map(structured).collect() })
        }
        Value::Object(fields) => Kind::StructValue(structure(fields)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// Stands for a conversation that has no common form as a whole, and so is left for
/// `provider_options`, which replace this one.
pub(crate) fn replaced() -> Vec<Message> {
    vec![Message { role: Role::User.into(), parts: vec![text("replaced")] }]
}

/// A conversation that grows part by part: a part of another role begins another message.
#[derive(Debug, Default)]
pub(crate) struct Turns(Vec<Message>);

impl Turns {
    pub(crate) fn add(&mut self, role: Role, part: ContentPart) {
        match self.0.last_mut() {
            Some(last) if last.role() == role => last.parts.push(part),
            Some(_) | None => self.0.push(Message { role: role.into(), parts: vec![part] }),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_messages(self) -> Vec<Message> {
        self.0
    }
}

pub(crate) fn part(part: Part) -> ContentPart {
    ContentPart { part: Some(part), cache_control: None }
}

pub(crate) fn text(text: impl Into<String>) -> ContentPart {
    part(Part::Text(TextPart { text: text.into(), signature: String::new() }))
}

/// A part in the provider's own form.
pub(crate) fn own(provider: Provider, value: &Value) -> ContentPart {
    part(Part::Provider(ProviderPart { provider: provider.into(), json: value.to_string() }))
}

pub(crate) fn call(id: String, name: String, arguments: String) -> ToolCallPart {
    ToolCallPart { id, name, arguments, ..ToolCallPart::default() }
}

pub(crate) fn result(tool_call_id: String, content: Vec<ContentPart>) -> ToolResultPart {
    ToolResultPart { tool_call_id, content, is_error: false }
}

pub(crate) fn image(source: image_part::Source, media_type: String, detail: String) -> ContentPart {
    part(Part::Image(ImagePart { source: Some(source), media_type, detail }))
}

pub(crate) fn document(source: document_part::Source, media_type: String, title: String) -> DocumentPart {
    DocumentPart { source: Some(source), media_type, title, ..DocumentPart::default() }
}

pub(crate) fn bytes(base64: &str) -> Option<Bytes> {
    STANDARD.decode(base64).ok().map(Bytes::from)
}

/// The media type and the bytes of a `data:` URL.
pub(crate) fn data_url(url: &str) -> Option<(String, Bytes)> {
    let (media_type, base64) = url.strip_prefix("data:")?.split_once(";base64,")?;
    Some((media_type.to_owned(), bytes(base64)?))
}

/// The text of a string, or of a list of one block of text of the kind `kind`.
pub(crate) fn single_text(value: &Value, kind: &str) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let [block] = value.as_array()?.as_slice() else { return None };
    all_of(block, |block| block.text("type").filter(|found| found == kind).and_then(|_| block.text("text")))
}

pub(crate) fn effort(word: &str) -> Option<Effort> {
    Effort::from_str_name(&format!("EFFORT_{}", word.to_ascii_uppercase())).filter(|it| *it != Effort::Unspecified)
}
