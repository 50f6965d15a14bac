//! The life of a token, in real time: connections do not know a paused clock.

use std::sync::Arc;

use tokio::{task::JoinSet, time::Instant};

use super::{super::session::LOGIN_SPACING, *};

#[tokio::test]
async fn many_at_once_log_in_once() {
    let (server, credentials) = (FakeServer::start().await, Credentials::new());
    let transit = Arc::new(transit(&with_approle(&server.url(), "role", credentials.file("secret"))));
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let transit = Arc::clone(&transit);
        calls.spawn(async move { transit.wrap(&kek(), &CONTEXT).await.map(drop) });
    }
    assert!(calls.join_all().await.into_iter().all(|result| result.is_ok()));
    assert_eq!(server.state().logins().len(), 1);
}

#[tokio::test]
async fn a_dead_token_is_replaced_and_a_policy_is_told() {
    let (server, credentials) = (FakeServer::start().await, Credentials::new());
    let transit = transit(&with_approle(&server.url(), "role", credentials.file("secret")));
    let kek = kek();
    let wrapped = transit.wrap(&kek, &CONTEXT).await.unwrap();

    server.state().allows_engine = false;
    let error = transit.unwrap(&wrapped, &CONTEXT).await.unwrap_err();
    assert!(error.to_string().contains("grant `update` on transit/decrypt/root"), "{error}");
    assert!(!error.is_transient());
    assert_eq!(server.state().logins().len(), 1, "a login would not help");

    server.state().allows_engine = true;
    server.state().tokens.clear();
    assert_eq!(transit.unwrap(&wrapped, &CONTEXT).await.unwrap(), kek);
    let logins = server.state().logins();
    assert_eq!(logins.len(), 2);
    assert!(logins[1] - logins[0] >= LOGIN_SPACING);
}

#[tokio::test]
async fn a_revoked_token_is_noticed_by_the_next_check() {
    let (server, credentials) = (FakeServer::start().await, Credentials::new());
    let transit = transit(&with_approle(&server.url(), "role", credentials.file("secret")));
    for _ in 0..2 {
        transit.check(&[]).await.unwrap();
    }
    server.state().tokens.clear();
    transit.check(&[]).await.unwrap();
    assert_eq!(server.state().logins().len(), 2);
}

#[tokio::test]
async fn a_token_that_may_not_look_at_itself_is_no_reason_for_logins() {
    let (server, credentials) = (FakeServer::start().await, Credentials::new());
    server.state().allows_lookup = false;
    let transit = transit(&with_approle(&server.url(), "role", credentials.file("secret")));
    for _ in 0..5 {
        transit.check(&[]).await.unwrap();
    }
    let state = server.state();
    assert_eq!((state.logins().len(), state.count("/lookup-self")), (1, 1));
}

/// However many ask, whether tokens are dead as soon as they are given or no login succeeds.
#[tokio::test]
async fn logins_are_five_seconds_apart_whatever_happens() {
    let dead_at_once = FakeServer::start().await;
    dead_at_once.state().fault =
        Some(Fault::AnswerTo("/transit/", 403, r#"{"errors":["permission denied"]}"#.to_owned()));
    dead_at_once.state().allows_lookup = false;
    let refusing = FakeServer::start().await;
    refusing.state().fault = Some(Fault::AnswerTo("/login", 400, r#"{"errors":["invalid secret id"]}"#.to_owned()));
    let down = FakeServer::start().await;
    down.state().fault = Some(Fault::AnswerTo("/login", 500, "{}".to_owned()));

    let credentials = Credentials::new();
    let secret = credentials.file("secret");
    let until = Instant::now() + Duration::from_secs(12);
    let mut calls = JoinSet::new();
    for server in [&dead_at_once, &refusing, &down] {
        let transit = Arc::new(transit(&with_approle(&server.url(), "role", secret.clone())));
        for caller in 0..6 {
            let transit = Arc::clone(&transit);
            calls.spawn(async move {
                let mut failures = 0;
                while Instant::now() < until {
                    let result = match caller {
                        0 => transit.check(&[]).await.map(drop),
                        _ => transit.wrap(&kek(), &CONTEXT).await.map(drop),
                    };
                    failures += usize::from(result.is_err());
                    // A caller that is refused at once would only heat the machine.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                failures
            });
        }
    }
    assert!(calls.join_all().await.into_iter().sum::<usize>() > 0);
    for server in [dead_at_once, refusing, down] {
        let logins = server.state().logins();
        assert!((2..=4).contains(&logins.len()), "{} logins", logins.len());
        for pair in logins.windows(2) {
            assert!(pair[1] - pair[0] >= LOGIN_SPACING, "{:?}", pair[1] - pair[0]);
        }
    }
}

/// Checks as a vault would, and unwraps all the time.
async fn failed_unwraps(server: &FakeServer, during: Duration) -> usize {
    let credentials = Credentials::new();
    let transit = transit(&with_approle(&server.url(), "role", credentials.file("secret")));
    let wrapped = transit.wrap(&kek(), &CONTEXT).await.unwrap();
    let until = Instant::now() + during;
    let checks = async {
        while Instant::now() < until {
            tokio::time::sleep(transit.check_after()).await;
            transit.check(&[]).await.unwrap();
        }
    };
    let unwraps = async {
        let mut failed = 0;
        while Instant::now() < until {
            failed += usize::from(transit.unwrap(&wrapped, &CONTEXT).await.is_err());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        failed
    };
    tokio::join!(checks, unwraps).1
}

#[tokio::test]
async fn tokens_of_five_seconds_are_renewed_or_replaced_and_nobody_notices() {
    let (renewable, fixed) = (FakeServer::start().await, FakeServer::start().await);
    renewable.state().ttl = 5;
    fixed.state().ttl = 5;
    fixed.state().renewable = false;
    let during = Duration::from_secs(13);
    assert_eq!(tokio::join!(failed_unwraps(&renewable, during), failed_unwraps(&fixed, during)), (0, 0));
    let state = renewable.state();
    assert_eq!(state.logins().len(), 1);
    assert!(state.count("/renew-self") >= 3, "{} renewals", state.count("/renew-self"));
    assert!((3..=4).contains(&fixed.state().logins().len()), "{} logins", fixed.state().logins().len());
}

#[tokio::test]
async fn another_token_in_the_file_is_taken_up_by_the_next_check() {
    let (server, credentials) = (FakeServer::start().await, Credentials::new());
    let end = Instant::now() + Duration::from_hours(1);
    server.state().tokens.extend([("hvs.a".to_owned(), end), ("hvs.b".to_owned(), end)]);
    let transit = transit(&with_token(&server.url(), credentials.file("hvs.a\n")));
    let used = |server: &FakeServer| server.state().requests.last().unwrap().headers["x-vault-token"].clone();
    transit.wrap(&kek(), &CONTEXT).await.unwrap();
    assert_eq!(used(&server), "hvs.a");
    credentials.file("hvs.b\n");
    transit.check(&[]).await.unwrap();
    transit.wrap(&kek(), &CONTEXT).await.unwrap();
    assert_eq!(used(&server), "hvs.b");

    // A file that cannot be used changes nothing, while the token lives.
    credentials.file("");
    transit.check(&[]).await.unwrap();
    server.state().tokens.clear();
    let error = transit.wrap(&kek(), &CONTEXT).await.unwrap_err();
    assert!(error.to_string().contains("--transit-token-file names, is empty"), "{error}");
    server.state().tokens.insert("hvs.c".to_owned(), end);
    credentials.file("hvs.c");
    recovered(Duration::from_secs(10), async || transit.wrap(&kek(), &CONTEXT).await).await;
}

#[tokio::test]
async fn a_file_with_a_secret_is_private_and_makes_sense() {
    let (server, credentials) = (FakeServer::start().await, Credentials::new());
    for (text, mode, expected) in [
        ("a secret", 0o644, "can be read or written by everyone"),
        ("two\nlines", 0o600, "is not one line of visible characters"),
        (" \n", 0o600, "is empty"),
        (&"a".repeat(20_000), 0o600, "is larger than 16 KiB"),
    ] {
        let file = credentials.file(text);
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let error = transit(&with_approle(&server.url(), "role", file)).check(&[]).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.is_transient());
    }
    let missing = credentials.0.path().join("missing");
    let error = transit(&with_approle(&server.url(), "role", missing)).check(&[]).await.unwrap_err();
    assert!(error.to_string().contains("--transit-secret-id-file names, cannot be read"), "{error}");
    assert_eq!(server.state().logins().len(), 0);
}
