//! The commands that work on a database and need no vault that serves it.

use std::path::Path;

use anyhow::Context as _;

use super::output;
use crate::config::{DatabaseLocation, DatabaseOptions};

pub(super) async fn migrate(database: &DatabaseOptions) -> anyhow::Result<()> {
    crate::migrate(database).await?;
    output::note("the schema is up to date");
    Ok(())
}

pub(super) async fn back_up(database: &DatabaseLocation, to: &Path) -> anyhow::Result<()> {
    let size = crate::back_up(database, file(to)).await?;
    output::note(&format!("copied {size} bytes and checked them; keep the keyring too, and apart"));
    Ok(())
}

pub(super) async fn transfer(from: &str, to: &DatabaseOptions) -> anyhow::Result<()> {
    let rows = crate::transfer(from, to).await?;
    output::note(&format!("moved {rows} rows; do not serve the old database again"));
    Ok(())
}

pub(super) async fn restored(database: &DatabaseOptions, from: Option<&Path>) -> anyhow::Result<()> {
    if let Some(from) = from {
        crate::put_back(&database.location, file(from)).await?;
    }
    let begun = crate::begin_epoch(database).await;
    // The copy stays where it was put, and would be in the way of the same command.
    begun.with_context(|| match from {
        Some(_) => "the copy is in its place, and no new history has begun: run `restored` again without --from before a vault is started",
        None => "no new history has begun",
    })?;
    output::note("a new history begins: watchers drop what they know and watch anew");
    Ok(())
}

/// A file, unless `-` says that it is standard input or output.
fn file(path: &Path) -> Option<&Path> {
    (path != Path::new("-")).then_some(path)
}
