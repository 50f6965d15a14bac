//! A keyring in a file or a directory: the secrets manager of one machine, and of
//! clusters that mount a secret.
//!
//! A file has one entry a line, `primary: ID` and `ID: KEY`, where KEY is 32 bytes in
//! base64; `#` begins a comment. A directory has a file for each key, named by its id,
//! and a file `primary` with an id in it: the form of a mounted Kubernetes secret, whose
//! entries beginning with `..` are passed over.
//!
//! The order of entries means nothing. A keyring with anything doubtful in it is
//! refused as a whole, at start and whenever it changed: then the old one stays in use.
//!
//! Odd: changes are found by reading all of it again, every ten seconds. Watching files
//! misses the swap of a link by which Kubernetes changes a mounted secret.

mod files;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::{aead::LessSafeKey, digest, rand::SystemRandom};
use zeroize::Zeroizing;

use super::{Context, Error, SecretsManager, WrappedKek};
use crate::seal::{
    Bits256, Error as SealError,
    envelope::{self, Layer},
    random_bits,
};
use files::{malformed, unreadable};

const KIND: &str = "local";

/// How often the file is looked at for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// How long reading it may take: a folder that a network mounts can hang.
const READ_MAX: Duration = Duration::from_secs(5);

/// Distinct bytes among 32 random ones: fewer than this has a chance below 2^-50, and
/// is what a typed or repeated key looks like.
const DISTINCT_BYTES_MIN: usize = 16;

/// Root keys from a file or a directory.
pub(crate) struct LocalKeyring {
    path: PathBuf,
    /// Nothing before it was read for the first time.
    ring: ArcSwapOption<Ring>,
    random: SystemRandom,
}

impl fmt::Debug for LocalKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKeyring").field("path", &self.path).finish_non_exhaustive()
    }
}

impl LocalKeyring {
    /// The keyring at `path`, which is read when it is needed.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), ring: ArcSwapOption::empty(), random: SystemRandom::new() }
    }

    /// Reads the keyring at `path`.
    ///
    /// # Errors
    ///
    /// [`Error`] says what is wrong with it and what to change.
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let keyring = Self::at(path);
        keyring.ring.store(Some(Arc::new(Ring::read(path)?)));
        Ok(keyring)
    }

    /// Writes a new keyring with one random key to `path`, readable by its owner only.
    ///
    /// # Errors
    ///
    /// Fails if something is at `path` already: a keyring is never overwritten.
    pub(crate) fn create(path: &Path) -> Result<(), Error> {
        let unreadable = |source| unreadable(path, source);
        let bits = random_bits(&SystemRandom::new()).map_err(|_| Error::NoRandomness)?;
        let id = format!("root-{}", chrono::Utc::now().format("%Y%m%d%H%M%S"));
        let key = Zeroizing::new(BASE64_STANDARD.encode(bits.as_slice()));
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(unreadable)?;
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(unreadable)?;
        let text = Zeroizing::new(format!(
            "# Root keys of a key-vault. Keep a copy apart from the database: without it nothing opens.\n\
             primary: {id}\n{id}: {}\n",
            *key
        ));
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(unreadable)?;
        // The name must survive a power cut as well as the bytes.
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(unreadable)
    }

    /// What is in use, read now if nothing is.
    async fn ring(&self) -> Result<Arc<Ring>, Error> {
        if let Some(ring) = self.ring.load_full() {
            return Ok(ring);
        }
        let ring = Arc::new(self.read_again().await?);
        self.ring.store(Some(Arc::clone(&ring)));
        Ok(ring)
    }

    /// Reads it again, off the threads that serve calls.
    async fn read_again(&self) -> Result<Ring, Error> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || Ring::read(&path));
        match tokio::time::timeout(READ_MAX, read).await {
            Ok(Ok(ring)) => ring,
            Ok(Err(_)) => Err(unreadable(&self.path, std::io::Error::other("reading it was broken off"))),
            Err(_) => Err(unreadable(&self.path, std::io::ErrorKind::TimedOut.into())),
        }
    }
}

#[async_trait]
impl SecretsManager for LocalKeyring {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn check(&self, needed: &[String]) -> Result<(), Error> {
        let new = self.read_again().await?;
        if let Some(lost) = needed.iter().find(|id| !new.keys.contains_key(*id)) {
            return Err(new.unknown(lost));
        }
        let Some(old) = self.ring.load_full() else {
            self.ring.store(Some(Arc::new(new)));
            return Ok(());
        };
        if new.contents() == old.contents() {
            return Ok(());
        }
        if let Some(id) = new.changed_from(&old) {
            return Err(malformed(
                &self.path,
                format!("key {id:?} is not the bytes it was; give a new key a new id, and bring the old one back"),
            ));
        }
        self.ring.store(Some(Arc::new(new)));
        Ok(())
    }

    fn check_after(&self) -> Duration {
        CHECK_INTERVAL
    }

    async fn wrap(&self, kek: &Bits256, context: &Context<'_>) -> Result<WrappedKek, Error> {
        let ring = self.ring().await?;
        let key = ring.keys.get(&ring.primary).ok_or_else(|| ring.unknown(&ring.primary))?;
        let blob = envelope::wrap(Layer::Kek, &self.random, &key.aead, &ring.primary, kek, &context.associated_data())
            .map_err(|_| Error::NoRandomness)?;
        Ok(WrappedKek { manager: KIND.to_owned(), key_ref: ring.primary.clone(), blob })
    }

    async fn unwrap(&self, wrapped: &WrappedKek, context: &Context<'_>) -> Result<Bits256, Error> {
        if let Ok(bits) = self.ring().await?.unwrap(wrapped, context) {
            return Ok(bits);
        }
        // What is in use does not open it. If what is there now does, that is the right one:
        // someone has brought it back.
        let now = self.read_again().await?;
        let bits = now.unwrap(wrapped, context)?;
        self.ring.store(Some(Arc::new(now)));
        Ok(bits)
    }
}

/// One state of the keyring, valid as a whole.
struct Ring {
    keys: BTreeMap<String, RootKey>,
    primary: String,
}

/// A root key, ready to be used, and what tells it from another.
struct RootKey {
    aead: Box<LessSafeKey>,
    digest: [u8; digest::SHA256_OUTPUT_LEN],
}

impl Ring {
    fn unwrap(&self, wrapped: &WrappedKek, context: &Context<'_>) -> Result<Bits256, Error> {
        let wrong = |id: &str| Error::WrongKey { id: id.to_owned() };
        let parsed =
            envelope::Wrapped::parse(Layer::Kek, &wrapped.blob).map_err(|_: SealError| wrong(&wrapped.key_ref))?;
        let key = self.keys.get(parsed.key_id).ok_or_else(|| self.unknown(parsed.key_id))?;
        parsed.unwrap(&key.aead, &context.associated_data()).map_err(|_| wrong(parsed.key_id))
    }

    fn read(path: &Path) -> Result<Self, Error> {
        let mut primary = None;
        let mut keys = BTreeMap::new();
        for (name, value) in files::read(path)? {
            let duplicate = if name == "primary" {
                primary.replace(value.to_string()).is_some()
            } else {
                keys.insert(name.clone(), RootKey::parse(path, &name, &value)?).is_some()
            };
            if duplicate {
                return Err(malformed(path, format!("{name:?} stands in it twice")));
            }
        }
        refuse_equal_keys(path, &keys)?;
        let primary = primary.ok_or_else(|| malformed(path, "it names no `primary` key"))?;
        if !keys.contains_key(&primary) {
            return Err(malformed(path, format!("its primary key {primary:?} is not in it")));
        }
        Ok(Self { keys, primary })
    }

    /// All that matters of it, for comparison.
    fn contents(&self) -> (&str, BTreeSet<(&str, &[u8])>) {
        let keys = self.keys.iter().map(|(id, key)| (id.as_str(), key.digest.as_slice()));
        (&self.primary, keys.collect())
    }

    /// An id that names other bytes than it did: what it wrapped would not open.
    fn changed_from(&self, old: &Self) -> Option<&str> {
        let differs = |id: &str, key: &RootKey| old.keys.get(id).is_some_and(|old| old.digest != key.digest);
        self.keys.iter().find(|(id, key)| differs(id, key)).map(|(id, _)| id.as_str())
    }

    /// The ids of its keys, sorted, for messages.
    fn present(&self) -> String {
        self.keys.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    fn unknown(&self, id: &str) -> Error {
        Error::UnknownKey { id: id.to_owned(), present: self.present() }
    }
}

impl RootKey {
    fn parse(path: &Path, id: &str, text: &str) -> Result<Self, Error> {
        if !envelope::is_key_id(id) {
            return Err(malformed(path, format!("{id:?} is not an id: 1 to 64 of a-z 0-9 : . _ -")));
        }
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(text).unwrap_or_default());
        let Ok(bits) = <[u8; 32]>::try_from(bytes.as_slice()).map(Zeroizing::new) else {
            return Err(malformed(path, format!("key {id:?} is not 32 bytes in base64")));
        };
        let distinct: BTreeSet<u8> = bits.iter().copied().collect();
        if distinct.len() < DISTINCT_BYTES_MIN {
            return Err(malformed(
                path,
                format!("key {id:?} is weak: it is not random; make one with `key-vault keyring init`"),
            ));
        }
        let mut fingerprint = [0; digest::SHA256_OUTPUT_LEN];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, bits.as_slice()).as_ref());
        let aead = envelope::aead_key(&bits).map_err(|_| malformed(path, "a key has a wrong length"))?;
        Ok(Self { aead, digest: fingerprint })
    }
}

fn refuse_equal_keys(path: &Path, keys: &BTreeMap<String, RootKey>) -> Result<(), Error> {
    for (id, key) in keys {
        if let Some((other, _)) = keys.iter().find(|(other, others)| *other > id && others.digest == key.digest) {
            return Err(malformed(path, format!("{id:?} and {other:?} are the same key")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
