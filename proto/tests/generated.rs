//! The committed code is what the `.proto` files give; the contract keeps its promises.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost_reflect::{DescriptorPool, MessageDescriptor};

const SOURCES: [&str; 6] = [
    "archestra/types/v1/types.proto",
    "archestra/keyvault/v1/audit.proto",
    "archestra/keyvault/v1/key_vault.proto",
    "archestra/keyvault/v1/usage.proto",
    "archestra/chat/v1/chat.proto",
    "archestra/chat/v1/key_check.proto",
];

/// Set by `make generate`: write what this test otherwise compares.
const WRITE: &str = "GENERATE";

#[test]
fn committed_code_is_what_the_sources_give() -> Result<(), Box<dyn Error>> {
    let fresh = tempfile::tempdir()?;
    generate(fresh.path())?;
    let committed = root().join("src/gen");
    if std::env::var_os(WRITE).is_some() {
        fs::create_dir_all(&committed)?;
        for name in file_names(fresh.path())? {
            fs::copy(fresh.path().join(&name), committed.join(&name))?;
        }
    }
    assert_eq!(file_names(fresh.path())?, file_names(&committed)?);
    for name in file_names(fresh.path())? {
        assert!(
            fs::read(fresh.path().join(&name))? == fs::read(committed.join(&name))?,
            "{name} is not what the .proto files give: run `make generate`"
        );
    }
    Ok(())
}

#[test]
fn both_chat_requests_have_the_same_fields() {
    let pool = pool();
    let fields = |name: &str| -> Vec<_> {
        message(&pool, name)
            .fields()
            // The entries of a map are a message of the request's own.
            .map(|field| (field.number(), field.name().to_owned(), format!("{:?}", field.kind()).replace(name, "")))
            .collect()
    };
    assert_eq!(fields("archestra.chat.v1.StreamChatRequest"), fields("archestra.chat.v1.ChatRequest"));
}

#[test]
fn only_one_response_holds_key_material() {
    let pool = pool();
    let holders: Vec<_> = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .filter(|method| holds_material(&method.output(), &mut Vec::new()))
        .map(|method| method.full_name().to_owned())
        .collect();
    assert_eq!(holders, ["archestra.keyvault.v1.KeyResolutionService.ResolveKey"]);
}

#[test]
fn debug_output_of_requests_hides_the_key() {
    let request = proto::keyvault::CreateApiKeyRequest {
        material: Some(proto::keyvault::KeyMaterial { api_key: "sk-visible".to_owned() }),
        ..Default::default()
    };
    let printed = format!("{request:?}");
    assert!(printed.contains("KeyMaterial(..)") && !printed.contains("visible"), "{printed}");
}

#[test]
fn reasons_fit_the_error_info_of_google_rpc() {
    for reason in (0..).map_while(|n| proto::keyvault::ErrorReason::try_from(n).ok()) {
        assert_is_reason(reason.wire_name());
    }
    for reason in (0..).map_while(|n| proto::chat::ErrorReason::try_from(n).ok()) {
        assert_is_reason(reason.wire_name());
    }
}

/// <https://google.aip.dev/193>: `[A-Z][A-Z0-9_]+[A-Z0-9]`, at most 63 characters.
fn assert_is_reason(name: &str) {
    assert!(name.len() <= 63 && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{name}");
}

fn holds_material(message: &MessageDescriptor, seen: &mut Vec<String>) -> bool {
    if message.full_name() == "archestra.keyvault.v1.KeyMaterial" {
        return true;
    }
    if seen.iter().any(|name| name == message.full_name()) {
        return false;
    }
    seen.push(message.full_name().to_owned());
    message.fields().filter_map(|field| field.kind().as_message().cloned()).any(|field| holds_material(&field, seen))
}

fn generate(out: &Path) -> Result<(), Box<dyn Error>> {
    let set = protox::Compiler::new([root()])?
        .include_source_info(true)
        .include_imports(true)
        .open_files(SOURCES)?
        .file_descriptor_set();
    tonic_prost_build::configure()
        // The one message with a secret: `src/lib.rs` writes its Debug by hand.
        .skip_debug([".archestra.keyvault.v1.KeyMaterial"])
        // Documents of many MiB stay where they were received.
        .bytes(".archestra.chat.v1")
        .out_dir(out)
        .compile_fds(set)?;
    // Reflection needs no comments, and they are most of the bytes.
    let bare = protox::Compiler::new([root()])?.include_imports(true).open_files(SOURCES)?.encode_file_descriptor_set();
    fs::write(out.join("descriptors.binpb"), bare)?;
    // Well-known types come from prost-types; their empty module is of no use.
    let _ = fs::remove_file(out.join("google.protobuf.rs"));
    Ok(())
}

fn pool() -> DescriptorPool {
    DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("the committed descriptors decode")
}

fn message(pool: &DescriptorPool, name: &str) -> MessageDescriptor {
    pool.get_message_by_name(name).unwrap_or_else(|| panic!("no message {name}"))
}

fn file_names(folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
