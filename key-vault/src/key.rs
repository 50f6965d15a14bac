//! Keys, their owners and their names, as plain data.
//!
//! A value of one of these types is valid: texts are checked where they are made. What
//! a type refuses is said by [`Invalid`], in words that fit behind a field's name.

use std::fmt;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not a value of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// An id is empty, too long, or outside of its alphabet.
    #[error("must be 1 to 128 of A-Z a-z 0-9 . _ : @ -")]
    Label,
    /// A display name is empty or too long.
    #[error("must have 1 to 128 characters")]
    NameLength,
    /// A display name has control characters or white space at its ends.
    #[error("must not have control characters, nor white space at its ends")]
    NameCharacters,
    /// A key id is not a UUID in its canonical form.
    #[error("must be a key's id: a UUID in lower case with hyphens")]
    KeyId,
    /// A key is empty or too long.
    #[error("must have 1 to 512 characters")]
    MaterialLength,
    /// A key has a character that no provider's key has.
    #[error("must be visible ASCII without white space: check for a line break or a quotation mark from copying")]
    MaterialCharacters,
}

/// Defines an opaque id: the platform's own text, compared exactly.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                if is_label(&text) { Ok(Self(text)) } else { Err(Invalid::Label) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

label! {
    /// Identifies an organization. 1 to 128 of `A-Z a-z 0-9 . _ : @ -`.
    OrganizationId
}

label! {
    /// Identifies a profile of an organization: an agent, a team, a project. The same
    /// alphabet as [`OrganizationId`].
    ProfileId
}

fn is_label(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@-".contains(&b))
}

/// Identifies a key. A `UUIDv7`, so that ids sort by creation. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyId(pub Uuid);

impl KeyId {
    /// A new id, later than every one made before in this process.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for KeyId {
    fn default() -> Self {
        Self::new()
    }
}

impl TryFrom<&str> for KeyId {
    type Error = Invalid;

    fn try_from(text: &str) -> Result<Self, Invalid> {
        let id = Uuid::try_parse(text).map_err(|_| Invalid::KeyId)?;
        // One id has one spelling: braces, upper case and missing hyphens are refused.
        if id.as_hyphenated().to_string() == text { Ok(Self(id)) } else { Err(Invalid::KeyId) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// A company that issues keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Provider {
    /// Anthropic.
    Anthropic,
    /// OpenAI.
    OpenAi,
    /// Google, for the Gemini API.
    Gemini,
}

impl Provider {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 3] = [Self::Anthropic, Self::OpenAi, Self::Gemini];

    /// The lower-case name in the database, in logs and in metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Gemini => "gemini",
        }
    }

    /// The provider of a name that [`Provider::name`] gave.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }

    /// The variable of the vault's environment that may hold a key for everyone.
    pub fn environment_variable(self) -> &'static str {
        match self {
            Self::Anthropic => "ARCHESTRA_CHAT_ANTHROPIC_API_KEY",
            Self::OpenAi => "ARCHESTRA_CHAT_OPENAI_API_KEY",
            Self::Gemini => "ARCHESTRA_CHAT_GEMINI_API_KEY",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name for people. 1 to 128 characters without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisplayName(String);

impl DisplayName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name that was stored, and was therefore checked before.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }
}

impl TryFrom<String> for DisplayName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        if !(1..=128).contains(&text.chars().count()) {
            return Err(Invalid::NameLength);
        }
        if text.trim() != text || text.chars().any(char::is_control) {
            return Err(Invalid::NameCharacters);
        }
        Ok(Self(text))
    }
}

/// A provider's API key in the clear. Wiped on drop.
///
/// Call [`KeyMaterial::expose`] only in the expression that needs the text.
#[derive(Clone)]
pub struct KeyMaterial(SecretString);

impl KeyMaterial {
    /// The key as text.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The last four characters, or nothing of a key so short that they would tell much.
    pub fn hint(&self) -> String {
        const KEY_LENGTH_MIN: usize = 24;
        let text = self.expose();
        if text.len() < KEY_LENGTH_MIN { String::new() } else { text[text.len() - 4..].to_owned() }
    }
}

impl TryFrom<String> for KeyMaterial {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        // Wrapped first, so that a refused key is wiped too.
        let text = SecretString::from(text);
        if !(1..=512).contains(&text.expose_secret().len()) {
            return Err(Invalid::MaterialLength);
        }
        if !text.expose_secret().bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Invalid::MaterialCharacters);
        }
        Ok(Self(text))
    }
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyMaterial(..)")
    }
}

/// Whether a key may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It may.
    Enabled,
    /// It may not, and every resolution that reaches it fails.
    Disabled,
}

impl State {
    /// The name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

/// A provider key, without its material.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// Its owner.
    pub organization: OrganizationId,
    /// Who issued it.
    pub provider: Provider,
    /// What people call it.
    pub display_name: DisplayName,
    /// Whether it may be used.
    pub state: State,
    /// The last characters of its material.
    pub hint: String,
    /// A keyed hash of its material, in hexadecimal.
    pub fingerprint: String,
    /// 1 at first, raised by each rotation.
    pub version: i64,
    /// Whether it is its organization's default.
    pub organization_default: bool,
    /// The profiles it is assigned to, sorted.
    pub profiles: Vec<ProfileId>,
    /// When it was created.
    pub create_time: DateTime<Utc>,
    /// When a field of it last changed.
    pub update_time: DateTime<Utc>,
    /// The principal that created it.
    pub creator: String,
    /// The revision of its last change.
    pub revision: i64,
    /// The version before, while its material is kept.
    pub previous: Option<Previous>,
    /// When a provider was last called with it. Changes no revision.
    pub last_used_time: Option<DateTime<Utc>>,
    /// When a provider last refused it. Changes no revision.
    pub last_rejected_time: Option<DateTime<Utc>>,
}

impl ApiKey {
    /// Tells two states of it apart.
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.revision)
    }
}

/// A version whose material is kept for a while after a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Which.
    pub version: i64,
    /// Until when.
    pub keep_until: DateTime<Utc>,
}

/// The step of a resolution that has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    /// The profile's own key.
    Profile,
    /// The organization's default.
    OrganizationDefault,
    /// The environment of the vault's process.
    Environment,
}

impl Source {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::Profile, Self::OrganizationDefault, Self::Environment];

    /// The name in the database, in metadata, in records and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::OrganizationDefault => "organization_default",
            Self::Environment => "environment",
        }
    }

    /// The source of a name that [`Source::name`] gave.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_and_of_one_alphabet() {
        for (text, valid) in [
            ("acme", true),
            ("team.a_b:c@d-9", true),
            (&"x".repeat(128), true),
            (&"x".repeat(129), false),
            ("", false),
            ("a b", false),
            ("a/b", false),
            ("ä", false),
            ("a\n", false),
        ] {
            assert_eq!(OrganizationId::try_from(text.to_owned()).is_ok(), valid, "{text:?}");
        }
    }

    #[test]
    fn a_key_id_has_one_spelling() {
        let id = KeyId::new();
        let text = id.to_string();
        assert_eq!(KeyId::try_from(text.as_str()), Ok(id));
        for other in [text.to_uppercase(), format!("{{{text}}}"), text.replace('-', ""), String::new()] {
            assert_eq!(KeyId::try_from(other.as_str()), Err(Invalid::KeyId), "{other}");
        }
    }

    #[test]
    fn material_is_visible_ascii_of_a_sane_length() {
        for (text, expected) in [
            ("sk-1", Ok(())),
            (&"k".repeat(512), Ok(())),
            (&"k".repeat(513), Err(Invalid::MaterialLength)),
            ("", Err(Invalid::MaterialLength)),
            ("sk 1", Err(Invalid::MaterialCharacters)),
            ("sk-1\n", Err(Invalid::MaterialCharacters)),
            ("sk-\u{7f}", Err(Invalid::MaterialCharacters)),
            ("sk-ü", Err(Invalid::MaterialCharacters)),
        ] {
            assert_eq!(KeyMaterial::try_from(text.to_owned()).map(|_| ()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_hint_needs_a_long_key_and_debug_shows_nothing() {
        let long = KeyMaterial::try_from("sk-ant-0123456789-0123abcd".to_owned()).unwrap();
        let short = KeyMaterial::try_from("sk-0123456789-0123abcd".to_owned()).unwrap();
        assert_eq!((long.hint().as_str(), short.hint().as_str()), ("abcd", ""));
        assert_eq!(format!("{long:?}"), "KeyMaterial(..)");
    }

    #[test]
    fn display_names_are_for_people() {
        for (text, valid) in [
            ("Research, Zürich", true),
            (&"ü".repeat(128), true),
            (&"ü".repeat(129), false),
            ("", false),
            (" a", false),
            ("a\tb", false),
        ] {
            assert_eq!(DisplayName::try_from(text.to_owned()).is_ok(), valid, "{text:?}");
        }
    }
}
