//! Commands on keyrings, which are files, and on the key encryption keys of a vault.

use std::{path::Path, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use proto::keyvault::{
    GetRewrapStatusRequest, GetRewrapStatusResponse, GetSealStatusRequest, RewrapKeyEncryptionKeysRequest,
    RotateKeyEncryptionKeyRequest, get_rewrap_status_response::State, rotate_key_encryption_key_request::Step,
    vault_admin_service_client::VaultAdminServiceClient,
};
use service_runtime::client::Wire;
use tokio::time::sleep;
use tonic::Code;

use super::{output, session};
use crate::{
    config::{ConnectionOptions, KeyringCommand, Output},
    seal::secrets_manager::LocalKeyring,
};

/// A rotation waits for the replicas and asks the secrets manager.
const CALL_MAX: Duration = Duration::from_mins(1);

/// How often progress is asked for.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// How long progress waits for a vault that does not answer: one that is restarted is back
/// by then.
const SILENCE_MAX: Duration = Duration::from_mins(1);

pub(super) async fn run(command: KeyringCommand) -> anyhow::Result<()> {
    match command {
        KeyringCommand::Init { path } => init(&path),
        KeyringCommand::Check { path } => check(&path),
        KeyringCommand::Status { connection, output } => Operator::open(&connection, output)?.status().await,
        KeyringCommand::Rotate { connection, output, add, promote, detach } => {
            let step = match (add, promote) {
                (true, _) => Step::Add,
                (_, true) => Step::Promote,
                _ => Step::Unspecified,
            };
            Operator::open(&connection, output)?.rotate(step, !add && !detach).await
        }
        KeyringCommand::Progress { connection, output, follow } => {
            Operator::open(&connection, output)?.progress(follow).await
        }
        KeyringCommand::Migrate { connection, output } => Operator::open(&connection, output)?.migrate().await,
    }
}

fn init(path: &Path) -> anyhow::Result<()> {
    LocalKeyring::create(path)?;
    let path = path.display();
    output::note(&format!("made {path}; keep a copy of it apart from the database: without it nothing opens"));
    Ok(())
}

fn check(path: &Path) -> anyhow::Result<()> {
    LocalKeyring::load(path)?;
    output::note(&format!("{} can be used", path.display()));
    Ok(())
}

/// A connection to a vault, on behalf of its operator.
struct Operator {
    admin: VaultAdminServiceClient<Wire>,
    output: Output,
}

impl Operator {
    fn open(options: &ConnectionOptions, output: Output) -> anyhow::Result<Self> {
        let channel = session::connect(options, CALL_MAX)?;
        Ok(Self { admin: VaultAdminServiceClient::new(channel), output })
    }

    async fn status(mut self) -> anyhow::Result<()> {
        let status = self.admin.get_seal_status(GetSealStatusRequest {}).await?.into_inner();
        match self.output {
            Output::Json => output::json("GetSealStatusResponse", &status)?,
            Output::Table => output::seal_status(&status),
        }
        Ok(())
    }

    async fn rotate(mut self, step: Step, follow: bool) -> anyhow::Result<()> {
        let request = RotateKeyEncryptionKeyRequest { step: step.into() };
        let rotated = self.admin.rotate_key_encryption_key(request).await?.into_inner();
        match self.output {
            Output::Json => output::json("RotateKeyEncryptionKeyResponse", &rotated)?,
            Output::Table => {
                let id = rotated.key_encryption_key.map(|kek| kek.kek_id).unwrap_or_default();
                match step {
                    Step::Add => {
                        output::note(&format!("added {id}: every replica learns it within seconds; then --promote"));
                    }
                    Step::Promote | Step::Unspecified => output::note(&format!("{id} seals from now on")),
                }
            }
        }
        if follow { self.follow().await.map(drop) } else { Ok(()) }
    }

    async fn progress(mut self, follow: bool) -> anyhow::Result<()> {
        let status = if follow { self.follow().await? } else { self.rewrap_status().await? };
        match self.output {
            Output::Json => output::json("GetRewrapStatusResponse", &status)?,
            Output::Table => output::rewrap_status(&status),
        }
        Ok(())
    }

    async fn migrate(mut self) -> anyhow::Result<()> {
        let done = self.admin.rewrap_key_encryption_keys(RewrapKeyEncryptionKeysRequest {}).await?.into_inner();
        match self.output {
            Output::Json => output::json("RewrapKeyEncryptionKeysResponse", &done)?,
            Output::Table => output::note(&format!(
                "{} of {} key encryption keys were wrapped anew; the others were right already",
                done.rewrapped_count, done.total_count
            )),
        }
        Ok(())
    }

    /// Shows a bar until all data keys are wrapped anew, for people only. Survives restarts of
    /// the vault.
    async fn follow(&mut self) -> anyhow::Result<GetRewrapStatusResponse> {
        let target =
            if self.output == Output::Table { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} data keys, {eta} left")?);
        let mut silent = Duration::ZERO;
        loop {
            match self.rewrap_status().await {
                Ok(status) => {
                    silent = Duration::ZERO;
                    bar.set_length(status.total_count.unsigned_abs());
                    bar.set_position((status.total_count - status.remaining_count).unsigned_abs());
                    if status.state() != State::Running {
                        bar.finish();
                        return Ok(status);
                    }
                }
                Err(status) if status.code() == Code::Unavailable && silent < SILENCE_MAX => {
                    silent += PROGRESS_INTERVAL;
                }
                Err(status) => return Err(status.into()),
            }
            sleep(PROGRESS_INTERVAL).await;
        }
    }

    async fn rewrap_status(&mut self) -> Result<GetRewrapStatusResponse, tonic::Status> {
        Ok(self.admin.get_rewrap_status(GetRewrapStatusRequest {}).await?.into_inner())
    }
}
