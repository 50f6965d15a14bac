//! Whether the audit log is as it was written: chain by chain, a limited part at a time.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    audit::Chain,
    seal::AuditKey,
    vault::{Error, Vault},
};

/// How many events one call looks at.
const EVENTS_MAX: i64 = 50_000;

/// How long it looks: shorter than a caller waits, also where a database is slow and chains
/// are many.
const PART_MAX: Duration = Duration::from_secs(2);

/// How many are read at once.
pub(super) const STEP: u64 = 1_000;

/// How many problems one call tells of.
const PROBLEMS_MAX: usize = 100;

/// How far a verification is, with what it came to so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The chain that was begun or done last.
    pub(crate) chain: Option<Uuid>,
    /// Where it is, if it is not done.
    pub(crate) place: Option<Place>,
    pub(crate) events: i64,
    pub(crate) chains: i64,
    /// Whether a problem was found.
    pub(crate) invalid: bool,
}

/// An event that was found as it was written, and the MAC that the next one follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) sequence: i64,
    pub(crate) mac: Vec<u8>,
}

/// What one call found.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) cursor: Cursor,
    /// Whether everything has been looked at.
    pub(crate) done: bool,
    pub(crate) problems: Vec<Problem>,
}

/// Something that is not as it was written: the first of its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) kind: ProblemKind,
    /// `None` if it is about the number of chains.
    pub(crate) chain: Option<Uuid>,
    pub(crate) sequence: i64,
    pub(crate) detail: String,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProblemKind {
    /// An event was edited, added, or put in another's place.
    Altered,
    /// An event is missing.
    Missing,
    /// Events are missing at the end, or what is said of the end was altered.
    Cut,
    /// A whole chain is missing, or one was added.
    Chain,
}

/// What a part of a chain came to.
enum Part {
    Sound,
    /// One call may not look at more. Where to go on.
    Unfinished(Place),
    Broken(Problem),
}

/// What is left of one call.
struct Budget {
    events_max: i64,
    until: Instant,
}

impl Budget {
    fn is_spent(&self, events: i64) -> bool {
        events >= self.events_max || Instant::now() >= self.until
    }
}

impl Vault {
    /// Looks at the next part of the audit log.
    pub(crate) async fn verify_audit(&self, from: Cursor) -> Result<Verified, Error> {
        let sealer = self.sealer()?;
        let key = sealer.audit_key();
        let (mut cursor, mut problems) = (from, Vec::new());
        let events_max = cursor.events.saturating_add(EVENTS_MAX);
        let budget = Budget { events_max, until: Instant::now() + PART_MAX };
        loop {
            let begun = cursor.place.take().zip(cursor.chain);
            let (chain, place) = if let Some((place, chain)) = begun {
                (chain, Some(place))
            } else {
                let Some(next) = self.store.audit_chain_after(cursor.chain).await? else {
                    problems.extend(self.verify_chain_count(key).await?);
                    cursor.invalid |= !problems.is_empty();
                    return Ok(Verified { cursor, done: true, problems });
                };
                cursor.chains += 1;
                cursor.chain = Some(next);
                (next, None)
            };
            match self.verify_chain(key, chain, place, &mut cursor.events, &budget).await? {
                Part::Sound => {}
                Part::Unfinished(place) => {
                    cursor.place = Some(place);
                    return Ok(Verified { cursor, done: false, problems });
                }
                Part::Broken(problem) => {
                    cursor.invalid = true;
                    problems.push(problem);
                }
            }
            if budget.is_spent(cursor.events) || problems.len() >= PROBLEMS_MAX {
                return Ok(Verified { cursor, done: false, problems });
            }
        }
    }

    /// Looks at a chain from a place on, or from where it begins.
    async fn verify_chain(
        &self,
        key: &AuditKey,
        id: Uuid,
        from: Option<Place>,
        events: &mut i64,
        budget: &Budget,
    ) -> Result<Part, Error> {
        // In this order: what is written meanwhile moves the end on before it can be read.
        let last = self.store.audit_last_sequence(id).await?;
        let Some(mut chain) = self.store.audit_chain(id).await? else {
            return Ok(broken(ProblemKind::Chain, id, 1, "nothing is said of this chain, which has events"));
        };
        let mut place = from.filter(|place| place.sequence >= chain.floor_sequence).unwrap_or_else(|| floor(&chain));
        while place.sequence < chain.sequence {
            let next = place.sequence + 1;
            let step = self.store.audit_records(id, place.sequence, chain.sequence, STEP).await?;
            let is_there = match step.first() {
                Some(Ok(record)) => record.sequence == next,
                Some(Err(_)) => true,
                None => false,
            };
            if !is_there {
                // The cleaning may have been here meanwhile.
                chain = self.store.audit_chain(id).await?.unwrap_or(chain);
                if chain.floor_sequence >= next {
                    place = floor(&chain);
                    continue;
                }
                let (kind, detail) = if step.is_empty() {
                    (ProblemKind::Cut, "the events from here on are missing")
                } else {
                    (ProblemKind::Missing, "the event is missing")
                };
                return Ok(broken(kind, id, next, detail));
            }
            for record in step {
                let next = place.sequence + 1;
                match record {
                    // A gap: what is missing is asked for once more.
                    Ok(record) if record.sequence != next => break,
                    Ok(record) if record.follows(key, &place.mac) => {
                        place = Place { sequence: next, mac: record.mac };
                        *events += 1;
                    }
                    Ok(_) | Err(_) => {
                        return Ok(broken(ProblemKind::Altered, id, next, "the event is not as it was written"));
                    }
                }
            }
            // After a step, so that every call gets on.
            if budget.is_spent(*events) && place.sequence < chain.sequence {
                return Ok(Part::Unfinished(place));
            }
        }
        Ok(verify_end(key, &chain, &place, last))
    }

    async fn verify_chain_count(&self, key: &AuditKey) -> Result<Option<Problem>, Error> {
        let counts = self.store.audit_chain_counts(key.vault()).await?;
        let detail = match counts.recorded {
            None => "the chain of all mutations is gone".to_owned(),
            Some(recorded) if recorded != counts.found => {
                format!("there are {} chains beside that of all mutations, and should be {recorded}", counts.found)
            }
            Some(_) => return Ok(None),
        };
        Ok(Some(Problem { kind: ProblemKind::Chain, chain: None, sequence: 0, detail }))
    }
}

/// Whether a chain ends where it is said to end.
fn verify_end(key: &AuditKey, chain: &Chain, place: &Place, last: i64) -> Part {
    let next = place.sequence + 1;
    if last > chain.sequence {
        return broken(ProblemKind::Altered, chain.id, next, "there are events after the end of the chain");
    }
    if !chain.is_sealed(key) || chain.mac != place.mac {
        return broken(
            ProblemKind::Cut,
            chain.id,
            next,
            "what is said of the end of the chain is not as it was written",
        );
    }
    Part::Sound
}

fn floor(chain: &Chain) -> Place {
    Place { sequence: chain.floor_sequence, mac: chain.floor_mac.clone() }
}

fn broken(kind: ProblemKind, chain: Uuid, sequence: i64, detail: &str) -> Part {
    Part::Broken(Problem { kind, chain: Some(chain), sequence, detail: detail.to_owned() })
}
