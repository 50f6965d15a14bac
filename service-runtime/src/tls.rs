//! The one TLS and crypto backend: rustls on ring.

use std::sync::Once;

/// Makes ring the process' default crypto provider for rustls. Idempotent.
///
/// reqwest is built without a provider of its own and panics when a client is built
/// before this ran. It is called where clients are built, not in `main`: tests never
/// run `main`.
pub fn install_crypto_provider() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // An error means that a provider is installed already, which is all we want.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
