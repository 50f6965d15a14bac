//! Completion in the shell, with the names of models.
//!
//! The script of `completions` runs this binary again at each press of the tabulator, with the
//! shell's name in `COMPLETE` and the words of the command line as arguments. Models come from
//! the gateway that these words, or the environment, name. A gateway that does not answer at once
//! has none: a shell that hangs is worse than one that offers nothing.
//!
//! Odd: Bash takes words apart at `=` and `:`, and so takes `http://127.0.0.1:50052` for five.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{ArgMatches, FromArgMatches as _};
use clap_complete::{
    ArgValueCompleter, CompleteEnv, CompletionCandidate, Shell,
    engine::{self, ValueCompleter},
    env::{EnvCompleter, Shells},
};
use proto::chat::{ListModelsRequest, ListModelsResponse};
use tokio::{runtime, time::timeout};

use super::{models::list, output};
use crate::config::{Cli, ClientOptions};

/// The name of the binary in a shell.
const NAME: &str = "chat-gateway";

/// The variable that asks for completions.
const VARIABLE: &str = "COMPLETE";

/// How long a shell waits for the names of models.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Answers a shell that asks for completions. `None` if none does.
///
/// To be called before the process has a second thread.
pub fn complete() -> Option<ExitCode> {
    let builtins = Shells::builtins();
    let asking: Vec<_> = builtins.iter().map(Asking).collect();
    let shells: Vec<_> = asking.iter().map(|shell| shell as &dyn EnvCompleter).collect();
    let completion = CompleteEnv::with_factory(Cli::command_with_variables).var(VARIABLE).shells(Shells(&shells));
    match completion.try_complete(env::args_os(), env::current_dir().ok().as_deref()) {
        Ok(false) => None,
        Ok(true) => Some(ExitCode::SUCCESS),
        Err(error) => {
            output::complain(&error.to_string());
            Some(ExitCode::FAILURE)
        }
    }
}

/// Prints the script that makes a shell ask.
pub(super) fn script(shell: Shell) -> anyhow::Result<()> {
    let shells = Shells::builtins();
    let shell = shells.completer(&shell.to_string()).context("this shell cannot be completed for")?;
    // The binary that prints the script is the one that completes.
    let mut binary = PathBuf::from(env::args_os().next().unwrap_or_else(|| NAME.into()));
    if binary.components().count() > 1 {
        binary = env::current_dir().context("the current folder is not known")?.join(binary);
    }
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, NAME, NAME, &binary.to_string_lossy(), &mut script)?;
    Ok(io::stdout().write_all(&script)?)
}

/// A shell whose completions have the names of models.
struct Asking<'a>(&'a dyn EnvCompleter);

impl EnvCompleter for Asking<'_> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn is(&self, name: &str) -> bool {
        self.0.is(name)
    }

    fn write_registration(
        &self,
        variable: &str,
        name: &str,
        binary: &str,
        completer: &str,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        self.0.write_registration(variable, name, binary, completer, out)
    }

    fn write_complete(
        &self,
        command: &mut clap::Command,
        words: Vec<OsString>,
        folder: Option<&Path>,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        if self.name() == "bash" {
            return complete_for_bash(command, &words, folder, out);
        }
        let mut command = with_models(command, &words);
        self.0.write_complete(&mut command, words, folder, out)
    }
}

/// As `clap_complete` does it, but for words that Bash took apart.
fn complete_for_bash(
    command: &clap::Command,
    pieces: &[OsString],
    folder: Option<&Path>,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "the script of clap_complete says it there, and nobody else does")]
    let said = |name: &str| env::var(name).ok();
    let index = said("_CLAP_COMPLETE_INDEX").and_then(|index| index.parse().ok()).unwrap_or_default();
    let separator = said("_CLAP_IFS").unwrap_or_else(|| "\n".to_owned());
    let Joined { words, index, before } = join(pieces, index);
    let mut command = with_models(command, &words);
    let candidates = engine::complete(&mut command, words, index, folder)?;
    let values = candidates.iter().map(|candidate| candidate.get_value().to_string_lossy());
    // Bash puts what it is given in the place of the last piece.
    let values: Vec<_> = values.map(|value| value.strip_prefix(&before).unwrap_or(&value).to_owned()).collect();
    write!(out, "{}", values.join(&separator))
}

/// Words as they were written.
#[derive(Debug, PartialEq, Eq)]
struct Joined {
    words: Vec<OsString>,
    /// Which of them is completed.
    index: usize,
    /// What stands in it before the piece that is completed.
    before: String,
}

/// Puts pieces together that stand on both sides of a piece of `=` and `:` only. `index` is that
/// of the piece that is completed.
fn join(pieces: &[OsString], index: usize) -> Joined {
    let mut joined = Joined { words: Vec::new(), index: pieces.len(), before: String::new() };
    let mut goes_on = false;
    for (n, piece) in pieces.iter().enumerate() {
        let parts = !piece.is_empty() && piece.as_encoded_bytes().iter().all(|byte| b"=:".contains(byte));
        let mut word = joined.words.pop_if(|_| goes_on || parts).unwrap_or_default();
        if n == index {
            joined.index = joined.words.len();
            joined.before = word.to_string_lossy().into_owned();
        }
        word.push(piece);
        joined.words.push(word);
        goes_on = parts;
    }
    joined
}

/// The command, completed with models where one is named.
fn with_models(command: &clap::Command, words: &[OsString]) -> clap::Command {
    let names = |all| ArgValueCompleter::new(ModelNames { words: words.to_vec(), all });
    command
        .clone()
        .mut_subcommand("chat", |chat| chat.mut_arg("model", |model| model.add(names(false))))
        .mut_subcommand("detect", |detect| detect.mut_arg("model", |model| model.add(names(true))))
}

/// The names of models that the gateway lists for a command line.
struct ModelNames {
    words: Vec<OsString>,
    /// Those that do not chat, too.
    all: bool,
}

impl ValueCompleter for ModelNames {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let current = current.to_string_lossy();
        let listed = ask(&self.words).unwrap_or_default();
        let mut candidates = Vec::new();
        for of in &listed.providers {
            for model in of.models.iter().filter(|model| self.all || model.chat_supported) {
                let prefixed = format!("{}/{}", output::provider(of.provider()), model.name);
                // Nobody writes the provider in front who has not begun to.
                let name = Some(&model.name).filter(|name| name.starts_with(&*current));
                let Some(name) = name.or_else(|| Some(&prefixed).filter(|_| current.contains('/'))) else { continue };
                let help = (!model.display_name.is_empty()).then(|| model.display_name.clone().into());
                candidates.push(CompletionCandidate::new(name).help(help));
            }
        }
        candidates.retain(|candidate| {
            let name = candidate.get_value().as_encoded_bytes();
            name.starts_with(current.as_bytes()) && name.iter().all(|byte| is_plain(*byte))
        });
        candidates
    }
}

/// Whether a character means itself in every shell. Shells take over what they are offered without
/// quoting it, and names come from outside.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:/@+".contains(&byte)
}

/// Asks the gateway that a command line names. `None` if it does not answer, or not in time.
fn ask(words: &[OsString]) -> Option<ListModelsResponse> {
    let (client, request) = place(words)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let listed = runtime.block_on(async { timeout(ANSWER_MAX, list(&client, request)).await });
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    listed.ok()?.ok()
}

/// Which gateway a command line names, and for whom: as much as can be read of what is still
/// being written.
fn place(words: &[OsString]) -> Option<(ClientOptions, ListModelsRequest)> {
    let read = |words: &[OsString]| {
        let matches = Cli::command_with_variables().ignore_errors(true).try_get_matches_from(words).ok()?;
        matches.subcommand().map(|(_, matches)| matches.clone())
    };
    let given = read(words)?;
    let client = ClientOptions::from_arg_matches(&given).ok()?;
    let id = |matches: &ArgMatches, name: &str| matches.try_get_one::<String>(name).ok().flatten().cloned();
    // `detect` is for nobody: what it is offered is what `models` would list.
    let organization =
        id(&given, "organization").or_else(|| id(&read(&[NAME.into(), "models".into()])?, "organization"));
    let request =
        ListModelsRequest { organization_id: organization?, profile_id: id(&given, "profile"), ..Default::default() };
    Some((client, request))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Vec<OsString> {
        texts.iter().map(OsString::from).collect()
    }

    #[test]
    fn words_that_bash_took_apart_are_whole_again() {
        for (pieces, index, expected, at, before) in [
            (&["x", "chat", "--model", "cl"][..], 3, &["x", "chat", "--model", "cl"][..], 3, ""),
            (&["x", "--model", "=", "cl"], 3, &["x", "--model=cl"], 1, "--model="),
            (
                &["x", "--server", "http", ":", "//h", ":", "1", "-m", ""],
                8,
                &["x", "--server", "http://h:1", "-m", ""],
                4,
                "",
            ),
            (&["x", "ft", ":", "gpt-4o", ":", "a", "::", "b"], 7, &["x", "ft:gpt-4o:a::b"], 1, "ft:gpt-4o:a::"),
            (&["x", "-m", ""], 2, &["x", "-m", ""], 2, ""),
        ] {
            let joined = join(&words(pieces), index);
            assert_eq!(joined, Joined { words: words(expected), index: at, before: before.to_owned() }, "{pieces:?}");
        }
    }

    #[test]
    fn the_gateway_is_that_of_the_command_line_as_far_as_it_is_written() {
        let read = |texts: &[&str]| {
            let (client, request) = place(&words(texts)).expect("a gateway");
            (client.server, request.organization_id, request.profile_id)
        };
        let here = || "http://127.0.0.1:50052".to_owned();
        let default = || "default".to_owned();
        assert_eq!(read(&["x", "chat", "--model", ""]), (here(), default(), None));
        assert_eq!(read(&["x", "detect", "gp"]), (here(), default(), None));
        assert_eq!(
            read(&["x", "chat", "--server", "http://h:1", "-o", "acme", "--profile=p", "hello", "-mcl"]),
            ("http://h:1".to_owned(), "acme".to_owned(), Some("p".to_owned()))
        );
        assert!(place(&words(&["x", "nothing"])).is_none());
    }
}
