//! What is in an image, file by file.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::{USER, is_debian, root_of};

/// Everything in both images but the service, the vault's folder and the libraries of the machine.
const FILES: &[&str] = &[
    "etc/group",
    "etc/nsswitch.conf",
    "etc/os-release",
    "etc/passwd",
    "etc/ssl/certs/ca-certificates.crt",
    "usr/share/doc/ca-certificates/copyright",
    "usr/share/doc/libc6/copyright",
    "usr/share/doc/libgcc-s1/copyright",
    "var/lib/dpkg/status.d/ca-certificates",
    "var/lib/dpkg/status.d/libc6",
    "var/lib/dpkg/status.d/libgcc-s1",
];

/// The C library, what unwinds a panic, and the program that loads both.
const LIBRARIES: &[&str] = &["ld-linux", "libc.so.6", "libgcc_s.so.1", "libm.so.6"];

#[tokio::test]
async fn an_image_holds_its_service_and_what_that_needs_and_nothing_else() {
    if !is_debian() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for service in ["key-vault", "chat-gateway"] {
        let root = root_of(service, folder.path()).await.expect("a root");
        let all = entries(&root);
        let files: BTreeSet<_> = all.iter().filter(|path| !root.join(path).is_dir()).map(|path| name(path)).collect();
        let binary = format!("usr/local/bin/{service}");
        let expected = FILES.iter().chain(LIBRARIES).copied().chain([binary.as_str()]);
        assert_eq!(files, expected.map(str::to_owned).collect(), "{service}");
        assert_eq!(root.join("var/lib/key-vault").is_dir(), service == "key-vault");

        let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        for entry in &all {
            let data = fs::symlink_metadata(root.join(entry)).expect("it is there");
            let mode = data.permissions().mode();
            assert!(!data.is_symlink(), "{entry:?} leads elsewhere");
            assert_eq!(mode & 0o7022, 0, "{entry:?} has the mode {mode:o}");
            assert_eq!(data.mtime(), 0, "{entry:?} has the time of its making");
            let owner = if entry == Path::new("var/lib/key-vault") { USER } else { 0 };
            assert!(!is_root || (data.uid(), data.gid()) == (owner, owner), "{entry:?} is another's");
        }
    }
}

#[tokio::test]
async fn an_image_trusts_debians_authorities_and_none_of_the_machine_that_built_it() {
    if !is_debian() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let root = root_of("chat-gateway", folder.path()).await.expect("a root");
    let bundle = fs::read_to_string(root.join("etc/ssl/certs/ca-certificates.crt")).expect("a bundle");
    let sources = entries(Path::new("/usr/share/ca-certificates/mozilla"));
    assert!(sources.len() > 100, "Debian has {} authorities", sources.len());
    assert_eq!(bundle.matches("-----BEGIN CERTIFICATE-----\n").count(), sources.len());
    for source in sources {
        let certificate = fs::read_to_string(Path::new("/usr/share/ca-certificates/mozilla").join(&source));
        assert!(bundle.contains(certificate.expect("a certificate").trim()), "{source:?} is missing");
    }
}

#[tokio::test]
async fn nothing_is_put_into_a_folder_that_is_there() {
    if !is_debian() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("key-vault")).expect("a folder");
    let refused = root_of("key-vault", folder.path()).await.expect_err("it is there").to_string();
    assert!(refused.ends_with("exists\n"), "{refused}");
    assert!(entries(&folder.path().join("key-vault")).is_empty());
}

/// The path of a file; of a library the name, as its folder depends on the machine.
fn name(path: &Path) -> String {
    let text = path.to_string_lossy().into_owned();
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !text.starts_with("lib") {
        return text;
    }
    if file.starts_with("ld-linux") { "ld-linux".to_owned() } else { file }
}

/// All files and folders below one, as seen from it.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).expect("a folder").map(|entry| entry.expect("an entry")) {
            if entry.file_type().expect("a type").is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path().strip_prefix(folder).expect("below it").to_owned());
        }
    }
    found
}
