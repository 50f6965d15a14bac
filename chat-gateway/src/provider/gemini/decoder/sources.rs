//! Where the text of an answer comes from, and what else is said beside it.
//!
//! Grounding links pieces of the answer with sources: each pair is a citation. All of it
//! may come on several events, each with what the last one had: what was said once is not
//! said again. Forms that are not understood go on as they came, and break no answer.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher as _},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::wire::Candidate;
use crate::{
    message::{Citation, CitationKind, Event},
    provider::{Broken, Output, json_text},
};

/// How many things one answer says.
const SAID_MAX: usize = 65_536;

/// The citations of one event. A source may be named by many pieces of the answer, and
/// stands in the citation of each.
const CITATION_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What was said, by its hash.
#[derive(Debug, Default)]
pub(super) struct Sources {
    said: HashSet<u64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Grounding<'a> {
    #[serde(borrow)]
    grounding_chunks: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    grounding_supports: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Support {
    segment: Option<Segment>,
    grounding_chunk_indices: Option<Vec<usize>>,
}

/// A piece of the answer. The index of its first byte is left out if it is 0.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Segment {
    #[serde(default)]
    start_index: u64,
    end_index: Option<u64>,
    text: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Source {
    web: Option<Place>,
    maps: Option<Place>,
    image: Option<Place>,
    retrieved_context: Option<Place>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    #[serde(alias = "sourceUri")]
    uri: Option<String>,
    title: Option<String>,
}

/// The JSON of a citation: both ends of the link.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pair<'a> {
    grounding_support: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    grounding_chunk: Option<&'a RawValue>,
}

/// What the answer recites. The older name is that of AI Studio.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recitations<'a> {
    #[serde(borrow, alias = "citationSources")]
    citations: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recitation {
    start_index: Option<u64>,
    end_index: Option<u64>,
    uri: Option<String>,
    title: Option<String>,
}

impl Sources {
    /// Reads what an event says beside the answer.
    pub(super) fn add(&mut self, candidate: &Candidate<'_>, out: &mut Output) -> Result<(), Broken> {
        if let Some(recited) = candidate.citation_metadata {
            self.recitations(recited, out)?;
        }
        if let Some(grounding) = candidate.grounding_metadata {
            self.grounding(grounding, out)?;
        }
        if let Some(read) = candidate.url_context_metadata {
            self.pass_on("url_context_metadata", read, out)?;
        }
        // Each is of the text beside it: two that are equal are two.
        if let Some(logprobs) = candidate.logprobs_result {
            out.pass_on("logprobs_result", logprobs.get());
        }
        Ok(())
    }

    /// Passes on what has no common form, unless it was said before or is empty.
    pub(super) fn pass_on(&mut self, kind: &str, said: &RawValue, out: &mut Output) -> Result<bool, Broken> {
        let is_new = said.get() != "{}" && self.is_new((kind, said.get()))?;
        if is_new {
            out.pass_on(kind, said.get());
        }
        Ok(is_new)
    }

    fn is_new(&mut self, said: impl Hash) -> Result<bool, Broken> {
        let mut hasher = DefaultHasher::new();
        said.hash(&mut hasher);
        let is_new = self.said.insert(hasher.finish());
        if self.said.len() > SAID_MAX {
            return Err(Broken::Malformed("too many citations"));
        }
        Ok(is_new)
    }

    fn recitations(&mut self, metadata: &RawValue, out: &mut Output) -> Result<(), Broken> {
        let read = json_text::object(metadata.get().as_bytes()).and_then(|Recitations { citations }| citations);
        let Some(citations) = read else {
            return self.pass_on("citation_metadata", metadata, out).map(drop);
        };
        for json in citations {
            if !self.is_new(json.get())? {
                continue;
            }
            let recitation: Option<Recitation> = json_text::object(json.get().as_bytes());
            out.push(Event::Citation(recited(recitation, json.get())));
        }
        Ok(())
    }

    fn grounding(&mut self, metadata: &RawValue, out: &mut Output) -> Result<(), Broken> {
        if !self.pass_on("grounding_metadata", metadata, out)? {
            return Ok(());
        }
        let grounding: Grounding<'_> = json_text::object(metadata.get().as_bytes()).unwrap_or_default();
        let chunks = grounding.grounding_chunks.unwrap_or_default();
        let mut bytes = 0;
        for support in grounding.grounding_supports.into_iter().flatten() {
            let Some(read) = json_text::object::<Support>(support.get().as_bytes()) else { continue };
            for index in read.grounding_chunk_indices.unwrap_or_default() {
                let chunk = chunks.get(index).copied();
                bytes += support.get().len() + chunk.map_or(0, |chunk| chunk.get().len());
                if bytes > CITATION_BYTES_MAX {
                    return Err(Broken::Malformed("the citations are too large"));
                }
                if self.is_new((support.get(), index, chunk.map(RawValue::get)))? {
                    let pair = Pair { grounding_support: support, grounding_chunk: chunk };
                    out.push(Event::Citation(grounded(read.segment.clone(), &pair)));
                }
            }
        }
        Ok(())
    }
}

fn recited(recitation: Option<Recitation>, json: &str) -> Citation {
    let json = json.to_owned();
    let Some(Recitation { start_index, end_index, uri, title }) = recitation else {
        return Citation { kind: CitationKind::Recitation, json, ..Citation::default() };
    };
    Citation {
        kind: CitationKind::Recitation,
        title: title.unwrap_or_default(),
        url: uri.unwrap_or_default(),
        // An index of 0 is left out.
        start: start_index.or(end_index.map(|_| 0)),
        end: end_index,
        json,
        ..Citation::default()
    }
}

fn grounded(segment: Option<Segment>, pair: &Pair<'_>) -> Citation {
    let source: Source =
        pair.grounding_chunk.and_then(|chunk| json_text::object(chunk.get().as_bytes())).unwrap_or_default();
    let Source { web, maps, image, retrieved_context } = source;
    let (kind, place) = match (web.or(maps).or(image), retrieved_context) {
        (Some(place), _) => (CitationKind::Web, Some(place)),
        (None, Some(place)) => (CitationKind::File, Some(place)),
        (None, None) => (CitationKind::Other, None),
    };
    let (url, title) = place.map(|place| (place.uri, place.title)).unwrap_or_default();
    Citation {
        kind,
        title: title.unwrap_or_default(),
        url: url.unwrap_or_default(),
        start: segment.as_ref().map(|segment| segment.start_index),
        end: segment.as_ref().and_then(|segment| segment.end_index),
        cited_text: segment.and_then(|segment| segment.text).unwrap_or_default(),
        json: serde_json::to_string(pair).unwrap_or_default(),
        ..Citation::default()
    }
}
