//! Checks a deployment from inside: with the options of `serve`, on its machine, as its user.
//!
//! Asks the vault as the gateway does, and no provider.

use std::sync::Arc;

use service_runtime::{
    doctor::{Report, Verdict},
    failure::Chain,
};

use crate::{access::Role, config::ServeOptions, metrics::Metrics, upstream::Upstream, vault_client::VaultClient};

/// Checks everything that can be checked.
pub(crate) async fn examine(options: &ServeOptions) -> Report {
    let mut report = Report::default();
    report.process();
    report.identity::<Role>(&options.server);
    match Upstream::new(options.upstream.clone(), Arc::new(Metrics::new(&options.metrics))) {
        Ok(_) => report.fine("providers", "their base URLs can be used"),
        Err(error) => report.add("providers", Verdict::Fail, Chain(&error).to_string(), "correct the option"),
    }
    vault(&mut report, options).await;
    report
}

async fn vault(report: &mut Report, options: &ServeOptions) {
    const CHECK: &str = "key-vault";
    let client = match VaultClient::new(options) {
        Ok(client) => client,
        Err(error) => return report.add(CHECK, Verdict::Fail, format!("{error:#}"), "correct the option"),
    };
    let url = &options.vault.vault_url;
    match client.knows_this_gateway().await {
        Ok(()) => report.fine(CHECK, format!("{url} answers, and knows this gateway")),
        Err(error) => {
            let advice = "no chat has a key until it answers; its policy must name this gateway";
            report.add(CHECK, Verdict::Fail, format!("{url}: {}", Chain(&error)), advice);
        }
    }
}
