//! The pages: one for each alert, with commands that exist, for everything that an operator acts
//! on.

use std::{collections::BTreeSet, fs, path::Path, process::Output};

use system_tests::command;

use super::{file, rules::alerts};

/// The pages, without their index.
fn pages() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbooks");
    let names = fs::read_dir(folder).expect("the folder exists").map(|entry| entry.expect("a file").file_name());
    let names = names.filter_map(|name| name.to_string_lossy().strip_suffix(".md").map(ToOwned::to_owned));
    let names = names.filter(|name| name != "README");
    names.map(|name| (name.clone(), file(&format!("docs/runbooks/{name}.md")))).collect()
}

#[test]
fn every_alert_has_a_page_and_every_page_an_alert() {
    let alerts: BTreeSet<_> = alerts().into_iter().map(|alert| alert.name).collect();
    let pages: BTreeSet<_> = pages().into_iter().map(|(name, _)| name).collect();
    assert_eq!(alerts, pages);
    let index = file("docs/runbooks/README.md");
    for name in alerts {
        assert!(index.contains(&format!("[{name}]({name}.md)")), "{name} is not in the index");
    }
}

#[test]
fn every_page_begins_with_what_to_look_at() {
    for (name, text) in pages() {
        assert!(text.starts_with(&format!("# {name}\n\n**Look first at** ")), "{name}");
        let headings: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let expected =
            ["What it means", "Likely causes, in this order", "What to do", "What not to do", "It is over when"];
        assert_eq!(headings, expected, "{name}");
    }
}

#[test]
fn every_panel_that_a_page_names_exists() {
    let boards = ["chat", "vault"].map(|name| file(&format!("deploy/observability/dashboards/{name}.json"))).concat();
    let mut named = 0;
    for (name, text) in pages() {
        // Odd parts are between single stars. What is bold has two, and names no panel.
        let text = text.replace("**", "");
        for panel in text.split('*').skip(1).step_by(2) {
            let is_section = file("docs/security.md").contains(&format!("### {panel}\n"));
            let is_page = panel == "Targets";
            assert!(
                boards.contains(&format!("\"title\": \"{panel}\"")) || is_section || is_page,
                "{name}: no panel or section is called {panel:?}"
            );
            named += 1;
        }
    }
    assert!(named > 40, "panels are looked for: {named}");
}

#[test]
fn every_link_of_a_page_leads_to_a_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbooks");
    let index = ("README".to_owned(), file("docs/runbooks/README.md"));
    for (name, text) in pages().into_iter().chain([index]) {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            assert!(folder.join(target).exists(), "{name}: {target}");
        }
    }
}

#[test]
fn every_reason_on_which_an_operator_acts_is_in_a_page() {
    let pages: String = pages().into_iter().map(|(_, text)| text).collect();
    let document = file("docs/errors.md");
    let rows = document.lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let reasons: BTreeSet<_> = cells.filter(|cells| cells.get(3) == Some(&"operator")).map(|cells| cells[1]).collect();
    assert!(reasons.len() > 8, "the table is read: {reasons:?}");
    for reason in reasons {
        assert!(pages.contains(reason), "no page says what to do about {reason}");
    }
}

#[tokio::test]
async fn every_command_of_the_pages_exists() {
    let mut commands = BTreeSet::new();
    for (_, text) in pages() {
        for code in text.split('`').skip(1).step_by(2) {
            let words: Vec<_> = code.split_whitespace().collect();
            if matches!(words.first(), Some(&("key-vault" | "chat-gateway"))) && words.len() > 1 {
                commands.insert(words.join(" "));
            }
        }
    }
    assert!(commands.len() > 15, "commands are looked for: {commands:?}");
    for command in commands {
        assert!(exists(&command).await, "{command}");
    }
    for command in ["key-vault keyring state", "key-vault audit list --whence 1h", "chat-gateway repair"] {
        assert!(!exists(command).await, "{command} does not exist, and is not found missing");
    }
}

/// Whether a command has all the words before its first value as its name, and all its options.
async fn exists(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let mut program = command(words.next().unwrap_or_default());
    let words: Vec<_> = words.collect();
    let is_name = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
    let name: Vec<_> = words.iter().take_while(is_name).collect();
    let Output { status, stdout, .. } = program.args(&name).arg("--help").output().await.expect("it runs");
    let help = String::from_utf8_lossy(&stdout).into_owned();
    let mut options = words.iter().filter(|word| word.starts_with("--"));
    status.success()
        && options.all(|option| help.contains(&format!("{option} ")) || help.contains(&format!("{option}\n")))
}
