//! What keeps the key that all others hang from.
//!
//! A secrets manager wraps and unwraps key encryption keys: a handful, at start and at
//! rotation, never for a call. One file here for each.

mod local;

use async_trait::async_trait;
use uuid::Uuid;

use super::Bits256;

pub(crate) use local::LocalKeyring;

/// Wraps key encryption keys with a key that never enters the database.
#[async_trait]
pub(crate) trait SecretsManager: Send + Sync {
    /// Encrypts a KEK, bound to its context.
    async fn wrap(&self, kek: &Bits256, context: &Context<'_>) -> Result<WrappedKek, Error>;

    /// Decrypts what [`SecretsManager::wrap`] made for the same context.
    async fn unwrap(&self, wrapped: &WrappedKek, context: &Context<'_>) -> Result<Bits256, Error>;
}

/// What a wrapped KEK is bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) vault: Uuid,
    pub(crate) kek_id: &'a str,
}

/// A KEK as a secrets manager gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrappedKek {
    /// The kind of secrets manager, for example `local`.
    pub(crate) manager: String,
    /// The key of it that wrapped, with its version where it has one.
    pub(crate) key_ref: String,
    /// Opaque.
    pub(crate) blob: Vec<u8>,
}

/// Why a secrets manager did not do its work. The text says what to change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It cannot be read at all.
    #[error("the keyring {path} cannot be read")]
    Unreadable {
        /// Which file or directory.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Others than its owner and group can read it.
    #[error("the keyring {path} can be read or written by everyone (mode {mode:o}); take that away with `chmod o-rwx`")]
    Exposed {
        /// Which file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// It is there and makes no sense.
    #[error("the keyring {path} is not valid: {problem}")]
    Malformed {
        /// Which file or directory.
        path: String,
        /// What is wrong, without quoting.
        problem: String,
    },
    /// It holds no key of that id.
    #[error(
        "the keyring has no key {id:?} (it has {present}); bring back the keyring that this database was set up with"
    )]
    UnknownKey {
        /// The missing id.
        id: String,
        /// The ids it has.
        present: String,
    },
    /// Its key of that id is another one.
    #[error(
        "key {id:?} of the keyring does not open what it should: same name, other key, or another vault's database"
    )]
    WrongKey {
        /// The id.
        id: String,
    },
    /// The value was made by another kind of secrets manager.
    #[error("the database was sealed with the secrets manager {found:?}, and {configured:?} is configured")]
    OtherManager {
        /// What made it.
        found: String,
        /// What is configured.
        configured: &'static str,
    },
    /// The system failed.
    #[error("the system's random generator failed")]
    NoRandomness,
}
