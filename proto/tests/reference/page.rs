//! The pages: an overview, and one for each package.

use std::fmt::Write as _;

use prost_reflect::{
    Cardinality, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    ServiceDescriptor,
};

use crate::{
    contract::Contract,
    text::{Links, Notes, cell, paragraphs},
};

const GENERATED: &str = "<!-- Generated from the comments of the .proto files by `make generate`. -->";

/// The names of the pages, and their texts.
pub(crate) fn all(contract: &Contract) -> Vec<(String, String)> {
    let pages =
        contract.packages().into_iter().map(|package| (format!("{package}.md"), Page::new(contract, package).text()));
    [("README.md".to_owned(), overview(contract))].into_iter().chain(pages).collect()
}

/// All methods, with who may call them.
fn overview(contract: &Contract) -> String {
    let mut text = format!(
        "# The contract\n\n{GENERATED}\n\nAll methods of both services, from the comments of [proto/archestra](../../proto/archestra). \
         What a failure looks like, and what to do about each reason, is in [errors.md](../errors.md); how roles are given, in \
         [security.md](../security.md#what-callers-may-do); how clients are written, in [clients](../clients/python.md).\n"
    );
    for package in contract.packages() {
        let links = Links { pool: contract.files[0].parent_pool(), package };
        let _ = writeln!(
            text,
            "\n## [`{package}`]({package}.md)\n\n{}",
            paragraphs(contract.package_comment(package), &links)
        );
        for service in contract.services().filter(|service| service.package_name() == package) {
            let _ = writeln!(
                text,
                "\n| [{}]({package}.md#{}) | for | |\n| --- | --- | --- |",
                service.name(),
                service.full_name()
            );
            for method in service.methods() {
                let notes = Notes::of(contract.comment(&method.parent_file(), method.path()));
                let first = cell(&notes.text, &Links { pool: contract.files[0].parent_pool(), package: "" });
                let first = first.split_once(". ").map_or(first.as_str(), |(first, _)| first).trim_end_matches('.');
                let _ = writeln!(
                    text,
                    "| [{}]({package}.md#{}) | {} | {first}. |",
                    method.name(),
                    method.full_name(),
                    notes.caller()
                );
            }
        }
    }
    text
}

/// A page that grows.
struct Page<'a> {
    contract: &'a Contract,
    links: Links<'a>,
    text: String,
}

impl<'a> Page<'a> {
    fn new(contract: &'a Contract, package: &'a str) -> Self {
        Self { contract, links: Links { pool: contract.files[0].parent_pool(), package }, text: String::new() }
    }

    fn text(mut self) -> String {
        let contract = self.contract;
        let package = self.links.package;
        let files: Vec<_> = contract.files.iter().filter(|file| file.package_name() == package).collect();
        let sources: Vec<_> = files.iter().map(|file| format!("[{0}](../../proto/{0})", file.name())).collect();
        self.paragraph(&format!("# `{package}`\n\n{GENERATED}"));
        self.paragraph(&paragraphs(contract.package_comment(package), &self.links));
        self.paragraph(&format!("From {}. [All methods](README.md).", sources.join(", ")));
        for service in files.iter().flat_map(|file| file.services()) {
            self.service(&service);
        }
        let messages: Vec<_> = files.iter().flat_map(|file| file.messages()).flat_map(with_nested).collect();
        let mut enums: Vec<_> = files.iter().flat_map(|file| file.enums()).collect();
        enums.extend(messages.iter().flat_map(|message| message.child_enums().collect::<Vec<_>>()));
        if !messages.is_empty() {
            self.paragraph("## Messages");
        }
        for message in &messages {
            self.message(message);
        }
        self.paragraph("## Enums");
        for of in &enums {
            self.enumeration(of);
        }
        self.text.trim_end().to_owned() + "\n"
    }

    fn service(&mut self, service: &ServiceDescriptor) {
        self.heading("##", service.name(), service.full_name());
        self.comment(&service.parent_file(), service.path());
        for method in service.methods() {
            self.method(&method);
        }
    }

    fn method(&mut self, method: &MethodDescriptor) {
        self.heading("###", &format!("{}.{}", method.parent_service().name(), method.name()), method.full_name());
        let side = |streams: bool, message: &MessageDescriptor| {
            let stream = if streams { "stream of " } else { "" };
            format!("{stream}[{}]({})", message.name(), self.links.to(message.full_name()))
        };
        let ask = side(method.is_client_streaming(), &method.input());
        let answer = side(method.is_server_streaming(), &method.output());
        self.paragraph(&format!("{ask} → {answer}"));
        let notes = Notes::of(self.contract.comment(&method.parent_file(), method.path()));
        self.paragraph(&paragraphs(&notes.text, &self.links));
        let reasons = self.reasons();
        for kind in ["Caller", "Idempotent", "Errors"] {
            let note = cell(notes.get(kind).unwrap_or_default(), &self.links);
            let note = if kind == "Errors" { with_links(&note, &reasons) } else { note };
            let _ = writeln!(self.text, "- {note}");
        }
        self.text.push('\n');
    }

    fn message(&mut self, message: &MessageDescriptor) {
        let name = message.full_name().trim_start_matches(self.links.package).trim_start_matches('.');
        self.heading("###", name, message.full_name());
        self.comment(&message.parent_file(), message.path());
        let oneofs: Vec<_> = message.oneofs().filter(|of| !of.is_synthetic()).collect();
        for of in &oneofs {
            let comment = cell(self.contract.comment(&message.parent_file(), of.path()), &self.links);
            self.paragraph(&format!("One of `{}`: {comment}", of.name()));
        }
        if message.fields().len() == 0 {
            return self.paragraph("No fields.");
        }
        self.text.push_str("| field | type | |\n| --- | --- | --- |\n");
        // As they are written, which is how they are meant to be read.
        let mut fields: Vec<_> = message.fields().collect();
        fields.sort_by_key(|field| field.path().to_vec());
        for field in fields {
            let of = field.containing_oneof().filter(|of| !of.is_synthetic());
            let of = of.map(|of| format!("In `{}`. ", of.name())).unwrap_or_default();
            let comment = cell(self.contract.comment(&message.parent_file(), field.path()), &self.links);
            let _ = writeln!(
                self.text,
                "| `{}` = {} | {} | {of}{comment} |",
                field.name(),
                field.number(),
                self.kind(&field)
            );
        }
        self.text.push('\n');
    }

    fn enumeration(&mut self, of: &EnumDescriptor) {
        let name = of.full_name().trim_start_matches(self.links.package).trim_start_matches('.');
        self.heading("###", name, of.full_name());
        self.comment(&of.parent_file(), of.path());
        self.text.push_str("| value | |\n| --- | --- |\n");
        for value in of.values() {
            let comment = cell(self.contract.comment(&of.parent_file(), value.path()), &self.links);
            let _ = writeln!(self.text, "| `{}` = {} | {comment} |", value.name(), value.number());
        }
        self.text.push('\n');
    }

    fn kind(&self, field: &FieldDescriptor) -> String {
        let of = |kind: Kind| match kind {
            Kind::Message(message) => format!("[{}]({})", message.name(), self.links.to(message.full_name())),
            Kind::Enum(of) => format!("[{}]({})", of.name(), self.links.to(of.full_name())),
            scalar => format!("{scalar:?}").to_lowercase(),
        };
        match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
                format!("map of {} to {}", of(key.kind()), of(value.kind()))
            }
            kind if field.cardinality() == Cardinality::Repeated => format!("list of {}", of(kind)),
            kind if field.field_descriptor_proto().proto3_optional() => format!("optional {}", of(kind)),
            kind => of(kind),
        }
    }

    /// The reasons that methods of this package fail with, and the section that explains them.
    fn reasons(&self) -> Vec<(String, String)> {
        let Some(reasons) = self.links.pool.get_enum_by_name(&format!("{}.ErrorReason", self.links.package)) else {
            return Vec::new();
        };
        let section = self.links.package.split('.').nth(1).unwrap_or_default();
        let names = reasons.values().map(|value| value.name().trim_start_matches("ERROR_REASON_").to_owned());
        names.map(|name| (name, format!("../errors.md#domain-{section}archestra"))).collect()
    }

    fn heading(&mut self, level: &str, name: &str, id: &str) {
        self.paragraph(&format!("<a id=\"{id}\"></a>\n\n{level} {name}"));
    }

    fn comment(&mut self, file: &FileDescriptor, path: &[i32]) {
        let comment = paragraphs(self.contract.comment(file, path), &self.links);
        self.paragraph(&comment);
    }

    fn paragraph(&mut self, text: &str) {
        if !text.is_empty() {
            self.text.extend([text, "\n\n"]);
        }
    }
}

/// A message and those that are declared in it, without the entries of its maps.
fn with_nested(message: MessageDescriptor) -> Vec<MessageDescriptor> {
    let nested = message.child_messages().filter(|child| !child.is_map_entry()).flat_map(with_nested).collect();
    [vec![message], nested].concat()
}

/// A text in which whole words lead somewhere.
fn with_links(text: &str, links: &[(String, String)]) -> String {
    let is_word = |c: char| c.is_ascii_uppercase() || c == '_';
    let mut linked = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find(is_word) {
        let (before, from) = rest.split_at(begin);
        let (word, after) = from.split_at(from.find(|c| !is_word(c)).unwrap_or(from.len()));
        linked.push_str(before);
        match links.iter().find(|(name, _)| name == word) {
            Some((name, address)) => linked.push_str(&format!("[{name}]({address})")),
            None => linked.push_str(word),
        }
        rest = after;
    }
    linked + rest
}
