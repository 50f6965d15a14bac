//! The addresses of the vault, and a connection to each.
//!
//! Calls go round over the addresses that are well. One that does not answer is left out for a
//! while, longer with each further failure, and then tried with a single call; if none is well,
//! the one whose time ends first is tried all the same.
//!
//! The name is looked up again and again: addresses that come are used at once, those that go
//! are dropped when their calls end. A failing look-up keeps what there is.

mod table;

use std::{
    error::Error as StdError,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use http::Uri;
use proto::keyvault::{ErrorReason, key_resolution_service_client::KeyResolutionServiceClient};
use service_runtime::{
    client::{Dialer, Wire},
    reload::Reloading,
};
use tokio::{
    net::lookup_host,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing::{info, warn};

use super::cause;
use table::Table;

/// How often the name is looked up. A replica that was replaced is known within this time.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(2);

/// The longest wait for the resolver.
const LOOKUP_MAX: Duration = Duration::from_secs(2);

/// More addresses than a vault has replicas; what is beyond is not used.
const ADDRESSES_MAX: usize = 64;

/// How long calls wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For all addresses together.
    pub(super) whole: Duration,
    /// For one address while another one is left to ask.
    pub(super) address: Duration,
}

/// Why no address answered, or what one of them said.
#[derive(Debug)]
pub(super) enum Failed {
    /// The answer of a vault, or that its connection broke.
    Status(Status),
    /// No answer within this time.
    Late(Duration),
    /// The name leads nowhere.
    Nowhere(io::Error),
}

impl Failed {
    /// As which status it counts.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Status(status) => status.code(),
            Self::Late(_) => Code::DeadlineExceeded,
            Self::Nowhere(_) => Code::Unavailable,
        }
    }

    /// In words.
    pub(super) fn cause(self) -> Box<dyn StdError + Send + Sync> {
        match self {
            Self::Status(status) => cause(&status),
            Self::Late(limit) => format!("no answer within {} ms", limit.as_millis()).into(),
            Self::Nowhere(error) => format!("its name leads nowhere: {error}").into(),
        }
    }
}

/// Where addresses come from.
#[derive(Debug)]
enum Whence {
    /// They are given.
    Given(Vec<SocketAddr>),
    /// From the system's resolver.
    Name(String, u16),
}

/// The vault's replicas.
pub(super) struct Replicas {
    whence: Whence,
    dialer: Arc<Reloading<Dialer>>,
    table: Mutex<Table>,
    /// Held by the call that looks the name up for the first time.
    first_lookup: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicas").field("whence", &self.whence).finish_non_exhaustive()
    }
}

impl Replicas {
    /// Those at `given`, or where the host of `url` leads.
    pub(super) fn new(url: &str, given: &[SocketAddr], dialer: Arc<Reloading<Dialer>>) -> anyhow::Result<Self> {
        let whence = if given.is_empty() { Whence::of(url)? } else { Whence::Given(given.to_vec()) };
        // Gateways that start together do not all begin with the same replica.
        let table = Mutex::new(Table::starting_at(fastrand::usize(..ADDRESSES_MAX)));
        Ok(Self { whence, dialer, table, first_lookup: tokio::sync::Mutex::default() })
    }

    /// Looks the name up again and again. Never ends.
    pub(super) async fn follow(&self) {
        let mut well = true;
        loop {
            sleep(LOOKUP_INTERVAL).await;
            match self.look_up().await {
                Ok(()) if !well => {
                    well = true;
                    info!("the key-vault's name is found again");
                }
                Ok(()) => {}
                Err(error) => {
                    if well {
                        warn!(%error, "the key-vault's name is not found; its addresses stay as they were");
                    }
                    well = false;
                }
            }
        }
    }

    /// Asks one address after the other until one answers, each at most once.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the call that is under way; what is not known of its address then is
    /// not held against it.
    pub(super) async fn ask<R, F: Future<Output = Result<R, Status>>>(
        &self,
        limits: Limits,
        call: impl Fn(KeyResolutionServiceClient<Wire>, Duration) -> F,
    ) -> Result<R, Failed> {
        let until = Instant::now() + limits.whole;
        timeout(limits.whole, self.known()).await.map_err(|_| Failed::Late(limits.whole))?.map_err(Failed::Nowhere)?;
        let (mut tried, mut failed) = (Vec::new(), Failed::Late(limits.whole));
        while let Some(picked) = self.pick(&tried) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let limit = if picked.others { left.min(limits.address) } else { left };
            tried.push(picked.address);
            let answer = timeout(limit, call(KeyResolutionServiceClient::new(picked.wire), limit)).await;
            failed = match answer {
                Ok(Ok(answer)) => {
                    self.table().went_well(picked.address);
                    return Ok(answer);
                }
                Ok(Err(status)) if !another_may_answer(&status) => {
                    self.table().went_well(picked.address);
                    return Err(Failed::Status(status));
                }
                Ok(Err(status)) => Failed::Status(status),
                Err(_) => Failed::Late(limit),
            };
            self.table().failed(picked.address, Instant::now());
        }
        Err(failed)
    }

    /// A connection of its own to one of the addresses; another one with each turn.
    pub(super) async fn apart(&self, turn: usize) -> Result<Wire, Failed> {
        self.known().await.map_err(Failed::Nowhere)?;
        let address = self.table().address(turn);
        let address = address.ok_or_else(|| Failed::Nowhere(io::Error::other("no address")))?;
        Ok(self.dialer.load().value.wire_to(address))
    }

    fn pick(&self, tried: &[SocketAddr]) -> Option<table::Picked> {
        let dialer = self.dialer.load();
        let mut table = self.table();
        table.dial_anew(&dialer);
        table.pick(tried, Instant::now())
    }

    /// Looks the name up if that was never done with success.
    async fn known(&self) -> io::Result<()> {
        if self.table().is_empty() {
            let _first = self.first_lookup.lock().await;
            if self.table().is_empty() {
                self.look_up().await?;
            }
        }
        Ok(())
    }

    async fn look_up(&self) -> io::Result<()> {
        let mut addresses = match &self.whence {
            Whence::Given(addresses) => addresses.clone(),
            Whence::Name(host, port) => match timeout(LOOKUP_MAX, lookup_host((host.as_str(), *port))).await {
                Ok(found) => found?.collect(),
                Err(_) => return Err(io::Error::other("the resolver does not answer")),
            },
        };
        if addresses.is_empty() {
            return Err(io::Error::other("it has no address"));
        }
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(ADDRESSES_MAX);
        self.table().set(&addresses, &self.dialer.load());
        Ok(())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing that holds the lock panics.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Whence {
    fn of(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url:?} is not a URL"))?;
        let host = uri.host().with_context(|| format!("{url:?} names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        Ok(match host.parse::<IpAddr>() {
            Ok(address) => Self::Given(vec![SocketAddr::new(address, port)]),
            Err(_) => Self::Name(host.to_owned(), port),
        })
    }
}

/// Whether it was this replica, or the way to it, that could not answer.
fn another_may_answer(status: &Status) -> bool {
    match status.code() {
        // The time that it was given.
        Code::DeadlineExceeded | Code::Cancelled => true,
        Code::Unavailable => match status.get_details_error_info() {
            Some(info) => [ErrorReason::ShuttingDown, ErrorReason::VaultSealed, ErrorReason::StoreUnavailable]
                .iter()
                .any(|reason| info.reason == reason.wire_name()),
            None => true,
        },
        _ => is_of_the_connection(status),
    }
}

/// Whether the connection broke. What a vault sends has no source.
pub(super) fn is_of_the_connection(status: &Status) -> bool {
    status.source().is_some()
}

#[cfg(test)]
mod tests;
