//! The configuration that `runc` reads, as the runtime specification of the OCI defines it.

use serde_json::{Value, json};

use super::{Mount, Program};

/// The whole `config.json` of a container.
pub(super) fn configuration(program: &Program, id: &str) -> Value {
    let environment: Vec<_> = program.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut mounts = own_mounts();
    mounts.extend(program.mounts.iter().map(bind));
    json!({
        "ociVersion": "1.0.2",
        "hostname": program.name,
        "root": { "path": program.root, "readonly": program.read_only_root },
        "process": {
            "terminal": false,
            "cwd": program.work_folder,
            "args": program.args,
            "env": environment,
            "user": {
                "uid": program.user.uid,
                "gid": program.user.gid,
                "additionalGids": program.user.groups,
            },
            "capabilities": {
                "bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": []
            },
            "noNewPrivileges": true,
        },
        "mounts": mounts,
        "linux": {
            // One level below the top, so that nothing is left when `runc` removes it.
            "cgroupsPath": format!("/{id}"),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces(program),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    })
}

fn namespaces(program: &Program) -> Vec<Value> {
    let mut namespaces: Vec<_> = ["pid", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind })).into();
    namespaces.push(match &program.network {
        Some(path) => json!({ "type": "network", "path": path }),
        None => json!({ "type": "network" }),
    });
    namespaces
}

/// What every container has, whatever its program.
fn own_mounts() -> Vec<Value> {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let closed = ["nosuid", "noexec", "nodev"];
    vec![
        mount("/proc", "proc", &closed),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", &closed),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

fn bind(mount: &Mount) -> Value {
    let access = if mount.read_only { "ro" } else { "rw" };
    json!({
        "destination": mount.destination,
        "type": "bind",
        "source": mount.source,
        "options": ["rbind", "rprivate", "nosuid", "nodev", access],
    })
}

/// What container runtimes hide, and what they let nobody write.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
