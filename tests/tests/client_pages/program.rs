//! A program of the pages, in a folder of its own beside the contract, as its reader has it.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use system_tests::{
    client::Ran,
    secured::{Secured, Service, Who},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::language::{Language, node_modules, root};

/// Generating and compiling with cold tools takes seconds on a busy machine.
const BUILD_MAX: Duration = Duration::from_secs(90);
const RUN_MAX: Duration = Duration::from_secs(40);

/// The program of a page, and how it is called.
#[derive(Clone)]
pub(crate) struct Program {
    language: &'static Language,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    /// What the page's commands say in place of the address.
    server: String,
    /// Removed with the last of those who share it.
    _workspace: std::sync::Arc<TempDir>,
}

impl Program {
    /// Lays the program out for a gateway at `address`, with the token of `team-b`.
    pub(crate) fn new(language: &'static Language, system: &Secured, address: &str) -> Self {
        let workspace = tempfile::tempdir().expect("a folder");
        let source = root().join(language.program);
        let folder = source.parent().expect("a folder");
        let laid = workspace.path().join("examples").join(folder.file_name().expect("a name"));
        fs::create_dir_all(&laid).expect("a folder");
        for entry in fs::read_dir(folder).expect("the example") {
            let path = entry.expect("a file").path();
            // Not what somebody has built beside it.
            if path.is_file() {
                fs::copy(&path, laid.join(path.file_name().expect("a name"))).expect("copied");
            }
        }
        let proto = root().join("proto").canonicalize().expect("the contract");
        symlink(proto, workspace.path().join("proto")).expect("a link");
        if let Some(modules) = node_modules() {
            symlink(modules, laid.join("node_modules")).expect("a link");
        }
        let Who::Authorization(header) = system.token(Service::Gateway, "team-b") else { panic!("a token") };
        fs::write(laid.join("agent.token"), header.trim_start_matches("Bearer ")).expect("written");
        fs::write(laid.join("ca.pem"), system.authority.pem()).expect("written");
        // A name, as in life: certificates of addresses are rare.
        let server = format!("https://{}", address.replace("127.0.0.1", "localhost"));
        let environment = [
            ("CHAT_GATEWAY_SERVER", server.as_str()),
            ("CHAT_GATEWAY_CA", "ca.pem"),
            ("CHAT_GATEWAY_TOKEN_FILE", "agent.token"),
            ("CHAT_GATEWAY_ORGANIZATION", "acme"),
            ("CHAT_GATEWAY_PROFILE", "team-b"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { language, folder: laid, environment, server, _workspace: workspace.into() }
    }

    /// Where it is, with the files that it is told of.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same with further variables.
    pub(crate) fn with(&self, variables: &[(&str, &str)]) -> Self {
        let mut other = self.clone();
        for (name, value) in variables {
            other = other.without(name);
            other.environment.push(((*name).to_owned(), (*value).to_owned()));
        }
        other
    }

    /// The same without a variable.
    pub(crate) fn without(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.environment.retain(|(known, _)| known != name);
        other
    }

    /// Runs the commands of the page, which build the program and run it. Returns what they
    /// showed.
    pub(crate) async fn built(&self) -> String {
        let script = self.language.commands().replace("https://gateway.internal:50052", &self.server);
        let running = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &format!("exec 2>&1\n{script}")])
            .current_dir(self.folder.join("../.."))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(BUILD_MAX, running).await.expect("it ends").expect("bash runs");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}: {shown}", self.language.page);
        shown
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, arguments: &[&str], input: &str) -> Ran {
        let mut running = self.start(arguments);
        running.says(input).await;
        drop(running.input.take());
        let output = timeout(RUN_MAX, async {
            let mut out = Vec::new();
            running.output.read_to_end(&mut out).await.expect("its output");
            (out, running.child.wait_with_output().await.expect("its end"))
        });
        let (out, ended) = output.await.expect("it ends in time");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            code: ended.status.code().unwrap_or(-1),
            out: text(&out).trim_start().to_owned(),
            err: text(&ended.stderr),
        }
    }

    /// Starts it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let (command, first) = self.language.command.split_first().expect("a command");
        let mut child = Command::new(command)
            .args(first)
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it runs");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
        Running { child, input, output, shown: String::new() }
    }
}

/// A program that runs. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    input: Option<tokio::process::ChildStdin>,
    output: ChildStdout,
    /// What it has shown since something was last waited for.
    shown: String,
}

impl Running {
    /// Types something.
    pub(crate) async fn says(&mut self, text: &str) {
        let input = self.input.as_mut().expect("it is open");
        input.write_all(text.as_bytes()).await.expect("it reads");
    }

    /// Waits until it shows something, and forgets what came before.
    pub(crate) async fn shows(&mut self, text: &str) {
        let shown = timeout(RUN_MAX, async {
            while !self.shown.contains(text) {
                let mut bytes = [0; 1024];
                let count = self.output.read(&mut bytes).await.expect("its output");
                assert!(count > 0, "it ended, and did not show {text:?}: {}", self.shown);
                self.shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        shown.await.unwrap_or_else(|_| panic!("it does not show {text:?}"));
        let end = self.shown.find(text).expect("it was shown") + text.len();
        self.shown.drain(..end);
    }

    /// Presses Ctrl-C.
    pub(crate) async fn interrupt(&self) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().await;
        assert!(sent.is_ok_and(|status| status.success()), "SIGINT is sent");
    }

    /// Ends its input, and returns its exit code.
    pub(crate) async fn ends(mut self) -> i32 {
        drop(self.input.take());
        let status = timeout(RUN_MAX, self.child.wait()).await.expect("it ends in time").expect("its status");
        status.code().unwrap_or(-1)
    }
}
