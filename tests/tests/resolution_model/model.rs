//! The vault as a page of plain code: a list of keys, scanned.

use std::collections::{BTreeSet, HashMap};

use proto::{
    keyvault::{ApiKey, api_key::State},
    types::{Provider, Source},
};

pub(crate) const PROVIDERS: [Provider; 3] = [Provider::Anthropic, Provider::Openai, Provider::Gemini];
pub(crate) const PROFILES: [&str; 4] = ["agent", "project", "research", "team"];

/// The environment has a key of one provider only.
pub(crate) const VARIABLE: &str = "ARCHESTRA_CHAT_OPENAI_API_KEY";
pub(crate) const ENVIRONMENT_KEY: &str = "material-of-the-environment";
const OF_ENVIRONMENT: usize = 1;

/// A key of an organization without any has this id.
const ABSENT: &str = "01900000-0000-7000-8000-000000000000";

const NOT_FOUND: &str = "NotFound KEY_NOT_FOUND";
const UNUSABLE: &str = "FailedPrecondition KEY_UNUSABLE";

struct Key {
    id: String,
    provider: usize,
    material: String,
    version: i64,
    enabled: bool,
    default: bool,
    profiles: BTreeSet<usize>,
    deleted: bool,
}

pub(crate) struct Model {
    pub(crate) organization: String,
    keys: Vec<Key>,
    materials: usize,
    /// What is allowed, default and environment: by the organization, or by a profile.
    policies: HashMap<Option<usize>, (bool, bool)>,
}

/// What is compared of a key.
pub(crate) fn describe(key: &ApiKey) -> String {
    let enabled = key.state() == State::Enabled;
    let of = PROVIDERS.iter().position(|provider| *provider == key.provider()).expect("a provider");
    line(&key.api_key_id, of, key.version, enabled, key.organization_default, &key.profile_ids.join(","))
}

fn line(id: &str, provider: usize, version: i64, enabled: bool, default: bool, profiles: &str) -> String {
    format!("{id} p{provider} v{version} enabled={enabled} default={default} [{profiles}]")
}

impl Key {
    fn describe(&self) -> String {
        let profiles: Vec<_> = self.profiles.iter().map(|n| PROFILES[*n]).collect();
        line(&self.id, self.provider, self.version, self.enabled, self.default, &profiles.join(","))
    }
}

impl Model {
    pub(crate) fn new(organization: String) -> Self {
        Self { organization, keys: Vec::new(), materials: 0, policies: HashMap::new() }
    }

    pub(crate) fn next_material(&mut self) -> String {
        self.materials += 1;
        format!("material-{}-{}", self.organization, self.materials)
    }

    /// The id that an operation's key number stands for.
    pub(crate) fn id(&self, number: usize) -> String {
        if self.keys.is_empty() { ABSENT.to_owned() } else { self.keys[number % self.keys.len()].id.clone() }
    }

    fn find(&mut self, number: usize) -> Option<usize> {
        (!self.keys.is_empty()).then(|| number % self.keys.len()).filter(|n| !self.keys[*n].deleted)
    }

    pub(crate) fn create(
        &mut self,
        id: String,
        provider: usize,
        material: String,
        default: bool,
        profiles: &[usize],
    ) -> String {
        let (version, enabled, deleted) = (1, true, false);
        let profiles: BTreeSet<_> = profiles.iter().copied().collect();
        let key = Key { id, provider, material, version, enabled, default: false, profiles: BTreeSet::new(), deleted };
        self.keys.push(key);
        let n = self.keys.len() - 1;
        if default {
            self.make_default(n);
        }
        self.give(n, &profiles);
        self.keys[n].describe()
    }

    pub(crate) fn rotate(&mut self, number: usize, material: String) -> String {
        let Some(n) = self.find(number) else { return NOT_FOUND.to_owned() };
        self.keys[n].material = material;
        self.keys[n].version += 1;
        self.keys[n].describe()
    }

    pub(crate) fn delete(&mut self, number: usize) -> String {
        let Some(n) = self.find(number) else { return NOT_FOUND.to_owned() };
        let was = self.keys[n].describe();
        self.keys[n].deleted = true;
        self.keys[n].default = false;
        self.keys[n].profiles.clear();
        was
    }

    pub(crate) fn set_state(&mut self, number: usize, enabled: bool) -> String {
        let Some(n) = self.find(number) else { return NOT_FOUND.to_owned() };
        self.keys[n].enabled = enabled;
        self.keys[n].describe()
    }

    pub(crate) fn set_default(&mut self, number: usize) -> String {
        match self.find(number) {
            None => NOT_FOUND.to_owned(),
            Some(n) if !self.keys[n].enabled => UNUSABLE.to_owned(),
            Some(n) => {
                self.make_default(n);
                self.keys[n].describe()
            }
        }
    }

    pub(crate) fn clear_default(&mut self, provider: usize) -> String {
        let found = self.keys.iter_mut().find(|key| key.provider == provider && key.default);
        found.map_or_else(String::new, |key| {
            key.default = false;
            key.id.clone()
        })
    }

    pub(crate) fn assign(&mut self, number: usize, profiles: &[usize]) -> String {
        match self.find(number) {
            None => NOT_FOUND.to_owned(),
            Some(n) if !self.keys[n].enabled => UNUSABLE.to_owned(),
            Some(n) => {
                self.give(n, &profiles.iter().copied().collect());
                self.keys[n].describe()
            }
        }
    }

    pub(crate) fn unassign(&mut self, number: usize, profiles: &[usize]) -> String {
        let Some(n) = self.find(number) else { return NOT_FOUND.to_owned() };
        self.keys[n].profiles.retain(|profile| !profiles.contains(profile));
        self.keys[n].describe()
    }

    pub(crate) fn replace(&mut self, number: usize, profiles: &[usize]) -> String {
        match self.find(number) {
            None => NOT_FOUND.to_owned(),
            Some(n) if !self.keys[n].enabled && profiles.iter().any(|p| !self.keys[n].profiles.contains(p)) => {
                UNUSABLE.to_owned()
            }
            Some(n) => {
                self.keys[n].profiles.clear();
                self.give(n, &profiles.iter().copied().collect());
                self.keys[n].describe()
            }
        }
    }

    /// All or nothing. Keys are looked at in the order of their ids, which is that of their
    /// creation.
    pub(crate) fn batch_assign(&mut self, numbers: &[usize], profiles: &[usize]) -> String {
        if self.keys.is_empty() {
            return NOT_FOUND.to_owned();
        }
        let wanted: BTreeSet<usize> = numbers.iter().map(|number| number % self.keys.len()).collect();
        let mut providers = BTreeSet::new();
        for n in &wanted {
            if self.keys[*n].deleted {
                return NOT_FOUND.to_owned();
            }
            if !self.keys[*n].enabled {
                return UNUSABLE.to_owned();
            }
            if !providers.insert(self.keys[*n].provider) {
                return "InvalidArgument INVALID_FIELD".to_owned();
            }
        }
        let profiles: BTreeSet<usize> = profiles.iter().copied().collect();
        for n in &wanted {
            self.give(*n, &profiles);
        }
        (wanted.len() * profiles.len()).to_string()
    }

    pub(crate) fn set_policy(&mut self, profile: Option<usize>, default: bool, environment: bool) -> String {
        self.policies.insert(profile, (default, environment));
        format!("{default} {environment}")
    }

    /// What the organization and, if it is one's call, the profile allow.
    fn allowed(&self, profile: Option<usize>) -> (bool, bool) {
        let set = |of| self.policies.get(&of).copied().unwrap_or((true, true));
        let (organization, own) = (set(None), set(profile));
        (organization.0 && own.0, organization.1 && own.1)
    }

    pub(crate) fn resolve(&self, profile: Option<usize>, provider: usize) -> String {
        match self.deciding(profile, provider) {
            None if self.reaches_environment(profile, provider) => {
                format!("{ENVIRONMENT_KEY}  v0 {:?}", Source::Environment)
            }
            None => "FailedPrecondition NO_KEY_CONFIGURED".to_owned(),
            Some((key, _)) if !key.enabled => UNUSABLE.to_owned(),
            Some((key, source)) => format!("{} {} v{} {source:?}", key.material, key.id, key.version),
        }
    }

    fn reaches_environment(&self, profile: Option<usize>, provider: usize) -> bool {
        provider == OF_ENVIRONMENT && self.allowed(profile).1
    }

    pub(crate) fn list(&self, provider: Option<usize>, profile: Option<usize>) -> String {
        let shown = |key: &&Key| {
            !key.deleted
                && provider.is_none_or(|wanted| wanted == key.provider)
                && profile.is_none_or(|wanted| key.profiles.contains(&wanted))
        };
        self.keys.iter().filter(shown).map(Key::describe).collect::<Vec<_>>().join("; ")
    }

    pub(crate) fn profile_keys(&self, profile: usize) -> String {
        let row = |provider: usize| {
            let (id, source) = match self.deciding(Some(profile), provider) {
                Some((key, source)) => (key.id.as_str(), source),
                None if self.reaches_environment(Some(profile), provider) => ("", Source::Environment),
                None => return None,
            };
            Some(format!("{:?} {source:?} {id}", PROVIDERS[provider]))
        };
        (0..PROVIDERS.len()).filter_map(row).collect::<Vec<_>>().join("; ")
    }

    fn deciding(&self, profile: Option<usize>, provider: usize) -> Option<(&Key, Source)> {
        let mut of = self.keys.iter().filter(|key| key.provider == provider && !key.deleted);
        let own = of.clone().find(|key| profile.is_some_and(|profile| key.profiles.contains(&profile)));
        own.map(|key| (key, Source::Profile)).or_else(|| {
            let default = of.find(|key| key.default && self.allowed(profile).0)?;
            Some((default, Source::OrganizationDefault))
        })
    }

    fn make_default(&mut self, n: usize) {
        let provider = self.keys[n].provider;
        for (other, key) in self.keys.iter_mut().enumerate().filter(|(_, key)| key.provider == provider) {
            key.default = other == n;
        }
    }

    fn give(&mut self, n: usize, profiles: &BTreeSet<usize>) {
        let provider = self.keys[n].provider;
        for key in self.keys.iter_mut().filter(|key| key.provider == provider) {
            key.profiles.retain(|profile| !profiles.contains(profile));
        }
        self.keys[n].profiles.extend(profiles);
    }
}
