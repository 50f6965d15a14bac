//! Turns the signals that end a process into one future.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at the first SIGTERM (what Kubernetes sends) or SIGINT (Ctrl-C).
///
/// The handlers are installed when this is called, so a signal between the call and
/// the first poll is not lost.
///
/// # Errors
///
/// Fails if the process cannot install a signal handler.
pub fn signal_received() -> std::io::Result<impl Future<Output = ()> + Send> {
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
