//! Fallback policies: a row where something is forbidden, none where all is allowed.

use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, EntityTrait as _, QueryFilter as _, QuerySelect as _, sea_query::OnConflict,
};

use super::{Result, Store, Tx, entity::fallback_policy};
use crate::{
    fallback_policy::{FallbackPolicy, Policies},
    key::{OrganizationId, ProfileId},
};

/// What stands in the place of a profile's id in the row of the organization itself.
pub(super) const NO_PROFILE: &str = "";

impl Store {
    /// What was set for an organization and, if one is named, for a profile.
    pub(crate) async fn policies(
        &self,
        organization: &OrganizationId,
        profile: Option<&ProfileId>,
    ) -> Result<Policies> {
        let rows: Vec<(String, bool, bool)> = fallback_policy::Entity::find()
            .select_only()
            .columns([
                fallback_policy::Column::ProfileId,
                fallback_policy::Column::AllowOrganizationDefault,
                fallback_policy::Column::AllowEnvironment,
            ])
            .filter(fallback_policy::Column::OrganizationId.eq(organization.as_str()))
            .filter(fallback_policy::Column::ProfileId.is_in([NO_PROFILE, place(profile)]))
            .into_tuple()
            .all(&self.reader().await?)
            .await?;
        let of = |place: &str| {
            let row = rows.iter().find(|(profile, ..)| profile == place);
            row.map_or(FallbackPolicy::ALLOW_ALL, |row| FallbackPolicy {
                allow_organization_default: row.1,
                allow_environment: row.2,
            })
        };
        let profile = profile.map_or(FallbackPolicy::ALLOW_ALL, |profile| of(profile.as_str()));
        Ok(Policies { organization: of(NO_PROFILE), profile })
    }
}

impl Tx {
    /// Sets the policy of an organization or of one of its profiles, in place of what was.
    pub(crate) async fn set_policy(
        &self,
        organization: &OrganizationId,
        profile: Option<&ProfileId>,
        policy: FallbackPolicy,
    ) -> Result<()> {
        use fallback_policy::{ActiveModel, Column, Entity};
        let (organization, profile) = (organization.as_str().to_owned(), place(profile).to_owned());
        if policy == FallbackPolicy::ALLOW_ALL {
            Entity::delete_by_id((organization, profile)).exec(&self.db).await?;
            return Ok(());
        }
        let row = ActiveModel {
            organization_id: Set(organization),
            profile_id: Set(profile),
            allow_organization_default: Set(policy.allow_organization_default),
            allow_environment: Set(policy.allow_environment),
        };
        Entity::insert(row)
            .on_conflict(
                OnConflict::columns([Column::OrganizationId, Column::ProfileId])
                    .update_columns([Column::AllowOrganizationDefault, Column::AllowEnvironment])
                    .to_owned(),
            )
            .exec_without_returning(&self.db)
            .await?;
        Ok(())
    }
}

fn place(profile: Option<&ProfileId>) -> &str {
    profile.map_or(NO_PROFILE, ProfileId::as_str)
}
