//! The audit log: events in chains, and where each chain begins and ends.
//!
//! Only adds: a version that does not know these tables runs beside one that does, and what
//! it does is not in the log.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, blob, boolean, text, timestamp_with_time_zone, uuid, uuid_null},
};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0004_audit"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let marked = Table::alter().table("vault_meta").add_column(boolean("audit_log").default(false)).take();
        manager.alter_table(marked).await?;
        manager.create_table(audit_chain()).await?;
        manager.create_table(audit_event()).await?;
        let by_id = Index::create().name("audit_event_by_id").table("audit_event").unique().col("event_id").take();
        manager.create_index(by_id).await?;
        // What events are looked for by, each in the order of a listing.
        for column in ["api_key_id", "organization_id", "principal"] {
            let name = format!("audit_event_by_{column}");
            let index = Index::create().name(name).table("audit_event").col(column).col("event_id").take();
            manager.create_index(index).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

fn audit_chain() -> TableCreateStatement {
    Table::create()
        .table("audit_chain")
        .col(uuid("chain_id").primary_key())
        .col(big_integer("ordinal").unique_key())
        .col(big_integer("sequence"))
        .col(blob("mac"))
        .col(big_integer("floor_sequence"))
        .col(blob("floor_mac"))
        .col(big_integer("chain_count"))
        .col(blob("seal"))
        .take()
}

fn audit_event() -> TableCreateStatement {
    Table::create()
        .table("audit_event")
        .col(uuid("chain_id"))
        .col(big_integer("sequence"))
        .col(uuid("event_id"))
        .col(timestamp_with_time_zone("event_time"))
        .col(text("principal"))
        .col(text("authentication"))
        .col(text("peer_address"))
        .col(text("action"))
        .col(text("organization_id"))
        .col(text("profile_id"))
        .col(text("provider"))
        .col(uuid_null("api_key_id"))
        .col(big_integer("key_version"))
        .col(text("source"))
        .col(text("decision"))
        .col(text("reason"))
        .col(uuid_null("epoch"))
        .col(big_integer("revision"))
        .col(uuid_null("request_id"))
        .col(text("trace_id"))
        .col(big_integer("latency_us"))
        .col(big_integer("count"))
        .col(text("profile_ids"))
        .col(blob("mac"))
        .primary_key(Index::create().col("chain_id").col("sequence"))
        .take()
}
