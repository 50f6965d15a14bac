//! Where the next page of an answer starts, as opaque text that fits one query only.
//!
//! Not a secret and not a permission: what a caller may see is decided anew for each page. The
//! digest only keeps a token from being used with another query by mistake.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::digest;
const FORM: u8 = 1;
const DIGEST_LENGTH: usize = 8;

/// The token of the page after `after`. `query` is what no other query has.
pub(super) fn write(query: impl AsRef<[u8]>, after: &[u8]) -> String {
    let mut bytes = vec![FORM];
    bytes.extend_from_slice(&short_digest(query.as_ref()));
    bytes.extend_from_slice(after);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// After what the page starts, or `None` if the token is not one of `query`. Callers can write
/// what they like: it is to be read with care.
pub(super) fn read(query: impl AsRef<[u8]>, token: &str) -> Option<Vec<u8>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
    let after = bytes.strip_prefix(&[FORM])?.strip_prefix(short_digest(query.as_ref()).as_slice())?;
    Some(after.to_vec())
}

fn short_digest(query: &[u8]) -> [u8; DIGEST_LENGTH] {
    let mut short = [0; DIGEST_LENGTH];
    short.copy_from_slice(&digest::digest(&digest::SHA256, query).as_ref()[..DIGEST_LENGTH]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_fits_its_own_query_only() {
        let token = write("keys\nacme", b"after");

        assert_eq!(read("keys\nacme", &token).as_deref(), Some(b"after".as_slice()));
        for other in ["keys\nother", "keys\nacme\n", ""] {
            assert_eq!(read(other, &token), None, "{other:?}");
        }
        for garbage in ["", "!", "AQ", &token[1..]] {
            assert_eq!(read("keys\nacme", garbage), None, "{garbage}");
        }
    }
}
