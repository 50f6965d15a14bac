//! A command of the client side of a binary, run as a person or a script would run it.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;

use crate::command;

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Standard output as JSON. Panics if the command failed.
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs `key-vault` for a vault, with `input` on its standard input.
pub async fn key_vault(server: &str, arguments: &[&str], input: &str) -> Ran {
    let mut child = command("key-vault")
        .args(arguments)
        .env("KEY_VAULT_SERVER", server)
        .env("KEY_VAULT_ORGANIZATION", crate::ORGANIZATION)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("key-vault runs");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    // A command that does not read it has closed it.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.expect("its output is read");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}
