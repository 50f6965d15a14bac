//! The port of probes itself: what it answers, what it refuses, and who cannot hold it up.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use system_tests::{Setup, command, start_vault};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{PROBE_MAX, exchange, get, is_ready, send};

/// More than are served at once.
const SLOW: usize = 200;

/// A debug build on a busy machine needs a second or two.
const START_MAX: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_answers_get_and_head_of_three_paths() {
    let folder = tempfile::tempdir().expect("a folder");
    let vault = start_vault(folder.path(), &Setup::default()).await.expect("it serves");
    is_ready(&vault).await;
    let url = vault.probe_url();
    for (method, path, status, body) in [
        ("GET", "/livez", 200, "ok\n"),
        ("HEAD", "/livez", 200, ""),
        ("GET", "/readyz?verbose", 200, "store: ok\nkeyring: ok\nsecrets_manager: ok\naudit: ok\n"),
        ("HEAD", "/readyz", 200, ""),
        ("HEAD", "/metrics", 200, ""),
        ("POST", "/livez", 405, ""),
        ("DELETE", "/readyz", 405, ""),
        ("PUT", "/metrics", 405, ""),
        ("GET", "/", 404, "there are /livez, /readyz and /metrics\n"),
        ("GET", "/readyz/store", 404, "there are /livez, /readyz and /metrics\n"),
    ] {
        let answer = send(&url, &format!("{method} {path} HTTP/1.1\r\nhost: p\r\n\r\n")).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{method} {path}");
        if status == 405 {
            assert!(answer.head.contains("allow: get,head"), "{}", answer.head);
        }
    }
    assert_eq!(get(&vault, "/metrics").await.status, 200);
    // The body does not come, and nobody waits for it.
    let announced = "POST /readyz HTTP/1.1\r\nhost: p\r\ncontent-length: 1000000\r\n\r\n";
    assert_eq!(send(&url, announced).await.status, 405);
    let long = "a".repeat(64 * 1024);
    // Who sends too much is cut, and may not come to read why.
    if let Ok(answer) = exchange(&url, &format!("GET /livez HTTP/1.1\r\nhost: p\r\nx: {long}\r\n\r\n")).await {
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    assert_eq!(get(&vault, "/livez").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_are_told_in_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let vault = start_vault(folder.path(), &Setup::default()).await.expect("it serves");
    is_ready(&vault).await;
    let request = "GET /readyz HTTP/1.1\r\nhost: p\r\naccept: application/json\r\n\r\n";
    let answer = send(&vault.probe_url(), request).await;
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    let well = |name: &str| json!({ "name": name, "state": "well", "message": "ok" });
    let expected = json!({
        "ready": true,
        "shutting_down": false,
        "components": [well("store"), well("keyring"), well("secrets_manager"), well("audit")],
    });
    assert_eq!(serde_json::from_str::<Value>(&answer.body).expect("JSON"), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_sends_slowly_holds_up_no_probe() {
    let folder = tempfile::tempdir().expect("a folder");
    let vault = start_vault(folder.path(), &Setup::default()).await.expect("it serves");
    is_ready(&vault).await;
    let url = vault.probe_url();
    let address = url.strip_prefix("http://").expect("a URL");
    let mut slow = Vec::new();
    for n in 0..SLOW {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        // Half of them say nothing at all. Who was cut already is not needed any more.
        if n % 2 == 0 {
            let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nhost: ").await;
        }
        slow.push(stream);
        if n % 10 == 0 {
            assert_eq!(get(&vault, "/livez").await.status, 200, "after {n}");
        }
    }
    // Whoever is slow is cut in the end, with nobody else there.
    let mut last = slow.pop().expect("one");
    let mut rest = Vec::new();
    let cut = timeout(Duration::from_secs(10), tokio::io::AsyncReadExt::read_to_end(&mut last, &mut rest)).await;
    assert!(cut.is_ok(), "it is held open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_port_is_named_with_its_option() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for service in ["key-vault", "chat-gateway"] {
        let folder = tempfile::tempdir().expect("a folder");
        let arguments = ["serve", "--dev", "--listen", "127.0.0.1:0", "--probe-listen", &address];
        let run = command(service).args(arguments).current_dir(folder.path()).kill_on_drop(true).output();
        let output = timeout(START_MAX, run).await.expect("it ends").expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(said.contains(&address) && said.contains("--probe-listen"), "{service}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_are_answered_before_the_database_is_there() {
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url =
        format!("postgres://u:{}@{}/d", system_tests::postgres::PASSWORD, silent.local_addr().expect("an address"));
    let folder = tempfile::tempdir().expect("a folder");
    let mut vault = command("key-vault")
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--log-format", "json", "--database-url", &url])
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(vault.stderr.take().expect("stderr is piped")).lines();
    let address = timeout(START_MAX, async {
        loop {
            let line = lines.next_line().await.expect("text").expect("it does not end before");
            let line: Value = serde_json::from_str(&line).expect("JSON");
            if line["message"] == "answering probes" {
                return line["address"].as_str().expect("an address").to_owned();
            }
        }
    });
    let url = format!("http://{}", address.await.expect("probes are answered"));
    let ask = async |path: &str| send(&url, &format!("GET {path} HTTP/1.1\r\nhost: p\r\n\r\n")).await;
    assert_eq!(ask("/livez").await.status, 200);
    let ready = ask("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("store: starting\nkeyring: starting\n"), "{}", ready.body);
    assert!(PROBE_MAX < Duration::from_secs(5), "the vault waits longer for its database");
}
