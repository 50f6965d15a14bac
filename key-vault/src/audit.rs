//! What was done and refused, as records that nobody can change unseen. Pure: no clock, no
//! database, no log.
//!
//! An [`Event`] has ids and names of fixed sets only: no field can hold key material or a text
//! of the caller's choice. Events stand in chains. The MAC of each is over all of it, its
//! place, and the MAC of the one before, so that an edit, a removal and another order are
//! found. The end of a chain is under a MAC too, its seal, so that a cut is found; and the
//! chain of all mutations counts the others, so that the loss of a whole chain is.
//!
//! Odd: an event keeps names as text and not as enums. What somebody wrote into the database
//! must be read as it stands to be found out.

use std::{borrow::Cow, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    access::Caller,
    key::{KeyId, OrganizationId, ProfileId, Provider, Source},
    seal::AuditKey,
};

/// A name of a fixed set, or what stands in its place.
pub(crate) type Name = Cow<'static, str>;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It was done.
    Allowed,
    /// The caller may not do it, or is not known.
    Denied,
    /// The caller may, and it was not to be done.
    Failed,
}

impl Decision {
    /// The name in the database.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }

    /// The decision of a name that [`Decision::name`] gave.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Allowed, Self::Denied, Self::Failed].into_iter().find(|decision| decision.name() == name)
    }
}

/// One thing that somebody did, or was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// A `UUIDv7`: events are listed in its order.
    pub(crate) id: Uuid,
    pub(crate) time: DateTime<Utc>,
    pub(crate) principal: Arc<str>,
    pub(crate) authentication: String,
    pub(crate) address: String,
    /// The method.
    pub(crate) action: Name,
    pub(crate) organization: String,
    pub(crate) profile: String,
    pub(crate) provider: Name,
    pub(crate) key: Option<KeyId>,
    pub(crate) key_version: i64,
    pub(crate) source: Name,
    pub(crate) decision: Name,
    /// The reason of the answer. Empty if it was done.
    pub(crate) reason: Name,
    /// The history that `revision` counts.
    pub(crate) epoch: Option<Uuid>,
    pub(crate) revision: i64,
    pub(crate) request: Option<Uuid>,
    pub(crate) trace_id: String,
    pub(crate) latency_us: i64,
    /// How many equal calls it stands for.
    pub(crate) count: i64,
    /// Those that a change gave a key to or took it from, as [`joined`] writes them.
    pub(crate) profiles: String,
}

impl Event {
    /// A call that was done. What else is known of it is for the caller of this to add.
    pub(crate) fn of(caller: &Caller, id: Uuid, time: DateTime<Utc>, latency: Duration) -> Self {
        Self {
            id,
            time,
            principal: Arc::clone(&caller.principal),
            authentication: caller.authentication.clone(),
            address: caller.address.map(|address| address.to_string()).unwrap_or_default(),
            action: caller.method.into(),
            organization: String::new(),
            profile: String::new(),
            provider: Name::default(),
            key: None,
            key_version: 0,
            source: Name::default(),
            decision: Decision::Allowed.name().into(),
            reason: Name::default(),
            epoch: None,
            revision: 0,
            request: None,
            trace_id: caller.trace_id.clone(),
            latency_us: i64::try_from(latency.as_micros()).unwrap_or(i64::MAX),
            count: 1,
            profiles: String::new(),
        }
    }

    /// Everything of it, with its place and the MAC of the one before.
    fn canonical(&self, vault: Uuid, chain: Uuid, sequence: i64, previous: &[u8]) -> Fields {
        Fields::new("akv/audit-event/v1", vault)
            .add(chain.as_bytes())
            .number(sequence)
            .add(self.id.as_bytes())
            .number(self.time.timestamp_micros())
            .text(&self.principal)
            .text(&self.authentication)
            .text(&self.address)
            .text(&self.action)
            .text(&self.organization)
            .text(&self.profile)
            .text(&self.provider)
            .optional(self.key.map(|key| key.0))
            .number(self.key_version)
            .text(&self.source)
            .text(&self.decision)
            .text(&self.reason)
            .optional(self.epoch)
            .number(self.revision)
            .optional(self.request)
            .text(&self.trace_id)
            .number(self.latency_us)
            .number(self.count)
            .text(&self.profiles)
            .add(previous)
    }
}

/// Profiles as one text, each between spaces, which no id has.
pub(crate) fn joined(profiles: &[ProfileId]) -> String {
    profiles.iter().fold(String::new(), |mut all, profile| {
        if all.is_empty() {
            all.push(' ');
        }
        all.push_str(profile.as_str());
        all.push(' ');
        all
    })
}

/// An event in its place.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) chain: Uuid,
    pub(crate) sequence: i64,
    pub(crate) event: Event,
    pub(crate) mac: Vec<u8>,
}

impl Record {
    /// Whether it is as it was written, and written after the one with the MAC `previous`.
    pub(crate) fn follows(&self, key: &AuditKey, previous: &[u8]) -> bool {
        let canonical = self.event.canonical(key.vault(), self.chain, self.sequence, previous);
        key.verify(&canonical.0, &self.mac)
    }
}

/// A chain: where it begins and where it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The vault's id for that of all mutations, another one for each start of a replica.
    pub(crate) id: Uuid,
    /// 0 for that of all mutations, and from 1 on without gaps for the others.
    pub(crate) ordinal: i64,
    /// The place of the last event.
    pub(crate) sequence: i64,
    /// Its MAC.
    pub(crate) mac: Vec<u8>,
    /// The place of the last event that is no longer kept.
    pub(crate) floor_sequence: i64,
    /// Its MAC.
    pub(crate) floor_mac: Vec<u8>,
    /// How many other chains there are. Of the chain of all mutations only.
    pub(crate) others: i64,
    /// The MAC over all of the above. Once broken it stays empty: a new one would hide that
    /// somebody changed what it covers.
    pub(crate) seal: Vec<u8>,
}

impl Chain {
    /// A chain without events, and without a seal.
    pub(crate) fn new(id: Uuid, ordinal: i64) -> Self {
        Self {
            id,
            ordinal,
            sequence: 0,
            mac: Vec::new(),
            floor_sequence: 0,
            floor_mac: Vec::new(),
            others: 0,
            seal: Vec::new(),
        }
    }

    /// The same, sealed.
    pub(crate) fn sealed(self, key: &AuditKey) -> Self {
        Self { seal: key.sign(&self.canonical(key.vault()).0), ..self }
    }

    /// Whether it is as it was written.
    pub(crate) fn is_sealed(&self, key: &AuditKey) -> bool {
        key.verify(&self.canonical(key.vault()).0, &self.seal)
    }

    /// The chain with further events, and their MACs.
    pub(crate) fn extended(&self, key: &AuditKey, events: &[Event]) -> (Self, Vec<Vec<u8>>) {
        let mut next = self.clone();
        let mut macs = Vec::with_capacity(events.len());
        for event in events {
            next.sequence += 1;
            next.mac = key.sign(&event.canonical(key.vault(), self.id, next.sequence, &next.mac).0);
            macs.push(next.mac.clone());
        }
        (self.changed_to(key, next), macs)
    }

    /// The chain of all mutations, with one more chain beside it.
    pub(crate) fn with_another(&self, key: &AuditKey) -> Self {
        self.changed_to(key, Self { others: self.others + 1, ..self.clone() })
    }

    /// The chain without its events up to one.
    pub(crate) fn without(&self, key: &AuditKey, last: i64, mac: Vec<u8>) -> Self {
        self.changed_to(key, Self { floor_sequence: last, floor_mac: mac, ..self.clone() })
    }

    /// Seals `next` only if the chain was as it was written.
    fn changed_to(&self, key: &AuditKey, next: Self) -> Self {
        if self.is_sealed(key) { next.sealed(key) } else { Self { seal: Vec::new(), ..next } }
    }

    fn canonical(&self, vault: Uuid) -> Fields {
        Fields::new("akv/audit-chain/v1", vault)
            .add(self.id.as_bytes())
            .number(self.ordinal)
            .number(self.sequence)
            .add(&self.mac)
            .number(self.floor_sequence)
            .add(&self.floor_mac)
            .number(self.others)
    }
}

/// Fields, each behind its length, so that no two lists of fields give the same bytes.
struct Fields(Vec<u8>);

impl Fields {
    fn new(label: &str, vault: Uuid) -> Self {
        Self(Vec::with_capacity(512)).text(label).add(vault.as_bytes())
    }

    fn add(mut self, field: &[u8]) -> Self {
        // The longest field is a thousand profiles of 128 bytes.
        let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    fn text(self, text: &str) -> Self {
        self.add(text.as_bytes())
    }

    fn number(self, number: i64) -> Self {
        self.add(&number.to_be_bytes())
    }

    fn optional(self, id: Option<Uuid>) -> Self {
        match id {
            Some(id) => self.add(id.as_bytes()),
            None => self.add(&[]),
        }
    }
}

/// Which events a listing shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) organization: Option<OrganizationId>,
    pub(crate) principal: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) key: Option<KeyId>,
    pub(crate) profile: Option<ProfileId>,
    pub(crate) provider: Option<Provider>,
    pub(crate) source: Option<Source>,
    pub(crate) decision: Option<Decision>,
    pub(crate) trace_id: Option<String>,
    /// From this time on.
    pub(crate) start: Option<DateTime<Utc>>,
    /// Before this time.
    pub(crate) end: Option<DateTime<Utc>>,
}

/// In which order events are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    NewestFirst,
    OldestFirst,
}

#[cfg(test)]
mod tests;
