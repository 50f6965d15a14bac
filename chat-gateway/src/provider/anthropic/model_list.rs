//! Anthropic's list of models.
//!
//! <https://platform.claude.com/docs/en/api/models-list>. Newest first; without `limit` a page
//! has 20.

use serde::Deserialize;

use crate::provider::{
    ListedModel, ModelPage, json_text,
    model_page::{if_said, tokens},
};

pub(super) fn query(after: Option<&str>) -> Vec<(&'static str, String)> {
    let limit = ("limit", "1000".to_owned());
    [limit].into_iter().chain(after.map(|id| ("after_id", id.to_owned()))).collect()
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Model>,
    #[serde(default, deserialize_with = "if_said")]
    has_more: Option<bool>,
    #[serde(default, deserialize_with = "if_said")]
    last_id: Option<String>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    #[serde(default, deserialize_with = "if_said")]
    display_name: Option<String>,
    #[serde(default, deserialize_with = "if_said")]
    max_input_tokens: Option<i64>,
    #[serde(default, deserialize_with = "if_said")]
    max_tokens: Option<i64>,
}

pub(super) fn page(body: &[u8]) -> Option<ModelPage> {
    let page: Page = json_text::object(body)?;
    let last = page.last_id.or_else(|| page.data.last().map(|model| model.id.clone()));
    let next = last.filter(|_| page.has_more == Some(true));
    let models = page.data.into_iter().map(|model| ListedModel {
        id: model.id,
        display_name: model.display_name.unwrap_or_default(),
        chats: None,
        input_tokens_max: tokens(model.max_input_tokens),
        output_tokens_max: tokens(model.max_tokens),
    });
    Some(ModelPage { models: models.collect(), next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_with_what_it_says_and_where_it_goes_on() {
        let body = br#"{"data":[
            {"type":"model","id":"claude-sonnet-4-5","display_name":"Claude Sonnet 4.5","created_at":"2025-09-29T00:00:00Z",
             "max_input_tokens":200000,"max_tokens":64000,"capabilities":{"vision":{"supported":true}}},
            {"type":"model","id":"claude-odd","display_name":7,"max_input_tokens":"many","max_tokens":0},
            {"type":"model","id":"claude-bare","max_input_tokens":null}],
            "has_more":true,"first_id":"claude-sonnet-4-5","last_id":"claude-bare"}"#;
        let page = page(body).unwrap();
        let bare = |id: &str| ListedModel { id: id.to_owned(), ..ListedModel::default() };
        let first = ListedModel {
            display_name: "Claude Sonnet 4.5".to_owned(),
            input_tokens_max: Some(200_000),
            output_tokens_max: Some(64_000),
            ..bare("claude-sonnet-4-5")
        };
        assert_eq!(page.models, [first, bare("claude-odd"), bare("claude-bare")]);
        assert_eq!(page.next.as_deref(), Some("claude-bare"));
        assert_eq!(query(page.next.as_deref()), [("limit", "1000".into()), ("after_id", "claude-bare".into())]);
    }

    #[test]
    fn only_a_page_that_has_more_goes_on() {
        for (body, next) in [
            (r#"{"data":[{"id":"a"}],"has_more":false,"last_id":"a"}"#, None),
            (r#"{"data":[{"id":"a"}],"last_id":"a"}"#, None),
            (r#"{"data":[{"id":"a"},{"id":"b"}],"has_more":true}"#, Some("b")),
            (r#"{"data":[],"has_more":true,"last_id":null}"#, None),
        ] {
            assert_eq!(page(body.as_bytes()).unwrap().next.as_deref(), next, "{body}");
        }
        for body in ["[]", "{}", r#"{"data":{}}"#, r#"{"data":[{"name":"a"}]}"#, r#"{"data":[{"id":1}]}"#] {
            assert_eq!(page(body.as_bytes()), None, "{body}");
        }
    }
}
