//! The format against an implementation of it in another language, both ways:
//! `tests/vectors/check.py`.
//!
//! `tests/vectors/sealing_v1.json` was made once, half of it by each of the two. It stands
//! for the databases that exist, so it is never made anew: what does not open it does not
//! open them.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::*;

/// Of these half are made by each implementation.
const COMMITTED: usize = 20;

#[tokio::test]
async fn the_committed_vectors_open() {
    let vectors = parse(&fs::read_to_string(folder().join("sealing_v1.json")).unwrap());
    for vector in &vectors {
        open(vector).await;
    }
    let by = |maker: &str| vectors.iter().filter(|vector| vector["made_by"] == maker).count();
    assert_eq!((by("key-vault"), by("check.py")), (COMMITTED / 2, COMMITTED / 2));
}

#[tokio::test]
async fn what_is_sealed_in_python_opens_here() {
    let Some(python) = python() else { return };
    let vectors = parse(&run(python, &["seal"]));
    assert!(vectors.len() >= 12);
    for vector in &vectors {
        open(vector).await;
    }
}

#[tokio::test]
async fn what_is_sealed_here_opens_in_python() {
    let Some(python) = python() else { return };
    let mut vectors = Vec::new();
    for number in 0..10 {
        vectors.push(seal(number).await);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), json!({ "vectors": vectors }).to_string()).unwrap();
    assert_eq!(run(python, &["open", file.path().to_str().unwrap()]), "10 vectors open\n");
}

#[test]
fn the_committed_vectors_open_in_python() {
    let Some(python) = python() else { return };
    let path = folder().join("sealing_v1.json");
    assert_eq!(run(python, &["open", path.to_str().unwrap()]), format!("{COMMITTED} vectors open\n"));
}

/// Opens all of a vector from its root key on, and compares it with what it says it is.
async fn open(vector: &Value) {
    let text = |name: &str| vector[name].as_str().unwrap_or_else(|| panic!("{name} of {vector}")).to_owned();
    let bytes = |name: &str| unhex(&text(name));
    let blob = |name: &str| unhex(vector["sealed"][name].as_str().unwrap());
    let vault = Uuid::try_parse(&text("vault_id")).unwrap();
    let kek_id = text("kek_id");
    let managers = keyring(&text("root_id"), &bytes("root_key"));
    let record = KekRecord {
        id: kek_id.clone(),
        wrapped: WrappedKek { manager: "local".to_owned(), key_ref: text("root_id"), blob: blob("kek") },
        check_value: bytes("check_value"),
        canary: blob("canary"),
    };
    let bits = managers.unwrap(&record.wrapped, &Context { vault, kek_id: &kek_id }).await.unwrap();
    assert_eq!(bits.as_slice(), bytes("kek"));
    let kek = CheckedKek::open(&record, vault, &managers).await.unwrap();
    let sealer = Sealer::new(vault, [kek], &blob("fingerprint_key")).unwrap();

    let organization = organization(&text("organization_id"));
    let binding = Binding {
        organization: &organization,
        key: KeyId(Uuid::try_parse(&text("api_key_id")).unwrap()),
        provider: Provider::from_name(&text("provider")).unwrap(),
        version: vector["version"].as_i64().unwrap(),
    };
    let row = Sealed { payload: blob("payload"), dek: blob("dek"), kek_id: kek_id.clone() };
    let opened = sealer.open(&binding, &row).unwrap();
    assert_eq!(opened.expose(), text("plaintext"));
    assert_eq!(sealer.fingerprint(&organization, binding.provider, &opened), text("fingerprint"));
    let wrapped = envelope::Wrapped::parse(Layer::Dek, &row.dek).unwrap();
    let dek = sealer.keks[&kek_id].unwrap(&wrapped, &sealer.dek_aad(&binding, &kek_id)).unwrap();
    assert_eq!(dek.as_slice(), bytes("dek"));
}

/// Seals a key as the vault does, and writes down all that belongs to it.
async fn seal(number: usize) -> Value {
    let root = random_bits(&SystemRandom::new()).unwrap();
    let managers = keyring("root-1", root.as_slice());
    let vault = Uuid::new_v4();
    let kek_id = format!("kek-{}", Uuid::now_v7());
    let (kek, record) = CheckedKek::create(kek_id.clone(), vault, managers.configured()).await.unwrap();
    let fingerprint_key = Sealer::new_fingerprint_key(vault, &kek).unwrap();
    let kek_bits = managers.unwrap(&record.wrapped, &Context { vault, kek_id: &kek_id }).await.unwrap();
    let wrapped = envelope::Wrapped::parse(Layer::Dek, &fingerprint_key).unwrap();
    let fingerprint_bits = kek.kek().unwrap(&wrapped, &fingerprint_aad(vault, &kek_id)).unwrap();
    let sealer = Sealer::new(vault, [kek], &fingerprint_key).unwrap();

    let organization = organization(["a", "acme", "Acme_2.eu:team@x-1", &"o".repeat(128)][number % 4]);
    let binding = Binding {
        organization: &organization,
        key: KeyId::new(),
        provider: Provider::ALL[number % 3],
        version: [1, 2, 255, 256, 1 << 31, (1 << 32) + 1, i64::MAX][number % 7],
    };
    let visible: String = ('\x21'..='\x7e').collect();
    let text = ["k", "test-key-0123456789", &visible, &"t".repeat(512)][number / 2 % 4].to_owned();
    let key = material(&text);
    let row = sealer.seal(&kek_id, &binding, &key).unwrap();
    let wrapped = envelope::Wrapped::parse(Layer::Dek, &row.dek).unwrap();
    let dek = sealer.keks[&kek_id].unwrap(&wrapped, &sealer.dek_aad(&binding, &kek_id)).unwrap();
    let nonce = |blob: &[u8], at: usize| hexadecimal(&blob[at..at + 12]);
    let behind = |id: &str| 5 + 1 + id.len();
    json!({
        "made_by": "key-vault",
        "vault_id": vault.to_string(),
        "organization_id": organization.as_str(),
        "api_key_id": binding.key.to_string(),
        "provider": binding.provider.name(),
        "version": binding.version,
        "plaintext": text,
        "root_id": "root-1",
        "kek_id": kek_id,
        "root_key": hexadecimal(root.as_slice()),
        "kek": hexadecimal(kek_bits.as_slice()),
        "dek": hexadecimal(dek.as_slice()),
        "fingerprint_key": hexadecimal(fingerprint_bits.as_slice()),
        "nonces": {
            "kek": nonce(&record.wrapped.blob, behind("root-1")),
            "canary": nonce(&record.canary, behind(&kek_id)),
            "fingerprint_key": nonce(&fingerprint_key, behind(&kek_id)),
            "dek": nonce(&row.dek, behind(&kek_id)),
            "payload": nonce(&row.payload, 5),
        },
        "check_value": hexadecimal(&record.check_value),
        "fingerprint": sealer.fingerprint(&organization, binding.provider, &key),
        "sealed": {
            "kek": hexadecimal(&record.wrapped.blob),
            "canary": hexadecimal(&record.canary),
            "fingerprint_key": hexadecimal(&fingerprint_key),
            "dek": hexadecimal(&row.dek),
            "payload": hexadecimal(&row.payload),
        },
    })
}

/// A keyring of one root key.
fn keyring(id: &str, key: &[u8]) -> Managers {
    use std::io::Write as _;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyring");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    write!(file, "primary: {id}\n{id}: {}\n", BASE64_STANDARD.encode(key)).unwrap();
    Managers::new(Arc::new(LocalKeyring::load(&path).unwrap()), Vec::new())
}

fn parse(text: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(text).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors")
}

/// Python with what the script needs. Without it these tests are left out: loudly on a
/// laptop, as a failure in CI.
fn python() -> Option<&'static str> {
    let name = "python3";
    let found = Command::new(name).args(["-c", "import cryptography"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(name);
    }
    #[expect(clippy::disallowed_methods, reason = "whether this is CI is said by its environment")]
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!in_ci, "python3 with the package cryptography is missing, and CI must have it");
    skipped();
    None
}

#[expect(clippy::print_stderr, reason = "a test that is left out must be seen")]
fn skipped() {
    eprintln!("SKIPPED: python3 with the package cryptography is missing; to install it: pip install cryptography");
}

fn run(python: &str, arguments: &[&str]) -> String {
    let output = Command::new(python).arg(folder().join("check.py")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
