//! Writes an organization as a file that `apply` reads, and that changes nothing there.
//!
//! Texts are quoted as JSON is, which YAML reads as it is meant, whatever is in them.

use std::fmt::Write as _;

use proto::keyvault::{ApiKey, api_key::State};

use super::{declaration::Policy, plan::Actual};
use crate::cli::output;

/// The file of an organization.
pub(super) fn document(organization: &str, actual: &Actual) -> Result<String, serde_json::Error> {
    let mut text = String::from(
        "# Key material is not in this file. `material` is read only to make a key, or to rotate it: say\n\
         # there where the key is, {file: PATH} or {env: VARIABLE}.\norganizations:\n",
    );
    let id = serde_json::to_string(organization)?;
    // Writing to a text does not fail.
    let _ = writeln!(text, "- id: {id}");
    if !actual.keys.is_empty() {
        text.push_str("  keys:\n");
    }
    for key in &actual.keys {
        write_key(&mut text, key, is_ambiguous(key, &actual.keys))?;
    }
    let set: Vec<_> = actual.policies.iter().filter(|(_, policy)| **policy != Policy::UNSET).collect();
    if !set.is_empty() {
        text.push_str("  policies:\n");
    }
    for (profile, policy) in set {
        write_policy(&mut text, profile.as_deref(), *policy)?;
    }
    Ok(text)
}

fn write_key(text: &mut String, key: &ApiKey, with_id: bool) -> Result<(), serde_json::Error> {
    let _ = writeln!(text, "  - provider: {}", output::provider(key.provider()));
    let _ = writeln!(text, "    name: {}", serde_json::to_string(&key.display_name)?);
    if with_id {
        let _ = writeln!(text, "    id: {}", key.api_key_id);
    }
    // An enabled key says nothing, so that the file does not undo what an emergency asks for.
    if key.state() == State::Disabled {
        text.push_str("    state: disabled\n");
    }
    if key.organization_default {
        text.push_str("    default: true\n");
    }
    if !key.profile_ids.is_empty() {
        let profiles = key.profile_ids.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        let _ = writeln!(text, "    profiles: [{}]", profiles.join(", "));
    }
    let _ = writeln!(text, "    material: {{file: {}}}", key.api_key_id);
    Ok(())
}

fn write_policy(text: &mut String, profile: Option<&str>, policy: Policy) -> Result<(), serde_json::Error> {
    let word = |allowed| if allowed { "allow" } else { "forbid" };
    let profile = match profile {
        Some(profile) => format!("profile: {}, ", serde_json::to_string(profile)?),
        None => String::new(),
    };
    let (default, environment) = (word(policy.organization_default), word(policy.environment));
    let _ = writeln!(text, "  - {{{profile}organization_default: {default}, environment: {environment}}}");
    Ok(())
}

/// Whether provider and name do not tell which key it is.
fn is_ambiguous(key: &ApiKey, all: &[ApiKey]) -> bool {
    let same = |other: &&ApiKey| other.provider == key.provider && other.display_name == key.display_name;
    all.iter().filter(same).count() > 1
}
