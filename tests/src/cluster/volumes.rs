//! The files of Secrets and of `ConfigMap`s, as a kubelet puts them into a pod: behind a link that
//! changes in one step, owned by `root` and by the pod's group, with the mode of the manifest.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::manifest::{ContainerSpec, Manifests, PodSpec, Volume, VolumeMount};
use crate::container::Mount;

/// What is in Secrets, by their names and by the names of files.
pub(super) type Secrets = BTreeMap<String, BTreeMap<String, String>>;

/// Makes the volumes of a pod in its folder, and returns where its container has them.
pub(super) fn mounts(
    pod: &PodSpec,
    container: &ContainerSpec,
    manifests: &Manifests,
    secrets: &Secrets,
    folder: &Path,
) -> Result<Vec<Mount>> {
    let mut volumes = BTreeMap::new();
    for volume in &pod.volumes {
        let path = folder.join("volumes").join(&volume.name);
        let (files, mode) = files(volume, manifests, secrets)?;
        write(&path, files, mode, pod.security_context.fs_group)?;
        volumes.insert(&volume.name, path);
    }
    let mount = |mount: &VolumeMount| -> Result<Mount> {
        let source = volumes.get(&mount.name).with_context(|| format!("no volume {}", mount.name))?.clone();
        Ok(Mount { source, destination: PathBuf::from(&mount.mount_path), read_only: mount.read_only })
    };
    container.volume_mounts.iter().map(mount).collect()
}

/// What is in a volume, and the mode of its files.
fn files<'a>(
    volume: &Volume,
    manifests: &'a Manifests,
    secrets: &'a Secrets,
) -> Result<(&'a BTreeMap<String, String>, u32)> {
    let name = &volume.name;
    match (&volume.secret, &volume.config_map) {
        (Some(secret), None) => {
            let files = secrets.get(&secret.secret_name);
            Ok((files.with_context(|| format!("no Secret {}", secret.secret_name))?, secret.default_mode))
        }
        (None, Some(map)) => {
            let files = manifests.config_maps.get(&map.name);
            Ok((files.with_context(|| format!("no ConfigMap {}", map.name))?, map.default_mode))
        }
        _ => bail!("the volume {name} is neither of a Secret nor of a ConfigMap"),
    }
}

fn write(folder: &Path, files: &BTreeMap<String, String>, mode: u32, group: u32) -> Result<()> {
    let version = folder.join("..2000_01_01");
    fs::create_dir_all(&version)?;
    for (name, text) in files {
        let path = version.join(name);
        fs::write(&path, text)?;
        chown(&path, Some(0), Some(group))?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        symlink(Path::new("..data").join(name), folder.join(name))?;
    }
    symlink("..2000_01_01", folder.join("..data"))?;
    for path in [folder, &version] {
        chown(path, Some(0), Some(group))?;
        fs::set_permissions(path, Permissions::from_mode(0o2750))?;
    }
    Ok(())
}
