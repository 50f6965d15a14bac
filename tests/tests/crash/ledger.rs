//! What one client was promised: the keys of an organization as its acknowledged calls left
//! them.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use proto::{
    keyvault::{ApiKey, key_change::Kind},
    types::Provider,
};
use system_tests::mutation::{Change, Done};

pub(crate) const PROVIDERS: [Provider; 2] = [Provider::Openai, Provider::Anthropic];

/// Profiles that keys take from each other.
pub(crate) const SHARED_PROFILES: [&str; 3] = ["agent", "project", "team"];

/// As many keys as one look at all of them takes no time for.
const KEYS_MAX: usize = 6;

/// What the vault says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) provider: Provider,
    pub(crate) version: i64,
    pub(crate) previous: bool,
    pub(crate) default: bool,
    pub(crate) profiles: BTreeSet<String>,
}

impl From<&ApiKey> for Entry {
    fn from(key: &ApiKey) -> Self {
        Self {
            provider: key.provider(),
            version: key.version,
            previous: key.previous_version == key.version - 1 && key.version > 1,
            default: key.organization_default,
            profiles: key.profile_ids.iter().cloned().collect(),
        }
    }
}

/// What the vault never says.
#[derive(Clone, Debug)]
struct Secret {
    material: String,
    previous: Option<String>,
}

/// The keys of an organization by their names, none of which is used twice.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) organization: String,
    pub(crate) keys: BTreeMap<String, Entry>,
    secrets: BTreeMap<String, Secret>,
    ids: BTreeMap<String, String>,
    /// What was done, in its order.
    pub(crate) done: Vec<Kind>,
    numbers: usize,
}

/// A change, in names.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Create { name: String, provider: Provider, material: String, default: bool, shared: BTreeSet<String> },
    Rotate { name: String, material: String },
    Rollback { name: String },
    SetDefault { name: String },
    Assign { name: String, profile: String },
    Delete { name: String },
}

impl Act {
    fn name(&self) -> &String {
        match self {
            Self::Create { name, .. }
            | Self::Rotate { name, .. }
            | Self::Rollback { name }
            | Self::SetDefault { name }
            | Self::Assign { name, .. }
            | Self::Delete { name } => name,
        }
    }
}

/// The profile that only one key ever has, so that each key can be resolved.
fn own_profile(name: &str) -> String {
    format!("own-{name}")
}

impl Ledger {
    pub(crate) fn new(organization: String) -> Self {
        let (keys, secrets, ids) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { organization, keys, secrets, ids, done: Vec::new(), numbers: 0 }
    }

    fn number(&mut self) -> usize {
        self.numbers += 1;
        self.numbers
    }

    /// Something that can be done now, and does change something.
    pub(crate) fn something(&mut self, random: &mut Rng) -> Act {
        loop {
            let number = self.number();
            let material = format!("sk-{}-{number}", self.organization);
            let choice = random.u8(..10);
            if self.keys.is_empty() || choice < 3 && self.keys.len() < KEYS_MAX {
                let shared = SHARED_PROFILES.iter().filter(|_| random.u8(..3) == 0).map(|p| (*p).to_owned()).collect();
                return Act::Create {
                    name: format!("key-{number}"),
                    provider: PROVIDERS[random.usize(..PROVIDERS.len())],
                    material,
                    default: random.bool(),
                    shared,
                };
            }
            let (name, entry) = self.keys.iter().nth(random.usize(..self.keys.len())).expect("one of them");
            let (name, profile) = (name.clone(), SHARED_PROFILES[random.usize(..SHARED_PROFILES.len())].to_owned());
            match choice {
                3..5 => return Act::Rotate { name, material },
                5 if entry.previous => return Act::Rollback { name },
                6 if !entry.default => return Act::SetDefault { name },
                7 | 8 if !entry.profiles.contains(&profile) => return Act::Assign { name, profile },
                9 if self.keys.len() > KEYS_MAX / 2 => return Act::Delete { name },
                _ => {}
            }
        }
    }

    /// An act, as a call.
    pub(crate) fn change(&self, act: &Act) -> Change {
        let id = |name: &String| self.ids[name].clone();
        match act.clone() {
            Act::Create { name, provider, material, default, shared } => {
                let profiles = shared.into_iter().chain([own_profile(&name)]).collect();
                Change::Create { provider, name, material, default, profiles }
            }
            Act::Rotate { name, material } => Change::Rotate(id(&name), material, None),
            Act::Rollback { name } => Change::Rollback(id(&name)),
            Act::SetDefault { name } => Change::SetDefault(id(&name)),
            Act::Assign { name, profile } => Change::Assign(id(&name), vec![profile]),
            Act::Delete { name } => Change::Delete(id(&name)),
        }
    }

    /// The ledger as it is once an act has happened.
    pub(crate) fn with(&self, act: &Act) -> Self {
        let mut now = self.clone();
        now.apply(act);
        now
    }

    fn apply(&mut self, act: &Act) {
        match act.clone() {
            Act::Create { name, provider, material, default, shared } => {
                self.secrets.insert(name.clone(), Secret { material, previous: None });
                let profiles = BTreeSet::from([own_profile(&name)]);
                let entry = Entry { provider, version: 1, previous: false, default: false, profiles };
                self.keys.insert(name.clone(), entry);
                if default {
                    self.make_default(&name);
                }
                for profile in &shared {
                    self.give(&name, profile);
                }
            }
            Act::Rotate { name, material } => self.replace(&name, |_| material),
            Act::Rollback { name } => self.replace(&name, |secret| secret.previous.clone().expect("it is kept")),
            Act::SetDefault { name } => self.make_default(&name),
            Act::Assign { name, profile } => self.give(&name, &profile),
            Act::Delete { name } => {
                self.keys.remove(&name);
                self.secrets.remove(&name);
            }
        }
    }

    fn replace(&mut self, name: &str, material: impl FnOnce(&Secret) -> String) {
        let secret = self.secrets.get_mut(name).expect("a key");
        let material = material(secret);
        secret.previous = Some(std::mem::replace(&mut secret.material, material));
        let entry = self.keys.get_mut(name).expect("a key");
        entry.version += 1;
        entry.previous = true;
    }

    fn of_same_provider(&mut self, name: &str) -> impl Iterator<Item = (&String, &mut Entry)> {
        let provider = self.keys[name].provider;
        self.keys.iter_mut().filter(move |(_, entry)| entry.provider == provider)
    }

    fn make_default(&mut self, name: &str) {
        for (other, entry) in self.of_same_provider(name) {
            entry.default = other == name;
        }
    }

    fn give(&mut self, name: &str, profile: &str) {
        for (other, entry) in self.of_same_provider(name) {
            entry.profiles.remove(profile);
            if other == name {
                entry.profiles.insert(profile.to_owned());
            }
        }
    }

    /// Takes an acknowledged act down. The answer is what it must be.
    pub(crate) fn acknowledge(&mut self, act: &Act, change: &Change, done: Done) {
        let before = self.keys.get(act.name()).cloned();
        self.apply(act);
        self.done.push(change.kind());
        let key = done.key();
        let expected = self.keys.get(act.name()).cloned().or(before).expect("it is there, or was");
        assert_eq!((Entry::from(&key), &key.display_name), (expected, act.name()), "the answer to {act:?}");
        let known = self.ids.entry(act.name().clone()).or_insert_with(|| key.api_key_id.clone());
        assert_eq!(*known, key.api_key_id);
    }

    /// What a resolution must come to: the material and the version, or nothing.
    pub(crate) fn resolve(&self, profile: Option<&str>, provider: Provider) -> Option<(&str, i64)> {
        let of = || self.keys.iter().filter(|(_, entry)| entry.provider == provider);
        let own = of().find(|(_, entry)| profile.is_some_and(|profile| entry.profiles.contains(profile)));
        let (name, entry) = own.or_else(|| of().find(|(_, entry)| entry.default))?;
        Some((self.secrets[name].material.as_str(), entry.version))
    }

    /// Every question whose answer this ledger knows: each key by its own profile, each shared
    /// profile and none for each provider.
    pub(crate) fn questions(&self) -> Vec<(Option<String>, Provider)> {
        let own = self.keys.iter().map(|(name, entry)| (Some(own_profile(name)), entry.provider));
        let profiles = || SHARED_PROFILES.iter().map(|profile| Some((*profile).to_owned())).chain([None]);
        let shared = PROVIDERS.into_iter().flat_map(|provider| profiles().map(move |profile| (profile, provider)));
        own.chain(shared).collect()
    }
}
