//! An object that is put together from what several events say.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::provider::Broken;

/// All names and values of one. The largest recorded has 2 KiB.
const BYTES_MAX: usize = 1024 * 1024;

/// Fields as the provider wrote them. The last of a name counts.
#[derive(Debug, Default)]
pub(super) struct Fields {
    fields: BTreeMap<String, Box<RawValue>>,
    bytes: usize,
}

impl Fields {
    /// Sets `name`, if something is said.
    pub(super) fn set(&mut self, name: &str, value: Option<&RawValue>) -> Result<(), Broken> {
        let Some(value) = value.filter(|value| value.get() != "null") else { return Ok(()) };
        self.bytes += name.len() + value.get().len();
        if let Some(old) = self.fields.insert(name.to_owned(), value.to_owned()) {
            self.bytes -= name.len() + old.get().len();
        }
        if self.bytes > BYTES_MAX {
            return Err(Broken::Malformed("too much is said beside the answer"));
        }
        Ok(())
    }

    /// JSON. Empty if there is no field.
    pub(super) fn json(&self) -> String {
        if self.fields.is_empty() {
            return String::new();
        }
        serde_json::to_string(&self.fields).unwrap_or_default()
    }
}
