//! Turns the signals that end a process into one future, and makes the second one count.

use std::{
    os::raw::c_int,
    sync::{Arc, atomic::AtomicBool},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};
use tokio::signal::unix::{SignalKind, signal};

/// What a shell reports for a process that a signal ended is this and the signal's number.
const ENDED_BY: c_int = 128;

/// Resolves at the first SIGTERM (what Kubernetes sends) or SIGINT (Ctrl-C). The second of them
/// ends the process at once, whatever it is doing, with 128 and the signal's number.
///
/// The handlers are installed when this is called, so a signal between the call and
/// the first poll is not lost.
///
/// # Errors
///
/// Fails if the process cannot install a signal handler.
pub fn signal_received() -> std::io::Result<impl Future<Output = ()> + Send> {
    let stopping = Arc::new(AtomicBool::new(false));
    for number in [SIGTERM, SIGINT] {
        // In this order: the signal that sets the flag is not yet the one that sees it.
        flag::register_conditional_shutdown(number, ENDED_BY + number, Arc::clone(&stopping))?;
        flag::register(number, Arc::clone(&stopping))?;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping");
    })
}
