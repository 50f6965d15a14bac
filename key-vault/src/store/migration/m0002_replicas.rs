//! What several replicas need of each other: who is alive, what changed, what was asked
//! already, which key encryption key comes next, and what is kept of a rotated key.
//!
//! Only adds: a version that does not know these columns runs beside one that does.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, blob, text, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null},
};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0002_replicas"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column) in [
            ("vault_meta", uuid_null("epoch")),
            ("vault_meta", big_integer("compacted_revision").default(0).take()),
            ("vault_meta", big_integer("kek_revision").default(0).take()),
            ("api_key", big_integer("revision").default(0).take()),
            ("secret", timestamp_with_time_zone_null("keep_until")),
            ("kek", timestamp_with_time_zone_null("promote_time")),
            ("kek", timestamp_with_time_zone_null("retire_time")),
        ] {
            manager.alter_table(Table::alter().table(table).add_column(column).take()).await?;
        }
        // Changes were not recorded so far: nobody can resume from before now.
        let compacted = Query::update().table("vault_meta").value("compacted_revision", Expr::col("revision")).take();
        manager.execute(compacted).await?;
        for table in [change(), request(), replica(), rewrap()] {
            manager.create_table(table).await?;
        }
        for (table, column) in [("request", "create_time"), ("secret", "keep_until")] {
            let name = format!("{table}_by_{column}");
            manager.create_index(Index::create().name(name).table(table).col(column).take()).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

fn change() -> TableCreateStatement {
    Table::create()
        .table("change")
        .col(big_integer("revision").primary_key())
        .col(text("organization_id"))
        .col(text("kind"))
        .col(text("providers"))
        .col(text("api_key_ids"))
        .col(timestamp_with_time_zone("create_time"))
        .take()
}

fn request() -> TableCreateStatement {
    Table::create()
        .table("request")
        .col(text("principal"))
        .col(uuid("request_id"))
        .col(blob("digest"))
        .col(text("answer"))
        .col(timestamp_with_time_zone("create_time"))
        .primary_key(Index::create().col("principal").col("request_id"))
        .take()
}

fn replica() -> TableCreateStatement {
    Table::create()
        .table("replica")
        .col(uuid("replica_id").primary_key())
        .col(timestamp_with_time_zone("seen_time"))
        .col(text("kek_ids"))
        .col(text("managers"))
        .take()
}

fn rewrap() -> TableCreateStatement {
    Table::create()
        .table("rewrap")
        .col(text("kek_id").primary_key())
        .col(timestamp_with_time_zone("start_time"))
        .col(big_integer("failed_count"))
        .col(uuid_null("worker"))
        .col(timestamp_with_time_zone_null("lease_until"))
        .take()
}
