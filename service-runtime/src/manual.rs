//! Manual pages of a binary: one for each of its commands, from what `--help` says.
//!
//! Odd: `clap_mangen` writes subcommands too, but without the name of the binary at the foot, and
//! with nothing beside what clap knows.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use anyhow::Context as _;
use clap::Command;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

/// Writes the pages of `command` and of all its subcommands into `directory`:
/// `key-vault.1`, `key-vault-keys.1`, `key-vault-keys-add.1` and so on. `exit_status` has the
/// codes that commands end with, and what each means.
///
/// # Errors
///
/// Fails if the directory cannot be written to.
pub fn write(command: Command, exit_status: &[(u8, &str)], directory: &Path) -> anyhow::Result<()> {
    // `help` is a command of clap's, which needs no page.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let source = format!("{} {}", command.get_name(), command.get_version().unwrap_or_default());
    let pages = Pages { source: source.trim_end(), exit_status, directory };
    fs::create_dir_all(directory)
        .and_then(|()| pages.write(&command, None))
        .with_context(|| format!("cannot write into {}", directory.display()))
}

/// What all pages of a binary have in common.
struct Pages<'a> {
    source: &'a str,
    exit_status: &'a [(u8, &'a str)],
    directory: &'a Path,
}

impl Pages<'_> {
    fn write(&self, command: &Command, parent: Option<&str>) -> io::Result<()> {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let mut file = File::create(self.directory.join(format!("{name}.1")))?;
        self.page(command, parent, &mut file)?;
        file.flush()?;
        command.get_subcommands().filter(|of| !of.is_hide_set()).try_for_each(|of| self.write(of, Some(name)))
    }

    fn page(&self, command: &Command, parent: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
        // Without a word for the middle of its head, groff has one that long names leave no room for.
        Man::new(command.clone()).source(self.source).manual("Manual").render(out)?;
        let mut roff = Roff::new();
        roff.control("SH", ["EXIT STATUS"]);
        for (code, meaning) in self.exit_status {
            roff.control("TP", []);
            roff.text([bold(code.to_string())]);
            roff.text([roman(*meaning)]);
        }
        if let Some(parent) = parent {
            roff.control("SH", ["SEE ALSO"]);
            roff.text([bold(parent), roman("(1)")]);
        }
        roff.to_writer(out)
    }
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn each_command_has_a_page_that_names_the_binary_and_the_codes() {
        let command =
            Command::new("vault").version("1.2.3").about("Keeps keys").subcommand(Command::new("keys").subcommand(
                Command::new("add").about("Adds one").arg(Arg::new("name").long("name").env("VAULT_NAME")),
            ));
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().join("new").join("man1");

        write(command, &[(0, "Done."), (3, "There is no such key.")], &directory).expect("the pages are written");

        let mut names: Vec<_> = fs::read_dir(&directory)
            .expect("the folder was made")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        assert_eq!(names, ["vault-keys-add.1", "vault-keys.1", "vault.1"]);
        let page = fs::read_to_string(directory.join("vault-keys-add.1")).expect("a page");
        for part in [
            "vault 1.2.3",
            "vault\\-keys\\-add \\- Adds one",
            "\\-\\-name",
            "VAULT_NAME",
            "There is no such key.",
            "vault\\-keys",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }
}
