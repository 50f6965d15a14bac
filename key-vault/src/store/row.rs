//! Rows to domain types and back, and the one query of the hot path.

use chrono::{DateTime, SubsecRound as _, Utc};
use sea_orm::{ActiveValue::Set, ConnectionTrait, FromQueryResult, Statement, Value};
use uuid::Uuid;

use super::{Candidate, Candidates, Error, Result, SealedVersion, entity, policy::NO_PROFILE};
use crate::{
    fallback_policy::{FallbackPolicy, Policies},
    key::{ApiKey, DisplayName, KeyId, OrganizationId, Previous, ProfileId, Provider, Source, State},
    seal::Sealed,
};

/// The time, as both databases can keep it: to the microsecond.
pub(super) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// Both steps of a resolution in one statement, with the current version of each key, the
/// policies and the revision that all of it is of: one row at least. `$1` to `$3` are
/// understood by SQLite as by PostgreSQL.
const CANDIDATES: &str = "\
SELECT m.revision, COALESCE(m.epoch, m.vault_id) AS epoch, \
  link.rank, k.api_key_id, k.state, k.version, s.payload, s.dek, s.kek_id, \
  o.allow_organization_default AS organization_allows_default, \
  o.allow_environment AS organization_allows_environment, \
  p.allow_organization_default AS profile_allows_default, \
  p.allow_environment AS profile_allows_environment \
FROM vault_meta m \
LEFT JOIN fallback_policy o ON o.organization_id = $1 AND o.profile_id = '' \
LEFT JOIN fallback_policy p ON p.organization_id = $1 AND p.profile_id = $2 AND p.profile_id <> '' \
LEFT JOIN (\
  SELECT 1 AS rank, api_key_id FROM profile_key \
  WHERE organization_id = $1 AND profile_id = $2 AND provider = $3 \
  UNION ALL \
  SELECT 2 AS rank, api_key_id FROM organization_default \
  WHERE organization_id = $1 AND provider = $3\
) link ON TRUE \
LEFT JOIN api_key k ON k.api_key_id = link.api_key_id \
LEFT JOIN secret s ON s.api_key_id = k.api_key_id AND s.version = k.version \
ORDER BY link.rank";

#[derive(FromQueryResult)]
struct CandidateRow {
    revision: i64,
    epoch: Uuid,
    rank: Option<i32>,
    api_key_id: Option<Uuid>,
    state: Option<String>,
    version: Option<i64>,
    payload: Option<Vec<u8>>,
    dek: Option<Vec<u8>>,
    kek_id: Option<String>,
    organization_allows_default: Option<bool>,
    organization_allows_environment: Option<bool>,
    profile_allows_default: Option<bool>,
    profile_allows_environment: Option<bool>,
}

impl CandidateRow {
    /// What forbids steps. The same in every row of an answer.
    fn policies(&self) -> Policies {
        // Where no row stands, all is allowed.
        let policy = |default: Option<bool>, environment: Option<bool>| FallbackPolicy {
            allow_organization_default: default.unwrap_or(true),
            allow_environment: environment.unwrap_or(true),
        };
        Policies {
            organization: policy(self.organization_allows_default, self.organization_allows_environment),
            profile: policy(self.profile_allows_default, self.profile_allows_environment),
        }
    }
}

pub(super) async fn candidates<C: ConnectionTrait>(
    db: &C,
    organization: &OrganizationId,
    profile: Option<&ProfileId>,
    provider: Provider,
) -> Result<Candidates> {
    let values: [Value; 3] = [
        organization.as_str().into(),
        // No profile has an empty id, so an absent one finds nothing.
        profile.map_or(NO_PROFILE, ProfileId::as_str).into(),
        provider.name().into(),
    ];
    let statement = Statement::from_sql_and_values(db.get_database_backend(), CANDIDATES, values);
    let rows = CandidateRow::find_by_statement(statement).all(db).await?;
    let first = rows.first().ok_or(Error::NotSetUp)?;
    let (revision, epoch, policies) = (first.revision, first.epoch, first.policies());
    let found = rows.into_iter().filter_map(|row| candidate(row).transpose()).collect::<Result<_>>()?;
    Ok(Candidates { revision, epoch, policies, found })
}

fn candidate(row: CandidateRow) -> Result<Option<Candidate>> {
    let (Some(rank), Some(id), Some(name), Some(version)) = (row.rank, row.api_key_id, row.state, row.version) else {
        return Ok(None);
    };
    let sealed = match (row.payload, row.dek, row.kek_id) {
        (Some(payload), Some(dek), Some(kek_id)) => Some(Sealed { payload, dek, kek_id }),
        _ => None,
    };
    Ok(Some(Candidate {
        source: if rank == 1 { Source::Profile } else { Source::OrganizationDefault },
        id: KeyId(id),
        state: state(&name)?,
        version,
        sealed,
    }))
}

pub(super) fn api_key(
    row: entity::api_key::Model,
    organization_default: bool,
    profiles: Vec<ProfileId>,
    previous: Option<Previous>,
    used: Option<entity::key_use::Model>,
) -> Result<ApiKey> {
    let (last_used_time, last_rejected_time) =
        used.map_or((None, None), |used| (used.last_used_time, used.last_rejected_time));
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
        revision: row.revision,
        previous,
        last_used_time,
        last_rejected_time,
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
        revision: Set(key.revision),
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
        keep_until: Set(None),
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

pub(super) fn organization(text: String) -> Result<OrganizationId> {
    OrganizationId::try_from(text).map_err(|_| Error::Damaged("an organization's id"))
}

pub(super) fn provider(text: &str) -> Result<Provider> {
    Provider::from_name(text).ok_or(Error::Damaged("a provider"))
}

fn state(text: &str) -> Result<State> {
    match text {
        "enabled" => Ok(State::Enabled),
        "disabled" => Ok(State::Disabled),
        _ => Err(Error::Damaged("a key's state")),
    }
}
