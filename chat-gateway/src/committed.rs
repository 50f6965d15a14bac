//! Tests only: files of the repository that the code makes.

use std::fs;

/// Holds `path`, which lies beside this crate's `Cargo.toml`, against what the code makes of
/// what it says now. `make generate` writes it instead.
pub(crate) fn is_made_by(path: &str, new: impl FnOnce(&str) -> String) {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let made = new(&committed);
    #[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
    if std::env::var_os("GENERATE").is_some() {
        fs::write(&path, &made).expect("it can be written");
        return;
    }
    assert!(committed == made, "{path} is old: run `make generate`");
}
