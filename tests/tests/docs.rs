//! The documents say what the contract says, and name only what exists.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proto::actor::Actor;

#[test]
fn every_reason_is_documented_with_its_code() {
    let document = file("docs/errors.md");
    for (domain, source) in [
        (proto::CHAT_ERROR_DOMAIN, "proto/archestra/chat/v1/chat.proto"),
        (proto::KEYVAULT_ERROR_DOMAIN, "proto/archestra/keyvault/v1/key_vault.proto"),
    ] {
        let section = document.split("\n## ").find(|section| section.starts_with(&format!("Domain `{domain}`")));
        let section = section.unwrap_or_else(|| panic!("docs/errors.md has no section on {domain}"));
        assert_eq!(documented(section), declared(&file(source)), "{domain}");
    }
}

#[test]
fn every_link_of_the_documents_leads_to_a_file() {
    let mut documents = vec![];
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        documents.push(PathBuf::from(name));
    }
    for folder in ["docs", "docs/adr", "docs/api", "docs/clients"] {
        for entry in fs::read_dir(root().join(folder)).expect("the folder exists") {
            let name = entry.expect("it can be listed").file_name();
            documents.push(Path::new(folder).join(name));
        }
    }
    for document in documents.iter().filter(|path| path.extension().is_some_and(|kind| kind == "md")) {
        let text = file(document);
        let folder = document.parent().expect("a document is in a folder");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            let is_file = !target.contains("://") && !path.is_empty();
            assert!(!is_file || root().join(folder).join(path).exists(), "{}: {target}", document.display());
        }
    }
}

/// Who acts on a reason of a domain, by its wire name.
type Acts = fn(&str) -> Option<Actor>;

#[test]
fn the_document_says_who_acts_as_measurements_do() {
    let document = file("docs/errors.md");
    let domains: [(&str, Acts); 2] = [
        (proto::CHAT_ERROR_DOMAIN, |name| {
            proto::chat::ErrorReason::from_wire_name(name).map(proto::chat::ErrorReason::actor)
        }),
        (proto::KEYVAULT_ERROR_DOMAIN, |name| {
            proto::keyvault::ErrorReason::from_wire_name(name).map(proto::keyvault::ErrorReason::actor)
        }),
    ];
    for (domain, acts) in domains {
        let section = document.split("\n## ").find(|section| section.starts_with(&format!("Domain `{domain}`")));
        for cells in rows(section.expect("a section")) {
            let expected = acts(&cells[1]).unwrap_or_else(|| panic!("{domain} has no reason {}", cells[1]));
            assert_eq!(cells[3], expected.name(), "{domain}: {}", cells[1]);
        }
    }
}

/// Reason and code of each row, in the order of the table.
fn documented(section: &str) -> Vec<(String, String)> {
    rows(section).map(|cells| (cells[1].clone(), cells[2].clone())).collect()
}

/// The cells of each row, in the order of the table.
fn rows(section: &str) -> impl Iterator<Item = Vec<String>> {
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(2);
    rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect())
}

/// Reason and code of each value of the enum: the code is the first word of its comment.
fn declared(source: &str) -> Vec<(String, String)> {
    let mut values = Vec::new();
    let mut comment = String::new();
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("//") {
            comment.push_str(text);
        } else {
            if let Some(value) = line.strip_prefix("ERROR_REASON_") {
                let reason = value.split(' ').next().unwrap_or_default();
                let code = comment.trim().split('.').next().unwrap_or_default();
                values.push((reason.to_owned(), code.to_owned()));
            }
            comment.clear();
        }
    }
    values.retain(|(reason, _)| reason != "UNSPECIFIED");
    values
}

fn file(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
