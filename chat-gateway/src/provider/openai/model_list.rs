//! OpenAI's list of models.
//!
//! <https://platform.openai.com/docs/api-reference/models/list>. All models in one answer, those
//! that do not chat among them; it says nothing of them but their names.

use serde::Deserialize;

use crate::provider::{ListedModel, ModelPage, json_text};

/// There are no pages.
pub(super) fn query(_after: Option<&str>) -> Vec<(&'static str, String)> {
    Vec::new()
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

pub(super) fn page(body: &[u8]) -> Option<ModelPage> {
    let page: Page = json_text::object(body)?;
    let models = page.data.into_iter().map(|model| ListedModel { id: model.id, ..ListedModel::default() });
    Some(ModelPage { models: models.collect(), next: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_whole() {
        let body = br#"{"object":"list","data":[{"id":"gpt-5","object":"model","created":1,"owned_by":"system"},
            {"id":"ft:gpt-4o:acme::x","object":"model"}],"has_more":true}"#;
        let page = page(body).unwrap();
        let ids: Vec<_> = page.models.iter().map(|model| model.id.as_str()).collect();
        assert_eq!((ids.as_slice(), page.next), (["gpt-5", "ft:gpt-4o:acme::x"].as_slice(), None));
    }
}
