//! What keys were used for: sums by hour, which reports were counted, who reports, and when a
//! key was last used and refused.
//!
//! Texts that sums are told apart by are compared byte by byte on both databases, so that pages
//! have one order.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, boolean, text, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid},
    sea_orm::DbBackend,
};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0005_usage"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        for table in [usage_hour(backend), usage_report(), usage_reporter(), key_use()] {
            manager.create_table(table).await?;
        }
        for (table, column) in [("usage_hour", "hour"), ("usage_report", "create_time")] {
            let name = format!("{table}_by_{column}");
            manager.create_index(Index::create().name(name).table(table).col(column).take()).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

fn usage_hour(backend: DbBackend) -> TableCreateStatement {
    let bytewise = |name: &'static str| {
        let mut column = text(name);
        if backend == DbBackend::Postgres {
            // SQLite compares so unless told otherwise.
            column.extra("COLLATE \"C\"");
        }
        column
    };
    let mut table = Table::create();
    table.table("usage_hour");
    table.col(bytewise("organization_id")).col(big_integer("hour")).col(bytewise("profile_id"));
    table.col(bytewise("provider")).col(uuid("api_key_id")).col(big_integer("version"));
    table.col(bytewise("source")).col(bytewise("model"));
    for count in [
        "call_count",
        "partial_count",
        "failed_count",
        "rejected_count",
        "input_tokens",
        "cached_input_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "partial_input_tokens",
        "partial_output_tokens",
    ] {
        table.col(big_integer(count));
    }
    let mut key = Index::create();
    for column in ["organization_id", "hour", "profile_id", "provider", "api_key_id", "version", "source", "model"] {
        key.col(column);
    }
    table.primary_key(&mut key).take()
}

fn usage_report() -> TableCreateStatement {
    Table::create()
        .table("usage_report")
        .col(uuid("report_id").primary_key())
        .col(timestamp_with_time_zone("create_time"))
        .take()
}

fn usage_reporter() -> TableCreateStatement {
    Table::create()
        .table("usage_reporter")
        .col(text("principal"))
        .col(uuid("reporter_id"))
        .col(timestamp_with_time_zone("seen_time"))
        .col(timestamp_with_time_zone("complete_until"))
        .col(boolean("ended"))
        .col(big_integer("dropped_count"))
        .col(timestamp_with_time_zone_null("dropped_from"))
        .col(timestamp_with_time_zone_null("dropped_until"))
        .primary_key(Index::create().col("principal").col("reporter_id"))
        .take()
}

fn key_use() -> TableCreateStatement {
    Table::create()
        .table("key_use")
        .col(uuid("api_key_id").primary_key())
        .col(timestamp_with_time_zone_null("last_used_time"))
        .col(timestamp_with_time_zone_null("last_rejected_time"))
        .take()
}
