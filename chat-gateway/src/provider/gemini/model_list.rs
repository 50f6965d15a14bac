//! Gemini's list of models.
//!
//! <https://ai.google.dev/api/models#method:-models.list>. What is odd: the names have
//! `models/` in front, which is where they stand in a URL; without `pageSize` a page has 50;
//! what a model is for is said as the methods that it answers.

use serde::Deserialize;

use crate::provider::{
    ListedModel, ModelPage, json_text,
    model_page::{if_said, tokens},
};

pub(super) fn query(after: Option<&str>) -> Vec<(&'static str, String)> {
    let size = ("pageSize", "1000".to_owned());
    [size].into_iter().chain(after.map(|token| ("pageToken", token.to_owned()))).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    models: Vec<Model>,
    #[serde(default, deserialize_with = "if_said")]
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Model {
    name: String,
    #[serde(default, deserialize_with = "if_said")]
    display_name: Option<String>,
    #[serde(default, deserialize_with = "if_said")]
    input_token_limit: Option<i64>,
    #[serde(default, deserialize_with = "if_said")]
    output_token_limit: Option<i64>,
    #[serde(default, deserialize_with = "if_said")]
    supported_generation_methods: Option<Vec<String>>,
}

pub(super) fn page(body: &[u8]) -> Option<ModelPage> {
    let page: Page = json_text::object(body)?;
    let models = page.models.into_iter().map(|model| ListedModel {
        // A tuned model is a collection of its own; `tunedModels/` belongs to its name.
        id: model.name.strip_prefix("models/").unwrap_or(&model.name).to_owned(),
        display_name: model.display_name.unwrap_or_default(),
        chats: model.supported_generation_methods.map(|methods| methods.iter().any(|method| method == GENERATES)),
        input_tokens_max: tokens(model.input_token_limit),
        output_tokens_max: tokens(model.output_token_limit),
    });
    Some(ModelPage { models: models.collect(), next: page.next_page_token.filter(|token| !token.is_empty()) })
}

/// The method of a model that chats. It implies `streamGenerateContent`, which is not listed.
const GENERATES: &str = "generateContent";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_with_what_it_says_and_where_it_goes_on() {
        let body = br#"{"models":[
            {"name":"models/gemini-2.5-flash","version":"001","displayName":"Gemini 2.5 Flash","inputTokenLimit":1048576,
             "outputTokenLimit":65536,"supportedGenerationMethods":["generateContent","countTokens"],"thinking":true},
            {"name":"models/gemini-embedding-001","supportedGenerationMethods":["embedContent"]},
            {"name":"tunedModels/mine","inputTokenLimit":"1","supportedGenerationMethods":"all"}],"nextPageToken":"t/="}"#;
        let page = page(body).unwrap();
        let bare = |id: &str, chats| ListedModel { id: id.to_owned(), chats, ..ListedModel::default() };
        let first = ListedModel {
            display_name: "Gemini 2.5 Flash".to_owned(),
            input_tokens_max: Some(1_048_576),
            output_tokens_max: Some(65_536),
            ..bare("gemini-2.5-flash", Some(true))
        };
        assert_eq!(page.models, [first, bare("gemini-embedding-001", Some(false)), bare("tunedModels/mine", None)]);
        assert_eq!(query(page.next.as_deref()), [("pageSize", "1000".into()), ("pageToken", "t/=".into())]);
    }

    #[test]
    fn the_last_page_has_no_token() {
        for body in [r#"{"models":[]}"#, r#"{"models":[],"nextPageToken":""}"#, r#"{"models":[],"nextPageToken":null}"#]
        {
            assert_eq!(page(body.as_bytes()), Some(ModelPage::default()), "{body}");
        }
        for body in ["[]", "{}", r#"{"models":{}}"#, r#"{"models":[{"id":"a"}]}"#] {
            assert_eq!(page(body.as_bytes()), None, "{body}");
        }
    }
}
