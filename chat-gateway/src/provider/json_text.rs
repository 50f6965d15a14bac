//! JSON as text: what the caller gave and goes upstream as it is, what is written, and
//! the objects that come back.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Unsupported;

/// Borrows `text` as JSON; nothing in it is reordered or rounded on its way.
pub(super) fn borrow(text: &str, field: impl FnOnce() -> String) -> Result<&RawValue, Unsupported> {
    serde_json::from_str(text)
        .map_err(|_| Unsupported { field: field(), problem: "this is not JSON; send an object".to_owned() })
}

/// Writes a request. Nothing of ours fails to be written; the type says so nowhere.
pub(super) fn serialize(body: &impl Serialize) -> Result<Vec<u8>, Unsupported> {
    serde_json::to_vec(body).map_err(|error| Unsupported {
        field: String::new(),
        problem: format!("the request has no JSON form: {error}"),
    })
}

/// Reads an object. `None` if it is none or not of this form; serde by itself would also
/// read a struct from an array.
pub(super) fn object<'a, T: Deserialize<'a>>(data: &'a [u8]) -> Option<T> {
    data.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(data).ok()).flatten()
}
