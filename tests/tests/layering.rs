//! The layering rules of `ARCHITECTURE.md`, held against the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files and folders, and the names that would tie them to what they must not know.
const RULES: &[(&str, &[&str])] = &[
    ("key-vault/src/vault.rs", &["tonic::", "proto::", "sea_orm", "std::env"]),
    ("key-vault/src/vault", &["tonic::", "proto::", "sea_orm", "std::env"]),
    ("key-vault/src/vault/resolve.rs", &["async fn", "use "]),
    ("key-vault/src/key.rs", &["tonic::", "proto::", "sea_orm", "tracing"]),
    ("key-vault/src/seal.rs", &["sea_orm", "tracing", "tonic::", "proto::", "crate::store"]),
    ("key-vault/src/seal", &["sea_orm", "tracing", "tonic::", "proto::", "crate::store"]),
    ("key-vault/src/store.rs", &["tonic::", "proto::", "use ring", "Sealer"]),
    ("key-vault/src/store", &["tonic::", "proto::", "use ring", "Sealer"]),
    ("key-vault/src/rpc.rs", &["sea_orm", "use ring", "Status::new"]),
    ("key-vault/src/cli", &["crate::vault", "crate::store", "crate::rpc"]),
    ("chat-gateway/src/chat.rs", &["tonic::", "reqwest", "proto::", "std::env"]),
    ("chat-gateway/src/chat", &["tonic::", "reqwest", "proto::", "std::env"]),
    ("chat-gateway/src/key_check.rs", &["tonic::", "reqwest", "proto::", "std::env"]),
    ("chat-gateway/src/model_list.rs", &["tonic::", "reqwest", "proto::", "std::env"]),
    ("chat-gateway/src/model_list", &["tonic::", "reqwest", "proto::", "std::env"]),
    ("chat-gateway/src/message.rs", &["tonic::", "reqwest", "proto::", "tracing"]),
    ("chat-gateway/src/detect.rs", &["tonic::", "reqwest", "proto::", "async ", "tracing"]),
    ("chat-gateway/src/sse.rs", &["tonic::", "reqwest", "proto::", "async ", "crate::"]),
    (
        "chat-gateway/src/provider",
        &[
            "tonic::",
            "reqwest",
            "proto::",
            "async ",
            "tracing",
            "Instant::now",
            "SystemTime::now",
            "std::env",
            "rand::",
        ],
    ),
    ("chat-gateway/src/cli", &["crate::chat", "crate::provider", "crate::rpc", "reqwest"]),
    ("service-runtime/src", &["key_vault::", "chat_gateway::", "proto::", "sea_orm"]),
    ("proto/src/lib.rs", &["sea_orm", "reqwest", "tokio"]),
];

/// Where only one file of each service may use a thing.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("sea_orm", &["key-vault/src/store"]),
    (
        "reqwest::",
        &[
            "chat-gateway/src/upstream",
            "key-vault/src/seal/secrets_manager/transit/client.rs",
            "service-runtime/src/telemetry/otlp.rs",
        ],
    ),
    ("opentelemetry_otlp", &["service-runtime/src/telemetry/otlp.rs"]),
    ("prometheus_client", &["service-runtime/src/metrics.rs"]),
    ("ring::aead", &["key-vault/src/seal"]),
];

/// A room in which nothing has grown past finding.
const LINES_MAX: usize = 700;

#[test]
fn nothing_knows_what_it_must_not() {
    for (path, forbidden) in RULES {
        for file in sources(&root().join(path)) {
            let text = production(&file);
            for name in *forbidden {
                assert!(!text.contains(name), "{} must not use `{name}`", file.display());
            }
        }
    }
}

#[test]
fn each_outside_library_has_one_door() {
    for (name, places) in ONLY_IN {
        for folder in ["key-vault/src", "chat-gateway/src", "service-runtime/src"] {
            for file in sources(&root().join(folder)) {
                let leads_to =
                    |place: &&str| file.starts_with(root().join(place)) || file == root().join(format!("{place}.rs"));
                let is_door = places.iter().any(leads_to);
                assert!(is_door || !production(&file).contains(name), "{} uses `{name}`", file.display());
            }
        }
    }
}

#[test]
fn the_runtime_and_the_contract_depend_on_no_crate_of_this_workspace() {
    for manifest in ["service-runtime/Cargo.toml", "proto/Cargo.toml"] {
        let text = fs::read_to_string(root().join(manifest)).expect("a manifest");
        for own in ["key-vault.", "chat-gateway.", "proto.", "service-runtime.", "system-tests."] {
            assert!(!text.lines().any(|line| line.starts_with(own)), "{manifest} depends on {own}");
        }
    }
    for (manifest, other) in [("key-vault/Cargo.toml", "chat-gateway"), ("chat-gateway/Cargo.toml", "key-vault")] {
        let text = fs::read_to_string(root().join(manifest)).expect("a manifest");
        assert!(!text.contains(&format!("\n{other}")), "{manifest} depends on {other}");
    }
}

#[test]
fn files_stay_small_and_binaries_are_wiring() {
    for folder in ["key-vault/src", "chat-gateway/src", "service-runtime/src", "tests/src"] {
        for file in sources(&root().join(folder)) {
            let lines = fs::read_to_string(&file).expect("a source").lines().count();
            let limit = if file.ends_with("main.rs") { 50 } else { LINES_MAX };
            assert!(lines <= limit, "{} has {lines} lines", file.display());
        }
    }
}

/// The rules can fail: a rule against what a file does use is noticed.
#[test]
fn a_broken_rule_is_noticed() {
    assert!(production(&root().join("chat-gateway/src/upstream.rs")).contains("reqwest::"));
    assert!(production(&root().join("key-vault/src/store.rs")).contains("sea_orm"));
}

/// The code of a file: without comments, and without its tests.
fn production(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).fold(String::new(), |all, line| all + line + "\n")
}

/// The Rust files of a path, tests left out.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries
        .flat_map(|entry| {
            let path = entry.expect("an entry").path();
            match path.file_name().and_then(|name| name.to_str()) {
                Some("tests.rs" | "tests" | "transcript.rs") => Vec::new(),
                Some(name) if path.is_dir() || name.ends_with(".rs") => sources(&path),
                _ => Vec::new(),
            }
        })
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
