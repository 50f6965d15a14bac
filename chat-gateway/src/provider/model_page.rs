//! One page of a provider's list of models, in one form for all.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::value::RawValue;

/// A page of a list of models.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ModelPage {
    pub(crate) models: Vec<ListedModel>,
    /// Where the next page begins, as the provider says it. `None` after the last.
    pub(crate) next: Option<String>,
}

/// A model as its provider lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListedModel {
    /// The name that it is asked for with.
    pub(crate) id: String,
    /// The name for people. Empty if there is none.
    pub(crate) display_name: String,
    /// Whether it chats, if the provider says so.
    pub(crate) chats: Option<bool>,
    /// The most tokens that it reads, if the provider says so.
    pub(crate) input_tokens_max: Option<i64>,
    /// The most tokens that it produces, if the provider says so.
    pub(crate) output_tokens_max: Option<i64>,
}

/// Reads a field that says more about a model: in another form than the one that we know it
/// says nothing, and takes no list away.
pub(super) fn if_said<'de, T: DeserializeOwned, D: Deserializer<'de>>(field: D) -> Result<Option<T>, D::Error> {
    let raw = <&RawValue>::deserialize(field)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

/// A number of tokens. Some servers that imitate an API say 0 for what they do not know.
pub(super) fn tokens(said: Option<i64>) -> Option<i64> {
    said.filter(|tokens| *tokens > 0)
}
