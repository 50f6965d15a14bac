//! Whoever is on call can trust what wakes them and what they look at: every alert fires when it
//! should and has a page, every panel has data from the real services through a real Prometheus,
//! and the documents name what is there.

mod dashboards;
mod exposition;
mod live;
mod load;
mod providers;
mod rules;
mod runbooks;

use std::{fs, path::Path};

/// A file of the repository.
fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
