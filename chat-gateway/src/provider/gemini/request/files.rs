//! Files in a conversation: images, documents and recordings.
//!
//! Their bytes stand in the request, or Google hosts them already. Gemini names a file by
//! its URL and fetches none from elsewhere.

use serde::Serialize;

use crate::{
    message::{Audio, Document, FileSource, Image},
    provider::{Unsupported, json_text::Base64},
};

/// Where files lie that Gemini reads by themselves.
const HOSTS: [&str; 2] = ["https://generativelanguage.googleapis.com/", "gs://"];

/// A file as a part has it.
pub(super) enum File<'a> {
    Inline(InlineData<'a>),
    Hosted(FileData<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InlineData<'a> {
    mime_type: &'a str,
    data: Base64<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileData<'a> {
    mime_type: &'a str,
    file_uri: &'a str,
}

/// `field` is the path of the part.
pub(super) fn image(image: &Image, field: impl Fn() -> String) -> Result<File<'_>, Unsupported> {
    let field = || format!("{}.image", field());
    absent(!image.detail.is_empty(), "detail", field)?;
    file(&image.source, &image.media_type, field)
}

/// `field` is the path of the part.
pub(super) fn document(document: &Document, field: impl Fn() -> String) -> Result<File<'_>, Unsupported> {
    let field = || format!("{}.document", field());
    absent(!document.title.is_empty(), "title", field)?;
    absent(!document.context.is_empty(), "context", field)?;
    absent(document.citations, "citations", field)?;
    file(&document.source, &document.media_type, field)
}

pub(super) fn audio(audio: &Audio) -> File<'_> {
    inline(&audio.media_type, &audio.data)
}

fn inline<'a>(mime_type: &'a str, data: &'a [u8]) -> File<'a> {
    File::Inline(InlineData { mime_type, data: Base64(data) })
}

fn absent(is_set: bool, name: &str, field: impl Fn() -> String) -> Result<(), Unsupported> {
    if is_set {
        let problem = format!("Gemini has no {name}; leave it unset");
        return Err(Unsupported { field: format!("{}.{name}", field()), problem });
    }
    Ok(())
}

fn file<'a>(source: &'a FileSource, mime_type: &'a str, field: impl Fn() -> String) -> Result<File<'a>, Unsupported> {
    let refused =
        |name: &str, problem: &str| Unsupported { field: format!("{}.{name}", field()), problem: problem.to_owned() };
    match source {
        FileSource::Data(bytes) => Ok(inline(mime_type, bytes)),
        FileSource::FileId(_) => Err(refused("file_id", "Gemini names its files by their URL; send that")),
        FileSource::Url(url) if !HOSTS.iter().any(|host| url.starts_with(host)) => {
            Err(refused("url", "Gemini does not fetch from other sites; send the file itself, or one of Google's"))
        }
        FileSource::Url(_) if mime_type.is_empty() => {
            Err(refused("media_type", "Gemini needs the media type of a file; set it"))
        }
        FileSource::Url(file_uri) => Ok(File::Hosted(FileData { mime_type, file_uri })),
    }
}
