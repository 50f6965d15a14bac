//! HTTP clients: as many as the calls of a provider need.
//!
//! Odd: one client keeps one HTTP/2 connection to a host, and the host says how many calls it
//! may carry at once (most say 100); further ones would wait in silence. So a client carries
//! [`CALLS_MAX`], and the next call has the next client. Calls go to the first client that has
//! room, so that few connections are open when little is to do.
//!
//! All share one TLS configuration: the machine's authorities are read once, and sessions are
//! resumed on any connection.

use std::{
    ops::Deref,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls_platform_verifier::BuilderVerifierExt as _;
use tracing::warn;

/// Calls on one client at once: below what any provider is known to allow on a connection.
const CALLS_MAX: usize = 32;

/// Clients of one provider: room for more than sixteen thousand calls at once. Beyond it they
/// share.
const CLIENTS_MAX: usize = 512;

/// Makes a client.
pub(super) type Make = dyn Fn() -> reqwest::Result<reqwest::Client> + Send + Sync;

/// The clients of one provider.
pub(super) struct Clients {
    make: Arc<Make>,
    clients: RwLock<Vec<Arc<Client>>>,
}

#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    calls: AtomicUsize,
}

/// A client for one call, as long as the call lasts.
#[derive(Debug)]
pub(super) struct Lease(Arc<Client>);

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").field("clients", &self.clients).finish_non_exhaustive()
    }
}

impl Clients {
    /// Makes the first client.
    ///
    /// # Errors
    ///
    /// Fails if a client cannot be made.
    pub(super) fn new(make: &Arc<Make>) -> reqwest::Result<Self> {
        let first = Arc::new(Client { http: make()?, calls: AtomicUsize::new(0) });
        Ok(Self { make: Arc::clone(make), clients: RwLock::new(vec![first]) })
    }

    /// A client that has room for a call.
    pub(super) fn lease(&self) -> reqwest::Result<Lease> {
        let free = |clients: &Vec<Arc<Client>>| clients.iter().find_map(Client::enter);
        if let Some(lease) = free(&self.clients.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(lease);
        }
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = free(&clients) {
            return Ok(lease);
        }
        let least = clients.iter().min_by_key(|client| client.calls.load(Ordering::Relaxed)).cloned();
        match least {
            Some(least) if clients.len() >= CLIENTS_MAX => {
                warn!(clients = CLIENTS_MAX, "calls share connections to a provider, and may wait for each other");
                least.calls.fetch_add(1, Ordering::Relaxed);
                Ok(Lease(least))
            }
            _ => {
                let client = Arc::new(Client { http: (self.make)()?, calls: AtomicUsize::new(1) });
                clients.push(Arc::clone(&client));
                Ok(Lease(client))
            }
        }
    }
}

impl Client {
    /// Takes one of the client's calls, if there is one left.
    fn enter(self: &Arc<Self>) -> Option<Lease> {
        let one_more = |calls| (calls < CALLS_MAX).then_some(calls + 1);
        let entered = self.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        entered.is_ok().then(|| Lease(Arc::clone(self)))
    }
}

impl Deref for Lease {
    type Target = reqwest::Client;

    fn deref(&self) -> &reqwest::Client {
        &self.0.http
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Trusts whom the machine trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` say otherwise), and
/// speaks HTTP/2 where the provider does.
///
/// # Errors
///
/// Fails if the machine's authorities cannot be read.
pub(super) fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut config = rustls::ClientConfig::builder().with_platform_verifier()?.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_carries_so_many_calls_and_the_first_with_room_takes_the_next() {
        service_runtime::tls::install_crypto_provider();
        let make: Arc<Make> = Arc::new(|| reqwest::Client::builder().build());
        let clients = Clients::new(&make).unwrap();
        let count = || clients.clients.read().unwrap().len();

        let mut leases: Vec<_> = (0..CALLS_MAX).map(|_| clients.lease().unwrap()).collect();
        assert_eq!(count(), 1);
        let beyond = clients.lease().unwrap();
        assert_eq!(count(), 2);
        assert!(Arc::ptr_eq(&beyond.0, &clients.clients.read().unwrap()[1]));

        leases.pop();
        let next = clients.lease().unwrap();
        assert!(Arc::ptr_eq(&next.0, &leases[0].0), "the first client has room again");
        drop((beyond, next, leases));
        assert_eq!(clients.clients.read().unwrap().iter().map(|c| c.calls.load(Ordering::Relaxed)).sum::<usize>(), 0);
    }
}
