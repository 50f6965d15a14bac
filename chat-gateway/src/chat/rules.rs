//! What is done about each class of fault before the commit point: the whole policy in one
//! table.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::upstream::{Class, Fault};

/// What is done about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Whether the same model is asked again.
    pub(super) again: Again,
    /// Whether the next of the models is asked then.
    pub(super) falls_back: bool,
    /// Whether the vault is asked for the key anew, next time.
    pub(super) forgets_key: bool,
    /// Whose circuit it counts against.
    pub(super) counts_against: Option<Culprit>,
}

/// When the same model is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Not at all.
    Never,
    /// After a while: what the provider asks for, or one that grows.
    Later,
    /// Once, at once, with the key that the vault has now.
    WithKeyOfNow,
}

/// Who is not asked for a while after too many faults in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Culprit {
    /// The provider, with any key.
    Provider,
    /// This version of this key.
    Key,
}

impl Rule {
    /// The rule for a fault: that of its class, and what the provider says outright of whether
    /// the same may be sent again goes before.
    pub(super) fn for_fault(fault: &Fault) -> Self {
        let rule = Self::of(fault.class());
        // Nothing was sent: it shows nothing about the key, and a provider is waited for.
        if let Fault::CircuitOpen { of_provider, .. } = fault {
            let again = if *of_provider { Again::Later } else { Again::Never };
            return Self { again, falls_back: true, forgets_key: false, counts_against: None };
        }
        let said = if let Fault::Rejected { rejection, .. } = fault { rejection.should_retry } else { None };
        match (said, rule.again) {
            (Some(false), Again::Later) => Self { again: Again::Never, ..rule },
            (Some(true), Again::Never) => Self { again: Again::Later, ..rule },
            _ => rule,
        }
    }

    /// The rule for a class of faults.
    pub(super) fn of(class: Class) -> Self {
        use Again::{Later, Never, WithKeyOfNow};
        use Culprit::{Key, Provider};
        let rule =
            |again, falls_back, forgets_key, counts_against| Self { again, falls_back, forgets_key, counts_against };
        match class {
            //                                      again  falls back  forgets key  counts against
            Class::InvalidRequest | Class::ContextLength | Class::Silent | Class::Deadline | Class::Stopping => {
                rule(Never, false, false, None)
            }
            Class::Key => rule(WithKeyOfNow, true, true, Some(Key)),
            Class::Permission => rule(Never, true, true, None),
            // Who limits or hangs up is there.
            Class::RateLimited | Class::Cut => rule(Later, true, false, None),
            // A quota may be that of one model or of all: few say which. What cannot be read was
            // billed, and would be the same again.
            Class::Quota | Class::ModelNotFound | Class::Unreadable => rule(Never, true, false, None),
            Class::Overloaded | Class::Internal | Class::Timeout | Class::Unreachable => {
                rule(Later, true, false, Some(Provider))
            }
            // It may still be at work, and bill: the same again is the most expensive answer.
            Class::Slow => rule(Never, true, false, Some(Provider)),
        }
    }
}
