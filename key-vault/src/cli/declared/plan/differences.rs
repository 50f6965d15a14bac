//! Where a vault differs from a file, as the steps that end it, each with its reason.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    keyvault::{ApiKey, api_key},
    types::Provider,
};

use super::super::declaration::{Key, Organization, Policy, Problem, State};
use super::{Action, Step, Subject};

/// As many profiles as a reason names.
const PROFILES_SHOWN: usize = 6;

#[derive(Debug)]
pub(super) struct Differences<'a> {
    organization: &'a str,
    /// Whom the file gives each profile's calls, by provider.
    owners: BTreeMap<(Provider, &'a str), &'a Key>,
    /// The providers for which the file has a default.
    defaults: BTreeSet<Provider>,
    /// Who has a profile's calls in the vault.
    holders: BTreeMap<(Provider, &'a str), &'a ApiKey>,
    steps: Vec<Step>,
    problems: Vec<Problem>,
}

impl<'a> Differences<'a> {
    pub(super) fn new(declared: &'a Organization, actual: &[(&'a Key, Option<&'a ApiKey>)], all: &'a [ApiKey]) -> Self {
        let owners = actual
            .iter()
            .flat_map(|&(key, _)| key.profiles.iter().map(move |profile| ((key.provider, profile.as_str()), key)));
        let holders = all
            .iter()
            .flat_map(|key| key.profile_ids.iter().map(move |profile| ((key.provider(), profile.as_str()), key)));
        Self {
            organization: &declared.id,
            owners: owners.collect(),
            defaults: actual.iter().filter(|(key, _)| key.default).map(|(key, _)| key.provider).collect(),
            holders: holders.collect(),
            steps: Vec::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> Result<Vec<Step>, Vec<Problem>> {
        if self.problems.is_empty() { Ok(self.steps) } else { Err(self.problems) }
    }

    /// A key that the vault does not have. One step makes it with all its links.
    pub(super) fn new_key(&mut self, key: &Key) {
        if key.material.is_none() {
            self.problem(key, "is not in the vault, and has no `material` to be made of");
        }
        if key.version.is_some_and(|version| version != 1) {
            self.problem(key, "is not in the vault, and a new key has version 1: leave `version` out");
        }
        let mut why = "is not in the vault".to_owned();
        if !key.profiles.is_empty() {
            why = format!("{why}; profiles: {}{}", listed(&key.profiles), self.moves(key, "", &key.profiles));
        }
        for (is_so, word) in [(key.default, "default"), (key.state == Some(State::Disabled), "disabled")] {
            if is_so {
                why = format!("{why}; {word}");
            }
        }
        self.step(subject("", key.provider, &key.name), Action::Create(Box::new(key.clone())), why);
    }

    pub(super) fn existing(&mut self, key: &Key, existing: &ApiKey) {
        let subject = subject(&existing.api_key_id, key.provider, &key.name);
        if existing.display_name != key.name {
            let why = format!("name: has {:?}, the file says {:?}", existing.display_name, key.name);
            self.step(subject.clone(), Action::Rename(key.name.clone()), why);
        }
        let is_disabled = existing.state() == api_key::State::Disabled;
        match (is_disabled, key.state) {
            (true, Some(State::Enabled)) => {
                self.step(subject.clone(), Action::Enable, "state: is disabled, the file says enabled");
            }
            (false, Some(State::Disabled)) => {
                self.step(subject.clone(), Action::Disable, "state: is enabled, the file says disabled");
            }
            _ => {}
        }
        self.version(key, existing, &subject);
        let gains_link = self.profiles(key, existing, &subject) | self.default(key, existing, &subject);
        if is_disabled && gains_link && key.state != Some(State::Enabled) {
            self.problem(key, "is disabled in the vault, and a disabled key is given to nobody: say `state: enabled`");
        }
    }

    /// What the material is, nobody can see: its version stands for it.
    fn version(&mut self, key: &Key, existing: &ApiKey, subject: &Subject) {
        let Some(version) = key.version else { return };
        let has = existing.version;
        if version == has {
            return;
        }
        if version != has + 1 {
            let next = has + 1;
            return self.problem(
                key,
                format!(
                    "has version {has} in the vault, and the file says {version}: write {has}, or {next} to rotate it"
                ),
            );
        }
        match &key.material {
            None => self.problem(key, format!("has no `material` to be rotated to version {version}")),
            Some(material) => {
                let why = format!("version: has {has}, the file says {version}");
                let action = Action::Rotate { place: key.place.clone(), material: material.clone() };
                self.step(subject.clone(), action, why);
            }
        }
    }

    /// Whether the key gains a profile.
    fn profiles(&mut self, key: &Key, existing: &ApiKey, subject: &Subject) -> bool {
        let has: BTreeSet<String> = existing.profile_ids.iter().cloned().collect();
        if has == key.profiles {
            return false;
        }
        let why = format!("profiles: has {}, the file says {}", listed(&has), listed(&key.profiles));
        let gained: BTreeSet<_> = key.profiles.difference(&has).cloned().collect();
        // What another key of the file gets is taken from this one by the step that gives it.
        let is_nobodys = |profile: &&String| !self.owners.contains_key(&(key.provider, profile.as_str()));
        let lost: BTreeSet<_> = has.difference(&key.profiles).filter(is_nobodys).cloned().collect();
        if !gained.is_empty() {
            let why = format!("{why}{}", self.moves(key, &existing.api_key_id, &gained));
            self.step(subject.clone(), Action::Assign(gained.clone()), why);
        }
        if !lost.is_empty() {
            self.step(subject.clone(), Action::Unassign(lost), why);
        }
        !gained.is_empty()
    }

    /// Whether the key becomes the default.
    fn default(&mut self, key: &Key, existing: &ApiKey, subject: &Subject) -> bool {
        match (existing.organization_default, key.default) {
            (false, true) => {
                self.step(subject.clone(), Action::SetDefault, "default: is not, the file says it is");
                true
            }
            // Another key that becomes the default takes its place in the same step.
            (true, false) if !self.defaults.contains(&key.provider) => {
                self.step(subject.clone(), Action::ClearDefault, "default: is, the file says it is not");
                false
            }
            _ => false,
        }
    }

    pub(super) fn policy(&mut self, profile: Option<&String>, was: Policy, wanted: Policy) {
        let both = Policy {
            organization_default: was.organization_default && wanted.organization_default,
            environment: was.environment && wanted.environment,
        };
        let why = || format!("policy: {}, the file says {}", permissions(was), permissions(wanted));
        let subject = Subject::Policy { profile: profile.cloned() };
        if both != was {
            self.step(subject.clone(), Action::Forbid { was, becomes: both }, why());
        }
        if both != wanted {
            self.step(subject, Action::Allow { was: both, becomes: wanted }, why());
        }
    }

    /// A key that the file does not name, and that is to go.
    pub(super) fn unnamed(&mut self, key: &ApiKey) {
        let profiles = match key.profile_ids.len() {
            0 => "no profile uses it".to_owned(),
            1 => format!("profile {} falls back", key.profile_ids[0]),
            count => format!("{count} profiles fall back"),
        };
        let default = if key.organization_default { "; is the default" } else { "" };
        let why = format!("is not in the file; {profiles}{default}");
        self.step(subject(&key.api_key_id, key.provider(), &key.display_name), Action::Delete, why);
    }

    /// From which other keys profiles come.
    fn moves(&self, key: &Key, id: &str, profiles: &BTreeSet<String>) -> String {
        let holder = |profile: &String| self.holders.get(&(key.provider, profile.as_str())).copied();
        let from: BTreeSet<_> = profiles
            .iter()
            .filter_map(holder)
            .filter(|holder| holder.api_key_id != id)
            .map(|holder| format!("{:?}", holder.display_name))
            .collect();
        if from.is_empty() { String::new() } else { format!(", taken from {}", listed(&from)) }
    }

    fn step(&mut self, subject: Subject, action: Action, why: impl Into<String>) {
        let organization = self.organization.to_owned();
        self.steps.push(Step { organization, subject, action, why: why.into() });
    }

    fn problem(&mut self, key: &Key, text: impl Into<String>) {
        self.problems.push(Problem::new(&key.place, text));
    }
}

fn subject(id: &str, provider: Provider, name: &str) -> Subject {
    Subject::Key { id: id.to_owned(), provider, name: name.to_owned() }
}

fn listed(texts: &BTreeSet<String>) -> String {
    if texts.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<_> = texts.iter().take(PROFILES_SHOWN).map(String::as_str).collect();
    match texts.len().saturating_sub(PROFILES_SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn permissions(policy: Policy) -> String {
    let word = |allowed| if allowed { "allow" } else { "forbid" };
    format!("organization_default {}, environment {}", word(policy.organization_default), word(policy.environment))
}
