//! What keeps the key that all others hang from.
//!
//! A secrets manager wraps and unwraps key encryption keys: a handful, at start and at
//! rotation, never for a call. One file here for each.

mod local;
mod transit;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::{Bits256, envelope::AssociatedData};

pub(crate) use local::LocalKeyring;
pub(crate) use transit::{Transit, TransitOptions};

/// Wraps key encryption keys with a key that never enters the database.
#[async_trait]
pub(crate) trait SecretsManager: Send + Sync {
    /// Its kind, as the database and the configuration name it.
    fn kind(&self) -> &'static str;

    /// Encrypts a KEK with the current key, bound to its context.
    async fn wrap(&self, kek: &Bits256, context: &Context<'_>) -> Result<WrappedKek, Error>;

    /// Decrypts what [`SecretsManager::wrap`] made for the same context.
    async fn unwrap(&self, wrapped: &WrappedKek, context: &Context<'_>) -> Result<Bits256, Error>;

    /// Asks how it is, without wrapping anything, and takes up what changed about it: other
    /// keys in a file, an access token that must be renewed.
    ///
    /// `needed` are the key references of stored KEKs that it wrapped. A change that would
    /// lose one of them is not taken up.
    async fn check(&self, needed: &[String]) -> Result<(), Error>;

    /// How long until it wants to be checked again.
    fn check_after(&self) -> Duration;
}

/// The configured secrets manager, and those that only unwrap what they once wrapped.
///
/// The row of a KEK says which of them is asked. There is no other way from one to another.
#[derive(Clone)]
pub(crate) struct Managers {
    configured: Arc<dyn SecretsManager>,
    unwrap_only: Vec<Arc<dyn SecretsManager>>,
}

impl fmt::Debug for Managers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Managers").field(&self.kinds()).finish()
    }
}

impl Managers {
    /// `configured` wraps; all of them unwrap.
    pub(crate) fn new(configured: Arc<dyn SecretsManager>, unwrap_only: Vec<Arc<dyn SecretsManager>>) -> Self {
        Self { configured, unwrap_only }
    }

    /// The one that wraps.
    pub(crate) fn configured(&self) -> &dyn SecretsManager {
        self.configured.as_ref()
    }

    /// All of them, the configured one first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &dyn SecretsManager> {
        std::iter::once(&self.configured).chain(&self.unwrap_only).map(Arc::as_ref)
    }

    /// The kinds of all of them.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        self.all().map(SecretsManager::kind).collect()
    }

    /// Decrypts a KEK with the secrets manager that wrapped it.
    pub(crate) async fn unwrap(&self, wrapped: &WrappedKek, context: &Context<'_>) -> Result<Bits256, Error> {
        match self.all().find(|manager| manager.kind() == wrapped.manager) {
            Some(manager) => manager.unwrap(wrapped, context).await,
            None => Err(Error::OtherManager { found: wrapped.manager.clone(), configured: self.configured.kind() }),
        }
    }
}

/// What a wrapped KEK is bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) vault: Uuid,
    pub(crate) kek_id: &'a str,
}

impl Context<'_> {
    /// The bytes that every secrets manager binds a KEK to.
    fn associated_data(&self) -> AssociatedData {
        let mut data = AssociatedData::new("akv/kek/v1");
        data.add(self.vault.as_bytes());
        data.add(self.kek_id.as_bytes());
        data
    }
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
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It cannot be read at all.
    #[error("the keyring {path} cannot be read")]
    Unreadable {
        /// Which file or directory.
        path: String,
        /// Why.
        source: Arc<std::io::Error>,
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

    /// A file that an option names is not what it should be.
    #[error("{path}, which {option} names, {problem}")]
    File {
        /// The option.
        option: &'static str,
        /// Which file.
        path: String,
        /// What is wrong with it and what to change, without quoting.
        problem: &'static str,
    },
    /// No connection, or no answer in time.
    #[error("the transit server cannot be reached; see that it runs and that --transit-address is right")]
    Unreachable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// An operator must unseal it.
    #[error("the transit server is sealed; unseal it")]
    Sealed,
    /// An operator must initialize it.
    #[error("the transit server is not initialized; initialize it, or correct --transit-address")]
    Uninitialized,
    /// It cannot answer now.
    #[error("the transit server is there and does not serve (status {status}); look at its log")]
    Unavailable {
        /// Its status.
        status: u16,
    },
    /// It answered with what nobody can use: often a proxy in its place.
    #[error("the answer of the transit server cannot be used: {problem}; see that --transit-address leads to it")]
    Unintelligible {
        /// What is wrong, without quoting.
        problem: &'static str,
    },
    /// It sent us elsewhere. Nothing follows: the token would go with it.
    #[error(
        "the transit server redirects (status {status}), which is never followed; let --transit-address name the \
         server that answers"
    )]
    Redirected {
        /// Its status.
        status: u16,
    },
    /// It does not accept who we say we are.
    #[error("the transit server refuses the login; {advice}")]
    LoginRefused {
        /// What to look at, for the kind of login.
        advice: &'static str,
    },
    /// The login is good and may not do this.
    #[error(
        "the transit server accepts the login and its policy forbids to {operation}; grant `update` on \
         {mount}/{operation}/{key}, and see that the key exists"
    )]
    Denied {
        /// `encrypt` or `decrypt`.
        operation: &'static str,
        /// Where the engine is.
        mount: String,
        /// The key.
        key: String,
    },
    /// It has no such engine or key.
    #[error(
        "the transit server has no key {key:?} at {mount:?}; make it with `bao write -f {mount}/keys/{key}`, or \
         correct --transit-mount, --transit-key or --transit-namespace"
    )]
    NoTransitKey {
        /// Where the engine should be.
        mount: String,
        /// The key.
        key: String,
    },
    /// The value was wrapped with another transit key.
    #[error(
        "the database was sealed with the transit key {found:?}, and {configured:?} is configured; let --transit-mount \
         and --transit-key name the former"
    )]
    OtherTransitKey {
        /// What it was wrapped with.
        found: String,
        /// What is configured.
        configured: String,
    },
    /// The version of the key that wrapped it is retired.
    #[error(
        "the transit key forbids to decrypt with its version of {key_ref:?}; lower its min_decryption_version until all \
         key encryption keys are rewrapped with a later one"
    )]
    TooOld {
        /// The key and its version.
        key_ref: String,
    },
    /// It is not what the key made for this context.
    #[error(
        "the transit key does not decrypt what {key_ref:?} should: the value was changed, belongs to another vault's \
         database, or the key is another one or an older copy"
    )]
    NotDecrypted {
        /// The key and its version.
        key_ref: String,
    },
    /// It does not do what we ask.
    #[error("the transit server refuses to {operation} (status {status}); see that the key's type is aes256-gcm96")]
    Refused {
        /// `encrypt` or `decrypt`.
        operation: &'static str,
        /// Its status.
        status: u16,
    },
}

impl Error {
    /// Whether it may pass without a change here, so that waiting for it makes sense.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::Sealed
            | Self::Uninitialized
            | Self::Unavailable { .. }
            | Self::Unintelligible { .. } => true,
            Self::Unreadable { .. }
            | Self::Exposed { .. }
            | Self::Malformed { .. }
            | Self::UnknownKey { .. }
            | Self::WrongKey { .. }
            | Self::OtherManager { .. }
            | Self::NoRandomness
            | Self::File { .. }
            | Self::Redirected { .. }
            | Self::LoginRefused { .. }
            | Self::Denied { .. }
            | Self::NoTransitKey { .. }
            | Self::OtherTransitKey { .. }
            | Self::TooOld { .. }
            | Self::NotDecrypted { .. }
            | Self::Refused { .. } => false,
        }
    }
}
