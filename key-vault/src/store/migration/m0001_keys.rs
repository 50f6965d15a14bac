//! Keys, their sealed versions, their links, and what seals them.
//!
//! The schema itself refuses what must never be: a second default of one provider, a
//! second key of one (profile, provider), and a link to a key of another organization
//! or provider. The links name the key by (id, organization, provider) for that.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, blob, integer, text, timestamp_with_time_zone, uuid},
};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0001_keys"
    }
}

const PROVIDERS: [&str; 3] = ["anthropic", "openai", "gemini"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(vault_meta()).await?;
        manager.create_table(kek()).await?;
        manager.create_table(api_key()).await?;
        manager
            .create_index(
                Index::create()
                    .name("api_key_by_organization")
                    .table("api_key")
                    .col("organization_id")
                    .col("api_key_id")
                    .take(),
            )
            .await?;
        manager.create_table(secret()).await?;
        manager.create_index(Index::create().name("secret_by_kek").table("secret").col("kek_id").take()).await?;
        manager.create_table(organization_default()).await?;
        manager.create_table(profile_key()).await?;
        for table in ["organization_default", "profile_key"] {
            let name = format!("{table}_by_key");
            manager.create_index(Index::create().name(name).table(table).col("api_key_id").take()).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

fn vault_meta() -> TableCreateStatement {
    Table::create()
        .table("vault_meta")
        .col(integer("id").primary_key().check(Expr::col("id").eq(1)))
        .col(uuid("vault_id"))
        .col(big_integer("revision"))
        .col(blob("fingerprint_key"))
        .col(timestamp_with_time_zone("create_time"))
        .take()
}

fn kek() -> TableCreateStatement {
    Table::create()
        .table("kek")
        .col(text("kek_id").primary_key())
        .col(text("manager"))
        .col(text("key_ref"))
        .col(blob("wrapped"))
        .col(blob("check_value"))
        .col(blob("canary"))
        .col(text("state").check(Expr::col("state").is_in(["primary", "decrypt_only"])))
        .col(big_integer("wrap_count"))
        .col(timestamp_with_time_zone("create_time"))
        .take()
}

fn api_key() -> TableCreateStatement {
    Table::create()
        .table("api_key")
        .col(uuid("api_key_id").primary_key())
        .col(text("organization_id"))
        .col(text("provider").check(Expr::col("provider").is_in(PROVIDERS)))
        .col(text("display_name"))
        .col(text("state").check(Expr::col("state").is_in(["enabled", "disabled"])))
        .col(text("hint"))
        .col(text("fingerprint"))
        .col(big_integer("version"))
        .col(text("creator"))
        .col(timestamp_with_time_zone("create_time"))
        .col(timestamp_with_time_zone("update_time"))
        // What the links refer to.
        .index(
            Index::create().name("api_key_identity").unique().col("api_key_id").col("organization_id").col("provider"),
        )
        .take()
}

fn secret() -> TableCreateStatement {
    Table::create()
        .table("secret")
        .col(uuid("api_key_id"))
        .col(big_integer("version"))
        .col(text("organization_id"))
        .col(text("provider"))
        .col(blob("payload"))
        .col(blob("dek"))
        .col(text("kek_id"))
        .col(timestamp_with_time_zone("create_time"))
        .primary_key(Index::create().col("api_key_id").col("version"))
        .foreign_key(&mut to_key("secret"))
        .foreign_key(ForeignKey::create().name("secret_kek").from("secret", "kek_id").to("kek", "kek_id"))
        .take()
}

fn organization_default() -> TableCreateStatement {
    Table::create()
        .table("organization_default")
        .col(text("organization_id"))
        .col(text("provider"))
        .col(uuid("api_key_id"))
        .primary_key(Index::create().col("organization_id").col("provider"))
        .foreign_key(&mut to_key("organization_default"))
        .take()
}

fn profile_key() -> TableCreateStatement {
    Table::create()
        .table("profile_key")
        .col(text("organization_id"))
        .col(text("profile_id"))
        .col(text("provider"))
        .col(uuid("api_key_id"))
        .primary_key(Index::create().col("organization_id").col("profile_id").col("provider"))
        .foreign_key(&mut to_key("profile_key"))
        .take()
}

/// A reference to a key of the same organization and provider.
fn to_key(table: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .name(format!("{table}_key"))
        .from_tbl(table)
        .from_col("api_key_id")
        .from_col("organization_id")
        .from_col("provider")
        .to_tbl("api_key")
        .to_col("api_key_id")
        .to_col("organization_id")
        .to_col("provider")
        .take()
}
