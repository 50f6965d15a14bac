//! Which steps of a resolution an organization, or one of its profiles, may fall back to.

use sea_orm_migration::{
    prelude::*,
    schema::{boolean, text},
};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0003_fallback_policy"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("fallback_policy")
            .col(text("organization_id"))
            // Empty for the organization itself: no profile has an empty id.
            .col(text("profile_id"))
            .col(boolean("allow_organization_default"))
            .col(boolean("allow_environment"))
            .primary_key(Index::create().col("organization_id").col("profile_id"))
            .take();
        manager.create_table(table).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
