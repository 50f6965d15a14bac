//! One token and its life: renewed, replaced when it is dead, never given up.
//!
//! Invariant: a login begins at most once in [`LOGIN_SPACING`], however many ask for it.
//!
//! Odd: a login that failed is not tried again within that time; who asks gets the same
//! failure. One that succeeded may have to be repeated, and then is waited for.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use subtle::ConstantTimeEq as _;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

use super::{
    client::Client,
    login::{self, LOOKUP, Login},
};
use crate::seal::secrets_manager::Error;

/// A server that has just come back must not be met by a storm of logins.
pub(super) const LOGIN_SPACING: Duration = Duration::from_secs(5);

/// Keeps a token alive.
pub(super) struct Session {
    client: Client,
    login: Login,
    current: ArcSwapOption<Token>,
    logins: Mutex<Logins>,
}

/// What happened to logins so far. Locked while one runs.
#[derive(Default)]
struct Logins {
    /// When one may begin.
    next: Option<Instant>,
    /// Why the last one failed, if it did.
    failure: Option<Error>,
}

impl Session {
    pub(super) fn new(client: Client, login: Login) -> Self {
        Self { client, login, current: ArcSwapOption::empty(), logins: Mutex::default() }
    }

    /// A token that is alive as far as we know.
    pub(super) async fn token(&self) -> Result<Arc<Token>, Error> {
        match self.usable() {
            Some(token) => Ok(token),
            None => self.replace(None).await,
        }
    }

    /// Another token than the dead one: a new one, or one that somebody got meanwhile.
    ///
    /// Waits up to [`LOGIN_SPACING`] if the last login is not long ago.
    ///
    /// # Cancel safety
    ///
    /// A login that is dropped counts as one.
    pub(super) async fn replace(&self, dead: Option<&Arc<Token>>) -> Result<Arc<Token>, Error> {
        let mut logins = self.logins.lock().await;
        if let Some(token) = self.usable()
            && !dead.is_some_and(|dead| Arc::ptr_eq(dead, &token))
        {
            return Ok(token);
        }
        if let Some(next) = logins.next.filter(|next| *next > Instant::now()) {
            if let Some(failure) = &logins.failure {
                return Err(failure.clone());
            }
            sleep_until(next).await;
        }
        // Before it begins: dropped or not, it is one.
        *logins = Logins { next: Some(Instant::now() + LOGIN_SPACING), failure: None };
        let result = self.login.log_in(&self.client).await;
        if !matches!(result, Err(Error::Unreachable(_))) {
            // The server counts from when it saw it.
            logins.next = Some(Instant::now() + LOGIN_SPACING);
        }
        match result {
            Ok(token) => {
                let token = Arc::new(token);
                self.current.store(Some(Arc::clone(&token)));
                Ok(token)
            }
            Err(failure) => {
                logins.failure = Some(failure.clone());
                Err(failure)
            }
        }
    }

    /// Whether the server still knows the token.
    pub(super) async fn is_alive(&self, token: &Token) -> Result<bool, Error> {
        Ok(self.client.get(LOOKUP, token).await?.status != 403)
    }

    /// Does what the token needs now: nothing, a renewal, or another one.
    pub(super) async fn keep(&self) -> Result<(), Error> {
        let Some(token) = self.usable() else {
            return self.replace(None).await.map(drop);
        };
        if self.login.offers_another(&token).await {
            return self.replace(Some(&token)).await.map(drop);
        }
        if !token.is_due() {
            return self.prove(&token).await;
        }
        if token.renewable && self.renew(&token).await? {
            return Ok(());
        }
        // It is good for a third of its life still: no reason to wait here.
        if self.login_after().is_zero() { self.replace(Some(&token)).await.map(drop) } else { Ok(()) }
    }

    /// How soon the token wants to be kept again: three times in its life.
    pub(super) fn keep_after(&self) -> Duration {
        self.current.load().as_ref().and_then(|token| token.life.ttl()).map_or(Duration::MAX, |ttl| ttl / 3)
    }

    /// How long until a login may begin. Zero if one is running: then there is nothing to
    /// wait for.
    pub(super) fn login_after(&self) -> Duration {
        let next = self.logins.try_lock().ok().and_then(|logins| logins.next);
        next.map_or(Duration::ZERO, |next| next.saturating_duration_since(Instant::now()))
    }

    fn usable(&self) -> Option<Arc<Token>> {
        self.current.load_full().filter(|token| !token.is_expired())
    }

    /// Notices that a token was revoked before somebody needs it. A token may be forbidden to
    /// look at itself; that is learned from the first answer, and then it is left alone.
    async fn prove(&self, token: &Arc<Token>) -> Result<(), Error> {
        if token.may_look.get() == Some(&false) {
            return Ok(());
        }
        let is_alive = self.is_alive(token).await?;
        if *token.may_look.get_or_init(|| is_alive) && !is_alive {
            return self.replace(Some(token)).await.map(drop);
        }
        Ok(())
    }

    /// Whether the server gave the token more time. It does not if the token's longest time
    /// has come.
    async fn renew(&self, token: &Arc<Token>) -> Result<bool, Error> {
        let asked = Instant::now();
        let answer = self.client.post("auth/token/renew-self", Some(token), &json!({})).await?;
        if answer.status != 200 {
            return Ok(false);
        }
        let renewed = login::granted(&answer, asked)?;
        let (Some(before), Some(after)) = (token.life.ttl(), renewed.life.ttl()) else {
            return Ok(false);
        };
        // Less and less means that the end is near, and only a login helps.
        let renewable = renewed.renewable && after * 2 > before;
        let renewed = Token { renewable, may_look: token.may_look.clone(), ..renewed };
        // Somebody may have replaced it meanwhile.
        self.current.compare_and_swap(token, Some(Arc::new(renewed)));
        Ok(true)
    }
}

/// A token, and what is known of it.
pub(super) struct Token {
    text: SecretString,
    life: Life,
    renewable: bool,
    /// Whether it may look itself up, as its first look said.
    may_look: OnceLock<bool>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// How long a token lives.
#[derive(Clone, Copy, Debug)]
pub(super) enum Life {
    Unlimited,
    Limited { from: Instant, ttl: Duration },
}

impl Life {
    /// Seconds as a server gives them, from an instant not after it counted.
    pub(super) fn of(from: Instant, seconds: u64) -> Self {
        Self::Limited { from, ttl: Duration::from_secs(seconds).min(TTL_MAX) }
    }

    fn ttl(self) -> Option<Duration> {
        match self {
            Self::Unlimited => None,
            Self::Limited { ttl, .. } => Some(ttl),
        }
    }

    /// Whether so many thirds of it are over.
    fn is_past(self, thirds: u32) -> bool {
        match self {
            Self::Unlimited => false,
            Self::Limited { from, ttl } => Instant::now() >= from + ttl / 3 * thirds,
        }
    }
}

/// Longer than any process runs. What a server says must not overflow a clock.
const TTL_MAX: Duration = Duration::from_hours(24 * 365 * 10);

impl Token {
    pub(super) fn new(text: SecretString, life: Life, renewable: bool) -> Self {
        Self { text, life, renewable, may_look: OnceLock::new() }
    }

    /// The same token, once a look at itself has told about it.
    pub(super) fn known(self, life: Life, renewable: bool) -> Self {
        Self { life, renewable, may_look: OnceLock::from(true), ..self }
    }

    /// For a request; never printed, and never kept by HTTP/2 compression.
    pub(super) fn header(&self) -> Result<HeaderValue, Error> {
        let mut header = HeaderValue::from_str(self.text.expose_secret())
            .map_err(|_| Error::Unintelligible { problem: "its token cannot stand in a header" })?;
        header.set_sensitive(true);
        Ok(header)
    }

    pub(super) fn is(&self, text: &SecretString) -> bool {
        self.text.expose_secret().as_bytes().ct_eq(text.expose_secret().as_bytes()).into()
    }

    fn is_expired(&self) -> bool {
        self.life.is_past(3)
    }

    /// Whether it should be renewed.
    fn is_due(&self) -> bool {
        self.life.is_past(2)
    }
}
