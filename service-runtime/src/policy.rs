//! Who is known, and what each may do: one file per service, read anew when it changes.
//!
//! A policy names principals. Each is known by the URI names of its certificates and by
//! the hashes of its tokens, and has roles, which are the service's own. What a policy does
//! not name is refused. Names are compared exactly; there are no patterns.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{reload::Reloading, token::TokenHash};

/// Tokens of one principal that are valid at once: the one in use, and its successor.
const LIVE_TOKENS_MAX: usize = 2;

const NAME_LENGTH_MAX: usize = 128;
const URI_LENGTH_MAX: usize = 2_048;

/// What a service lets its callers do.
pub trait Role: Clone + fmt::Debug + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// Refuses roles that one principal may not have, or not together.
    ///
    /// # Errors
    ///
    /// Says what to change.
    fn check(roles: &[Self]) -> Result<(), String>;

    /// The roles of the one principal of a development server.
    fn all() -> Vec<Self>;
}

/// The file, as it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Policy: who may call this service, and what they may do")]
struct File<R> {
    /// Where the schema of this file is. Not looked at.
    #[serde(rename = "$schema", default)]
    #[expect(dead_code, reason = "editors look at it")]
    schema: Option<String>,
    /// Who is known. What is not here is refused.
    principals: Vec<PrincipalEntry<R>>,
}

/// Somebody who is known.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PrincipalEntry<R> {
    /// The name in logs and audit records, 1 to 128 characters without white space.
    name: String,
    /// The URI subject alternative names of its certificates, each compared exactly:
    /// `spiffe://example.org/ns/chat/sa/gateway`.
    #[serde(default)]
    uri_sans: Vec<String>,
    /// Its bearer tokens. At most two that have not expired.
    #[serde(default)]
    tokens: Vec<TokenEntry>,
    /// What it may do.
    roles: Vec<R>,
}

/// A bearer token, as a policy keeps it: `tokens create` prints one.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// The public part of the token.
    pub id: String,
    /// The SHA-256 of the whole token, 64 hexadecimal digits.
    pub sha256: String,
    /// When it ends. Checked at each call.
    pub expire_time: DateTime<Utc>,
}

/// A policy that can be used.
#[derive(Debug)]
pub struct Policy<R> {
    by_uri: HashMap<String, Arc<Principal<R>>>,
    by_token: HashMap<String, KnownToken<R>>,
    /// How many principals it names.
    pub principals: usize,
}

/// Somebody who is known.
#[derive(Debug)]
pub struct Principal<R> {
    /// The name in logs and audit records.
    pub name: Arc<str>,
    /// What it may do.
    pub roles: Arc<[R]>,
}

/// A token that a policy knows.
#[derive(Debug)]
pub struct KnownToken<R> {
    /// The SHA-256 of the token.
    pub hash: TokenHash,
    /// When it ends.
    pub expire_time: DateTime<Utc>,
    /// Whose it is.
    pub principal: Arc<Principal<R>>,
}

impl<R: Role> Policy<R> {
    /// Reads a policy that is read anew when its file changes.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or used, saying what to change.
    pub fn open(path: &Path) -> anyhow::Result<Arc<Reloading<Self>>> {
        let read = |contents: &crate::reload::Contents| Self::parse(contents.first().context("a file")?, Utc::now());
        Reloading::open("the policy", vec![PathBuf::from(path)], read)
    }

    /// Reads a policy. `now` tells which tokens are live.
    ///
    /// # Errors
    ///
    /// Says what to change, and where.
    pub fn parse(text: &[u8], now: DateTime<Utc>) -> anyhow::Result<Self> {
        let file: File<R> = serde_json::from_slice(text).context("it is not as the schema says")?;
        let mut policy = Self { by_uri: HashMap::new(), by_token: HashMap::new(), principals: file.principals.len() };
        let mut names: Vec<String> = Vec::new();
        for entry in file.principals {
            let name = entry.name.clone();
            ensure!(!names.contains(&name), "principal {name:?} stands in it twice");
            policy.add(entry, now).with_context(|| format!("principal {name:?}"))?;
            names.push(name);
        }
        Ok(policy)
    }

    fn add(&mut self, entry: PrincipalEntry<R>, now: DateTime<Utc>) -> anyhow::Result<()> {
        let name = entry.name;
        let is_plain = |text: &str| !text.chars().any(|c| c.is_control() || c.is_whitespace());
        ensure!(
            !name.is_empty() && name.chars().count() <= NAME_LENGTH_MAX && is_plain(&name),
            "`name` must have 1 to {NAME_LENGTH_MAX} characters and no white space"
        );
        R::check(&entry.roles).map_err(anyhow::Error::msg)?;
        let live = entry.tokens.iter().filter(|token| token.expire_time > now).count();
        ensure!(live <= LIVE_TOKENS_MAX, "it has {live} tokens that have not expired; {LIVE_TOKENS_MAX} are allowed");
        let principal = Arc::new(Principal { name: name.into(), roles: entry.roles.into() });
        for uri in entry.uri_sans {
            let has_scheme = uri.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
            ensure!(
                has_scheme && uri.len() <= URI_LENGTH_MAX && is_plain(&uri) && !uri.contains('*'),
                "{uri:?} of `uri_sans` is not a URI; there are no patterns"
            );
            let known = self.by_uri.insert(uri.clone(), Arc::clone(&principal));
            ensure!(known.is_none(), "{uri:?} of `uri_sans` stands in the policy twice");
        }
        for token in entry.tokens {
            let hash = hash(&token.sha256).with_context(|| format!("`sha256` of token {:?}", token.id))?;
            let known = KnownToken { hash, expire_time: token.expire_time, principal: Arc::clone(&principal) };
            let twice = self.by_token.insert(token.id.clone(), known);
            ensure!(twice.is_none(), "token {:?} stands in the policy twice", token.id);
        }
        Ok(())
    }

    /// Whose certificates have this URI name.
    pub fn by_uri(&self, uri: &str) -> Option<&Arc<Principal<R>>> {
        self.by_uri.get(uri)
    }

    /// The token of this id.
    pub fn by_token(&self, id: &str) -> Option<&KnownToken<R>> {
        self.by_token.get(id)
    }

    /// All tokens, by their ids.
    pub fn tokens(&self) -> impl Iterator<Item = (&str, &KnownToken<R>)> {
        self.by_token.iter().map(|(id, token)| (id.as_str(), token))
    }

    /// The JSON schema of the file (<https://json-schema.org/draft/2020-12>).
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written as text.
    pub fn schema() -> anyhow::Result<String> {
        let schema =
            schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<File<R>>();
        Ok(serde_json::to_string_pretty(&schema)? + "\n")
    }
}

/// The entry of a policy for a token that was just made.
pub fn token_entry(token: &crate::token::Token, expire_time: DateTime<Utc>) -> TokenEntry {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    let sha256 = token.hash().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xF)]).collect();
    TokenEntry { id: token.id().to_owned(), sha256, expire_time }
}

fn hash(text: &str) -> anyhow::Result<TokenHash> {
    let mut hash = TokenHash::default();
    let digits = text.as_bytes();
    if digits.len() != 2 * hash.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
        bail!("it must have 64 hexadecimal digits");
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair)?, 16)?;
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Token;

    #[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
    #[serde(tag = "role", rename_all = "snake_case", deny_unknown_fields)]
    enum Door {
        Open,
        Close,
    }

    impl Role for Door {
        fn check(roles: &[Self]) -> Result<(), String> {
            let both = roles.contains(&Self::Open) && roles.contains(&Self::Close);
            if both { Err("nobody opens and closes".to_owned()) } else { Ok(()) }
        }

        fn all() -> Vec<Self> {
            vec![Self::Open, Self::Close]
        }
    }

    fn parse(principals: &str) -> anyhow::Result<Policy<Door>> {
        Policy::parse(format!(r#"{{"principals": [{principals}]}}"#).as_bytes(), Utc::now())
    }

    #[test]
    fn principals_are_found_by_what_they_present() -> anyhow::Result<()> {
        let token = Token::random()?;
        let entry = serde_json::to_string(&token_entry(&token, Utc::now() + chrono::Duration::days(1)))?;
        let policy = parse(&format!(
            r#"{{"name": "a", "uri_sans": ["spiffe://x/a"], "tokens": [{entry}], "roles": [{{"role": "open"}}]}}"#
        ))?;
        let by_uri = policy.by_uri("spiffe://x/a").context("known by its certificate")?;
        assert_eq!((by_uri.name.as_ref(), by_uri.roles.as_ref()), ("a", [Door::Open].as_slice()));
        let by_token = policy.by_token(token.id()).context("known by its token")?;
        assert_eq!(by_token.hash, token.hash());
        assert_eq!(by_token.principal.name.as_ref(), "a");
        assert!(policy.by_uri("spiffe://x/A").is_none() && policy.by_uri("spiffe://x/a/").is_none());
        Ok(())
    }

    #[test]
    fn what_is_unclear_is_refused_with_what_to_change() {
        let live = |id: &str| {
            let hash = "0".repeat(64);
            format!(r#"{{"id": "{id}", "sha256": "{hash}", "expire_time": "2999-01-01T00:00:00Z"}}"#)
        };
        let three = [live("a"), live("b"), live("c")].join(",");
        for (principals, says) in [
            (r#"{"name": "", "roles": []}"#.to_owned(), "`name` must have"),
            (r#"{"name": "a b", "roles": []}"#.to_owned(), "`name` must have"),
            (r#"{"name": "a", "roles": []}, {"name": "a", "roles": []}"#.to_owned(), "twice"),
            (r#"{"name": "a", "roles": [{"role": "break"}]}"#.to_owned(), "break"),
            (r#"{"name": "a", "roles": [{"role": "open"}, {"role": "close"}]}"#.to_owned(), "opens and closes"),
            (r#"{"name": "a", "role": []}"#.to_owned(), "role"),
            (r#"{"name": "a", "uri_sans": ["spiffe://x/*"], "roles": []}"#.to_owned(), "no patterns"),
            (r#"{"name": "a", "uri_sans": ["a"], "roles": []}"#.to_owned(), "not a URI"),
            (
                r#"{"name": "a", "uri_sans": ["s://x"], "roles": []}, {"name": "b", "uri_sans": ["s://x"], "roles": []}"#
                    .to_owned(),
                "twice",
            ),
            (format!(r#"{{"name": "a", "tokens": [{three}], "roles": []}}"#), "3 tokens"),
            (
                r#"{"name": "a", "tokens": [{"id": "x", "sha256": "12", "expire_time": "2999-01-01T00:00:00Z"}], "roles": []}"#
                    .to_owned(),
                "64 hexadecimal",
            ),
            (
                r#"{"name": "a", "tokens": [{"id": "x", "sha256": "12"}], "roles": []}"#.to_owned(),
                "expire_time",
            ),
        ] {
            let error = parse(&principals).map(|_| ()).expect_err(&principals);
            assert!(format!("{error:#}").contains(says), "{principals}: {error:#}");
        }
    }
}
