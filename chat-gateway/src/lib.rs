//! Streams chat completions from the provider of a model with the key of a profile.
//!
//! Read in this order:
//!
//! 1. `rpc`: what callers can ask, and how failures look to them.
//! 2. `chat`: the pipeline. Knows no transport and no provider's wire.
//! 3. `key_check`: whether a provider accepts a key.
//! 4. `model_list`: the models that a profile's keys reach.
//! 5. `provider`: what differs between providers, as pure functions.
//! 6. `upstream`: the one place that speaks HTTP.
//! 7. `usage`: what keys were used for, told to the vault beside the chats.
//! 8. `keys`: resolved keys, kept for their lease. What may be used when the vault is away.
//! 9. `cli`: the client side of the binary. Speaks gRPC, knows no pipeline.
//!
//! Invariants:
//!
//! - A stream that ends cleanly is whole. Whatever broke off is a status.
//! - A key leaves this process in one header to its provider, and in nothing else.
//! - Nothing runs for a caller who has left.

mod access;
mod chat;
mod cli;
#[cfg(test)]
mod committed;
mod config;
mod detect;
mod doctor;
mod key_check;
mod keys;
mod message;
mod metrics;
mod model_list;
mod provider;
mod rpc;
mod sse;
mod upstream;
mod usage;
mod vault_client;

#[cfg(feature = "benchmarks")]
pub mod benchmarks;
#[cfg(fuzzing)]
pub mod fuzzing;

use std::sync::Arc;

use service_runtime::{drain::Drain, probes::Probes, readiness::Readiness, server};
use tokio::net::TcpListener;

pub use chat::ChatLimits;
use chat::{Chats, Relay};
pub use cli::{complete, run};
pub use config::{ChatOptions, Cli, ClientOptions, Command, ModelsOptions, Output, ServeOptions};
use key_check::KeyChecks;
use keys::{Contact, Keys};
pub use message::Provider;
use metrics::Metrics;
pub use metrics::MetricsOptions;
use model_list::ModelLists;
use upstream::Upstream;
pub use upstream::UpstreamOptions;
use usage::{Reporter, Uses};
use vault_client::VaultClient;

/// Serves until `stop` resolves, then drains.
///
/// The vault need not run yet: chats fail with UNAVAILABLE until it does, and the gateway is not
/// ready before. After the last chat the vault is told what is left to tell, for some seconds at
/// most. Probes are answered until the end.
///
/// # Errors
///
/// Fails before the first RPC if an option cannot be used, saying what to change.
pub async fn serve(
    options: &ServeOptions,
    listener: TcpListener,
    probes: Probes,
    stop: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    options.server.check(listener.local_addr()?)?;
    let readiness = Readiness::default();
    let contact = Contact::new(&readiness);
    tokio::select! {
        // Before there is anything to ask about.
        biased;
        () = probes.answer(readiness.clone()) => Ok(()),
        served = serve_chats(options, listener, readiness, contact, stop) => served,
    }
}

async fn serve_chats(
    options: &ServeOptions,
    listener: TcpListener,
    readiness: Readiness,
    contact: Contact,
    stop: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let identities = options.server.identities()?;
    let vault = VaultClient::new(options)?;
    let metrics = Arc::new(Metrics::new(&options.metrics));
    let upstream = Arc::new(Upstream::new(options.upstream.clone(), Arc::clone(&metrics))?);
    let uses = Arc::new(Uses::default());
    let mut reporter = Reporter::new(Arc::clone(&uses), vault.clone());
    let keys = Keys::new(vault.clone(), contact, &options.vault.keys());
    let drain = Drain::default();
    let of_chats = Arc::clone(&metrics);
    let chats = Chats::new(keys.clone(), Arc::clone(&upstream), uses, &options.chats, of_chats, drain.clone())?;
    let models = ModelLists::new(keys.clone(), Arc::clone(&upstream));
    let methods = rpc::Methods { chats: Relay::new(chats), models, checks: KeyChecks::new(upstream), metrics };
    let served = rpc::served(methods, identities, readiness, drain, options.requests_bytes_max);
    let served = tokio::select! {
        served = server::run(&options.server, listener, served, stop) => served,
        () = vault.follow() => Ok(()),
        () = keys.follow() => Ok(()),
        () = reporter.run() => Ok(()),
    };
    reporter.finish().await;
    served
}
