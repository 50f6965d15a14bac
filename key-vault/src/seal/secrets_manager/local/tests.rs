use std::os::unix::fs::{PermissionsExt as _, symlink};

use uuid::Uuid;

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
    assert_eq!(LocalKeyring::load(folder.path()).unwrap().ring.load_full().unwrap().present(), "a");
}

/// A mounted Kubernetes secret: generations of files behind the link `..data`.
struct Mount {
    folder: tempfile::TempDir,
    generation: usize,
}

impl Mount {
    fn new(files: &[(&str, &str)]) -> Self {
        let mut mount = Self { folder: tempfile::tempdir().unwrap(), generation: 0 };
        mount.swap(files);
        for (name, _) in files {
            symlink(format!("..data/{name}"), mount.folder.path().join(name)).unwrap();
        }
        mount
    }

    /// What the kubelet does: a new directory, the link renamed over the old one, and the
    /// old directory deleted.
    fn swap(&mut self, files: &[(&str, &str)]) {
        let old = self.folder.path().join(format!("..{}", self.generation));
        self.generation += 1;
        let name = format!("..{}", self.generation);
        let new = self.folder.path().join(&name);
        fs::create_dir(&new).unwrap();
        for (name, text) in files {
            fs::write(new.join(name), text).unwrap();
            fs::set_permissions(new.join(name), fs::Permissions::from_mode(0o440)).unwrap();
        }
        let link = self.folder.path().join("..data_tmp");
        symlink(name, &link).unwrap();
        fs::rename(link, self.folder.path().join("..data")).unwrap();
        let _ = fs::remove_dir_all(old);
    }
}

fn context() -> Context<'static> {
    Context { vault: Uuid::from_u128(7), kek_id: "kek-1" }
}

#[tokio::test]
async fn a_mounted_keyring_changes_as_a_whole_or_not_at_all() {
    let mut mount = Mount::new(&[("primary", "a"), ("a", GOOD)]);
    let keyring = LocalKeyring::load(mount.folder.path()).unwrap();
    let kek = random_bits(&SystemRandom::new()).unwrap();
    let wrapped = keyring.wrap(&kek, &context()).await.unwrap();
    let needed = ["a".to_owned()];
    let valid: [&[(&str, &str)]; 2] =
        [&[("primary", "a"), ("a", GOOD), ("b", OTHER)], &[("primary", "b"), ("a", GOOD), ("b", OTHER)]];
    let doubtful: [(&[(&str, &str)], &str); 7] = [
        (&[], "names no `primary`"),
        (&[("primary", "a"), ("a", "!!!")], "not 32 bytes"),
        (&[("a", GOOD)], "names no `primary`"),
        (&[("primary", "b"), ("b", OTHER)], "has no key \"a\""),
        (&[("primary", "c"), ("a", GOOD)], "\"c\" is not in it"),
        (&[("primary", "a"), ("a", OTHER)], "is not the bytes it was"),
        (&[("primary", "a"), ("a", GOOD), ("b", GOOD)], "are the same key"),
    ];
    for round in 0..200 {
        let before = keyring.ring.load_full().unwrap();
        let (files, reason) = doubtful[round % doubtful.len()];
        mount.swap(files);
        let refused = keyring.check(&needed).await.unwrap_err().to_string();
        assert!(refused.contains(reason), "{files:?}: {refused}");
        assert!(Arc::ptr_eq(&before, &keyring.ring.load_full().unwrap()), "round {round}: the old set is kept");

        let files = valid[round % valid.len()];
        mount.swap(files);
        keyring.check(&needed).await.unwrap();
        let wraps_with = keyring.wrap(&kek, &context()).await.unwrap().key_ref;
        assert_eq!(wraps_with, files[0].1, "round {round}: the new set is in use");
        assert_eq!(keyring.unwrap(&wrapped, &context()).await.unwrap(), kek);
    }
}

/// The reader meets the swap at every possible place.
#[test]
fn a_mounted_keyring_is_never_read_half_old_and_half_new() {
    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "primary"];
    let mut mount = Mount::new(&NAMES.map(|name| (name, "0")));
    let path = mount.folder.path().to_owned();
    let swaps = std::thread::spawn(move || {
        for round in 1..=200 {
            mount.swap(&NAMES.map(|name| (name, round.to_string())).each_ref().map(|(name, text)| (*name, &**text)));
        }
        mount
    });
    while !swaps.is_finished() {
        match files::read(&path) {
            Ok(entries) => {
                assert_eq!(entries.len(), NAMES.len());
                assert!(entries.iter().all(|(_, text)| *text == entries[0].1), "{entries:?}");
            }
            Err(Error::Unreadable { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let mount = swaps.join().unwrap();
    assert_eq!(*files::read(mount.folder.path()).unwrap()[0].1, "200");
}

#[tokio::test]
async fn a_keyring_that_lacks_what_the_database_needs_says_so() {
    let mount = Mount::new(&[("primary", "a"), ("a", GOOD)]);
    let keyring = LocalKeyring::load(mount.folder.path()).unwrap();
    assert!(keyring.check(&["a".to_owned()]).await.is_ok());
    let missing = keyring.check(&["a".to_owned(), "gone".to_owned()]).await.unwrap_err();
    assert!(matches!(missing, Error::UnknownKey { ref id, .. } if id == "gone"), "{missing}");
}

#[tokio::test]
async fn a_keyring_that_is_gone_stays_in_use() {
    let mount = Mount::new(&[("primary", "a"), ("a", GOOD)]);
    let keyring = LocalKeyring::load(mount.folder.path()).unwrap();
    let kek = random_bits(&SystemRandom::new()).unwrap();
    drop(mount);
    assert!(matches!(keyring.check(&[]).await, Err(Error::Unreadable { .. })));
    let wrapped = keyring.wrap(&kek, &context()).await.unwrap();
    assert_eq!(keyring.unwrap(&wrapped, &context()).await.unwrap(), kek);
}
