//! Stores provider keys sealed, and decides which one a call may use.
//!
//! Read in this order:
//!
//! 1. `rpc`: what callers can ask, and how failures look to them.
//! 2. `vault`: what happens. Knows no transport and no SQL.
//! 3. `seal`: how keys are encrypted, and what the encryption is bound to.
//! 4. `store`: how they are kept.
//! 5. `doctor`: what is checked about a deployment before it serves, and after.
//! 6. `cli`: the client side of the binary. Speaks gRPC, knows no vault.
//!
//! Invariants:
//!
//! - A key in the clear exists only inside [`key::KeyMaterial`].
//! - Only `vault` opens a seal. Only `ResolveKey` sends what it opened.
//! - A disabled key is never chosen, and never replaced silently by another.

mod access;
mod audit;
mod change;
mod cli;
mod config;
mod doctor;
mod environment;
mod fallback_policy;
pub mod key;
mod limits;
mod metrics;
mod rpc;
mod seal;
mod store;
mod usage;
mod vault;

#[cfg(feature = "benchmarks")]
pub mod benchmarks;

use std::{fs::File, io, path::Path, sync::Arc};

use anyhow::Context as _;
use service_runtime::{probes::Probes, readiness::Readiness, server};
use tokio::net::TcpListener;
use uuid::Uuid;

pub use cli::run;
pub use config::{Cli, Command, DatabaseLocation, DatabaseOptions, ServeOptions};
pub use environment::{Environment, EnvironmentError};
use seal::secrets_manager::LocalKeyring;
#[doc(hidden)]
pub use store::with_next_step;
use store::{Copy, Store};
use vault::{Condition, Vault};

/// Serves until `stop` resolves, then drains. Probes are answered from before the database is
/// reached until the end.
///
/// # Errors
///
/// Fails before the first RPC if the database or the keyring are unusable, saying what
/// to change.
pub async fn serve(
    options: &ServeOptions,
    environment: Environment,
    listener: TcpListener,
    probes: Probes,
    stop: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    options.server.check(listener.local_addr()?)?;
    let readiness = Readiness::default();
    let condition = Condition::new(&readiness);
    tokio::select! {
        // Before there is anything to ask about.
        biased;
        () = probes.answer(readiness.clone()) => Ok(()),
        served = serve_vault(options, environment, listener, readiness, condition, stop) => served,
    }
}

async fn serve_vault(
    options: &ServeOptions,
    environment: Environment,
    listener: TcpListener,
    readiness: Readiness,
    condition: Condition,
    stop: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let store = Store::connect(&options.place()?).await?;
    if options.makes_keyring() {
        make_keyring(&store, &options.keyring()).await?;
    }
    let identities = options.server.identities()?;
    let managers = config::managers(options)?;
    if options.unrecorded_resolutions {
        tracing::warn!("keys are released without a record in the audit log: --unrecorded-resolutions");
    }
    let vault = Vault::new(store, managers, environment, options.upkeep(), options.rates(), condition);
    let vault = Arc::new(vault);
    let stop = async {
        stop.await;
        vault.stop_watchers();
    };
    let served = rpc::served(Arc::clone(&vault), identities, readiness);
    let serving = server::run(&options.server, listener, served, stop);
    let served = tokio::select! {
        served = serving => served,
        () = vault.look_after() => Ok(()),
    };
    vault.sign_off().await;
    served
}

/// Brings the schema of the database up to date, and nothing else.
///
/// # Errors
///
/// Fails if the database cannot be reached, or is newer than this version.
pub async fn migrate(options: &DatabaseOptions) -> anyhow::Result<()> {
    Store::connect(&options.place(None)?).await?;
    Ok(())
}

/// Begins a new history of the database's vault: after a restore, nobody may go on from what
/// they saw before.
///
/// # Errors
///
/// Fails if the database cannot be reached, or belongs to no vault.
pub async fn begin_epoch(options: &DatabaseOptions) -> anyhow::Result<()> {
    Store::connect(&options.place(None)?).await?.begin_epoch(Uuid::new_v4()).await?;
    Ok(())
}

/// Moves all that an SQLite database holds to an empty PostgreSQL database. Returns how many rows.
///
/// # Errors
///
/// Fails if one of them cannot be used, the old one is served, or the new one is not empty. Nothing is
/// written then.
pub async fn transfer(from: &str, to: &DatabaseOptions) -> anyhow::Result<u64> {
    Ok(store::transfer(from, &to.place(None)?).await?)
}

/// Copies an SQLite database while it is served: to a new file, or to standard output. Returns how
/// many bytes it takes.
///
/// # Errors
///
/// Fails if it cannot be copied, and where a file is. Nothing is left then.
pub async fn back_up(database: &DatabaseLocation, to: Option<&Path>) -> anyhow::Result<u64> {
    let copy = Copy::take(&database.url(None)?, to).await?;
    let size = copy.size;
    match to {
        Some(path) => copy.keep(path)?,
        None => copy.write_to(&mut io::stdout().lock())?,
    }
    Ok(size)
}

/// Puts a copy to where an SQLite database is to be: from a file, or from standard input.
///
/// # Errors
///
/// Fails if it is no whole copy, or where a database is.
pub async fn put_back(database: &DatabaseLocation, from: Option<&Path>) -> anyhow::Result<()> {
    let url = database.url(None)?;
    let copy = match from {
        Some(path) => {
            let mut file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
            Copy::read(&mut file, &url).await?
        }
        None => Copy::read(&mut io::stdin().lock(), &url).await?,
    };
    Ok(copy.put_back(&url)?)
}

/// Makes a keyring for a new database: a fresh one for an old database would hide that the
/// right one is lost.
async fn make_keyring(store: &Store, path: &Path) -> anyhow::Result<()> {
    if !path.exists() && store.meta().await?.is_none() {
        LocalKeyring::create(path).context("cannot make a keyring for development")?;
        tracing::warn!(path = %path.display(), "made a keyring for development; without it the database is lost");
    }
    Ok(())
}
