//! Which key a call gets: every cell of
//! profile × default × environment × provider, each with its expected outcome.

use std::fmt::Write as _;

use proto::{
    keyvault::{
        ApiKey, CreateApiKeyRequest, ExplainResolutionRequest, KeyMaterial, ResolutionStep, ResolveKeyRequest,
        UpdateApiKeyRequest, api_key::State, resolution_step::Outcome,
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
const PROFILE: &str = "research";

/// What a cell must give, said once more: the first link that exists decides.
fn expected(profile: Link, default: Link, variable: Variable) -> Result<Source, (&'static str, &'static str)> {
    match (profile, default, variable) {
        (Link::Enabled, _, _) => Ok(Source::Profile),
        (Link::Disabled, _, _) => Err(("KEY_UNUSABLE", "disabled")),
        (Link::Undecryptable, _, _) => Err(("KEY_UNUSABLE", "undecryptable")),
        (Link::None | Link::OfAnotherProvider, Link::Enabled, _) => Ok(Source::OrganizationDefault),
        (Link::None | Link::OfAnotherProvider, Link::Disabled, _) => Err(("KEY_UNUSABLE", "disabled")),
        (Link::None | Link::OfAnotherProvider, Link::Undecryptable, _) => Err(("KEY_UNUSABLE", "undecryptable")),
        (Link::None | Link::OfAnotherProvider, Link::None | Link::OfAnotherProvider, Variable::Set) => {
            Ok(Source::Environment)
        }
        (
            Link::None | Link::OfAnotherProvider,
            Link::None | Link::OfAnotherProvider,
            Variable::Unset | Variable::Empty,
        ) => Err(("NO_KEY_CONFIGURED", "")),
    }
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
    let mut system = System::with(Setup { vault_environment: environment(variable), ..Setup::default() }).await;
    let mut cells = Vec::new();
    for provider in PROVIDERS {
        for profile in LINKS {
            for default in LINKS {
                cells.push(cell(&mut system, provider, [profile, default]).await);
            }
        }
    }
    spoil(&system, &cells).await;
    for cell in &cells {
        check(&mut system, cell, variable).await;
    }
    println!("{} cells hold with the variables {variable:?}", cells.len());
    assert_eq!(cells.len(), 75);
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
            profile_ids: if n == 0 { vec![PROFILE.to_owned()] } else { Vec::new() },
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

async fn check(system: &mut System, cell: &Cell, variable: Variable) {
    let expected = expected(cell.links[0], cell.links[1], variable);
    let organization_id = cell.organization.clone();
    let context = format!("{organization_id} {variable:?}");
    let request = ResolveKeyRequest {
        organization_id: organization_id.clone(),
        profile_id: Some(PROFILE.to_owned()),
        provider: cell.provider.into(),
    };
    let resolved = system.resolution.resolve_key(request).await.map(tonic::Response::into_inner).map_err(Failure::from);
    match (&resolved, &expected) {
        (Ok(key), Ok(source)) => {
            assert_eq!(key.source(), *source, "{context}");
            let (material, id) = match source {
                Source::Profile => (format!("key-{organization_id}-0"), id(cell, 0)),
                Source::OrganizationDefault => (format!("key-{organization_id}-1"), id(cell, 1)),
                _ => (format!("env-key-{}", format!("{:?}", cell.provider).to_uppercase()), String::new()),
            };
            assert_eq!(key.material.as_ref().expect("material").api_key, material, "{context}");
            assert_eq!(key.api_key_id, id, "{context}");
            assert_eq!(key.version, i64::from(*source != Source::Environment), "{context}");
        }
        (Err(failure), Err((reason, cause))) => {
            assert_eq!(
                (failure.class(), failure.value("cause")),
                (format!("FailedPrecondition {reason}"), *cause),
                "{context}"
            );
        }
        (resolved, expected) => panic!("{context}: {resolved:?} instead of {expected:?}"),
    }
    // The explanation never differs from what happens.
    let request = ExplainResolutionRequest {
        organization_id,
        profile_id: Some(PROFILE.to_owned()),
        provider: cell.provider.into(),
    };
    let explained = system.resolution.explain_resolution(request).await.expect("an explanation").into_inner();
    assert_eq!(explained.steps.len(), 3, "{context}");
    assert_eq!(explained.chosen.as_ref().map(ResolutionStep::source), expected.ok(), "{context}");
    let fails = explained.steps.iter().any(|step| step.outcome() == Outcome::Unusable);
    assert_eq!(fails, matches!(expected, Err(("KEY_UNUSABLE", _))), "{context}");
}

fn id(cell: &Cell, link: usize) -> String {
    cell.keys[link].as_ref().expect("the cell has the key").api_key_id.clone()
}
