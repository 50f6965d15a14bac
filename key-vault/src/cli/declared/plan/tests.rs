use proto::keyvault::api_key;

use super::*;
use crate::cli::declared::{declaration, source};

/// Keys of the vault, `provider name [profiles]`, with a star after the name of a default.
fn vault(keys: &[(&str, &str, &[&str])]) -> Actual {
    let key = |(index, (provider, name, profiles)): (usize, &(&str, &str, &[&str]))| ApiKey {
        api_key_id: format!("00000000-0000-7000-8000-00000000000{index}"),
        organization_id: "acme".to_owned(),
        provider: if *provider == "openai" { Provider::Openai } else { Provider::Anthropic }.into(),
        display_name: name.trim_end_matches('*').to_owned(),
        state: api_key::State::Enabled.into(),
        version: 1,
        organization_default: name.ends_with('*'),
        profile_ids: profiles.iter().map(|profile| (*profile).to_owned()).collect(),
        ..ApiKey::default()
    };
    Actual { keys: keys.iter().enumerate().map(key).collect(), policies: BTreeMap::new() }
}

fn file(keys: &[&str]) -> Organization {
    with_policies(keys, &[])
}

fn with_policies(keys: &[&str], policies: &[&str]) -> Organization {
    let text =
        format!("organizations: [{{id: acme, keys: [{}], policies: [{}]}}]", keys.join(", "), policies.join(", "));
    let parsed = declaration::parse(&source::yaml(&text).unwrap(), "default");
    parsed.unwrap_or_else(|problems| panic!("{problems:?}")).remove(0)
}

fn steps(declared: &Organization, actual: &Actual, unnamed: Unnamed) -> Vec<String> {
    let plan = plan(declared, actual, unnamed).unwrap_or_else(|problems| panic!("{problems:?}"));
    let line = |step: &Step| {
        let subject = match &step.subject {
            Subject::Key { name, .. } => name.clone(),
            Subject::Policy { profile } => profile.clone().unwrap_or_else(|| "(all)".to_owned()),
        };
        format!("{} {subject}: {}", step.action.name().0, step.why)
    };
    plan.steps.iter().map(line).collect()
}

fn problem(declared: &Organization, actual: &Actual) -> String {
    let problems = plan(declared, actual, Unnamed::LeftAlone).unwrap_err();
    problems.into_iter().map(|problem| problem.text).collect::<Vec<_>>().join("\n")
}

#[test]
fn nothing_is_done_where_all_is_as_the_file_says() {
    let actual = vault(&[("openai", "a*", &["x", "y"]), ("anthropic", "a", &["x"]), ("openai", "other", &["z"])]);
    let declared = with_policies(
        &[
            "{provider: openai, name: a, default: true, profiles: [y, x]}",
            "{provider: anthropic, name: a, profiles: [x], version: 1}",
        ],
        &["{profile: x}"],
    );
    assert_eq!(steps(&declared, &actual, Unnamed::LeftAlone), [""; 0]);
    let plan = plan(&declared, &actual, Unnamed::LeftAlone).unwrap();
    assert_eq!(plan.left_alone.iter().map(|key| key.display_name.as_str()).collect::<Vec<_>>(), ["other"]);
}

#[test]
fn every_difference_is_a_step_that_says_why() {
    let actual = vault(&[("openai", "a*", &["x", "y"])]);
    for (key, expected) in [
        (
            "default: true, profiles: [y, z]",
            &["assign a: profiles: has x, y, the file says y, z", "unassign a: profiles: has x, y, the file says y, z"]
                [..],
        ),
        ("profiles: [x, y]", &["clear default a: default: is, the file says it is not"]),
        ("default: true, profiles: [x, y], state: disabled", &["disable a: state: is enabled, the file says disabled"]),
        (
            "default: true, profiles: [x, y], version: 2, material: {file: f}",
            &["rotate a: version: has 1, the file says 2"],
        ),
        ("default: true, profiles: []", &["unassign a: profiles: has x, y, the file says none"]),
    ] {
        let declared = file(&[&format!("{{provider: openai, name: a, {key}}}")]);
        assert_eq!(steps(&declared, &actual, Unnamed::LeftAlone), expected, "{key}");
    }
    let named =
        "{provider: openai, name: b, default: true, profiles: [x, y], id: 00000000-0000-7000-8000-000000000000}";
    assert_eq!(steps(&file(&[named]), &actual, Unnamed::LeftAlone), ["rename b: name: has \"a\", the file says \"b\""]);
}

#[test]
fn what_gives_comes_before_what_takes_and_allowing_comes_last() {
    let mut actual = vault(&[("openai", "a*", &["x", "y"]), ("openai", "b", &["z"]), ("openai", "old", &["w"])]);
    actual.policies.insert(None, Policy { organization_default: true, environment: false });
    let declared = with_policies(
        &[
            "{provider: openai, name: a, profiles: [z]}",
            "{provider: openai, name: b, profiles: [x], default: true}",
            "{provider: openai, name: c, profiles: [w], material: {env: C}}",
        ],
        &["{organization_default: forbid}"],
    );
    assert_eq!(
        steps(&declared, &actual, Unnamed::Deleted),
        [
            "create c: is not in the vault; profiles: w, taken from \"old\"",
            "assign a: profiles: has x, y, the file says z, taken from \"b\"",
            "assign b: profiles: has z, the file says x, taken from \"a\"",
            "set default b: default: is not, the file says it is",
            "forbid (all): policy: organization_default allow, environment forbid, the file says \
             organization_default forbid, environment allow",
            "unassign a: profiles: has x, y, the file says z",
            "delete old: is not in the file; profile w falls back",
            "allow (all): policy: organization_default allow, environment forbid, the file says \
             organization_default forbid, environment allow",
        ]
    );
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is() {
    let mut actual = vault(&[("openai", "a", &[]), ("openai", "twice", &[]), ("openai", "twice", &[])]);
    actual.keys[0].set_state(api_key::State::Disabled);
    for (key, expected) in [
        ("name: new", "no `material` to be made of"),
        ("name: new, material: {env: A}, version: 3", "a new key has version 1"),
        (
            "name: twice",
            "is the name of keys 00000000-0000-7000-8000-000000000001 and 00000000-0000-7000-8000-000000000002",
        ),
        ("name: a, id: 00000000-0000-7000-8000-00000000000f", "an `id` that no key"),
        ("name: a, default: true", "is disabled in the vault"),
        ("name: a, profiles: [x]", "is disabled in the vault"),
        ("name: a, version: 2", "no `material` to be rotated"),
        ("name: a, version: 3, material: {env: A}", "write 1, or 2 to rotate it"),
    ] {
        let found = problem(&file(&[&format!("{{provider: openai, {key}}}")]), &actual);
        assert!(found.contains(expected) && !found.contains('\n'), "{key}: {found}");
    }
}

#[test]
fn a_key_that_an_id_names_is_not_also_what_a_name_means() {
    let actual = vault(&[("openai", "a", &[])]);
    let declared = file(&[
        "{provider: openai, name: b, id: 00000000-0000-7000-8000-000000000000}",
        "{provider: openai, name: a, material: {env: A}}",
    ]);
    assert_eq!(
        steps(&declared, &actual, Unnamed::LeftAlone),
        ["rename b: name: has \"a\", the file says \"b\"", "create a: is not in the vault"]
    );
}

#[test]
fn a_disabled_key_stays_so_unless_the_file_says_otherwise() {
    let mut actual = vault(&[("openai", "a", &["x"])]);
    actual.keys[0].set_state(api_key::State::Disabled);
    let silent = file(&["{provider: openai, name: a, profiles: [x]}"]);
    assert_eq!(steps(&silent, &actual, Unnamed::LeftAlone), [""; 0]);
    let enabled = file(&["{provider: openai, name: a, profiles: [x, y], state: enabled}"]);
    assert_eq!(
        steps(&enabled, &actual, Unnamed::LeftAlone),
        ["enable a: state: is disabled, the file says enabled", "assign a: profiles: has x, the file says x, y"]
    );
}

#[test]
fn an_organization_without_a_list_of_keys_loses_none() {
    let actual = vault(&[("openai", "a", &[])]);
    for text in ["{id: acme}", "{id: acme, keys: }", "{id: acme, policies: [{environment: forbid}]}"] {
        let root = source::yaml(&format!("organizations: [{text}]")).unwrap();
        let declared = declaration::parse(&root, "default").unwrap().remove(0);
        let problems = plan(&declared, &actual, Unnamed::Deleted).unwrap_err();
        assert!(problems[0].text.contains("`keys: []`"), "{text}: {problems:?}");
    }
    assert_eq!(steps(&file(&[]), &actual, Unnamed::Deleted).len(), 1, "an empty list says it");
}
