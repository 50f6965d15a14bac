//! Whatever a server does, there is one typed error, in time, with no secret in it.

use tokio::time::Instant;

use super::*;

async fn ready() -> (FakeServer, Credentials, Transit, WrappedKek) {
    let (server, credentials) = (FakeServer::start().await, Credentials::new());
    let transit = transit(&with_approle(&server.url(), "role", credentials.file("secret")));
    let wrapped = transit.wrap(&kek(), &CONTEXT).await.unwrap();
    (server, credentials, transit, wrapped)
}

#[tokio::test]
async fn a_redirect_is_an_error_and_its_target_gets_no_connection() {
    let (server, _credentials, transit, wrapped) = ready().await;
    let target = FakeServer::start().await;
    for status in [301, 302, 303, 307, 308] {
        server.state().fault = Some(Fault::Redirect(status, target.address));
        let credentials = Credentials::new();
        let fresh = super::transit(&with_approle(&server.url(), "role", credentials.file("secret")));
        for result in [
            transit.unwrap(&wrapped, &CONTEXT).await.map(drop),
            transit.wrap(&kek(), &CONTEXT).await.map(drop),
            transit.check(&[]).await,
            fresh.unwrap(&wrapped, &CONTEXT).await.map(drop),
        ] {
            let error = result.unwrap_err();
            assert!(matches!(error, Error::Redirected { status: found } if found == status), "{error}");
        }
    }
    assert_eq!(target.state().connections, 0);
    // It would have been noticed.
    assert!(tokio::net::TcpStream::connect(target.address).await.is_ok());
    recovered(
        Duration::from_secs(5),
        async || {
            if target.state().connections == 1 { Ok(()) } else { Err(Error::Sealed) }
        },
    )
    .await;
}

#[tokio::test]
async fn what_a_server_says_has_one_meaning() {
    let (server, _credentials, transit, wrapped) = ready().await;
    let errors = |text: &str| serde_json::json!({ "errors": [text] }).to_string();
    let huge = format!("{{\"data\":{{\"plaintext\":\"{}\"}}}}", "A".repeat(10 * 1024 * 1024));
    for (status, body, expected, transient) in [
        (503, errors("Vault is sealed"), "is sealed; unseal it", true),
        (503, "<html>no backend</html>".to_owned(), "does not serve (status 503)", true),
        (500, errors("internal error"), "does not serve (status 500)", true),
        (429, errors("request path is rate limited"), "does not serve (status 429)", true),
        (412, errors("required index state not present"), "does not serve (status 412)", true),
        (200, "<html>a proxy</html>".to_owned(), "not the JSON", true),
        (200, String::new(), "not the JSON", true),
        (200, "{\"data\":null}".to_owned(), "not the JSON", true),
        (200, "{\"data\":{\"plaintext\":7}}".to_owned(), "not the JSON", true),
        (200, huge, "larger than 64 KiB", true),
        (200, "{\"data\":{\"plaintext\":\"AAAA\"}}".to_owned(), "does not decrypt what", false),
        (200, "{\"data\":{\"plaintext\":\"!!!\"}}".to_owned(), "does not decrypt what", false),
        (400, errors("cipher: message authentication failed"), "does not decrypt what", false),
        (400, errors("invalid ciphertext: version is too new"), "does not decrypt what", false),
        (
            400,
            errors("ciphertext or signature version is disallowed by policy (too old)"),
            "lower its min_decryption_version",
            false,
        ),
        (400, errors("encryption key not found"), "make it with `bao write -f transit/keys/root`", false),
        (404, errors("no handler for route"), "correct --transit-mount", false),
        (400, errors("missing 'context' for key derivation"), "refuses to decrypt (status 400)", false),
        (405, errors("unsupported operation"), "refuses to decrypt (status 405)", false),
    ] {
        server.state().fault = Some(Fault::AnswerTo("/transit/", status, body));
        let error = transit.unwrap(&wrapped, &CONTEXT).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{status}: {error}");
        assert_eq!(error.is_transient(), transient, "{error}");
    }
    server.state().fault = None;
    assert!(transit.unwrap(&wrapped, &CONTEXT).await.is_ok());
}

#[tokio::test]
async fn a_ciphertext_that_makes_no_sense_is_not_stored() {
    let (server, _credentials, transit, _) = ready().await;
    for ciphertext in ["vault:v0:AAAA", "vault:vX:AAAA", "AAAA", "vault:v1:", "vault:v1:a b"] {
        let body = serde_json::json!({"data": {"ciphertext": ciphertext}}).to_string();
        server.state().fault = Some(Fault::AnswerTo("/encrypt/", 200, body));
        let error = transit.wrap(&kek(), &CONTEXT).await.unwrap_err();
        assert!(matches!(error, Error::Unintelligible { .. }), "{ciphertext}: {error}");
    }
    // One of another key's plaintext, which nobody would notice before the next start.
    let other = transit_ciphertext_of_zeros();
    server.state().fault = Some(Fault::AnswerTo("/encrypt/", 200, other));
    assert!(transit.wrap(&kek(), &CONTEXT).await.is_err());
}

fn transit_ciphertext_of_zeros() -> String {
    serde_json::json!({"data": {"ciphertext": format!("vault:v1:{}+++AAAA", "A".repeat(43))}}).to_string()
}

#[tokio::test]
async fn a_health_that_is_not_good_is_told_apart() {
    let (server, _credentials, transit, _) = ready().await;
    let health = |initialized: bool, sealed: bool| {
        serde_json::json!({"initialized": initialized, "sealed": sealed, "standby": true}).to_string()
    };
    for (status, body, expected) in [
        (200, health(true, false), None),
        (429, health(true, false), None),
        (472, health(true, false), None),
        (473, health(true, false), None),
        (501, health(false, true), Some("is not initialized")),
        (503, health(true, true), Some("is sealed")),
        (503, "busy".to_owned(), Some("does not serve (status 503)")),
        (404, "{}".to_owned(), Some("does not serve (status 404)")),
        (200, "<html>".to_owned(), Some("not the JSON")),
    ] {
        server.state().fault = Some(Fault::AnswerTo("/sys/health", status, body));
        let result = transit.check(&[]).await;
        match expected {
            None => assert!(result.is_ok(), "{status}: {result:?}"),
            Some(expected) => {
                let error = result.unwrap_err();
                assert!(error.to_string().contains(expected) && error.is_transient(), "{status}: {error}");
                let again = transit.check_after();
                assert!(again >= Duration::from_secs(2) && again <= Duration::from_secs(5), "{again:?}");
            }
        }
    }
    server.state().fault = None;
    transit.check(&[]).await.unwrap();
    assert_eq!(transit.check_after(), Duration::from_secs(10));
}

#[tokio::test]
async fn silence_ends_after_five_seconds_and_a_reset_at_once() {
    let (server, _credentials, transit, wrapped) = ready().await;
    for (fault, at_most) in [(Fault::Reset, Duration::from_secs(2)), (Fault::Silence, Duration::from_secs(7))] {
        server.state().fault = Some(fault.clone());
        let begun = Instant::now();
        let error = transit.unwrap(&wrapped, &CONTEXT).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable(_)) && error.is_transient(), "{fault:?}: {error}");
        assert!(begun.elapsed() < at_most, "{fault:?}: {:?}", begun.elapsed());
    }
    server.state().fault = None;
    assert!(transit.unwrap(&wrapped, &CONTEXT).await.is_ok());
}

#[tokio::test]
async fn no_error_and_no_debug_output_has_a_secret_or_a_url() {
    let (server, credentials, transit, wrapped) = ready().await;
    let url = server.address.to_string();
    let marked = "{\"errors\":[\"MARK hvs.token-1\"]}";
    let token = transit.session.token().await.unwrap();
    assert!(token.header().unwrap().is_sensitive());
    let mut texts = vec![format!("{transit:?}"), format!("{token:?}"), format!("{:?}", token.header())];
    let mut faults: Vec<_> = [200, 400, 404, 405, 500, 503].map(|status| Fault::Answer(status, marked.into())).into();
    faults.push(Fault::Reset);
    for fault in faults {
        server.state().fault = Some(fault);
        let fresh = super::transit(&with_approle(&server.url(), "role", credentials.file("MARK")));
        for error in [transit.unwrap(&wrapped, &CONTEXT).await.unwrap_err(), fresh.check(&[]).await.unwrap_err()] {
            texts.push(format!("{error:?}"));
            let mut cause = Some(&error as &dyn std::error::Error);
            while let Some(error) = cause {
                texts.push(error.to_string());
                cause = error.source();
            }
        }
    }
    for text in texts {
        for secret in ["MARK", "hvs.", "secret\"", &url] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

/// Whatever stops a server, and at whatever moment it comes back.
#[tokio::test]
async fn recovery_takes_ten_seconds_at_most() {
    let sealed = || r#"{"errors":["Vault is sealed"]}"#.to_owned();
    let faults = [
        Fault::Silence,
        Fault::Reset,
        Fault::Answer(503, sealed()),
        Fault::AnswerTo("/login", 503, sealed()),
        Fault::AnswerTo("/login", 403, "{}".to_owned()),
    ];
    let mut recoveries = tokio::task::JoinSet::new();
    for fault in faults {
        recoveries.spawn(async move {
            let (server, credentials) = (FakeServer::start().await, Credentials::new());
            server.state().fault = Some(fault.clone());
            let transit = super::transit(&with_approle(&server.url(), "role", credentials.file("secret")));
            assert!(transit.check(&[]).await.is_err());
            tokio::time::sleep(transit.check_after()).await;
            // The worst moment: the next check has just reached the server.
            let arrivals = |server: &FakeServer| {
                let state = server.state();
                state.connections + state.requests.len()
            };
            let seen = arrivals(&server);
            let begun = async {
                while arrivals(&server) == seen {
                    tokio::task::yield_now().await;
                }
                Instant::now()
            };
            let (failed, back) = tokio::join!(transit.check(&[]), begun);
            assert!(failed.is_err());
            server.state().fault = None;
            tokio::time::sleep(transit.check_after()).await;
            transit.check(&[]).await.unwrap();
            assert!(back.elapsed() < Duration::from_secs(10), "{fault:?}: {:?}", back.elapsed());
        });
    }
    recoveries.join_all().await;
}
