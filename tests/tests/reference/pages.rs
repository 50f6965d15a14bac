//! Manual pages and completions, as packages take them.

use std::process::{Command as Program, Output};

use clap::Command;
use system_tests::{command, skip_without};

use crate::binaries;

#[test]
fn each_command_has_a_manual_page_that_groff_reads_without_a_warning() {
    let has_groff = Program::new("groff").arg("--version").output().is_ok_and(|output| output.status.success());
    for binary in binaries() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().join("man1");
        let written = run(binary.get_name(), &["manual", "--directory", &directory.to_string_lossy()]);
        assert!(written.status.success(), "{written:?}");

        let mut pages: Vec<_> = std::fs::read_dir(&directory)
            .expect("the pages")
            .map(|entry| entry.expect("a page").file_name().to_string_lossy().into_owned())
            .collect();
        let mut expected = names(&binary);
        pages.sort();
        expected.sort();
        assert_eq!(pages, expected, "a page for each command");
        if has_groff {
            for page in &pages {
                let output = Program::new("groff")
                    .args(["-man", "-Kutf8", "-Tutf8", "-ww", "-P-cbou"])
                    .arg(directory.join(page))
                    .output()
                    .expect("groff runs");
                let shown = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success() && output.stderr.is_empty(), "{page}: {output:?}");
                assert!(shown.contains("EXIT STATUS") && shown.contains(binary.get_name()), "{page}: {shown}");
                let is_of_a_server = page.ends_with("-serve.1");
                assert!(!is_of_a_server || shown.contains("_LISTEN"), "{page}: {shown}");
            }
        }
    }
    if !has_groff {
        skip_without("groff");
    }
}

#[test]
fn each_shell_has_a_completion() {
    for binary in binaries() {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let output = run(binary.get_name(), &["completions", shell]);
            let script = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && script.contains(binary.get_name()), "{shell}: {output:?}");
        }
    }
}

/// The names of the pages of a command and of all below it.
fn names(command: &Command) -> Vec<String> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let below = command.get_subcommands().filter(|of| of.get_name() != "help");
    [format!("{name}.1")].into_iter().chain(below.flat_map(names)).collect()
}

fn run(service: &str, arguments: &[&str]) -> Output {
    command(service).as_std_mut().args(arguments).output().expect("it runs")
}
