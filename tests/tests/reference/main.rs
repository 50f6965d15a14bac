//! What is said of the command lines elsewhere is what they say themselves: the tables of
//! docs/configuration.md, and a manual page for each command.

mod options;
mod pages;

use std::{fs, path::PathBuf};

use clap::Command;

/// Both binaries, as they read their command lines.
fn binaries() -> [Command; 2] {
    [key_vault::Cli::command_with_variables(), chat_gateway::Cli::command_with_variables()].map(|mut command| {
        // Options that all commands of a group share are in each of them from then on.
        command.build();
        command
    })
}

/// A command below another: `["keys", "add"]`.
fn below<'a>(command: &'a Command, path: &[&str]) -> &'a Command {
    path.iter().fold(command, |command, name| command.find_subcommand(name).unwrap_or_else(|| panic!("no {name}")))
}

#[test]
fn the_document_says_what_the_command_lines_say() {
    let [vault, gateway] = binaries();
    let tables = [
        ("key-vault serve", options::of_service(&vault, "serve")),
        ("key-vault migrate", options::of_service(&vault, "migrate")),
        ("key-vault restored", options::of_service(&vault, "restored")),
        ("key-vault clients", options::of_clients(&vault)),
        ("chat-gateway serve", options::of_service(&gateway, "serve")),
        ("chat-gateway clients", options::of_clients(&gateway)),
    ];
    is_made_by("docs/configuration.md", |document| {
        tables.iter().fold(document.to_owned(), |document, (name, table)| with_block(&document, name, table))
    });
}

/// What the prose recommends exists.
#[test]
fn the_document_names_only_options_and_variables_that_there_are() {
    let document = fs::read_to_string(root().join("docs/configuration.md")).expect("the document");
    let known: Vec<_> = binaries().iter().flat_map(options::names).collect();
    let named =
        document.split('`').filter(|code| code.starts_with("--")).filter_map(|code| code.split([' ', '=']).next());
    let mut count = 0;
    for name in named {
        assert!(known.iter().any(|known| known == name), "no command has {name}");
        count += 1;
    }
    assert!(count > 20, "the document names options: {count}");
}

#[test]
fn an_option_that_is_not_documented_is_noticed() {
    let [vault, _] = binaries();
    let more = vault.mut_subcommand("serve", |serve| serve.arg(clap::Arg::new("new").long("new").help("Is new")));
    assert!(options::of_service(&more, "serve").contains("| `--new"));
}

/// Holds a file of the repository against what is made of what it says now. `make generate`
/// writes it instead.
fn is_made_by(path: &str, new: impl FnOnce(&str) -> String) {
    let path = root().join(path);
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let made = new(&committed);
    if std::env::var_os("GENERATE").is_some() {
        fs::write(&path, &made).expect("it can be written");
        return;
    }
    assert!(committed == made, "{} is old: run `make generate`", path.display());
}

/// The document with what stands between the marks of a table replaced.
fn with_block(document: &str, name: &str, table: &str) -> String {
    let begin = format!("<!-- generated: {name} -->\n");
    let (before, rest) = document.split_once(&begin).unwrap_or_else(|| panic!("no mark {begin}"));
    let (_, after) = rest.split_once("<!-- end -->").expect("an end of the table");
    format!("{before}{begin}\n{table}<!-- end -->{after}")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
