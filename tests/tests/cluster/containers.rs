//! What a container is allowed, and how it ends.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use system_tests::{
    binary,
    container::{self, Container, Mount, Program, User, root},
};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);

/// The user of the images.
const NONROOT: u32 = 65_532;

/// The group of a pod's volumes.
const VOLUMES: u32 = 4_711;

/// A vault for development that keeps all it has in `data`, a folder beside its root.
async fn vault(folder: &Path, data: &Path, access: Access) -> Program {
    let read_only = access == Access::Read;
    let data = Mount { source: data.to_owned(), destination: "/data".into(), read_only };
    let words = ["/usr/local/bin/key-vault", "serve", "--dev", "--keyring=/data/keyring", "--log-format=json"];
    Program {
        name: "vault-0".to_owned(),
        root: root::make(&binary("system-key-vault"), "key-vault", folder).await.expect("a root"),
        read_only_root: true,
        args: words.map(str::to_owned).into(),
        environment: vec![("KEY_VAULT_DATABASE_URL".to_owned(), "sqlite:/data/vault.db".to_owned())],
        work_folder: "/".into(),
        mounts: vec![data],
        user: User { uid: NONROOT, gid: NONROOT, groups: vec![VOLUMES] },
        network: None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// A folder as a kubelet makes one for a pod whose volumes have a group.
fn volume(folder: &Path) -> PathBuf {
    let path = folder.join("data");
    fs::create_dir(&path).expect("a folder");
    chown(&path, None, Some(VOLUMES)).expect("its group is set");
    fs::set_permissions(&path, Permissions::from_mode(0o2770)).expect("its mode is set");
    path
}

#[tokio::test]
async fn a_container_has_its_user_no_rights_and_a_root_that_nobody_writes() {
    if !container::is_available() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let data = volume(folder.path());
    let container = vault(folder.path(), &data, Access::Write).await;
    let container = Container::start(&container).await.expect("it starts");
    container.says("\"serving\"", LIMIT).await.expect("it serves");
    let process = format!("/proc/{}", container.process_id());
    let status = fs::read_to_string(format!("{process}/status")).expect("it runs");
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        line.unwrap_or_default().trim().to_owned()
    };
    assert_eq!(value("Uid"), "65532\t65532\t65532\t65532");
    assert_eq!(value("Gid"), "65532\t65532\t65532\t65532");
    assert_eq!(value("Groups"), "4711");
    assert_eq!(value("NoNewPrivs"), "1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(value(set), "0000000000000000", "{set}");
    }
    let mounts = fs::read_to_string(format!("{process}/mounts")).expect("it runs");
    let options = |place: &str| {
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(place)).expect("it is mounted");
        line.split(' ').nth(3).unwrap_or_default().to_owned()
    };
    assert!(options("/").starts_with("ro,"), "{mounts}");
    assert!(options("/data").starts_with("rw,"), "{mounts}");

    let ended = container.stop(LIMIT).await.expect("it stops");
    assert_eq!((ended.code, ended.killed), (0, false), "{}", ended.log);
    assert!(data.join("vault.db").exists(), "it wrote where it may");
}

#[tokio::test]
async fn what_is_mounted_to_be_read_is_not_written() {
    if !container::is_available() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let data = volume(folder.path());
    let program = vault(folder.path(), &data, Access::Read).await;
    let ended = Container::start(&program).await.expect("it starts").ends(LIMIT).await.expect("it ends");
    assert_eq!(ended.code, 1, "{}", ended.log);
    assert_eq!(fs::read_dir(&data).expect("a folder").count(), 0, "{}", ended.log);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_killed_and_what_is_dropped_is_gone() {
    if !container::is_available() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let data = volume(folder.path());
    let program = vault(folder.path(), &data, Access::Write).await;
    let container = Container::start(&program).await.expect("it starts");
    container.says("\"serving\"", LIMIT).await.expect("it serves");
    // It hears nothing any more.
    container.is_told("STOP").await.expect("it stands still");
    let ended = container.stop(Duration::from_millis(200)).await.expect("it is killed");
    assert_eq!((ended.code, ended.killed), (137, true), "{}", ended.log);

    let container = Container::start(&program).await.expect("it starts again");
    let process = PathBuf::from(format!("/proc/{}", container.process_id()));
    assert!(process.exists());
    drop(container);
    assert!(!process.exists(), "it ended with its owner");
}
