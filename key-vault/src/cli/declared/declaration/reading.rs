//! From the tree of a file to what it declares.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proto::types::Provider;

use super::super::source::{Entry, Node};
use super::{
    Key, Organization, PROFILES_MAX, Place, Policy, Problem, Reference, State,
    fields::{Field, Fields, Notes},
};
use crate::key::{DisplayName, Invalid, KeyId, OrganizationId, ProfileId};

const PROVIDERS: [(&str, Provider); 3] =
    [("anthropic", Provider::Anthropic), ("openai", Provider::Openai), ("gemini", Provider::Gemini)];
const PERMISSIONS: [(&str, bool); 2] = [("allow", true), ("forbid", false)];
const KEY_FIELDS: [&str; 8] = ["provider", "name", "id", "state", "default", "profiles", "version", "material"];

/// What a file declares: `organizations`, or a list of keys, whose `organization` is `otherwise`
/// unless they say it.
pub(in super::super) fn parse(root: &Entry, otherwise: &str) -> Result<Vec<Organization>, Vec<Problem>> {
    let mut notes = Notes::default();
    let organizations = match &root.node {
        Node::List(_) => key_list(&mut notes, root, otherwise),
        _ => document(&mut notes, root),
    };
    for organization in &organizations {
        check_together(&mut notes, organization);
    }
    notes.problems.sort_by_key(|problem| problem.place.line);
    if notes.problems.is_empty() { Ok(organizations) } else { Err(notes.problems) }
}

fn document(notes: &mut Notes, root: &Entry) -> Vec<Organization> {
    let place = Place { line: root.line, path: String::new() };
    let Some(fields) = notes.fields(&place, root, &["organizations"]) else { return Vec::new() };
    let found = fields.get("organizations");
    if found.is_none() {
        notes.add(&place, "must have a list of `organizations`");
    }
    let mut organizations: Vec<Organization> = Vec::new();
    for (place, entry) in notes.list(found) {
        let Some(organization) = organization(notes, &place, entry) else { continue };
        if organizations.iter().any(|other| other.id == organization.id) {
            notes.add(&place, "is an organization that stands in the file twice");
        }
        organizations.push(organization);
    }
    organizations
}

fn key_list(notes: &mut Notes, root: &Entry, otherwise: &str) -> Vec<Organization> {
    let mut known = KEY_FIELDS.to_vec();
    known.push("organization");
    let whole = Field { place: Place { line: root.line, path: "keys".to_owned() }, entry: root };
    let mut organizations: BTreeMap<String, Organization> = BTreeMap::new();
    for (place, entry) in notes.list(Some(whole)) {
        let Some(fields) = notes.fields(&place, entry, &known) else { continue };
        let id = match fields.get("organization") {
            Some(field) => label::<OrganizationId>(notes, &field.place, field.entry),
            None => Some(otherwise.to_owned()),
        };
        if let (Some(id), Some(key)) = (id, key(notes, &fields)) {
            let organization = organizations.entry(id.clone()).or_default();
            organization.id = id;
            organization.lists_keys = true;
            organization.keys.push(key);
        }
    }
    organizations.into_values().collect()
}

fn organization(notes: &mut Notes, place: &Place, entry: &Entry) -> Option<Organization> {
    let fields = notes.fields(place, entry, &["id", "keys", "policies"])?;
    let id = required(notes, &fields, "id").and_then(|id| label::<OrganizationId>(notes, &id.place, id.entry));
    let mut keys = Vec::new();
    let lists_keys = fields.get("keys").is_some_and(|field| matches!(field.entry.node, Node::List(_)));
    for (key_place, entry) in notes.list(fields.get("keys")) {
        let fields = notes.fields(&key_place, entry, &KEY_FIELDS);
        keys.extend(fields.and_then(|fields| key(notes, &fields)));
    }
    let mut policies = BTreeMap::new();
    for (policy_place, entry) in notes.list(fields.get("policies")) {
        let Some((profile, policy)) = policy(notes, &policy_place, entry) else { continue };
        if policies.insert(profile, policy).is_some() {
            notes.add(&policy_place, "is a second policy of the same profile, or of the organization");
        }
    }
    Some(Organization { id: id?, place: place.clone(), keys, lists_keys, policies })
}

fn key(notes: &mut Notes, fields: &Fields<'_>) -> Option<Key> {
    let provider = required(notes, fields, "provider").and_then(|field| notes.word(Some(field), &PROVIDERS));
    let name = required(notes, fields, "name").and_then(|field| {
        let text = notes.text(&field.place, field.entry)?.to_owned();
        valid(notes, &field.place, DisplayName::try_from(text.clone()))?;
        Some(text)
    });
    let id = fields.get("id").and_then(|field| {
        let text = notes.text(&field.place, field.entry)?;
        valid(notes, &field.place, KeyId::try_from(text))?;
        Some(text.to_owned())
    });
    let state = notes.word(fields.get("state"), &[("enabled", State::Enabled), ("disabled", State::Disabled)]);
    let default = notes.flag(fields.get("default"));
    let profiles = profiles(notes, fields);
    let version = notes.count(fields.get("version"));
    let material = fields.get("material").and_then(|field| reference(notes, &field));
    let place = fields.place.clone();
    Some(Key { place, id, provider: provider?, name: name?, state, default, profiles, version, material })
}

fn profiles(notes: &mut Notes, fields: &Fields<'_>) -> BTreeSet<String> {
    let mut profiles = BTreeSet::new();
    for (place, entry) in notes.list(fields.get("profiles")) {
        let Some(profile) = label::<ProfileId>(notes, &place, entry) else { continue };
        if !profiles.insert(profile) {
            notes.add(&place, "is a profile that the key has already");
        }
    }
    if profiles.len() > PROFILES_MAX {
        notes.add(&fields.place, format!("has more than {PROFILES_MAX} profiles"));
    }
    profiles
}

/// Where the material is. Whatever else stands there may be the key itself, and is not shown.
fn reference(notes: &mut Notes, field: &Field<'_>) -> Option<Reference> {
    const MEANT: &str = "{file: PATH} or {env: VARIABLE}";
    if !matches!(field.entry.node, Node::Fields(_)) {
        notes.add(
            &field.place,
            format!("must say where the key is, {MEANT}: a key itself does not belong into the file"),
        );
        return None;
    }
    let fields = notes.fields(&field.place, field.entry, &["file", "env"])?;
    let file = notes.optional_text(fields.get("file"));
    let variable = notes.optional_text(fields.get("env"));
    match (file, variable) {
        (Some(path), None) if !path.is_empty() => Some(Reference::File(path.into())),
        (None, Some(name)) if is_variable(name) => Some(Reference::Variable(name.to_owned())),
        (None, Some(_)) => {
            notes.add(&field.place, "`env` must be the name of a variable, of A-Z a-z 0-9 and _");
            None
        }
        (Some(_) | None, _) => {
            notes.add(&field.place, format!("must be either {MEANT}"));
            None
        }
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn policy(notes: &mut Notes, place: &Place, entry: &Entry) -> Option<(Option<String>, Policy)> {
    let fields = notes.fields(place, entry, &["profile", "organization_default", "environment"])?;
    let profile = match fields.get("profile") {
        Some(field) => Some(label::<ProfileId>(notes, &field.place, field.entry)?),
        None => None,
    };
    let mut step = |name| notes.word(fields.get(name), &PERMISSIONS).unwrap_or(true);
    Some((profile, Policy { organization_default: step("organization_default"), environment: step("environment") }))
}

fn required<'a>(notes: &mut Notes, fields: &Fields<'a>, name: &str) -> Option<Field<'a>> {
    let field = fields.get(name);
    if field.is_none() {
        notes.add(&fields.place, format!("must have the field `{name}`"));
    }
    field
}

fn label<T: TryFrom<String, Error = Invalid>>(notes: &mut Notes, place: &Place, entry: &Entry) -> Option<String> {
    let text = notes.text(place, entry)?.to_owned();
    valid(notes, place, T::try_from(text.clone()))?;
    Some(text)
}

fn valid<T>(notes: &mut Notes, place: &Place, made: Result<T, Invalid>) -> Option<T> {
    made.map_err(|problem| notes.add(place, problem.to_string())).ok()
}

/// What each key may say, and two of them may not.
fn check_together(notes: &mut Notes, organization: &Organization) {
    let mut names: HashMap<_, &Key> = HashMap::new();
    let mut ids: HashMap<_, &Key> = HashMap::new();
    let mut defaults: HashMap<_, &Key> = HashMap::new();
    let mut owners: HashMap<_, &Key> = HashMap::new();
    for key in &organization.keys {
        // Ids tell keys of one name apart, if all of them have one.
        if let Some(other) = names.insert((key.provider, &key.name), key)
            && (key.id.is_none() || other.id.is_none())
        {
            let line = other.place.line;
            notes.add(
                &key.place,
                format!("has the provider and the name of the key of line {line}: rename one, or give each its `id`"),
            );
        }
        if let Some(other) = key.id.as_ref().and_then(|id| ids.insert(id, key)) {
            notes.add(&key.place, format!("has the id of the key of line {}", other.place.line));
        }
        if key.default
            && let Some(other) = defaults.insert(key.provider, key)
        {
            let line = other.place.line;
            notes.add(&key.place, format!("is a second default of its provider: line {line} has one"));
        }
        for profile in &key.profiles {
            if let Some(other) = owners.insert((key.provider, profile), key) {
                let line = other.place.line;
                notes.add(
                    &key.place,
                    format!("has profile {profile}, which the key of line {line} of the same provider has"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::declared::source;

    fn problems(text: &str) -> Vec<String> {
        let root = source::yaml(text).unwrap();
        let problems = parse(&root, "default").unwrap_err();
        problems.iter().map(|Problem { place, text }| format!("{}: {}: {text}", place.line, place.path)).collect()
    }

    #[test]
    fn a_file_says_how_an_organization_should_be() {
        let text = "organizations:\n- id: acme\n  keys:\n  - provider: openai\n    name: Research\n    default: true\n    \
                    profiles: [b, a]\n    state: disabled\n    version: 2\n    material: {file: k}\n  policies:\n  \
                    - {environment: forbid}\n  - {profile: a, organization_default: forbid}\n";
        let organizations = parse(&source::yaml(text).unwrap(), "default").unwrap();
        let [organization] = organizations.as_slice() else { panic!("{organizations:?}") };
        let [key] = organization.keys.as_slice() else { panic!("{organization:?}") };
        assert_eq!((organization.id.as_str(), key.name.as_str(), key.provider), ("acme", "Research", Provider::Openai));
        assert_eq!((key.default, key.state, key.version), (true, Some(State::Disabled), Some(2)));
        assert_eq!(key.profiles.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(key.material, Some(Reference::File("k".into())));
        assert_eq!(organization.policies[&None], Policy { organization_default: true, environment: false });
        assert_eq!(
            organization.policies[&Some("a".to_owned())],
            Policy { organization_default: false, environment: true }
        );
    }

    #[test]
    fn a_list_of_keys_is_sorted_by_organization() {
        let list = "organization,provider,name,profiles,default,env\n,openai,a,x;y,true,A\nother,openai,a,,,B\n";
        let organizations = parse(&source::csv(list).unwrap(), "acme").unwrap();
        let found: Vec<_> = organizations.iter().map(|found| (found.id.as_str(), found.keys.len())).collect();
        assert_eq!(found, [("acme", 1), ("other", 1)]);
        assert_eq!((organizations[0].keys[0].default, organizations[0].keys[0].profiles.len()), (true, 2));
        assert_eq!(organizations[1].keys[0].material, Some(Reference::Variable("B".to_owned())));
    }

    #[test]
    fn all_problems_are_said_at_once_with_their_places() {
        let found = problems(
            "organizations:\n- id: a b\n- id: acme\n  colour: red\n  keys:\n  - provider: openia\n    name: x\n  - provider: \
             openai\n    name: x\n    default: true\n    profiles: [p]\n  - provider: openai\n    name: x\n    default: true\n    \
             profiles: [p, p]\n    version: 0\n",
        );
        let expected = [
            "2: organizations[0].id: must be 1 to 128",
            "4: organizations[1]: has no field `colour`: there are id, keys, policies",
            "6: organizations[1].keys[0].provider: must be anthropic or openai or gemini",
            "12: organizations[1].keys[2]: has the provider and the name of the key of line 8",
            "12: organizations[1].keys[2]: is a second default of its provider: line 8 has one",
            "12: organizations[1].keys[2]: has profile p, which the key of line 8",
            "15: organizations[1].keys[2].profiles[1]: is a profile that the key has already",
            "16: organizations[1].keys[2].version: must be a whole number from 1 on",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for expected in expected {
            assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected}: {found:#?}");
        }
    }

    #[test]
    fn a_key_in_the_file_is_refused_and_not_shown() {
        const CANARY: &str = "sk-canary-0123456789";
        for place in [
            "material: CANARY",
            "material: [CANARY]",
            "material: {key: CANARY}",
            "material: {CANARY: x}",
            "material: {env: CANARY}",
            "material: {file: CANARY, env: CANARY}",
            "api_key: CANARY",
            "CANARY: x",
            "state: CANARY",
            "default: CANARY",
            "version: CANARY",
            "id: CANARY",
            "profiles: [\"CANARY CANARY\"]",
        ] {
            let text = format!(
                "organizations:\n- id: acme\n  keys:\n  - provider: openai\n    name: x\n    {}\n",
                place.replace("CANARY", CANARY)
            );
            let found = problems(&text).join("\n");
            assert!(found.starts_with("6: ") && !found.contains("canary"), "{place}: {found}");
        }
    }
}
