//! Keeps the memory of a process from core dumps and from other processes of its user.
//!
//! Both services hold keys in the clear for as long as a call needs them. What is set here
//! are the two doors that the system leaves open by default: a crash that writes memory to
//! a disk, and `/proc/PID/mem`, `/proc/PID/environ` and a debugger for whoever runs as the
//! same user. Root is not kept out, and cannot be.
//!
//! Locking memory against swap is not done here: it needs a privilege and fails late, in
//! the middle of an allocation. Encrypt swap, or run without it.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};
use tracing::{info, warn};

/// What [`apply`] came to. The process has no log yet when it is called.
#[derive(Debug)]
#[must_use = "what could not be set must be logged"]
pub struct Hardened {
    not_dumpable: io::Result<()>,
    no_core_files: io::Result<()>,
}

/// Closes both doors. Call it first; it holds for all threads, and for good.
pub fn apply() -> Hardened {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    Hardened { not_dumpable: forbid_dumps(), no_core_files: setrlimit(Resource::Core, none).map_err(io::Error::from) }
}

impl Hardened {
    /// Says how it went. A door that stays open ends nothing: the service is as safe as
    /// the machine is without it, and the operator is told what to change.
    pub fn log(&self) {
        if let Err(error) = &self.not_dumpable {
            warn!(
                %error,
                "other processes of this user can read this process' memory: allow the system call prctl \
                 (PR_SET_DUMPABLE) in its seccomp profile, or give it a user of its own"
            );
        }
        if let Err(error) = &self.no_core_files {
            warn!(
                %error,
                "a crash can write this process' memory to a file: allow the system call prlimit64 in its seccomp \
                 profile, or start it with `ulimit -c 0`"
            );
        }
        if self.not_dumpable.is_ok() && self.no_core_files.is_ok() {
            info!("memory is kept from core files and from other processes of this user");
        }
    }
}

/// Whether this process may read everything on its machine.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(target_os = "linux")]
fn forbid_dumps() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};

    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn forbid_dumps() -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no PR_SET_DUMPABLE"))
}
