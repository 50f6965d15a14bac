//! The transit engine of OpenBao or HashiCorp Vault: a root key that never leaves it.
//!
//! A wrapped KEK is the ciphertext as the engine gives it, `vault:vN:…`. Its key
//! reference is `MOUNT/KEY:vN`. The engine binds it to the context that we send as
//! associated data.
//!
//! Refuses: redirects, plain HTTP beyond loopback, answers of any size, and to decrypt
//! with another key than the configured one, whatever the database says. No error has a
//! URL, a body or a token.
//!
//! Read `client` (one request), `login` (how a token is got), `session` (how it is kept
//! alive), `options`.

mod client;
mod login;
mod options;
mod session;

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Context, Error, SecretsManager, WrappedKek};
use crate::seal::Bits256;
use client::{Answer, Client};
use session::Session;

pub(crate) use options::{Settings, TransitOptions};

const KIND: &str = "transit";

/// How often the server and the token are looked at while all is well.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// How soon again after a failure: a request that hangs (5 s) and this one together stay
/// below ten seconds. Not all replicas at once.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
const RETRY_JITTER_MS: u16 = 2000;

/// A wrapped KEK is about 100 bytes. A fortieth of what a column may come to is enough.
const CIPHERTEXT_BYTES_MAX: usize = 4096;

/// One key of a transit engine.
pub(crate) struct Transit {
    client: Client,
    session: Session,
    mount: String,
    key: String,
    failed: AtomicBool,
}

impl fmt::Debug for Transit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transit").field("mount", &self.mount).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Transit {
    /// A client of the configured server. Asks nothing yet.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if the certificates of the authority cannot be used.
    pub(crate) fn new(settings: Settings) -> Result<Self, Error> {
        let client = Client::new(&settings.endpoint)?;
        Ok(Self {
            session: Session::new(client.clone(), settings.login),
            client,
            mount: settings.mount,
            key: settings.key,
            failed: AtomicBool::new(false),
        })
    }

    async fn decrypt(&self, wrapped: &WrappedKek, context: &Context<'_>) -> Result<Bits256, Error> {
        let ciphertext = self.ciphertext_of(wrapped)?;
        let body = Decrypt { ciphertext, associated_data: associated_data(context) };
        let answer = self.call(Operation::Decrypt, &body).await?;
        if answer.status != 200 {
            return Err(self.refusal(Operation::Decrypt, &answer, &wrapped.key_ref));
        }
        let plain: Data<Plaintext<'_>> = answer.parse()?;
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(plain.data.plaintext).unwrap_or_default());
        let bits = <[u8; 32]>::try_from(bytes.as_slice()).map(Zeroizing::new);
        bits.map_err(|_| Error::NotDecrypted { key_ref: wrapped.key_ref.clone() })
    }

    /// What to send for a stored KEK, if it is one of the configured key.
    fn ciphertext_of<'a>(&self, wrapped: &'a WrappedKek) -> Result<&'a str, Error> {
        self.require_own(&wrapped.key_ref)?;
        let text = std::str::from_utf8(&wrapped.blob).ok();
        let known = text.filter(|text| version(text).is_some_and(|version| self.key_ref(version) == wrapped.key_ref));
        known.ok_or_else(|| Error::NotDecrypted { key_ref: wrapped.key_ref.clone() })
    }

    fn key_ref(&self, version: u32) -> String {
        format!("{}/{}:v{version}", self.mount, self.key)
    }

    /// Who can write to the database must not choose the key that decrypts: one that others
    /// encrypt with would open what they made up.
    fn require_own(&self, key_ref: &str) -> Result<(), Error> {
        let configured = format!("{}/{}", self.mount, self.key);
        match key_ref.rsplit_once(":v") {
            Some((name, _)) if name == configured => Ok(()),
            Some(_) | None => Err(Error::OtherTransitKey { found: key_ref.to_owned(), configured }),
        }
    }

    /// Asks the engine, with another token if this one turns out to be dead.
    async fn call(&self, operation: Operation, body: &impl Serialize) -> Result<Answer, Error> {
        let path = format!("{}/{}/{}", self.mount, operation.name(), self.key);
        let token = self.session.token().await?;
        let answer = self.client.post(&path, Some(&token), body).await?;
        if answer.status != 403 {
            return Ok(answer);
        }
        // A dead token and a policy have the same status.
        if self.session.is_alive(&token).await? {
            return Err(self.denied(operation));
        }
        let token = self.session.replace(Some(&token)).await?;
        let answer = self.client.post(&path, Some(&token), body).await?;
        if answer.status == 403 { Err(self.denied(operation)) } else { Ok(answer) }
    }

    fn denied(&self, operation: Operation) -> Error {
        Error::Denied { operation: operation.name(), mount: self.mount.clone(), key: self.key.clone() }
    }

    /// What an answer other than 200 means. The server's words are matched and never kept.
    fn refusal(&self, operation: Operation, answer: &Answer, key_ref: &str) -> Error {
        let key_ref = key_ref.to_owned();
        if answer.status == 404 || answer.says("encryption key not found") {
            Error::NoTransitKey { mount: self.mount.clone(), key: self.key.clone() }
        } else if answer.says("disallowed by policy (too old)") {
            Error::TooOld { key_ref }
        } else if answer.says("message authentication failed") || answer.says("invalid ciphertext") {
            Error::NotDecrypted { key_ref }
        } else {
            Error::Refused { operation: operation.name(), status: answer.status }
        }
    }

    async fn examine(&self, needed: &[String]) -> Result<(), Error> {
        self.client.health().await?;
        self.session.keep().await?;
        needed.iter().try_for_each(|key_ref| self.require_own(key_ref))
    }
}

#[async_trait]
impl SecretsManager for Transit {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn wrap(&self, kek: &Bits256, context: &Context<'_>) -> Result<WrappedKek, Error> {
        let plaintext = Zeroizing::new(BASE64_STANDARD.encode(kek.as_slice()));
        let body = Encrypt { plaintext: &plaintext, associated_data: associated_data(context) };
        let answer = self.call(Operation::Encrypt, &body).await?;
        if answer.status != 200 {
            return Err(self.refusal(Operation::Encrypt, &answer, &self.key));
        }
        let text = answer.parse::<Data<Ciphertext>>()?.data.ciphertext;
        let Some(version) = version(&text) else {
            return Err(Error::Unintelligible { problem: "it encrypted to something else than `vault:vN:`" });
        };
        let wrapped = WrappedKek { manager: KIND.to_owned(), key_ref: self.key_ref(version), blob: text.into_bytes() };
        // A policy that only encrypts would be noticed at the next start, when it is too late.
        let unwrapped = self.decrypt(&wrapped, context).await?;
        if bool::from(unwrapped.ct_eq(kek.as_slice())) {
            Ok(wrapped)
        } else {
            Err(Error::Unintelligible { problem: "what it encrypted does not decrypt to the same" })
        }
    }

    async fn unwrap(&self, wrapped: &WrappedKek, context: &Context<'_>) -> Result<Bits256, Error> {
        self.decrypt(wrapped, context).await
    }

    async fn check(&self, needed: &[String]) -> Result<(), Error> {
        let result = self.examine(needed).await;
        self.failed.store(result.is_err(), Ordering::Relaxed);
        result
    }

    fn check_after(&self) -> Duration {
        if self.failed.load(Ordering::Relaxed) {
            jittered(RETRY_INTERVAL).max(self.session.login_after())
        } else {
            self.session.keep_after().min(CHECK_INTERVAL)
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Encrypt,
    Decrypt,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
        }
    }
}

#[derive(Serialize)]
struct Encrypt<'a> {
    plaintext: &'a str,
    associated_data: String,
}

#[derive(Serialize)]
struct Decrypt<'a> {
    ciphertext: &'a str,
    associated_data: String,
}

#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

#[derive(Deserialize)]
struct Ciphertext {
    ciphertext: String,
}

/// Borrowed from the body, which is wiped.
#[derive(Deserialize)]
struct Plaintext<'a> {
    plaintext: &'a str,
}

fn associated_data(context: &Context<'_>) -> String {
    BASE64_STANDARD.encode(context.associated_data())
}

/// The version of the key in `vault:vN:BASE64`, if that is what it is.
fn version(ciphertext: &str) -> Option<u32> {
    let (version, rest) = ciphertext.strip_prefix("vault:v")?.split_once(':')?;
    let is_base64 = rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    let is_number = version.bytes().all(|byte| byte.is_ascii_digit()) && !version.starts_with('0');
    let plausible = is_number && is_base64 && !rest.is_empty() && ciphertext.len() <= CIPHERTEXT_BYTES_MAX;
    version.parse().ok().filter(|_| plausible)
}

fn jittered(interval: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness all replicas come at once, which is no reason to fail.
    let _ = SystemRandom::new().fill(&mut random);
    interval + Duration::from_millis((u16::from_be_bytes(random) % RETRY_JITTER_MS).into())
}

#[cfg(test)]
mod tests;
