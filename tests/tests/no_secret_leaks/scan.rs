//! Finds a secret in bytes, in every form that software gives it on the way.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};
use memchr::memmem;

/// A form of a secret, and the bytes to look for.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// Every form of a secret that is looked for.
pub(crate) fn forms(secret: &str) -> Vec<Form> {
    let mut forms = vec![
        Form { name: "raw", bytes: secret.as_bytes().to_vec() },
        Form { name: "reversed", bytes: secret.bytes().rev().collect() },
        Form { name: "hex", bytes: hex(secret, false) },
        Form { name: "HEX", bytes: hex(secret, true) },
        Form { name: "URL-encoded", bytes: url_encoded(secret) },
        Form { name: "JSON-escaped", bytes: json_escaped(secret) },
        Form { name: "JSON-escaped twice", bytes: json_escaped(&String::from_utf8_lossy(&json_escaped(secret))) },
        Form { name: "debug list of bytes", bytes: byte_list(secret) },
    ];
    for offset in 0..3 {
        forms.push(Form { name: "base64", bytes: base64_at(secret, offset, &BASE64_STANDARD) });
        forms.push(Form { name: "base64url", bytes: base64_at(secret, offset, &BASE64_URL_SAFE) });
    }
    forms
}

/// The names of the forms of `secret` that stand in `haystack`.
pub(crate) fn found(secret: &str, haystack: &[u8]) -> Vec<&'static str> {
    let present = |form: &Form| memmem::find(haystack, &form.bytes).is_some();
    forms(secret).into_iter().filter(present).map(|form| form.name).collect()
}

fn hex(secret: &str, upper: bool) -> Vec<u8> {
    let digits = secret.bytes().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") });
    digits.collect::<String>().into_bytes()
}

fn url_encoded(secret: &str) -> Vec<u8> {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    secret.bytes().map(one).collect::<String>().into_bytes()
}

fn json_escaped(secret: &str) -> Vec<u8> {
    let quoted = serde_json::to_string(secret).expect("text is JSON");
    quoted.as_bytes()[1..quoted.len() - 1].to_vec()
}

fn byte_list(secret: &str) -> Vec<u8> {
    let list = format!("{:?}", secret.as_bytes());
    list.as_bytes()[1..list.len() - 1].to_vec()
}

/// The middle of the base64 of a text in which the secret stands `offset` bytes after a
/// multiple of three: what stays the same whatever stands around it.
fn base64_at(secret: &str, offset: usize, engine: &impl Engine) -> Vec<u8> {
    let mut padded = vec![0; offset];
    padded.extend_from_slice(secret.as_bytes());
    let text = engine.encode(&padded);
    let first = (offset * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    text.as_bytes()[first..last].to_vec()
}
