//! Where a text comes from.
//!
//! <https://platform.claude.com/docs/en/build-with-claude/citations>. Every end is exclusive,
//! as in the contract. What a kind says beside is in the JSON.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    message::{Citation, CitationKind},
    provider::{Broken, json_text},
};

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    cited_text: Option<String>,
    title: Option<String>,
    document_title: Option<String>,
    url: Option<String>,
    source: Option<String>,
    document_index: Option<u64>,
    search_result_index: Option<u64>,
    start_char_index: Option<u64>,
    end_char_index: Option<u64>,
    start_page_number: Option<u64>,
    end_page_number: Option<u64>,
    start_block_index: Option<u64>,
    end_block_index: Option<u64>,
}

/// Reads a citation. A kind that is not known may have any form.
pub(super) fn citation(raw: &RawValue) -> Result<Citation, Broken> {
    let json = raw.get().to_owned();
    let Some(wire) = json_text::object::<Wire<'_>>(raw.get().as_bytes()) else {
        return match json_text::object::<super::Tag<'_>>(raw.get().as_bytes()) {
            Some(tag) if kind(&tag.kind).is_none() => Ok(Citation { json, ..Citation::default() }),
            Some(_) | None => Err(Broken::Malformed("a citation has an unknown form")),
        };
    };
    let kind = kind(&wire.kind).unwrap_or_default();
    let (start, end) = match kind {
        CitationKind::Characters => (wire.start_char_index, wire.end_char_index),
        CitationKind::Pages => (wire.start_page_number, wire.end_page_number),
        CitationKind::Blocks | CitationKind::SearchResult => (wire.start_block_index, wire.end_block_index),
        CitationKind::Other | CitationKind::Web | CitationKind::File | CitationKind::Recitation => (None, None),
    };
    Ok(Citation {
        kind,
        cited_text: wire.cited_text.unwrap_or_default(),
        title: wire.title.or(wire.document_title).unwrap_or_default(),
        url: wire.url.or(wire.source.filter(|source| source.contains("://"))).unwrap_or_default(),
        document_index: wire.document_index.or(wire.search_result_index),
        start,
        end,
        json,
    })
}

fn kind(word: &str) -> Option<CitationKind> {
    match word {
        "char_location" => Some(CitationKind::Characters),
        "page_location" => Some(CitationKind::Pages),
        "content_block_location" => Some(CitationKind::Blocks),
        "web_search_result_location" => Some(CitationKind::Web),
        "search_result_location" => Some(CitationKind::SearchResult),
        _ => None,
    }
}
