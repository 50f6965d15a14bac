//! What the operator can ask. No organization and no key occurs here.

use std::time::Duration;

use proto::keyvault::{
    GetRewrapStatusRequest, GetRewrapStatusResponse, GetSealStatusRequest, GetSealStatusResponse, KeyEncryptionKey,
    ListAuditEventsRequest, ListAuditEventsResponse, Replica, RewrapKeyEncryptionKeysRequest,
    RewrapKeyEncryptionKeysResponse, RotateKeyEncryptionKeyRequest, RotateKeyEncryptionKeyResponse,
    SecretsManagerStatus, VerifyAuditLogRequest, VerifyAuditLogResponse, get_rewrap_status_response::State as Rewrap,
    key_encryption_key::State, rotate_key_encryption_key_request::Step, vault_admin_service_server::VaultAdminService,
};
use service_runtime::fields::Invalid;
use tonic::{Request, Response, Status, async_trait};

use super::{Error, Rpc, admission::Admitted, answer_within, convert};
use crate::{
    seal::KekState,
    store::ReplicaRow,
    vault::{KekStatus, RewrapState, RewrapStatus, SealStatus},
};

/// How long an operation over several KEKs may take: it asks the secrets manager for each.
const CALL_MAX: Duration = Duration::from_mins(1);

#[async_trait]
impl VaultAdminService for Rpc {
    async fn get_seal_status(
        &self,
        request: Request<GetSealStatusRequest>,
    ) -> Result<Response<GetSealStatusResponse>, Status> {
        answer_within(CALL_MAX, Box::pin(self.seal_status(request))).await
    }

    async fn rotate_key_encryption_key(
        &self,
        request: Request<RotateKeyEncryptionKeyRequest>,
    ) -> Result<Response<RotateKeyEncryptionKeyResponse>, Status> {
        answer_within(CALL_MAX, Box::pin(self.rotate_kek(request))).await
    }

    async fn get_rewrap_status(
        &self,
        request: Request<GetRewrapStatusRequest>,
    ) -> Result<Response<GetRewrapStatusResponse>, Status> {
        answer_within(CALL_MAX, Box::pin(self.rewrap_status(request))).await
    }

    async fn rewrap_key_encryption_keys(
        &self,
        request: Request<RewrapKeyEncryptionKeysRequest>,
    ) -> Result<Response<RewrapKeyEncryptionKeysResponse>, Status> {
        answer_within(CALL_MAX, Box::pin(self.rewrap_keks(request))).await
    }

    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        answer_within(CALL_MAX, Box::pin(self.list_events(request))).await
    }

    async fn verify_audit_log(
        &self,
        request: Request<VerifyAuditLogRequest>,
    ) -> Result<Response<VerifyAuditLogResponse>, Status> {
        answer_within(CALL_MAX, Box::pin(self.verify_log(request))).await
    }
}

impl Rpc {
    async fn seal_status(&self, request: Request<GetSealStatusRequest>) -> Result<GetSealStatusResponse, Error> {
        self.admit(request).await?;
        Ok(self.vault.seal_status().await.into())
    }

    async fn rotate_kek(
        &self,
        request: Request<RotateKeyEncryptionKeyRequest>,
    ) -> Result<RotateKeyEncryptionKeyResponse, Error> {
        let (Admitted { caller, .. }, request) = self.admit(request).await?;
        let kek = match Step::try_from(request.step) {
            Ok(Step::Unspecified) => self.vault.rotate_kek(&caller).await?,
            Ok(Step::Add) => self.vault.add_kek(&caller).await?,
            Ok(Step::Promote) => self.vault.promote_kek(&caller).await?,
            Err(_) => return Err(Invalid::new("step", "must be STEP_ADD, STEP_PROMOTE or absent for both").into()),
        };
        Ok(RotateKeyEncryptionKeyResponse { key_encryption_key: Some(kek.into()) })
    }

    async fn rewrap_status(&self, request: Request<GetRewrapStatusRequest>) -> Result<GetRewrapStatusResponse, Error> {
        self.admit(request).await?;
        Ok(self.vault.rewrap_status().await?.into())
    }

    async fn rewrap_keks(
        &self,
        request: Request<RewrapKeyEncryptionKeysRequest>,
    ) -> Result<RewrapKeyEncryptionKeysResponse, Error> {
        let (Admitted { caller, .. }, _) = self.admit(request).await?;
        let (rewrapped, total) = self.vault.rewrap_keks(&caller).await?;
        let count = |n| i32::try_from(n).unwrap_or(i32::MAX);
        Ok(RewrapKeyEncryptionKeysResponse { rewrapped_count: count(rewrapped), total_count: count(total) })
    }
}

impl From<SealStatus> for GetSealStatusResponse {
    fn from(status: SealStatus) -> Self {
        Self {
            sealed: status.sealed.is_some(),
            reason: status.sealed.unwrap_or_default(),
            vault_id: status.vault.map(|id| id.to_string()).unwrap_or_default(),
            epoch: status.position.map(|position| position.epoch.to_string()).unwrap_or_default(),
            revision: status.position.map_or(0, |position| position.revision),
            secrets_manager: Some(SecretsManagerStatus {
                kind: status.manager_kind.to_owned(),
                healthy: status.manager_problem.is_none(),
                problem: status.manager_problem.unwrap_or_default(),
                last_healthy_time: status.manager_well.map(convert::timestamp),
            }),
            key_encryption_keys: status.keks.into_iter().map(Into::into).collect(),
            replicas: status.replicas.into_iter().map(Into::into).collect(),
            replica_id: status.replica.to_string(),
            undecryptable_versions: status.undecryptable,
        }
    }
}

impl From<KekStatus> for KeyEncryptionKey {
    fn from(kek: KekStatus) -> Self {
        let state = match kek.state {
            KekState::Pending => State::Pending,
            KekState::Primary => State::Primary,
            KekState::DecryptOnly => State::DecryptOnly,
            KekState::Retired => State::Retired,
        };
        Self {
            kek_id: kek.id,
            state: state.into(),
            secrets_manager: kek.manager,
            key_ref: kek.key_ref,
            create_time: Some(convert::timestamp(kek.create_time)),
            wrap_count: kek.wrap_count,
            version_count: kek.versions,
        }
    }
}

impl From<ReplicaRow> for Replica {
    fn from(replica: ReplicaRow) -> Self {
        Self {
            replica_id: replica.id.to_string(),
            seen_time: Some(convert::timestamp(replica.seen)),
            kek_ids: replica.kek_ids,
            secrets_managers: replica.managers,
        }
    }
}

impl From<RewrapStatus> for GetRewrapStatusResponse {
    fn from(status: RewrapStatus) -> Self {
        let state = match status.state {
            RewrapState::Done => Rewrap::Done,
            RewrapState::Running => Rewrap::Running,
            RewrapState::Incomplete => Rewrap::Incomplete,
        };
        Self {
            state: state.into(),
            kek_id: status.kek_id,
            total_count: status.total,
            remaining_count: status.remaining,
            failed_count: status.failed,
            start_time: status.start_time.map(convert::timestamp),
        }
    }
}
