//! A keyring in a file or a directory: the secrets manager of one machine, and of
//! clusters that mount a secret.
//!
//! A file has one entry a line, `primary: ID` and `ID: KEY`, where KEY is 32 bytes in
//! base64; `#` begins a comment. A directory has a file for each key, named by its id,
//! and a file `primary` with an id in it: the form of a mounted Kubernetes secret, whose
//! entries beginning with `..` are passed over.
//!
//! The order of entries means nothing. A keyring with anything doubtful in it is
//! refused as a whole.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::{aead::LessSafeKey, rand::SystemRandom};
use zeroize::Zeroizing;

use super::{Context, Error, SecretsManager, WrappedKek};
use crate::seal::{
    Bits256, Error as SealError,
    envelope::{self, AssociatedData, Layer},
    random_bits,
};

const KIND: &str = "local";

/// How often the file is looked at for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// A keyring of a hundred keys fits a hundred times.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Distinct bytes among 32 random ones: fewer than this has a chance below 2^-50, and
/// is what a typed or repeated key looks like.
const DISTINCT_BYTES_MIN: usize = 16;

/// Root keys from a file or a directory.
pub(crate) struct LocalKeyring {
    keys: BTreeMap<String, Box<LessSafeKey>>,
    primary: String,
    random: SystemRandom,
}

impl fmt::Debug for LocalKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKeyring").field("primary", &self.primary).finish_non_exhaustive()
    }
}

impl LocalKeyring {
    /// Reads the keyring at `path`.
    ///
    /// # Errors
    ///
    /// [`Error`] says what is wrong with it and what to change.
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let entries = if path.is_dir() { read_directory(path)? } else { read_file(path)? };
        let mut primary = None;
        let mut keys = BTreeMap::new();
        for (name, value) in entries {
            let duplicate = if name == "primary" {
                primary.replace(value.to_string()).is_some()
            } else {
                keys.insert(name.clone(), parse_key(path, &name, &value)?).is_some()
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
        let mut ring = BTreeMap::new();
        for (id, bits) in keys {
            ring.insert(id, envelope::aead_key(&bits).map_err(|_| malformed(path, "a key has a wrong length"))?);
        }
        Ok(Self { keys: ring, primary, random: SystemRandom::new() })
    }

    /// Writes a new keyring with one random key to `path`, readable by its owner only.
    ///
    /// # Errors
    ///
    /// Fails if something is at `path` already: a keyring is never overwritten.
    pub(crate) fn create(path: &Path) -> Result<(), Error> {
        let unreadable = |source| Error::Unreadable { path: path.display().to_string(), source };
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

    /// The ids of its keys, sorted, for messages.
    fn present(&self) -> String {
        self.keys.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

#[async_trait]
impl SecretsManager for LocalKeyring {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn check(&self, _needed: &[String]) -> Result<(), Error> {
        Ok(())
    }

    fn check_after(&self) -> Duration {
        CHECK_INTERVAL
    }

    async fn wrap(&self, kek: &Bits256, context: &Context<'_>) -> Result<WrappedKek, Error> {
        let key = self.keys.get(&self.primary).ok_or_else(|| self.unknown(&self.primary))?;
        let blob = envelope::wrap(Layer::Kek, &self.random, key, &self.primary, kek, &aad(context))
            .map_err(|_| Error::NoRandomness)?;
        Ok(WrappedKek { manager: KIND.to_owned(), key_ref: self.primary.clone(), blob })
    }

    async fn unwrap(&self, wrapped: &WrappedKek, context: &Context<'_>) -> Result<Bits256, Error> {
        let wrong = |id: &str| Error::WrongKey { id: id.to_owned() };
        let parsed =
            envelope::Wrapped::parse(Layer::Kek, &wrapped.blob).map_err(|_: SealError| wrong(&wrapped.key_ref))?;
        let key = self.keys.get(parsed.key_id).ok_or_else(|| self.unknown(parsed.key_id))?;
        parsed.unwrap(key, &aad(context)).map_err(|_| wrong(parsed.key_id))
    }
}

impl LocalKeyring {
    fn unknown(&self, id: &str) -> Error {
        Error::UnknownKey { id: id.to_owned(), present: self.present() }
    }
}

fn aad(context: &Context<'_>) -> AssociatedData {
    let mut aad = AssociatedData::new("akv/kek/v1");
    aad.add(context.vault.as_bytes());
    aad.add(context.kek_id.as_bytes());
    aad
}

type Entries = Vec<(String, Zeroizing<String>)>;

fn read_file(path: &Path) -> Result<Entries, Error> {
    let text = read_private(path)?;
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line
            .split_once(": ")
            .ok_or_else(|| malformed(path, format!("line {} is not `ID: KEY` or `primary: ID`", number + 1)))?;
        entries.push((name.trim().to_owned(), Zeroizing::new(value.trim().to_owned())));
    }
    Ok(entries)
}

fn read_directory(path: &Path) -> Result<Entries, Error> {
    let unreadable = |source| Error::Unreadable { path: path.display().to_string(), source };
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") {
            let value = read_private(&entry.path())?;
            entries.push((name, Zeroizing::new(value.trim().to_owned())));
        }
    }
    Ok(entries)
}

/// Reads a file that not everyone can read.
fn read_private(path: &Path) -> Result<Zeroizing<String>, Error> {
    let unreadable = |source| Error::Unreadable { path: path.display().to_string(), source };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(Error::Exposed { path: path.display().to_string(), mode });
    }
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(unreadable(io::Error::other("not a file of less than 1 MiB")));
    }
    fs::read_to_string(path).map(Zeroizing::new).map_err(unreadable)
}

fn parse_key(path: &Path, id: &str, text: &str) -> Result<Bits256, Error> {
    if !envelope::is_key_id(id) {
        return Err(malformed(path, format!("{id:?} is not an id: 1 to 64 of a-z 0-9 : . _ -")));
    }
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(text).unwrap_or_default());
    let Ok(bits) = <[u8; 32]>::try_from(bytes.as_slice()).map(Zeroizing::new) else {
        return Err(malformed(path, format!("key {id:?} is not 32 bytes in base64")));
    };
    let mut seen = [false; 256];
    bits.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    if seen.iter().filter(|seen| **seen).count() < DISTINCT_BYTES_MIN {
        return Err(malformed(
            path,
            format!("key {id:?} is weak: it is not random; make one with `key-vault keyring init`"),
        ));
    }
    Ok(bits)
}

fn refuse_equal_keys(path: &Path, keys: &BTreeMap<String, Bits256>) -> Result<(), Error> {
    for (id, bits) in keys {
        if let Some((other, _)) = keys.iter().find(|(other, others)| *other > id && *others == bits) {
            return Err(malformed(path, format!("{id:?} and {other:?} are the same key")));
        }
    }
    Ok(())
}

fn malformed(path: &Path, problem: impl Into<String>) -> Error {
    Error::Malformed { path: path.display().to_string(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const OTHER: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    fn keyring(text: &str) -> Result<LocalKeyring, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        LocalKeyring::load(&path)
    }

    #[test]
    fn a_doubtful_keyring_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "names no `primary`"),
            (&format!("primary: b\na: {GOOD}\n"), "\"b\" is not in it"),
            (&format!("primary: a\na: {GOOD}\na: {OTHER}\n"), "stands in it twice"),
            (&format!("primary: a\na: {GOOD}\nb: {GOOD}\n"), "are the same key"),
            ("primary: a\na: c2hvcnQ=\n", "not 32 bytes in base64"),
            ("primary: a\na: !!!\n", "not 32 bytes in base64"),
            (&format!("primary: a\na: {}\n", BASE64_STANDARD.encode([7; 32])), "is weak"),
            (&format!("primary: A\nA: {GOOD}\n"), "is not an id"),
            ("primary a\n", "line 1 is not"),
        ] {
            let problem = keyring(text).unwrap_err().to_string();
            assert!(problem.contains(reason), "{text:?}: {problem}");
            assert!(!problem.contains(GOOD), "{problem}");
        }
        assert!(keyring(&format!("# two\nprimary: b\n\na: {GOOD}\nb: {OTHER}\n")).is_ok());
    }

    #[test]
    fn a_created_keyring_loads_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("var/keyring");
        LocalKeyring::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(LocalKeyring::load(&path).is_ok());
        assert!(matches!(LocalKeyring::create(&path), Err(Error::Unreadable { .. })));
    }

    #[test]
    fn everyone_may_not_read_a_keyring() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring");
        fs::write(&path, format!("primary: a\na: {GOOD}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(LocalKeyring::load(&path), Err(Error::Exposed { mode: 0o644, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        assert!(LocalKeyring::load(&path).is_ok());
    }

    #[test]
    fn a_mounted_directory_is_a_keyring() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("primary", "a\n"), ("a", GOOD), ("..data", "not a key")] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        }
        assert_eq!(LocalKeyring::load(folder.path()).unwrap().present(), "a");
    }
}
