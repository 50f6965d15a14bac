//! What is to be done so that an organization becomes as a file says: a pure function of both.
//!
//! The order keeps every moment in between as good as the worse of before and after. First what
//! gives: keys, assignments and defaults, each in place of the old one in one step, so that no
//! profile is without a key on its way to another. Then policies that forbid, before anything
//! is taken away: a profile that loses its key must be refused, not be billed to the organization.
//! Policies that allow come last, when the default that they open is the right one.

mod differences;

use std::collections::{BTreeMap, BTreeSet};

use proto::{keyvault::ApiKey, types::Provider};

use super::declaration::{Key, Organization, Place, Policy, Problem, Reference};

/// An organization, as the vault has it.
#[derive(Debug, Default)]
pub(super) struct Actual {
    pub(super) keys: Vec<ApiKey>,
    /// Of those that the file names.
    pub(super) policies: BTreeMap<Option<String>, Policy>,
}

/// What becomes of keys that the file does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unnamed {
    LeftAlone,
    Deleted,
}

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Keys that the file does not name, and that stay.
    pub(super) left_alone: Vec<ApiKey>,
}

/// One change, which is one call.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) organization: String,
    pub(super) subject: Subject,
    pub(super) action: Action,
    /// How the vault differs from the file.
    pub(super) why: String,
}

/// What a change is made to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Subject {
    Key {
        /// Empty for a key that is to be made.
        id: String,
        provider: Provider,
        name: String,
    },
    /// Of a profile, or of the whole organization.
    Policy { profile: Option<String> },
}

/// What is changed. The order of the variants is the order in which it is done.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Rename(String),
    /// Before links are given to the key: a disabled key gets none.
    Enable,
    Create(Box<Key>),
    Rotate {
        place: Place,
        material: Reference,
    },
    Assign(BTreeSet<String>),
    SetDefault,
    /// Forbids what the file forbids, and allows nothing new yet.
    Forbid {
        was: Policy,
        becomes: Policy,
    },
    Unassign(BTreeSet<String>),
    ClearDefault,
    Disable,
    Delete,
    Allow {
        was: Policy,
        becomes: Policy,
    },
}

impl Action {
    /// What it is called, and where in the order it stands.
    pub(super) fn name(&self) -> (&'static str, u8) {
        match self {
            Self::Rename(_) => ("rename", 0),
            Self::Enable => ("enable", 1),
            Self::Create(_) => ("create", 2),
            Self::Rotate { .. } => ("rotate", 3),
            Self::Assign(_) => ("assign", 4),
            Self::SetDefault => ("set default", 5),
            Self::Forbid { .. } => ("forbid", 6),
            Self::Unassign(_) => ("unassign", 7),
            Self::ClearDefault => ("clear default", 8),
            Self::Disable => ("disable", 9),
            Self::Delete => ("delete", 10),
            Self::Allow { .. } => ("allow", 11),
        }
    }
}

/// What is to be done so that `actual` becomes as `declared` says.
pub(super) fn plan(declared: &Organization, actual: &Actual, unnamed: Unnamed) -> Result<Plan, Vec<Problem>> {
    if unnamed == Unnamed::Deleted && !declared.lists_keys {
        let text = "has no list of `keys`, and every key would be deleted: write `keys: []` if that is meant";
        return Err(vec![Problem::new(&declared.place, text)]);
    }
    let pairs = pairs(declared, actual)?;
    let mut differences = differences::Differences::new(declared, &pairs, &actual.keys);
    for (key, existing) in &pairs {
        match existing {
            Some(existing) => differences.existing(key, existing),
            None => differences.new_key(key),
        }
    }
    for (profile, policy) in &declared.policies {
        let was = actual.policies.get(profile).copied().unwrap_or(Policy::UNSET);
        differences.policy(profile.as_ref(), was, *policy);
    }
    let named: BTreeSet<_> = pairs.iter().filter_map(|(_, existing)| *existing).map(|key| &key.api_key_id).collect();
    let rest = actual.keys.iter().filter(|key| !named.contains(&key.api_key_id));
    let mut left_alone = Vec::new();
    for key in rest {
        match unnamed {
            Unnamed::LeftAlone => left_alone.push(key.clone()),
            Unnamed::Deleted => differences.unnamed(key),
        }
    }
    let mut steps = differences.finish()?;
    steps.sort_by_key(|step| step.action.name().1);
    Ok(Plan { steps, left_alone })
}

/// Each key of the file with the one of the vault that it means, if there is one.
fn pairs<'a>(
    declared: &'a Organization,
    actual: &'a Actual,
) -> Result<Vec<(&'a Key, Option<&'a ApiKey>)>, Vec<Problem>> {
    let ids: BTreeSet<_> = declared.keys.iter().filter_map(|key| key.id.as_ref()).collect();
    let mut problems = Vec::new();
    let mut pairs = Vec::new();
    for key in &declared.keys {
        let is_meant = |other: &&ApiKey| match &key.id {
            Some(id) => other.api_key_id == *id,
            // A key that an id names is not also what a name means.
            None => {
                other.provider() == key.provider && other.display_name == key.name && !ids.contains(&other.api_key_id)
            }
        };
        let mut found = actual.keys.iter().filter(is_meant);
        let (first, second) = (found.next(), found.next());
        let problem = match (first, second) {
            (Some(first), Some(second)) => Some(format!(
                "is the name of keys {} and {}: rename one of them in the vault, or say with `id` which is meant",
                first.api_key_id, second.api_key_id
            )),
            (None, _) if key.id.is_some() => Some("has an `id` that no key of the organization has".to_owned()),
            (Some(first), None) if first.provider() != key.provider => {
                Some("has the `id` of a key of another provider".to_owned())
            }
            _ => None,
        };
        problems.extend(problem.map(|text| Problem::new(&key.place, text)));
        pairs.push((key, first));
    }
    if problems.is_empty() { Ok(pairs) } else { Err(problems) }
}

#[cfg(test)]
mod tests;
