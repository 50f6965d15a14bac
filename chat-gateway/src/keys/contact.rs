//! Whether the vault answers, for probes.
//!
//! A gateway becomes ready when the vault has answered it once: one that was started with a wrong
//! address or identity takes no calls, and a rollout stops at it. It stays ready when the vault
//! goes away later. Kept keys serve on, and whoever needs another one is told
//! `VAULT_UNAVAILABLE`; were all gateways taken away at once, because one vault is, nobody would
//! be told anything.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use service_runtime::{
    failure::Chain,
    readiness::{Component, Readiness},
};

use crate::vault_client::{KeyError, WatchError};

/// The vault, which keys come from.
pub(crate) const VAULT: &str = "vault";

/// How long the vault may be silent before that is said: another replica answers sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of the vault.
#[derive(Debug)]
pub(crate) struct Contact {
    component: Component,
    /// Whether it ever answered.
    made: AtomicBool,
}

impl Contact {
    /// With a vault that was not asked yet.
    pub(crate) fn new(readiness: &Readiness) -> Self {
        Self { component: readiness.component(VAULT, PATIENCE), made: AtomicBool::new(false) }
    }

    /// It told something.
    pub(super) fn is_there(&self) {
        self.made.store(true, Ordering::Relaxed);
        self.component.well();
    }

    /// It was asked for a key. That there is none to be had is an answer too.
    pub(super) fn asked<T>(&self, outcome: &Result<T, KeyError>) {
        match outcome {
            Err(KeyError::Refused(_)) => {}
            Err(error) if error.vault_could_not_answer() => {}
            Ok(_) | Err(_) => self.is_there(),
        }
    }

    /// It does not tell of changes.
    pub(super) fn is_lost(&self, error: &WatchError) {
        let what = Chain(error);
        if self.made.load(Ordering::Relaxed) {
            self.component.impaired(&format!(
                "{what}; kept keys serve for their lease and --vault-grace, other chats fail with VAULT_UNAVAILABLE: \
                 see that the key-vault runs and can be reached"
            ));
        } else {
            self.component.unwell(&format!(
                "{what}; it never answered this gateway: see that it runs, that --vault-url leads to it, and that its \
                 policy knows this gateway"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> WatchError {
        WatchError::Lost("nobody is there".into())
    }

    fn words(readiness: &Readiness) -> String {
        readiness.report()[0].1.clone().expect_err("it is not well")
    }

    #[test]
    fn the_vault_is_needed_to_become_ready() {
        let readiness = Readiness::default();
        let contact = Contact::new(&readiness);
        contact.is_lost(&lost());
        contact.asked(&Err::<(), _>(KeyError::Unavailable("away".into())));
        contact.asked(&Err::<(), _>(KeyError::Refused("who are you".into())));
        assert!(!readiness.is_ready());
        assert!(words(&readiness).contains("nobody is there; it never answered"), "{}", words(&readiness));
        contact.is_there();
        assert!(readiness.is_ready());
        assert_eq!(readiness.report()[0].1, Ok(()));
    }

    #[test]
    fn the_vault_is_not_needed_to_stay_ready() {
        let readiness = Readiness::default();
        let component = readiness.component(VAULT, Duration::ZERO);
        let contact = Contact { component, made: AtomicBool::new(false) };
        contact.asked(&Ok(()));
        contact.is_lost(&lost());
        assert!(readiness.is_ready());
        assert!(words(&readiness).contains("--vault-grace"), "{}", words(&readiness));
        contact.asked(&Err::<(), _>(KeyError::Limited { retry_after: None, cause: "too much".into() }));
        assert_eq!(readiness.report()[0].1, Ok(()), "a refusal is an answer");
    }
}
