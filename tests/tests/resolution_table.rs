//! Which key a call gets: every cell of profile × default × environment × provider ×
//! the organization's policy × the profile's policy, each with its expected outcome.

use std::fmt::Write as _;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use proto::{
    keyvault::{
        ApiKey, CreateApiKeyRequest, ExplainResolutionRequest, KeyMaterial, ListProfileKeysRequest, ProfileKey,
        ResolutionStep, ResolveKeyRequest, SetFallbackPolicyRequest, UpdateApiKeyRequest, api_key::State,
        resolution_step::Outcome,
    },
    types::{Provider, Source},
};
use sea_orm::{ConnectionTrait as _, Database};
use system_tests::{Setup, Storage, System, answer::Failure};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Link {
    None,
    Enabled,
    Disabled,
    Undecryptable,
    OfAnotherProvider,
}

const LINKS: [Link; 5] = [Link::None, Link::Enabled, Link::Disabled, Link::Undecryptable, Link::OfAnotherProvider];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Variable {
    Unset,
    Set,
    Empty,
}

const PROVIDERS: [Provider; 3] = [Provider::Anthropic, Provider::Openai, Provider::Gemini];

/// What a policy allows. The profile of each is named after its place here, and has it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Policy {
    default: bool,
    environment: bool,
}

const POLICIES: [Policy; 4] = [
    Policy { default: true, environment: true },
    Policy { default: false, environment: true },
    Policy { default: true, environment: false },
    Policy { default: false, environment: false },
];
const PROFILES: [&str; 4] = ["all", "never-the-default", "never-the-environment", "only-its-own"];

/// The provider of the cells whose profiles are listed too: a listing asks for all providers.
const LISTED: Provider = Provider::Openai;

/// How many cells are asked for at once.
const AT_ONCE: usize = 16;

/// What a cell must give, said once more: the first link that exists decides, and what either
/// policy forbids might as well not exist. A failure has its reason, its cause and the steps
/// that it says are forbidden.
type Expected = Result<Source, (&'static str, &'static str, &'static str)>;

fn expected(profile: Link, default: Link, variable: Variable, policies: [Policy; 2]) -> Expected {
    let default_allowed = policies[0].default && policies[1].default;
    let environment_allowed = policies[0].environment && policies[1].environment;
    let forbidden = match (default_allowed, environment_allowed) {
        (true, true) => "",
        (false, true) => "organization_default",
        (true, false) => "environment",
        (false, false) => "organization_default environment",
    };
    let exists = |link| !matches!(link, Link::None | Link::OfAnotherProvider);
    let (link, source) = if exists(profile) {
        (profile, Source::Profile)
    } else if default_allowed && exists(default) {
        (default, Source::OrganizationDefault)
    } else if environment_allowed && variable == Variable::Set {
        return Ok(Source::Environment);
    } else {
        return Err(("NO_KEY_CONFIGURED", "", forbidden));
    };
    match link {
        Link::Enabled => Ok(source),
        Link::Disabled => Err(("KEY_UNUSABLE", "disabled", "")),
        Link::Undecryptable => Err(("KEY_UNUSABLE", "undecryptable", "")),
        Link::None | Link::OfAnotherProvider => unreachable!("it exists"),
    }
}

/// What the explanation must say of each step: `+` its key is the one, `-` no key, `!` the
/// resolution fails there, `x` forbidden, `.` not reached.
fn explained(profile: Link, default: Link, variable: Variable, policies: [Policy; 2]) -> String {
    let of = |link| match link {
        Link::Enabled => '+',
        Link::Disabled | Link::Undecryptable => '!',
        Link::None | Link::OfAnotherProvider => '-',
    };
    let default_allowed = policies.iter().all(|policy| policy.default);
    let environment_allowed = policies.iter().all(|policy| policy.environment);
    let steps = [
        of(profile),
        if default_allowed { of(default) } else { 'x' },
        match (environment_allowed, variable) {
            (false, _) => 'x',
            (true, Variable::Set) => '+',
            (true, Variable::Unset | Variable::Empty) => '-',
        },
    ];
    let decides = steps.iter().position(|step| matches!(step, '+' | '!')).unwrap_or(steps.len());
    steps.iter().enumerate().map(|(n, step)| if n > decides { '.' } else { *step }).collect()
}

#[tokio::test]
async fn every_cell_gives_what_it_must_with_the_variables_unset() {
    holds(Variable::Unset).await;
}

#[tokio::test]
async fn every_cell_gives_what_it_must_with_the_variables_set() {
    holds(Variable::Set).await;
}

#[tokio::test]
async fn every_cell_gives_what_it_must_with_the_variables_empty() {
    holds(Variable::Empty).await;
}

/// A cell that is set up, with its keys.
struct Cell {
    organization: String,
    provider: Provider,
    links: [Link; 2],
    keys: [Option<ApiKey>; 2],
}

async fn holds(variable: Variable) {
    let setup = Setup { vault_environment: environment(variable), folder_in_memory: true, ..Setup::default() };
    let mut system = System::with(setup).await;
    let mut cells = Vec::new();
    for provider in PROVIDERS {
        for profile in LINKS {
            for default in LINKS {
                cells.push(cell(&mut system, provider, [profile, default]).await);
            }
        }
    }
    spoil(&system, &cells).await;
    for (profile, policy) in PROFILES.into_iter().zip(POLICIES) {
        forbid(&system, &cells, Some(profile), policy).await;
    }
    let mut checked = 0;
    for organization in POLICIES {
        forbid(&system, &cells, None, organization).await;
        let combinations = cells.iter().flat_map(|cell| POLICIES.map(|profile| (cell, [organization, profile])));
        let checks = combinations.map(|(cell, policies)| check(&system, cell, variable, policies));
        checked += stream::iter(checks).buffer_unordered(AT_ONCE).count().await;
    }
    println!("{checked} cells hold with the variables {variable:?}");
    assert_eq!(checked, 75 * POLICIES.len() * POLICIES.len());
}

/// Sets one policy in the organizations of all cells.
async fn forbid(system: &System, cells: &[Cell], profile: Option<&str>, policy: Policy) {
    let set = cells.iter().map(|cell| {
        let mut keys = system.keys.clone();
        let request = SetFallbackPolicyRequest {
            organization_id: cell.organization.clone(),
            profile_id: profile.map(str::to_owned),
            allow_organization_default: Some(policy.default),
            allow_environment: Some(policy.environment),
            ..Default::default()
        };
        async move { keys.set_fallback_policy(request).await }
    });
    let set: Vec<_> = stream::iter(set).buffer_unordered(AT_ONCE).try_collect().await.expect("the policies are set");
    assert_eq!(set.len(), cells.len());
}

fn environment(variable: Variable) -> Vec<(String, String)> {
    let name = |provider: &str| format!("ARCHESTRA_CHAT_{provider}_API_KEY");
    match variable {
        Variable::Unset => Vec::new(),
        Variable::Set => ["ANTHROPIC", "OPENAI", "GEMINI"].map(|p| (name(p), format!("env-key-{p}"))).to_vec(),
        Variable::Empty => ["ANTHROPIC", "OPENAI", "GEMINI"].map(|p| (name(p), String::new())).to_vec(),
    }
}

async fn cell(system: &mut System, provider: Provider, links: [Link; 2]) -> Cell {
    let organization = format!("{provider:?}-{:?}-{:?}", links[0], links[1]);
    let mut keys = [None, None];
    for (n, link) in links.into_iter().enumerate() {
        let of = match link {
            Link::None => continue,
            Link::OfAnotherProvider => PROVIDERS[(provider as usize) % PROVIDERS.len()],
            Link::Enabled | Link::Disabled | Link::Undecryptable => provider,
        };
        let request = CreateApiKeyRequest {
            organization_id: organization.clone(),
            provider: of.into(),
            display_name: format!("{link:?}"),
            material: Some(KeyMaterial { api_key: format!("key-{organization}-{n}") }),
            set_as_organization_default: n == 1,
            profile_ids: if n == 0 { PROFILES.map(str::to_owned).to_vec() } else { Vec::new() },
            ..Default::default()
        };
        let mut key = system.keys.create_api_key(request).await.expect("created").into_inner().api_key.expect("a key");
        if link == Link::Disabled {
            key.set_state(State::Disabled);
            let mask = prost_types::FieldMask { paths: vec!["state".to_owned()] };
            let request =
                UpdateApiKeyRequest { api_key: Some(key.clone()), update_mask: Some(mask), ..Default::default() };
            system.keys.update_api_key(request).await.expect("disabled");
        }
        keys[n] = Some(key);
    }
    Cell { organization, provider, links, keys }
}

/// Flips a bit in the sealed material of every key that is to be undecryptable.
async fn spoil(system: &System, cells: &[Cell]) {
    let mut ids = String::new();
    for cell in cells {
        for (key, link) in cell.keys.iter().zip(cell.links) {
            if let (Some(key), Link::Undecryptable) = (key, link) {
                let separator = if ids.is_empty() { "" } else { "," };
                write!(ids, "{separator}{}", system.storage().uuid(&key.api_key_id)).expect("a String takes all");
            }
        }
    }
    let database = Database::connect(system.database_url()).await.expect("the database opens");
    let longer = match system.storage() {
        Storage::Sqlite => "CAST(payload || X'00' AS BLOB)",
        Storage::Postgres => "payload || '\\x00'::bytea",
    };
    let statement = format!("UPDATE secret SET payload = {longer} WHERE api_key_id IN ({ids})");
    let spoiled = database.execute_unprepared(&statement).await.expect("rows are changed").rows_affected();
    // Of each provider, 5 cells have such a profile key and 5 such a default.
    assert_eq!(spoiled, 30, "the right rows are changed");
}

async fn check(system: &System, cell: &Cell, variable: Variable, policies: [Policy; 2]) {
    let expected = expected(cell.links[0], cell.links[1], variable, policies);
    let profile = PROFILES[POLICIES.iter().position(|policy| *policy == policies[1]).expect("a policy")];
    let context = format!("{} {variable:?} {policies:?}", cell.organization);
    let request = ResolveKeyRequest {
        organization_id: cell.organization.clone(),
        profile_id: Some(profile.to_owned()),
        provider: cell.provider.into(),
    };
    let resolved = system.resolution.clone().resolve_key(request).await;
    match (resolved.map(tonic::Response::into_inner).map_err(Failure::from), &expected) {
        (Ok(key), Ok(source)) => {
            assert_eq!(key.source(), *source, "{context}");
            let (material, id) = match source {
                Source::Profile => (format!("key-{}-0", cell.organization), id(cell, 0)),
                Source::OrganizationDefault => (format!("key-{}-1", cell.organization), id(cell, 1)),
                _ => (format!("env-key-{}", format!("{:?}", cell.provider).to_uppercase()), String::new()),
            };
            assert_eq!(key.material.as_ref().expect("material").api_key, material, "{context}");
            assert_eq!(key.api_key_id, id, "{context}");
            assert_eq!(key.version, i64::from(*source != Source::Environment), "{context}");
        }
        (Err(failure), Err((reason, cause, forbidden))) => {
            assert_eq!(
                (failure.class(), failure.value("cause"), failure.value("forbidden")),
                (format!("FailedPrecondition {reason}"), *cause, *forbidden),
                "{context}"
            );
            for step in forbidden.split_whitespace() {
                assert!(failure.message.contains(step), "{context}: {}", failure.message);
            }
        }
        (resolved, expected) => panic!("{context}: {resolved:?} instead of {expected:?}"),
    }
    explains(system, cell, profile, variable, policies).await;
}

/// The explanation and the profile's listing never differ from what happens.
async fn explains(system: &System, cell: &Cell, profile: &str, variable: Variable, policies: [Policy; 2]) {
    let expected = explained(cell.links[0], cell.links[1], variable, policies);
    let context = format!("{} {variable:?} {policies:?}", cell.organization);
    let request = ExplainResolutionRequest {
        organization_id: cell.organization.clone(),
        profile_id: Some(profile.to_owned()),
        provider: cell.provider.into(),
    };
    let found = system.resolution.clone().explain_resolution(request).await.expect("an explanation").into_inner();
    let sign = |outcome| match outcome {
        Outcome::Chosen => '+',
        Outcome::NotConfigured => '-',
        Outcome::Unusable => '!',
        Outcome::NotReached => '.',
        Outcome::Forbidden => 'x',
        Outcome::Unspecified => '?',
    };
    let steps: String = found.steps.iter().map(|step| sign(step.outcome())).collect();
    assert_eq!(steps, expected, "{context}");
    let chosen = found.steps.iter().find(|step| step.outcome() == Outcome::Chosen);
    assert_eq!(found.chosen.as_ref(), chosen, "{context}");
    for step in found.steps.iter().filter(|step| step.outcome() == Outcome::Forbidden) {
        let forbids = |policy: Policy| match step.source() {
            Source::OrganizationDefault => !policy.default,
            _ => !policy.environment,
        };
        let by = match policies.map(forbids) {
            [true, true] => "the fallback policies of the organization and of the profile",
            [true, false] => "the organization's fallback policy",
            [false, _] => "the profile's fallback policy",
        };
        assert_eq!(step.detail, format!("forbidden by {by}"), "{context}");
    }
    let decides = found.steps.iter().find(|step| matches!(step.outcome(), Outcome::Chosen | Outcome::Unusable));
    if cell.provider == LISTED {
        assert_eq!(listed(system, cell, profile).await, decides.map(ResolutionStep::source), "{context}");
    }
}

/// What the listing of a profile says.
async fn listed(system: &System, cell: &Cell, profile: &str) -> Option<Source> {
    let request = ListProfileKeysRequest { organization_id: cell.organization.clone(), profile_id: profile.to_owned() };
    let listed = system.keys.clone().list_profile_keys(request).await.expect("a listing").into_inner().profile_keys;
    listed.iter().find(|row| row.provider() == cell.provider).map(ProfileKey::source)
}

fn id(cell: &Cell, link: usize) -> String {
    cell.keys[link].as_ref().expect("the cell has the key").api_key_id.clone()
}
