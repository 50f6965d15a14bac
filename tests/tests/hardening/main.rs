//! What the processes keep in memory, and who can read it.
#![cfg(target_os = "linux")]

mod memory;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use proto::{
    keyvault::{ResolveKeyRequest, key_resolution_service_client::KeyResolutionServiceClient},
    types::Provider,
};
use system_tests::{
    Links, ORGANIZATION, Setup, System,
    answer::{Answer, ask},
    command,
    fake_provider::Answer as Said,
    skip_without,
};

/// How long after the last call copies of a key may be in memory.
const WIPED_WITHIN: Duration = Duration::from_secs(5);

/// How many keys are stored and resolved.
const KEYS: usize = 1_000;

/// How many chats the gateway has, each with a key of its own.
const CHATS: usize = 200;

/// The shortest whole answer of a provider.
const ANSWER: &str = r#"
data: {"type":"message_start","message":{"id":"msg_1","model":"claude-sonnet-4-5","usage":{"input_tokens":3}}}

data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}

data: {"type":"message_stop"}

"#;

/// How many connections resolve them, in turn.
const CONNECTIONS: usize = 4;

/// What the HTTP/2 library reads into, for each connection.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// The beginning and the end of every stored key: a copy of either half is found.
const HEAD: &str = "sk-scan-HEAD-7Qm2ZxVb9";
const TAIL: &str = "4Jt8-TAIL-LwPn5Rc0Ykdf";

/// A key of the environment, which the process holds for as long as it runs.
const HELD: &str = "sk-held-3Hs6FgUe1WjXq7";

/// The user and group `nobody`, as Linux distributions have them.
const NOBODY: u32 = 65_534;

/// Everything of a call is wiped when it ends, but for what the HTTP/2 library keeps for
/// each connection and we cannot reach: one buffer that it reads into and one that it
/// writes small frames into. What came last stays there until the next frames overwrite it
/// or the connection closes, and then it is wiped as well.
#[tokio::test]
async fn keys_are_wiped_with_the_call_and_at_the_latest_with_its_connection() {
    let mut system = System::with(Setup {
        vault_environment: vec![("ARCHESTRA_CHAT_GEMINI_API_KEY".to_owned(), HELD.to_owned())],
        folder_in_memory: true,
        ..Setup::default()
    })
    .await;
    let vault = system.vault.id();
    // The search finds what is there.
    let Ok(held) = memory::search(vault, HELD) else {
        return skip_without("root with CAP_SYS_PTRACE, to read the memory of another process");
    };
    assert!(!held.hits.is_empty(), "the key of the environment is found in {} bytes", held.bytes);

    for n in 0..KEYS {
        let profile = profile(n);
        system.add_key(Provider::Openai, &material(n), Links { default: false, profiles: &[&profile] }).await;
    }
    let most = READ_BUFFER_BYTES / material(0).len();
    let stored = settled(vault, most).await;
    assert!(stored.len() <= most, "{} copies, such as {:#?}", stored.len(), &stored[..10]);
    drop((system.keys, system.resolution));
    let forgotten = settled(vault, 0).await;
    assert!(forgotten.is_empty(), "{} copies, such as {forgotten:#?}", forgotten.len());

    let mut callers = Vec::new();
    for _ in 0..CONNECTIONS {
        callers.push(KeyResolutionServiceClient::connect(system.vault.url()).await.expect("a connection"));
    }
    for n in 0..KEYS {
        let request = ResolveKeyRequest {
            organization_id: ORGANIZATION.to_owned(),
            profile_id: Some(profile(n)),
            provider: Provider::Openai.into(),
        };
        let resolved = callers[n % CONNECTIONS].resolve_key(request).await.expect("a key").into_inner();
        assert_eq!(resolved.material.expect("material").api_key, material(n));
    }
    let connected = settled(vault, CONNECTIONS).await;
    assert!(connected.len() <= CONNECTIONS, "{} copies, such as {connected:#?}", connected.len());
    let is_left = |n: &usize| connected.iter().any(|hit| hit.around.contains(&format!("-{n:04}-")));
    let early: Vec<_> = (0..KEYS - CONNECTIONS).filter(is_left).collect();
    assert!(early.is_empty(), "keys that are not the last of a connection: {early:?}");
    drop(callers);
    let closed = settled(vault, 0).await;
    assert!(closed.is_empty(), "{} copies, such as {closed:#?}", closed.len());

    println!(
        "copies in {} bytes: {} after {KEYS} keys were stored over one connection, {} when it was closed; {} after \
         {KEYS} were resolved over {CONNECTIONS}, {} when they were closed; {} of a key that is held",
        held.bytes,
        stored.len(),
        forgotten.len(),
        connected.len(),
        closed.len(),
        held.hits.len(),
    );
}

/// The gateway keeps its connections to the vault and to the provider. Their buffers are all
/// that holds keys after the chats: what was read last from the vault, and the request that
/// was written last to the provider.
#[tokio::test]
async fn the_gateway_keeps_keys_in_the_buffers_of_its_connections_only() {
    let mut system = System::start().await;
    let gateway = system.gateway.id();
    if memory::search(gateway, HELD).is_err() {
        return skip_without("root with CAP_SYS_PTRACE, to read the memory of another process");
    }
    system.provider.always_answers(Said::stream(ANSWER));
    for n in 0..CHATS {
        let profile = profile(n);
        system.add_key(Provider::Anthropic, &material(n), Links { default: false, profiles: &[&profile] }).await;
        let answer = Answer::read(system.chat.stream_chat(ask("claude-sonnet-4-5", Some(&profile), "Hi")).await).await;
        assert!(answer.failure.is_none(), "{:?}", answer.failure);
        assert_eq!(system.provider.last().header("x-api-key"), material(n));
    }
    let most = READ_BUFFER_BYTES / material(0).len() + 1;
    let left = settled(gateway, most).await;
    println!("{} copies after {CHATS} chats, each with another key", left.len());
    assert!(left.len() <= most, "{} copies, such as {:#?}", left.len(), &left[..10]);
    assert!(left.len() < CHATS, "most keys are gone");
}

/// The keys that are in memory once there are no more than `expected`, or after
/// [`WIPED_WITHIN`].
async fn settled(process: u32, expected: usize) -> Vec<memory::Hit> {
    let stopped = Instant::now();
    loop {
        let search = |text| memory::search(process, text).expect("memory is read").hits;
        let (heads, tails) = (search(HEAD), search(TAIL));
        // A whole copy has both; half of one counts as one.
        let left = if heads.len() >= tails.len() { heads } else { tails };
        if left.len() <= expected || stopped.elapsed() > WIPED_WITHIN {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn profile(n: usize) -> String {
    format!("profile-{n}")
}

fn material(n: usize) -> String {
    format!("{HEAD}-{n:04}-{}-{n:04}-{TAIL}", "x".repeat(40))
}

#[test]
fn memory_and_environment_are_closed_to_other_processes_of_the_user() {
    if !is_root() {
        return skip_without("root, to run the services as another user");
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("others may enter");
    let home = folder.path().join("home");
    fs::create_dir(&home).expect("a folder");
    chown(&home, Some(NOBODY), Some(NOBODY)).expect("it is given away");

    // The same reader, on a process that is not hardened: all that differs is what is tested.
    let open = Running(as_nobody(Path::new("sleep"), &home).arg("60").spawn().expect("it runs"));
    for name in ["environ", "mem"] {
        eventually(|| reads(&home, open.id(), name), &format!("{name} of a process that is not hardened"));
    }

    for service in ["key-vault", "chat-gateway"] {
        // A binary that its user cannot read makes a process not dumpable by itself.
        let binary = folder.path().join(service);
        fs::copy(command(service).as_std().get_program(), &binary).expect("it is copied");
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("others may read it");
        let running = serve(as_nobody(&binary, &home));
        let proc = format!("/proc/{}", running.id());

        let status = fs::read_to_string(format!("{proc}/status")).expect("a status");
        assert!(status.contains(&format!("Uid:\t{NOBODY}\t{NOBODY}\t")), "{service} runs as nobody: {status}");
        for name in ["environ", "mem"] {
            assert!(!reads(&home, running.id(), name), "{service}: {name} can be read by its own user");
        }
        let owner = fs::metadata(format!("{proc}/environ")).expect("it is there").uid();
        assert_eq!(owner, 0, "{service}: what is not dumpable belongs to root");
        let limits = fs::read_to_string(format!("{proc}/limits")).expect("limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        let core: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
        assert_eq!(core, ["0", "0"], "{service}: soft and hard limit of core files");
    }
}

/// Whether `nobody` can read a file of `/proc/PID`: of `mem` the beginning of the stack.
fn reads(home: &Path, process: u32, name: &str) -> bool {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
    let stack = maps.lines().find(|line| line.ends_with("[stack]")).and_then(|line| line.split('-').next());
    let stack = usize::from_str_radix(stack.unwrap_or("0"), 16).expect("an address");
    let mut reader = as_nobody(Path::new("dd"), home);
    reader.args([&format!("if=/proc/{process}/{name}"), "iflag=skip_bytes,count_bytes", "count=8", "status=none"]);
    if name == "mem" {
        reader.arg(format!("skip={stack}"));
    }
    let output = reader.stdout(Stdio::piped()).output().expect("dd runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.contains("Permission denied"), "{said}");
    output.status.success() && output.stdout.len() == 8
}

/// A program as the user `nobody`, with a key in its environment.
fn as_nobody(program: &Path, home: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("A_KEY", HELD);
    command.current_dir(home).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Starts a service and waits until it listens.
fn serve(mut command: Command) -> Running {
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0"]);
    command.args(["--log-format", "json"]);
    let mut running = Running(command.spawn().expect("it runs"));
    let mut log = String::new();
    let mut lines = BufReader::new(running.0.stderr.take().expect("stderr is piped"));
    while lines.read_line(&mut log).expect("text") > 0 {
        if log.contains(r#""message":"listening""#) {
            assert!(log.contains("memory is kept from core files"), "it is logged: {log}");
            // Read on, so that it never waits for a reader.
            std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
            return running;
        }
    }
    panic!("it does not serve: {log}");
}

/// A process that ends with the test.
struct Running(Child);

impl Running {
    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn eventually(mut holds: impl FnMut() -> bool, what: &str) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what} cannot be read");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
