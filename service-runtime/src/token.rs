//! Bearer tokens: `akv1_<id>_<secret>_<checksum>`.
//!
//! The id (12 letters and digits) is public and finds the policy's entry. The secret is 256
//! random bits, so one fast hash of the token is all that a policy needs to keep. The
//! checksum (CRC-32, 8 hexadecimal digits) lets scanners and typing errors be told from
//! real tokens without asking anyone. Whoever finds one in a log knows what it is.

use std::{fmt, time::Duration};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::Utc;
use clap::Args;
use ring::{
    digest::{SHA256, SHA256_OUTPUT_LEN, digest},
    rand::{SecureRandom as _, SystemRandom},
};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    options,
    policy::{TokenEntry, token_entry},
};

/// The longest life of a token: whoever holds it must come back every quarter.
pub const LIFE_MAX: chrono::Duration = chrono::Duration::days(90);

const PREFIX: &str = "akv1_";
const ID_LENGTH: usize = 12;
const SECRET_BYTES: usize = 32;
/// 32 bytes in base64 without padding.
const SECRET_LENGTH: usize = 43;
const CHECKSUM_LENGTH: usize = 8;
const LENGTH: usize = PREFIX.len() + ID_LENGTH + 1 + SECRET_LENGTH + 1 + CHECKSUM_LENGTH;

/// How a token is made.
#[derive(Args, Clone, Debug)]
pub struct CreateOptions {
    /// How long it is good for: 12h, 30d; at most 90d
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = options::duration)]
    pub expires_in: Duration,
}

/// A token that was just made, to be shown once.
#[derive(Clone, Serialize)]
pub struct Created {
    /// The token. Nobody can show it again.
    pub token: String,
    /// What the policy keeps of it.
    pub policy_entry: TokenEntry,
}

impl fmt::Debug for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Created").field("policy_entry", &self.policy_entry).finish_non_exhaustive()
    }
}

/// Makes a token.
///
/// # Errors
///
/// Fails if it would live for too long, or if the system has no random numbers.
pub fn create(options: &CreateOptions) -> anyhow::Result<Created> {
    let life = chrono::Duration::from_std(options.expires_in).context("--expires-in is too long")?;
    ensure!(life <= LIFE_MAX, "--expires-in is more than {} days", LIFE_MAX.num_days());
    ensure!(!life.is_zero(), "--expires-in is 0: the token would never be good");
    let token = Token::random()?;
    Ok(Created { token: token.expose().to_owned(), policy_entry: token_entry(&token, Utc::now() + life) })
}

/// What a policy keeps of a token: 64 hexadecimal digits of its SHA-256.
pub type TokenHash = [u8; SHA256_OUTPUT_LEN];

/// A bearer token, in the clear.
pub struct Token(Zeroizing<String>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id())
    }
}

impl Token {
    /// A new token.
    ///
    /// # Errors
    ///
    /// Fails if the system has no random numbers.
    pub fn random() -> anyhow::Result<Self> {
        const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let random = SystemRandom::new();
        let mut id = [0; ID_LENGTH];
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        let fill = |bytes: &mut [u8]| random.fill(bytes).map_err(|_| anyhow::anyhow!("no random numbers"));
        fill(&mut id)?;
        fill(secret.as_mut_slice())?;
        let id: String = id.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
        let secret = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(secret.as_slice()));
        let body = Zeroizing::new(format!("{PREFIX}{id}_{}", *secret));
        Ok(Self(Zeroizing::new(format!("{}_{:08x}", *body, crc32fast::hash(body.as_bytes())))))
    }

    /// The token in `text`, or `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != LENGTH || !text.is_ascii() || !text.starts_with(PREFIX) {
            return None;
        }
        let (body, checksum) = text.split_at(LENGTH - CHECKSUM_LENGTH - 1);
        let well_formed = body.as_bytes()[PREFIX.len() + ID_LENGTH] == b'_'
            && body[PREFIX.len()..][..ID_LENGTH].bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && checksum == format!("_{:08x}", crc32fast::hash(body.as_bytes()));
        well_formed.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// Its public part.
    pub fn id(&self) -> &str {
        &self.0[PREFIX.len()..][..ID_LENGTH]
    }

    /// What a policy keeps of it.
    pub fn hash(&self) -> TokenHash {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, self.0.as_bytes()).as_ref());
        hash
    }

    /// The token itself, to show it once or to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_tokens_are_read() {
        let token = Token::random().expect("random numbers");
        let text = token.expose().to_owned();
        assert_eq!(Token::parse(&text).expect("a token").hash(), token.hash());
        assert_eq!(format!("{token:?}"), format!("Token({})", token.id()));

        for n in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[n] = if other[n] == b'a' { b'b' } else { b'a' };
            let other = String::from_utf8(other).expect("ASCII");
            assert!(Token::parse(&other).is_none(), "a change at {n} is not seen");
        }
        for wrong in ["", "akv1_", &text[1..], &text[..text.len() - 1], &format!("{text} "), &text.to_uppercase()] {
            assert!(Token::parse(wrong).is_none(), "{wrong:?}");
        }
    }
}
