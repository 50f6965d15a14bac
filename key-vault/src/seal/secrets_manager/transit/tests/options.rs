//! Options that do not fit together are refused with what to change.

use super::*;

fn complete() -> TransitOptions {
    with_approle("https://vault.internal:8200", "role", "/etc/secret".into())
}

#[test]
fn options_that_do_not_fit_together_are_refused() {
    type Change = fn(&mut TransitOptions);
    let cases: [(Change, &str); 18] = [
        (|o| o.transit_address = None, "--transit-address is missing"),
        (|o| o.transit_key = None, "--transit-key is missing"),
        (|o| o.transit_auth = None, "--transit-auth is missing: it is one of token, approle, kubernetes"),
        (|o| o.transit_role_id = None, "--transit-role-id is missing: --transit-auth needs it"),
        (|o| o.transit_secret_id_file = None, "--transit-secret-id-file is missing"),
        (
            |o| o.transit_token_file = Some("/t".into()),
            "--transit-token-file has no effect with --transit-auth approle",
        ),
        (|o| o.transit_role = Some("r".into()), "--transit-role has no effect"),
        (|o| o.transit_jwt_file = Some("/j".into()), "--transit-jwt-file has no effect"),
        (|o| o.transit_auth = Some(TransitAuth::Token), "--transit-role-id has no effect with --transit-auth token"),
        (|o| o.transit_auth = Some(TransitAuth::Kubernetes), "--transit-role-id has no effect"),
        (|o| o.transit_address = Some("http://vault.internal".into()), "plain http would show the token"),
        (|o| o.transit_address = Some("vault.internal:8200".into()), "--transit-address is refused"),
        (|o| o.transit_address = Some("https://user:pass@vault".into()), "a scheme, a host and a port only"),
        (|o| o.transit_address = Some("https://vault/path?a=b".into()), "a scheme, a host and a port only"),
        (|o| o.transit_mount = "a/../sys".into(), "--transit-mount is refused"),
        (|o| o.transit_mount = "/".into(), "--transit-mount is refused"),
        (|o| o.transit_key = Some("a/b".into()), "--transit-key is refused"),
        (|o| o.transit_namespace = Some("a b".into()), "--transit-namespace is refused"),
    ];
    for (change, expected) in cases {
        let mut options = complete();
        change(&mut options);
        let error = options.settings().unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(!error.contains("pass"), "{error}");
    }
}

#[test]
fn options_that_fit_together_are_taken() {
    for address in ["https://vault.internal:8200/", "http://127.0.0.1:8200", "http://[::1]:8200", "http://localhost"] {
        let options = TransitOptions { transit_address: Some(address.to_owned()), ..complete() };
        assert!(options.settings().is_ok(), "{address}");
    }
    let options = TransitOptions {
        transit_mount: "/team/transit/".to_owned(),
        transit_auth: Some(TransitAuth::Kubernetes),
        transit_role: Some("key-vault".to_owned()),
        ..options("https://vault")
    };
    let settings = options.settings().unwrap();
    assert_eq!(settings.mount, "team/transit");
    assert!(format!("{:?}", settings.login).contains("/var/run/secrets/kubernetes.io/serviceaccount/token"));
    assert!(options.is_given() && complete().is_given());
}

#[test]
fn an_authority_that_cannot_be_used_is_refused() {
    let credentials = Credentials::new();
    for (file, expected) in [
        (credentials.0.path().join("missing"), "--transit-ca-file names, cannot be read"),
        (credentials.file("no certificate"), "has no certificate in PEM form"),
    ] {
        let options = TransitOptions { transit_ca_file: Some(file), ..complete() };
        let error = Transit::new(options.settings().unwrap()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
