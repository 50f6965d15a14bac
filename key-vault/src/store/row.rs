//! Rows to domain types and back, and the one query of the hot path.

use chrono::{DateTime, SubsecRound as _, Utc};
use sea_orm::{ActiveValue::Set, ConnectionTrait, FromQueryResult, Statement, Value};
use uuid::Uuid;

use super::{Candidate, Error, Result, SealedVersion, StoredKek, entity};
use crate::{
    key::{ApiKey, DisplayName, KeyId, OrganizationId, ProfileId, Provider, Source, State},
    seal::{KekRecord, Sealed, secrets_manager::WrappedKek},
};

/// The time, as both databases can keep it: to the microsecond.
pub(super) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// Both steps of a resolution in one statement, with the current version of each key.
/// `$1` to `$3` are understood by SQLite as by PostgreSQL.
const CANDIDATES: &str = "\
SELECT link.rank, k.api_key_id, k.state, k.version, s.payload, s.dek, s.kek_id \
FROM (\
  SELECT 1 AS rank, api_key_id FROM profile_key \
  WHERE organization_id = $1 AND profile_id = $2 AND provider = $3 \
  UNION ALL \
  SELECT 2 AS rank, api_key_id FROM organization_default \
  WHERE organization_id = $1 AND provider = $3\
) link \
JOIN api_key k ON k.api_key_id = link.api_key_id \
LEFT JOIN secret s ON s.api_key_id = k.api_key_id AND s.version = k.version \
ORDER BY link.rank";

#[derive(FromQueryResult)]
struct CandidateRow {
    rank: i32,
    api_key_id: Uuid,
    state: String,
    version: i64,
    payload: Option<Vec<u8>>,
    dek: Option<Vec<u8>>,
    kek_id: Option<String>,
}

pub(super) async fn candidates<C: ConnectionTrait>(
    db: &C,
    organization: &OrganizationId,
    profile: Option<&ProfileId>,
    provider: Provider,
) -> Result<Vec<Candidate>> {
    let values: [Value; 3] = [
        organization.as_str().into(),
        // No profile has an empty id, so an absent one finds nothing.
        profile.map_or("", ProfileId::as_str).into(),
        provider.name().into(),
    ];
    let statement = Statement::from_sql_and_values(db.get_database_backend(), CANDIDATES, values);
    CandidateRow::find_by_statement(statement).all(db).await?.into_iter().map(candidate).collect()
}

fn candidate(row: CandidateRow) -> Result<Candidate> {
    let sealed = match (row.payload, row.dek, row.kek_id) {
        (Some(payload), Some(dek), Some(kek_id)) => Some(Sealed { payload, dek, kek_id }),
        _ => None,
    };
    Ok(Candidate {
        source: if row.rank == 1 { Source::Profile } else { Source::OrganizationDefault },
        id: KeyId(row.api_key_id),
        state: state(&row.state)?,
        version: row.version,
        sealed,
    })
}

pub(super) fn api_key(
    row: entity::api_key::Model,
    organization_default: bool,
    profiles: Vec<ProfileId>,
) -> Result<ApiKey> {
    Ok(ApiKey {
        id: KeyId(row.api_key_id),
        organization: organization(row.organization_id)?,
        provider: provider(&row.provider)?,
        display_name: DisplayName::stored(row.display_name),
        state: state(&row.state)?,
        hint: row.hint,
        fingerprint: row.fingerprint,
        version: row.version,
        organization_default,
        profiles,
        create_time: row.create_time,
        update_time: row.update_time,
        creator: row.creator,
    })
}

pub(super) fn new_key(key: &ApiKey) -> entity::api_key::ActiveModel {
    entity::api_key::ActiveModel {
        api_key_id: Set(key.id.0),
        organization_id: Set(key.organization.as_str().to_owned()),
        provider: Set(key.provider.name().to_owned()),
        display_name: Set(key.display_name.as_str().to_owned()),
        state: Set(key.state.name().to_owned()),
        hint: Set(key.hint.clone()),
        fingerprint: Set(key.fingerprint.clone()),
        version: Set(key.version),
        creator: Set(key.creator.clone()),
        create_time: Set(key.create_time),
        update_time: Set(key.update_time),
    }
}

pub(super) fn new_secret(
    key: &ApiKey,
    version: i64,
    sealed: &Sealed,
    now: DateTime<Utc>,
) -> entity::secret::ActiveModel {
    entity::secret::ActiveModel {
        api_key_id: Set(key.id.0),
        version: Set(version),
        organization_id: Set(key.organization.as_str().to_owned()),
        provider: Set(key.provider.name().to_owned()),
        payload: Set(sealed.payload.clone()),
        dek: Set(sealed.dek.clone()),
        kek_id: Set(sealed.kek_id.clone()),
        create_time: Set(now),
    }
}

pub(super) fn sealed_version(row: entity::secret::Model) -> Result<SealedVersion> {
    Ok(SealedVersion {
        organization: organization(row.organization_id)?,
        id: KeyId(row.api_key_id),
        provider: provider(&row.provider)?,
        version: row.version,
        sealed: Sealed { payload: row.payload, dek: row.dek, kek_id: row.kek_id },
    })
}

pub(super) fn new_kek(record: &KekRecord, now: DateTime<Utc>) -> entity::kek::ActiveModel {
    entity::kek::ActiveModel {
        kek_id: Set(record.id.clone()),
        manager: Set(record.wrapped.manager.clone()),
        key_ref: Set(record.wrapped.key_ref.clone()),
        wrapped: Set(record.wrapped.blob.clone()),
        check_value: Set(record.check_value.clone()),
        canary: Set(record.canary.clone()),
        state: Set("primary".to_owned()),
        wrap_count: Set(0),
        create_time: Set(now),
    }
}

pub(super) fn stored_kek(row: entity::kek::Model) -> StoredKek {
    StoredKek {
        primary: row.state == "primary",
        record: KekRecord {
            id: row.kek_id,
            wrapped: WrappedKek { manager: row.manager, key_ref: row.key_ref, blob: row.wrapped },
            check_value: row.check_value,
            canary: row.canary,
        },
    }
}

fn organization(text: String) -> Result<OrganizationId> {
    OrganizationId::try_from(text).map_err(|_| Error::Damaged("an organization's id"))
}

fn provider(text: &str) -> Result<Provider> {
    Provider::from_name(text).ok_or(Error::Damaged("a provider"))
}

fn state(text: &str) -> Result<State> {
    match text {
        "enabled" => Ok(State::Enabled),
        "disabled" => Ok(State::Disabled),
        _ => Err(Error::Damaged("a key's state")),
    }
}
