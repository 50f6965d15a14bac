//! Where the next page of a listing starts, as opaque text that fits one query only.
//!
//! Not a secret and not a permission: the organization stands in every statement. The
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
    let mut bytes = vec![FORM];
    bytes.extend_from_slice(&query.digest());
    bytes.extend_from_slice(after.0.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The key after which the page starts, or `None` if the token is not one of `query`.
pub(super) fn read(query: Query<'_>, token: &str) -> Option<KeyId> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
    let rest = bytes.strip_prefix(&[FORM])?.strip_prefix(query.digest().as_slice())?;
    Uuid::from_slice(rest).ok().map(KeyId)
}

impl Query<'_> {
    fn digest(&self) -> [u8; DIGEST_LENGTH] {
        // No id has a line break, so the lines say which is which.
        let text = format!(
            "{}\n{}\n{}",
            self.organization,
            self.provider.map_or("", Provider::name),
            self.profile.map_or("", ProfileId::as_str)
        );
        let mut short = [0; DIGEST_LENGTH];
        short.copy_from_slice(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..DIGEST_LENGTH]);
        short
    }
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
