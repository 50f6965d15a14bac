//! A step of a version that is not written yet, for the test of an upgrade to it. The binary of
//! this crate has none.

use std::sync::OnceLock;

use sea_orm_migration::prelude::*;

static STEP: OnceLock<Step> = OnceLock::new();

#[derive(Clone, Copy, Debug)]
struct Step {
    name: &'static str,
    statements: &'static str,
}

/// Makes this process one of the next version, whose schema has this step more. To be called
/// before anything else, once; the statements must be ones of both databases.
pub fn with_next_step(name: &'static str, statements: &'static str) {
    let _ = STEP.set(Step { name, statements });
}

pub(super) fn step() -> Option<Box<dyn MigrationTrait>> {
    STEP.get().map(|step| Box::new(*step) as Box<dyn MigrationTrait>)
}

impl MigrationName for Step {
    fn name(&self) -> &'static str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.statements).await?;
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
