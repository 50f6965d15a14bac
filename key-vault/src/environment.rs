//! The keys in the environment of the vault's process: the last step of a resolution.
//!
//! Read once at start, from `ARCHESTRA_CHAT_<PROVIDER>_API_KEY` or, better, from the file
//! that `ARCHESTRA_CHAT_<PROVIDER>_API_KEY_FILE` names. Empty is unset.

use std::{collections::HashSet, fs, path::PathBuf};

use crate::key::{Invalid, KeyMaterial, OrganizationId, Provider};

/// Why the environment is refused. Names the variable, never its value.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// Two answers to one question.
    #[error("{0} and {0}_FILE are both set; unset one")]
    Both(&'static str),
    /// The named file cannot be read.
    #[error("{variable}_FILE names {path}, which cannot be read")]
    Unreadable {
        /// Which variable, without `_FILE`.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The value cannot be a key.
    #[error("the key in {variable} is not valid: it {problem}")]
    Invalid {
        /// Which variable.
        variable: &'static str,
        /// What is wrong with it.
        problem: Invalid,
    },
}

/// Fallback keys, and whom they serve.
#[derive(Debug, Default)]
pub struct Environment {
    keys: Vec<(Provider, KeyMaterial)>,
    /// `None` serves all.
    organizations: Option<HashSet<OrganizationId>>,
}

impl Environment {
    /// Reads the variables through `lookup`, which is the process' environment outside of
    /// tests. No `organizations` means that the keys serve all.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`] says which variable to change.
    pub fn read(
        lookup: impl Fn(&str) -> Option<String>,
        organizations: &[OrganizationId],
    ) -> Result<Self, EnvironmentError> {
        let mut keys = Vec::new();
        for provider in Provider::ALL {
            if let Some(key) = read_key(&lookup, provider.environment_variable())? {
                keys.push((provider, key));
            }
        }
        let organizations = (!organizations.is_empty()).then(|| organizations.iter().cloned().collect());
        Ok(Self { keys, organizations })
    }

    /// What the environment has for a call.
    pub(crate) fn find(&self, organization: &OrganizationId, provider: Provider) -> Fallback<'_> {
        let Some((_, key)) = self.keys.iter().find(|(of, _)| *of == provider) else { return Fallback::Unset };
        match &self.organizations {
            Some(allowed) if !allowed.contains(organization) => Fallback::NotAllowed,
            _ => Fallback::Key(key),
        }
    }
}

/// What the environment has for a call.
#[derive(Debug)]
pub(crate) enum Fallback<'a> {
    Unset,
    /// Set, and not for this organization.
    NotAllowed,
    Key(&'a KeyMaterial),
}

fn read_key(
    lookup: impl Fn(&str) -> Option<String>,
    variable: &'static str,
) -> Result<Option<KeyMaterial>, EnvironmentError> {
    let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let text = match (set(variable), set(&format!("{variable}_FILE"))) {
        (Some(_), Some(_)) => return Err(EnvironmentError::Both(variable)),
        (Some(text), None) => text,
        (None, Some(path)) => {
            let path = PathBuf::from(path);
            let text =
                fs::read_to_string(&path).map_err(|source| EnvironmentError::Unreadable { variable, path, source })?;
            // Editors end files with a line break; no key does.
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        (None, None) => return Ok(None),
    };
    if text.is_empty() {
        return Ok(None);
    }
    KeyMaterial::try_from(text).map(Some).map_err(|problem| EnvironmentError::Invalid { variable, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARIABLE: &str = "ARCHESTRA_CHAT_OPENAI_API_KEY";
    const FILE: &str = "ARCHESTRA_CHAT_OPENAI_API_KEY_FILE";

    fn read(variables: &[(&str, &str)]) -> Result<Environment, EnvironmentError> {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Environment::read(lookup, &[])
    }

    fn acme() -> OrganizationId {
        OrganizationId::try_from("acme".to_owned()).unwrap()
    }

    #[test]
    fn empty_is_unset() {
        for variables in [&[][..], &[(VARIABLE, "")], &[(FILE, "")], &[(VARIABLE, ""), (FILE, "")]] {
            let environment = read(variables).unwrap();
            assert!(matches!(environment.find(&acme(), Provider::OpenAi), Fallback::Unset), "{variables:?}");
        }
    }

    #[test]
    fn a_key_comes_from_the_variable_or_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "sk-file\n").unwrap();
        for (variables, expected) in [([(VARIABLE, "sk-set")], "sk-set"), ([(FILE, path.to_str().unwrap())], "sk-file")]
        {
            let environment = read(&variables).unwrap();
            let Fallback::Key(key) = environment.find(&acme(), Provider::OpenAi) else { panic!("no key") };
            assert_eq!(key.expose(), expected);
            assert!(matches!(environment.find(&acme(), Provider::Gemini), Fallback::Unset));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_the_value() {
        for (variables, expected) in [
            (&[(VARIABLE, "a"), (FILE, "/b")][..], "are both set"),
            (&[(FILE, "/nowhere/key")], "/nowhere/key"),
            (&[(VARIABLE, "sk with space")], "visible ASCII"),
        ] {
            let problem = read(variables).unwrap_err().to_string();
            assert!(problem.contains(expected) && problem.contains(VARIABLE), "{problem}");
            assert!(!problem.contains("sk with"), "{problem}");
        }
    }

    #[test]
    fn the_operator_says_whom_it_serves() {
        let lookup = |name: &str| (name == VARIABLE).then(|| "sk-set".to_owned());
        let environment = Environment::read(lookup, &[acme()]).unwrap();
        let other = OrganizationId::try_from("other".to_owned()).unwrap();
        assert!(matches!(environment.find(&acme(), Provider::OpenAi), Fallback::Key(_)));
        assert!(matches!(environment.find(&other, Provider::OpenAi), Fallback::NotAllowed));
    }
}
