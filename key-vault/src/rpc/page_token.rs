//! Where the next page of a listing starts, as opaque text that fits one query only.
//!
//! Not a secret and not a permission: what a caller may see is decided anew for each page. The
//! digest only keeps a token from being used with another query by mistake.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::digest;
use uuid::Uuid;

use crate::key::{KeyId, OrganizationId, ProfileId, Provider};

const FORM: u8 = 1;
const DIGEST_LENGTH: usize = 8;

/// The query that a token belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a> {
    pub(super) organization: &'a OrganizationId,
    pub(super) provider: Option<Provider>,
    pub(super) profile: Option<&'a ProfileId>,
}

/// The token of the page after `after`.
pub(super) fn write(query: Query<'_>, after: KeyId) -> String {
    write_position(query.text().as_bytes(), after.0.as_bytes())
}

/// The key after which the page starts, or `None` if the token is not one of `query`.
pub(super) fn read(query: Query<'_>, token: &str) -> Option<KeyId> {
    let position = read_position(query.text().as_bytes(), token)?;
    Uuid::from_slice(&position).ok().map(KeyId)
}

/// The token of a position in the answer to any query, given as bytes.
pub(super) fn write_position(query: &[u8], position: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode([&[FORM], digest_of(query).as_slice(), position].concat())
}

/// The position of a token, or `None` if it is not one of `query`.
pub(super) fn read_position(query: &[u8], token: &str) -> Option<Vec<u8>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
    let position = bytes.strip_prefix(&[FORM])?.strip_prefix(digest_of(query).as_slice())?;
    Some(position.to_vec())
}

impl Query<'_> {
    fn text(&self) -> String {
        // No id has a line break, so the lines say which is which.
        format!(
            "{}\n{}\n{}",
            self.organization,
            self.provider.map_or("", Provider::name),
            self.profile.map_or("", ProfileId::as_str)
        )
    }
}

fn digest_of(query: &[u8]) -> [u8; DIGEST_LENGTH] {
    let mut short = [0; DIGEST_LENGTH];
    short.copy_from_slice(&digest::digest(&digest::SHA256, query).as_ref()[..DIGEST_LENGTH]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_fits_its_own_query_only() {
        let acme = OrganizationId::try_from("acme".to_owned()).unwrap();
        let other = OrganizationId::try_from("other".to_owned()).unwrap();
        let query = Query { organization: &acme, provider: None, profile: None };
        let after = KeyId::new();
        let token = write(query, after);

        assert_eq!(read(query, &token), Some(after));
        assert_eq!(read(Query { organization: &other, ..query }, &token), None);
        assert_eq!(read(Query { provider: Some(Provider::Gemini), ..query }, &token), None);
        for garbage in ["", "!", "AQ", &token[1..], &format!("{token}AAAA")] {
            assert_eq!(read(query, garbage), None, "{garbage}");
        }
    }
}
