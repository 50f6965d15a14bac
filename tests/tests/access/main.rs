//! Who may call: every method of the contract, by everybody that there can be.

mod binding;
mod rotation;
mod rpc;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use rpc::{MODEL, Method, Outcome, PROFILE, call, methods, request};
use serde_json::Value;
use system_tests::{
    certs::{Authority, Leaf, replace},
    secured::{Secured, Service, Who, Wire, gateway_roles, policy, token, uri, vault_roles},
};

const PACKAGES: [(Service, &str); 2] =
    [(Service::Vault, "archestra.keyvault.v1"), (Service::Gateway, "archestra.chat.v1")];

/// Somebody who calls, and what must become of it: for a method and an organization.
struct Row {
    who: String,
    wire: Wire,
    expected: Expected,
}

enum Expected {
    /// Always this.
    Always(&'static str),
    /// What the roles of the policy say.
    Roles(Value),
}

impl Expected {
    fn of(&self, method: &Method, organization: &str) -> &'static str {
        match self {
            Self::Always(outcome) => outcome,
            Self::Roles(roles) => {
                let may = |role: &Value| {
                    let may_call = method.roles.iter().any(|name| role["role"] == **name);
                    let organizations = &role["organizations"];
                    let all = organizations == "all" || !method.is_for_an_organization();
                    let named =
                        organizations.as_array().is_some_and(|these| these.iter().any(|this| this == organization));
                    let allows = |scope: &str, wanted: &str| {
                        let these = &role[scope];
                        let named = these.as_array().is_some_and(|these| these.iter().any(|this| this == wanted));
                        !method.is_for_an_organization() || these.is_null() || these == "all" || named
                    };
                    let model = !method.is_for_a_model() || allows("models", MODEL);
                    may_call && (all || named) && allows("profiles", PROFILE) && model
                };
                if roles.as_array().expect("roles").iter().any(may) { "admitted" } else { "denied" }
            }
        }
    }
}

#[tokio::test]
async fn every_method_is_for_those_whom_the_contract_names() {
    let mut system = Secured::start().await;
    let mut cells = 0;
    for (service, package) in PACKAGES {
        let rows = rows(&mut system, service).await;
        let methods = methods(package);
        assert!(methods.len() >= 4, "{package} has methods");
        for Row { who, wire, expected } in &rows {
            for method in &methods {
                for organization in ["acme", "other", "nobodys", ""] {
                    let outcome = call(wire, &method.descriptor, request(&method.descriptor, organization)).await;
                    let expected = expected.of(method, organization);
                    let name = method.name();
                    assert_eq!(outcome.name(), expected, "{who} calls {name} for {organization:?}: {outcome:?}");
                    cells += 1;
                }
            }
        }
    }
    assert!(cells > 1_500, "{cells} cells");
}

/// Everybody that there can be.
async fn rows(system: &mut Secured, service: Service) -> Vec<Row> {
    let roles = match service {
        Service::Vault => vault_roles(),
        Service::Gateway => gateway_roles(),
    };
    let known = uri(roles[0].0);
    let row = |who: &str, wire: Wire, outcome| Row { who: who.to_owned(), wire, expected: Expected::Always(outcome) };
    let with = |leaf: &Leaf<'_>| Who::Certificate(system.authority.issue(leaf));
    let mut rows = vec![
        row("nobody", system.connect(service, &Who::Nobody), "unauthenticated"),
        row("no URI name", system.connect(service, &with(&Leaf::default())), "unauthenticated"),
        row(
            "two URI names",
            system.connect(service, &with(&Leaf { uris: &[&known, "spiffe://test.example/b"], ..Leaf::default() })),
            "unauthenticated",
        ),
        row(
            "an authority",
            system.connect(service, &with(&Leaf { uris: &[&known], authority: true, ..Leaf::default() })),
            "no connection",
        ),
        row(
            "a name that nobody has",
            system.connect(service, &with(&Leaf { uris: &["spiffe://test.example/nobody"], ..Leaf::default() })),
            "denied",
        ),
        row(
            "a name of another trust domain",
            system.connect(service, &with(&Leaf { uris: &["spiffe://other.example/admin"], ..Leaf::default() })),
            "denied",
        ),
        row(
            "an expired certificate",
            system.connect(service, &with(&Leaf { uris: &[&known], life: Duration::ZERO, ..Leaf::default() })),
            "no connection",
        ),
        row(
            "another authority's",
            system.connect(
                service,
                &Who::Certificate(Authority::new("test").issue(&Leaf { uris: &[&known], ..Leaf::default() })),
            ),
            "no connection",
        ),
    ];
    rows.extend(bearers(system, service, roles[0].0).await);
    for (name, roles) in roles {
        for (how, who) in [("certificate", system.certificate(name)), ("token", system.token(service, name))] {
            let expected = Expected::Roles(roles.clone());
            rows.push(Row { who: format!("{name}, by {how}"), wire: system.connect(service, &who), expected });
        }
    }
    rows
}

/// Tokens that are not good, in all ways that there are. Each comes with the certificate of
/// nobody: a token that is refused must not be made good by the connection.
async fn bearers(system: &mut Secured, service: Service, principal: &str) -> Vec<Row> {
    let soon = token(Duration::from_secs(1));
    let revoked = token(Duration::from_hours(1));
    let (roles, mut tokens) = match service {
        Service::Vault => (vault_roles(), system.vault_tokens.clone()),
        Service::Gateway => (gateway_roles(), system.gateway_tokens.clone()),
    };
    let good = tokens[principal][0].token.clone();
    let file = system.files().policy(service);
    tokens.entry(principal.to_owned()).or_default().push(soon.clone());
    // Known from the moment on in which the policy is read anew; the other may have expired then.
    let marker = token(Duration::from_hours(1));
    let other = tokens.keys().find(|name| *name != principal).cloned().expect("another principal");
    tokens.entry(other).or_default().push(marker.clone());
    replace(&file, &policy(&roles, &tokens));
    let wire = |value: &str| system.connect(service, &Who::Authorization(value.to_owned()));
    until(&wire(&format!("Bearer {}", marker.token)), service, &["admitted", "denied"], "the policy is read").await;
    let expiring = wire(&format!("Bearer {}", soon.token));
    until(&expiring, service, &["unauthenticated"], "the token expires").await;

    let bad = |who: &str, value: &str| Row {
        who: who.to_owned(),
        wire: wire(value),
        expected: Expected::Always("unauthenticated"),
    };
    vec![
        bad("an expired token", &format!("Bearer {}", soon.token)),
        bad("a revoked token", &format!("Bearer {}", revoked.token)),
        bad("a cut token", &format!("Bearer {}", &good[..good.len() - 1])),
        bad("a changed token", &format!("Bearer {}x", &good[..good.len() - 1])),
        bad("another scheme", &format!("Basic {good}")),
        bad("no scheme", &good),
        bad("an empty header", ""),
        bad("two tokens", &format!("Bearer {good}, Bearer {good}")),
    ]
}

/// Calls again and again until the outcome is one of these.
async fn until(wire: &Wire, service: Service, outcomes: &[&str], what: &str) -> Outcome {
    let (_, package) = PACKAGES[usize::from(service == Service::Gateway)];
    let method = &methods(package)[0].descriptor;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let outcome = call(wire, method, request(method, "acme")).await;
        if outcomes.contains(&outcome.name()) {
            return outcome;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: still {outcome:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_is_absent_looks_like_what_is_anothers() {
    let system = Secured::start().await;
    for (service, package, principal) in [
        (Service::Vault, "archestra.keyvault.v1", "admin"),
        (Service::Vault, "archestra.keyvault.v1", "gateway-acme"),
        (Service::Gateway, "archestra.chat.v1", "team-a"),
    ] {
        let wire = system.connect(service, &system.certificate(principal));
        for method in methods(package).iter().filter(|method| method.is_for_an_organization()) {
            let mut seen: HashMap<String, &str> = HashMap::new();
            for organization in ["other", "nobodys", "Acme", "acme ", ""] {
                let asked = request(&method.descriptor, organization);
                let Outcome::Refused(failure) = call(&wire, &method.descriptor, asked).await else {
                    panic!("{principal} calls {} for {organization:?}", method.name());
                };
                let metadata: BTreeMap<_, _> = failure.metadata.iter().collect();
                seen.insert(format!("{} {:?} {metadata:?}", failure.class(), failure.message), organization);
            }
            assert_eq!(seen.len(), 1, "{principal} tells apart: {seen:?}");
        }
    }
}

/// Where a token of the policy was made with the command that users have.
#[tokio::test]
async fn a_token_from_the_command_line_is_good_until_it_is_taken_back() {
    let system = Secured::start().await;
    let made = system_tests::command("key-vault").args(["tokens", "create", "--output", "json"]).output().await;
    let made: Value = serde_json::from_slice(&made.expect("the command runs").stdout).expect("JSON");
    let bearer = format!("Bearer {}", made["token"].as_str().expect("a token"));
    let wire = system.connect(Service::Vault, &Who::Authorization(bearer));
    until(&wire, Service::Vault, &["unauthenticated"], "nobody knows it yet").await;

    let file = system.files().policy(Service::Vault);
    let before = std::fs::read_to_string(&file).expect("a policy");
    let mut changed: Value = serde_json::from_str(&before).expect("JSON");
    changed["principals"][0]["tokens"].as_array_mut().expect("tokens").push(made["policy_entry"].clone());
    replace(&file, &changed.to_string());
    until(&wire, Service::Vault, &["admitted"], "the policy knows it").await;

    replace(&file, "{ not a policy");
    until(&wire, Service::Vault, &["admitted"], "a policy that cannot be used changes nothing").await;
    replace(&file, &before);
    until(&wire, Service::Vault, &["unauthenticated"], "it is taken back").await;
}
