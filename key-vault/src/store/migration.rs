//! The schema, step by step. A step that was released is never edited.

mod m0001_keys;
mod m0002_replicas;

use sea_orm_migration::prelude::*;

/// All steps, oldest first.
pub(super) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m0001_keys::Migration), Box::new(m0002_replicas::Migration)]
    }
}
