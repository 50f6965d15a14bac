//! `deploy/compose.yaml`: what it promises, and that its services run so from their images.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    time::Duration,
};

use system_tests::{
    FakeProvider, Postgres,
    certs::Authority,
    chats::answer_of_openai,
    container::{self, Container, Ended, Mount},
    fake_provider::Http,
    postgres::{PASSWORD, Settings, Tls, USER as DATABASE_USER},
};

use crate::{
    USER, is_debian, path,
    stack::{Difference, Stack, compose, read_only},
};

/// What `stop_grace_period` allows.
const GRACE: Duration = Duration::from_secs(50);

/// A command of the client, on a busy machine.
const COMMAND_MAX: Duration = Duration::from_secs(60);

const KEY: &str = "sk-MARKED-openai-0123456789abcdef";

#[test]
fn nobody_of_the_file_has_a_right_too_many() {
    let file = compose();
    for (name, service) in &file.services {
        assert!(service.read_only && !service.privileged && service.cap_add.is_empty(), "{name}");
        assert_eq!(service.cap_drop, ["ALL"], "{name}");
        assert_eq!(service.security_opt, ["no-new-privileges:true"], "{name}");
        let user = if name == "postgres" { "999:999" } else { "65532:65532" };
        assert_eq!(service.user, user, "{name}");
        assert!(service.ports.iter().all(|port| port.starts_with("127.0.0.1:")), "{name} is open to the world");
        let reaches_out = service.networks.iter().any(|network| network == "world");
        assert_eq!(reaches_out, name == "chat-gateway", "{name}");
        for variable in service.environment.keys().filter(|name| name.contains("PASSWORD") || name.contains("KEY_FILE"))
        {
            assert!(variable.ends_with("_FILE"), "{variable} of {name} holds a secret");
        }
    }
    for name in ["key-vault", "chat-gateway"] {
        assert_eq!(file.services[name].stop_grace_period, format!("{}s", GRACE.as_secs()));
    }
    let ignored = crate::read("deploy/compose/.gitignore");
    assert_eq!(ignored, "/secrets\n");
    assert!(file.secrets.values().all(|secret| secret.file.starts_with("compose/secrets")));
    assert!(file.configs.values().all(|config| path("deploy").join(&config.file).is_file()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_goes_through_the_services_of_the_file() {
    if !is_debian() || !container::is_available() {
        return;
    }
    let mut stack = Stack::new().await.expect("images and secrets");
    let Some(postgres) = database(&stack).await else { return };
    let authority = Authority::new("private");
    let provider = FakeProvider::over_tls(&authority, Http::Two).await.expect("a provider");
    provider.always_answers(answer_of_openai("Hello"));
    let base_url = format!("{}/v1", provider.url().replace("127.0.0.1", "localhost"));

    let vault = stack.serve("key-vault", "serving", Difference::default()).await.expect("it serves");
    assert_confined(&vault);
    let to = |environment: &[(&'static str, &str)]| Difference {
        environment: environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        ..Difference::default()
    };
    let gateway = to(&[("CHAT_GATEWAY_OPENAI_BASE_URL", base_url.as_str())]);
    let gateway = stack.serve("chat-gateway", "listening", gateway).await.expect("it listens");
    assert_confined(&gateway);
    add_key(&stack).await;

    // The image trusts public authorities. This one is not.
    let refused = chat(&stack).await;
    assert!(refused.code != 0 && refused.log.contains("PROVIDER_UNREACHABLE"), "{refused:?}");
    assert_eq!(provider.received().len(), 0);
    assert_stops(gateway).await;

    let mut gateway =
        to(&[("CHAT_GATEWAY_OPENAI_BASE_URL", base_url.as_str()), ("SSL_CERT_FILE", "/etc/authority.pem")]);
    let pem = stack.file("authority.pem", &authority.pem()).expect("a file");
    gateway.mounts.push(read_only(pem, "/etc/authority.pem".into()));
    let gateway = stack.serve("chat-gateway", "listening", gateway).await.expect("it listens");
    let answered = chat(&stack).await;
    assert!(answered.code == 0 && answered.log.contains("Hello"), "{answered:?}");
    assert_eq!(provider.last().key(), KEY);

    assert_stops(gateway).await;
    assert_stops(vault).await;
    drop(postgres);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_keeps_its_keys_in_a_volume_and_writes_nothing_else() {
    if !is_debian() || !container::is_available() {
        return;
    }
    let mut stack = Stack::new().await.expect("images and secrets");
    let volume = stack.volume("volume").expect("a folder");
    let mut command = compose().services["key-vault"].command.clone();
    command.retain(|argument| !argument.starts_with("--database-url"));
    command.push("--database-url=sqlite:/var/lib/key-vault/key-vault.db".to_owned());
    let mount = Mount { source: volume.clone(), destination: "/var/lib/key-vault".into(), read_only: false };
    let other = || Difference { command: Some(command.clone()), mounts: vec![mount.clone()], ..Difference::default() };
    let vault = stack.serve("key-vault", "serving", other()).await.expect("it serves");
    add_key(&stack).await;
    assert_stops(vault).await;
    let data = fs::metadata(volume.join("key-vault.db")).expect("a database");
    assert_eq!((data.uid(), data.permissions().mode() & 0o777), (USER, 0o600));

    let vault = stack.serve("key-vault", "serving", other()).await.expect("it serves again");
    let listed = stack.start("admin", Difference::default()).await.expect("it starts");
    let listed = listed.ends(COMMAND_MAX).await.expect("it ends");
    assert!(listed.code == 0 && listed.log.contains("main"), "{listed:?}");
    assert_stops(vault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_renewed_in_place_and_what_must_stay_stays() {
    if !is_debian() || !container::is_available() {
        return;
    }
    let stack = Stack::new().await.expect("images and secrets");
    let names: Vec<_> = compose().secrets.into_keys().collect();
    let look = || -> Vec<_> {
        let file = |name: &String| {
            let file = stack.secret(name);
            let data = fs::metadata(&file).expect("a secret");
            (name.clone(), data.ino(), data.permissions().mode() & 0o777, fs::read(&file).expect("a secret"))
        };
        names.iter().map(file).collect()
    };
    let before = look();
    stack.init().await.expect("it runs again");
    for (was, is) in before.into_iter().zip(look()) {
        let (name, inode, mode, text) = was;
        let is_public = name == "ca.crt";
        assert_eq!((inode, mode), (is.1, if is_public { 0o444 } else { 0o600 }), "{name}");
        let is_renewed = (name.ends_with(".crt") || name.ends_with(".key")) && !is_public;
        assert_eq!(text != is.3, is_renewed, "{name}");
    }
}

/// A server of the test as the service `postgres`, with the certificate of the script.
async fn database(stack: &Stack) -> Option<Postgres> {
    let text = |name| fs::read_to_string(stack.secret(name)).expect("a secret");
    let tls = Tls { certificates: text("postgres.crt"), key: text("postgres.key") };
    let postgres = Postgres::with(Settings { in_memory: true, tls: Some(tls), ..Settings::default() }).await?;
    postgres.ensure_database("key_vault").await;
    let url = text("database-url");
    let (_, rest) = url.split_once("@postgres:5432/").expect("the server of the file");
    let port = postgres.port();
    // The same file, so that its owner stays.
    fs::write(stack.secret("database-url"), format!("postgres://{DATABASE_USER}:{PASSWORD}@postgres:{port}/{rest}"))
        .expect("a URL");
    Some(postgres)
}

/// Adds a key as the file's `admin` does.
async fn add_key(stack: &Stack) {
    let words = ["keys", "add", "--provider", "openai", "--name", "main", "--default", "--key-file", "/run/key"];
    let key = stack.file("key", KEY).expect("a file");
    let other = Difference {
        command: Some(words.map(str::to_owned).into()),
        mounts: vec![read_only(key, "/run/key".into())],
        ..Difference::default()
    };
    let added = stack.start("admin", other).await.expect("it starts");
    let added = added.ends(COMMAND_MAX).await.expect("it ends");
    assert_eq!(added.code, 0, "{}", added.log);
}

/// Chats as the file's `app` does.
async fn chat(stack: &Stack) -> Ended {
    let command = Some(["chat", "--model", "gpt-4o", "Say hello."].map(str::to_owned).into());
    let chat = stack.start("app", Difference { command, ..Difference::default() }).await.expect("it starts");
    chat.ends(COMMAND_MAX).await.expect("it ends")
}

/// That a process runs as the image's user, with no right beyond, and can write nothing of its root.
fn assert_confined(container: &Container) {
    let read = |name| {
        fs::read_to_string(format!("/proc/{}/{name}", container.process_id())).unwrap_or_else(|error| panic!("{error}"))
    };
    let status = read("status");
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    let user = format!("{USER}\t{USER}\t{USER}\t{USER}");
    assert_eq!((line("Uid:"), line("Gid:"), line("NoNewPrivs:")), (user.clone(), user, "1".to_owned()));
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(line(set), "0000000000000000", "{set}");
    }
    let mounts = read("mountinfo");
    // Fields: id, parent, device, root, mount point, options.
    let options = |point: &str| {
        mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|line| line[4] == point)
            .map(|line| line[5].to_owned())
    };
    assert!(options("/").is_some_and(|options| options.starts_with("ro,")), "{mounts}");
    assert!(options("/run/secrets/ca.crt").is_some_and(|options| options.starts_with("ro,")), "{mounts}");
}

/// That a service ends by itself in the time that the file gives it.
async fn assert_stops(container: Container) {
    let ended = container.stop(GRACE).await.expect("it stops");
    assert!(ended.code == 0 && !ended.killed, "{ended:?}");
}
