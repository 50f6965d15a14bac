//! Tests only: `docs/providers.md` says what the code does.
//!
//! Its tables are made by the code: a request with and without a field, or a piece of an
//! answer through a decoder, shows where everything goes. `make generate` writes them anew.

mod answers;
mod finish;
mod requests;

use std::fmt::Write as _;

use super::NewDecoder;
use crate::{
    committed,
    message::{Chat, Message, OpenAiApi, Provider, UserPart},
};

#[test]
fn the_document_says_what_the_code_does() {
    committed::is_made_by("../docs/providers.md", |document| {
        let tables = [("requests", requests::table()), ("answers", answers::table()), ("finish", finish::table())];
        tables.iter().fold(document.to_owned(), |document, (name, table)| with_block(&document, name, table))
    });
}

/// The document with what stands between the marks of a table replaced.
fn with_block(document: &str, name: &str, table: &str) -> String {
    let begin = format!("<!-- generated: {name} -->\n");
    let (before, rest) = document.split_once(&begin).unwrap_or_else(|| panic!("no mark {begin}"));
    let (_, after) = rest.split_once("<!-- end -->").expect("an end of the table");
    format!("{before}{begin}\n{table}\n<!-- end -->{after}")
}

/// An API of a provider, as the tables have it in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Messages,
    ChatCompletions,
    Responses,
    Gemini,
}

impl Endpoint {
    const ALL: [Self; 4] = [Self::Messages, Self::ChatCompletions, Self::Responses, Self::Gemini];

    fn title(self) -> &'static str {
        match self {
            Self::Messages => "Anthropic Messages",
            Self::ChatCompletions => "OpenAI Chat Completions",
            Self::Responses => "OpenAI Responses",
            Self::Gemini => "Gemini",
        }
    }

    fn provider(self) -> Provider {
        match self {
            Self::Messages => Provider::Anthropic,
            Self::ChatCompletions | Self::Responses => Provider::OpenAi,
            Self::Gemini => Provider::Gemini,
        }
    }

    /// One model of the older kind and one of the newer.
    fn models(self) -> [&'static str; 2] {
        match self {
            Self::Messages => ["claude-sonnet-4-5", "claude-opus-4-8"],
            Self::ChatCompletions | Self::Responses => ["gpt-4o", "gpt-5.1"],
            Self::Gemini => ["gemini-2.5-flash", "gemini-3-pro-preview"],
        }
    }

    fn api(self) -> Option<OpenAiApi> {
        match self {
            Self::ChatCompletions => Some(OpenAiApi::ChatCompletions),
            Self::Responses => Some(OpenAiApi::Responses),
            Self::Messages | Self::Gemini => None,
        }
    }

    fn decoder(self) -> NewDecoder {
        let messages = vec![Message::User(vec![UserPart::Text("Hi".to_owned()).into()])];
        let chat = Chat { messages, openai_api: self.api(), ..Chat::default() };
        super::outbound(self.provider(), self.models()[0], &chat).expect("a plain chat").decoder
    }
}

/// A table in Markdown.
fn markdown(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = format!("| {} |\n|{}\n", head.join(" | "), " --- |".repeat(head.len()));
    for row in rows {
        // Writing to a string does not fail.
        let _ = writeln!(table, "| {} |", row.join(" | "));
    }
    table
}

/// Text as code in a cell.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}
