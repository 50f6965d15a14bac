//! Asks a provider about a key before it is stored. The vault itself talks to no provider: a
//! chat-gateway does.

use std::time::Duration;

use anyhow::Context as _;
use proto::{
    chat::{
        CheckKeyRequest, CheckKeyResponse, check_key_response::Result as Checked,
        key_check_service_client::KeyCheckServiceClient,
    },
    keyvault::KeyMaterial,
    types::Provider,
};
use service_runtime::client::{Credentials, Wire};
use tonic::{Code, Status, transport::Endpoint};

use super::{output, session::CONNECT_MAX};
use crate::config::{CheckOptions, ConnectionOptions};

/// The gateway waits for a provider for 15 s unless configured otherwise.
const CALL_MAX: Duration = Duration::from_mins(1);

/// Why a key is not stored.
#[derive(Debug, thiserror::Error)]
#[error("the key is not stored: {problem}. To store it all the same, add --force")]
pub(super) struct NotStored {
    problem: String,
    /// The code of a call that was refused for a reason of this kind.
    pub(super) code: Code,
}

/// Returns if the key may be stored: nothing is to be checked, the provider accepts it, or it is
/// to be stored whatever the provider says.
///
/// # Errors
///
/// [`NotStored`] says why not.
pub(super) async fn before_storing(
    options: &CheckOptions,
    connection: &ConnectionOptions,
    provider: Provider,
    material: &KeyMaterial,
) -> anyhow::Result<()> {
    if !options.check {
        return Ok(());
    }
    let request = CheckKeyRequest { provider: provider.into(), material: Some(material.clone()) };
    let answer = KeyCheckServiceClient::new(connect(options, connection)?).check_key(request).await;
    let problem = match answer {
        Ok(response) => refusal(&response.into_inner()),
        Err(status) => Some(unanswered(&options.gateway, &status)),
    };
    match problem {
        None => Ok(()),
        Some(NotStored { problem, .. }) if options.force => {
            output::note(&format!("stored without the check: {problem}"));
            Ok(())
        }
        Some(refusal) => Err(refusal.into()),
    }
}

/// Prepares a connection to a gateway, with the certificate that the vault is called with; it
/// is made by the first call. The vault's token is not shown to the process that faces the
/// internet.
fn connect(options: &CheckOptions, connection: &ConnectionOptions) -> anyhow::Result<Wire> {
    let tune = |endpoint: Endpoint| endpoint.connect_timeout(CONNECT_MAX).timeout(CALL_MAX);
    // A name that was given is the vault's.
    let token = options.gateway_token_file.clone();
    let credentials = Credentials { token, server_name: None, ..connection.identity.credentials() };
    let wire = credentials
        .connect("the client's identity", &options.gateway, tune)
        .context("cannot ask the gateway to check")?;
    Ok(wire.load().value.clone())
}

/// Why the answer of the gateway forbids to store the key, if it does.
fn refusal(answer: &CheckKeyResponse) -> Option<NotStored> {
    let code = match answer.result() {
        // Its detail may say what the key may not do, or that it has to wait.
        Checked::Accepted | Checked::RateLimited => {
            output::note(&answer.detail);
            return None;
        }
        Checked::Rejected | Checked::WrongEndpoint => Code::FailedPrecondition,
        Checked::Unreachable | Checked::Unspecified => Code::Unavailable,
    };
    Some(NotStored { problem: answer.detail.trim_end_matches('.').to_owned(), code })
}

/// A gateway that did not check.
fn unanswered(gateway: &str, status: &Status) -> NotStored {
    let problem = match status.code() {
        Code::Unavailable => {
            format!("no chat-gateway answers at {gateway} to check it; say where with --gateway, or leave --check out")
        }
        Code::Unimplemented => format!("what answers at {gateway} is no chat-gateway that checks keys"),
        _ => format!("the chat-gateway at {gateway} did not check it: {}", output::describe(status)),
    };
    NotStored { problem, code: status.code() }
}
