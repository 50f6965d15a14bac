//! A program from a public package that stands for a provider.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

use crate::skip_without;

/// A cold interpreter that loads its libraries on a busy machine.
const START_MAX: Duration = Duration::from_mins(1);

/// A server that somebody else wrote. Killed when dropped.
#[derive(Debug)]
pub struct ForeignServer {
    /// Where it listens.
    pub url: String,
    _child: Child,
}

impl ForeignServer {
    /// Starts it, and reads its URL from what it prints. `None` if its program is missing.
    pub async fn start(name: &str, command: &mut Command) -> Option<Self> {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let Ok(mut child) = command.spawn() else {
            skip_without(name);
            return None;
        };
        let (lines, mut printed) = mpsc::channel(64);
        tokio::spawn(relay(child.stdout.take().expect("piped"), lines.clone()));
        tokio::spawn(relay(child.stderr.take().expect("piped"), lines));
        let mut log = String::new();
        let url = timeout(START_MAX, async {
            while let Some(line) = printed.recv().await {
                if let Some(url) = url(&line) {
                    return Some(url);
                }
                log.push_str(&line);
                log.push('\n');
            }
            None
        });
        let url = url.await.expect("it starts in time");
        // What it prints from now on is read, so that it can go on printing.
        tokio::spawn(async move { while printed.recv().await.is_some() {} });
        match url {
            Some(url) => Some(Self { url, _child: child }),
            None if log.contains("No module named") => {
                skip_without(name);
                None
            }
            None => panic!("{name} does not start:\n{log}"),
        }
    }
}

async fn relay(output: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let mut output = BufReader::new(output).lines();
    while let Ok(Some(line)) = output.next_line().await {
        if lines.send(line).await.is_err() {
            return;
        }
    }
}

/// The address of a line that says where a server listens, once it has a port.
fn url(line: &str) -> Option<String> {
    let says = ["listening http://", "listening on http://", "running on http://"];
    let at = says.iter().find_map(|says| line.find(says).map(|at| at + says.len()))?;
    let address = line[at..].split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).next()?;
    (!address.ends_with(":0")).then(|| format!("http://{address}"))
}
