//! The audit log's messages.

use chrono::{DateTime, Utc};
use prost::Message as _;
use proto::{keyvault as pb, types};
use service_runtime::fields::{Check, Invalid};
use uuid::Uuid;

use super::{
    Result, key_id, optional_provider, organization, other_token, page_size, page_token, profile_id, timestamp,
};
use crate::{
    audit::{Decision, Filter, Order, Record},
    key::{Provider, Source},
    vault::{Cursor, Place, Problem, ProblemKind, Verified},
};

const EVENTS_DEFAULT: usize = 100;

/// What tells a token of a verification from those of listings.
const VERIFICATION: &[u8] = b"VerifyAuditLog";

/// The length of a MAC. A chain begins without one.
const MAC_LENGTH: usize = 32;

/// A listing of events that was asked for.
#[derive(Debug)]
pub(in crate::rpc) struct EventListing {
    pub(in crate::rpc) filter: Filter,
    pub(in crate::rpc) order: Order,
    pub(in crate::rpc) after: Option<Uuid>,
    pub(in crate::rpc) size: usize,
    query: Vec<u8>,
}

impl EventListing {
    /// The token of the page after `after`.
    pub(in crate::rpc) fn token(&self, after: Uuid) -> String {
        page_token::write(&self.query, after.as_bytes())
    }
}

pub(in crate::rpc) fn event_listing(mut request: pb::ListAuditEventsRequest) -> Result<EventListing> {
    let token = std::mem::take(&mut request.page_token);
    let size = std::mem::take(&mut request.page_size);
    let query = request.encode_to_vec();
    let order = if request.oldest_first { Order::OldestFirst } else { Order::NewestFirst };
    let mut check = Check::default();
    let size = check.take(page_size(size, EVENTS_DEFAULT));
    let after = check.take(match token.as_str() {
        "" => Ok(None),
        token => {
            let position = page_token::read(&query, token);
            position.and_then(|bytes| Uuid::from_slice(&bytes).ok()).map(Some).ok_or_else(other_token)
        }
    });
    let filter = filter(request, &mut check);
    match (size, after) {
        (Some(size), Some(after)) if check.passed() => Ok(EventListing { filter, order, after, size, query }),
        _ => Err(check.failed()),
    }
}

fn filter(request: pb::ListAuditEventsRequest, check: &mut Check) -> Filter {
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    Filter {
        organization: text(request.organization_id).and_then(|id| check.take(organization(id))),
        principal: text(request.principal),
        action: text(request.action),
        key: text(request.api_key_id).and_then(|id| check.take(key_id("api_key_id", &id))),
        profile: text(request.profile_id).and_then(|id| check.take(profile_id("profile_id".to_owned(), id))),
        provider: check.take(optional_provider(request.provider)).flatten(),
        source: check.take(source(request.source)).flatten(),
        decision: check.take(decision(request.decision)).flatten(),
        trace_id: text(request.trace_id).and_then(|id| check.take(trace_id(id))),
        start: request.start_time.and_then(|time| check.take(date_time("start_time", time))),
        end: request.end_time.and_then(|time| check.take(date_time("end_time", time))),
    }
}

fn source(number: i32) -> Result<Option<Source>> {
    match types::Source::try_from(number) {
        Ok(types::Source::Unspecified) => Ok(None),
        Ok(types::Source::Profile) => Ok(Some(Source::Profile)),
        Ok(types::Source::OrganizationDefault) => Ok(Some(Source::OrganizationDefault)),
        Ok(types::Source::Environment) => Ok(Some(Source::Environment)),
        Err(_) => Err(Invalid::new("source", "must be a source of the contract, or absent")),
    }
}

fn decision(number: i32) -> Result<Option<Decision>> {
    match pb::audit_event::Decision::try_from(number) {
        Ok(pb::audit_event::Decision::Unspecified) => Ok(None),
        Ok(pb::audit_event::Decision::Allowed) => Ok(Some(Decision::Allowed)),
        Ok(pb::audit_event::Decision::Denied) => Ok(Some(Decision::Denied)),
        Ok(pb::audit_event::Decision::Failed) => Ok(Some(Decision::Failed)),
        Err(_) => Err(Invalid::new("decision", "must be a decision of the contract, or absent")),
    }
}

fn trace_id(text: String) -> Result<String> {
    let is_one = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_one { Ok(text) } else { Err(Invalid::new("trace_id", "must be 32 hexadecimal digits in lower case")) }
}

fn date_time(path: &str, time: prost_types::Timestamp) -> Result<DateTime<Utc>> {
    // Years that both databases, and the arithmetic of times, can take.
    const YEARS: std::ops::Range<i64> = 0..253_402_300_800;
    let nanos = u32::try_from(time.nanos).ok();
    let read = nanos.filter(|_| YEARS.contains(&time.seconds)).and_then(|n| DateTime::from_timestamp(time.seconds, n));
    read.ok_or_else(|| Invalid::new(path, "must be a time from 1970 to 9999"))
}

impl From<Record> for pb::AuditEvent {
    fn from(record: Record) -> Self {
        let event = record.event;
        let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
        Self {
            event_id: event.id.to_string(),
            chain_id: record.chain.to_string(),
            sequence: record.sequence,
            event_time: Some(timestamp(event.time)),
            principal: event.principal.as_ref().to_owned(),
            authentication: event.authentication,
            peer_address: event.address,
            action: event.action.into_owned(),
            organization_id: event.organization,
            profile_id: event.profile,
            provider: Provider::from_name(&event.provider)
                .map_or(types::Provider::Unspecified, types::Provider::from)
                .into(),
            api_key_id: id(event.key.map(|key| key.0)),
            key_version: event.key_version,
            source: Source::from_name(&event.source).map_or(types::Source::Unspecified, types::Source::from).into(),
            decision: decision_of(&event.decision).into(),
            reason: event.reason.into_owned(),
            revision: event.revision,
            request_id: id(event.request),
            trace_id: event.trace_id,
            latency: Some(prost_types::Duration {
                seconds: event.latency_us / 1_000_000,
                nanos: i32::try_from(event.latency_us % 1_000_000 * 1_000).unwrap_or(0),
            }),
            count: event.count,
            profile_ids: event.profiles.split_whitespace().map(str::to_owned).collect(),
            epoch: id(event.epoch),
        }
    }
}

fn decision_of(name: &str) -> pb::audit_event::Decision {
    match Decision::from_name(name) {
        None => pb::audit_event::Decision::Unspecified,
        Some(Decision::Allowed) => pb::audit_event::Decision::Allowed,
        Some(Decision::Denied) => pb::audit_event::Decision::Denied,
        Some(Decision::Failed) => pb::audit_event::Decision::Failed,
    }
}

/// Where a verification goes on.
pub(in crate::rpc) fn verification(request: &pb::VerifyAuditLogRequest) -> Result<Cursor> {
    match request.page_token.as_str() {
        "" => Ok(Cursor::default()),
        token => {
            let position = page_token::read(VERIFICATION, token);
            position.and_then(|bytes| read_cursor(&bytes)).ok_or_else(other_token)
        }
    }
}

pub(in crate::rpc) fn verified(verified: Verified) -> pb::VerifyAuditLogResponse {
    let token = || page_token::write(VERIFICATION, &write_cursor(&verified.cursor));
    pb::VerifyAuditLogResponse {
        valid: !verified.cursor.invalid,
        event_count: verified.cursor.events,
        chain_count: verified.cursor.chains,
        next_page_token: if verified.done { String::new() } else { token() },
        problems: verified.problems.into_iter().map(Into::into).collect(),
    }
}

impl From<Problem> for pb::AuditProblem {
    fn from(problem: Problem) -> Self {
        use pb::audit_problem::Kind;
        let kind = match problem.kind {
            ProblemKind::Altered => Kind::Altered,
            ProblemKind::Missing => Kind::Missing,
            ProblemKind::Cut => Kind::Cut,
            ProblemKind::Chain => Kind::Chain,
        };
        Self {
            kind: kind.into(),
            chain_id: problem.chain.map(|id| id.to_string()).unwrap_or_default(),
            sequence: problem.sequence,
            detail: problem.detail,
        }
    }
}

fn write_cursor(cursor: &Cursor) -> Vec<u8> {
    let mut bytes = vec![u8::from(cursor.invalid)];
    bytes.extend_from_slice(&cursor.events.to_be_bytes());
    bytes.extend_from_slice(&cursor.chains.to_be_bytes());
    bytes.extend_from_slice(cursor.chain.unwrap_or_default().as_bytes());
    if let Some(place) = &cursor.place {
        bytes.extend_from_slice(&place.sequence.to_be_bytes());
        bytes.extend_from_slice(&place.mac);
    }
    bytes
}

fn read_cursor(bytes: &[u8]) -> Option<Cursor> {
    let (&invalid, rest) = bytes.split_first()?;
    let (&events, rest) = rest.split_first_chunk()?;
    let (&chains, rest) = rest.split_first_chunk()?;
    let (&chain, rest) = rest.split_first_chunk()?;
    let place = match rest.split_first_chunk() {
        None if rest.is_empty() => None,
        Some((&sequence, mac)) if mac.is_empty() || mac.len() == MAC_LENGTH => {
            Some(Place { sequence: i64::from_be_bytes(sequence), mac: mac.to_vec() })
        }
        None | Some(_) => return None,
    };
    Some(Cursor {
        chain: Some(Uuid::from_bytes(chain)),
        place,
        events: i64::from_be_bytes(events),
        chains: i64::from_be_bytes(chains),
        invalid: invalid != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verification_goes_on_where_it_was() {
        for place in [None, Some(Place::default()), Some(Place { sequence: 7, mac: vec![1; MAC_LENGTH] })] {
            let cursor = Cursor { chain: Some(Uuid::from_u128(5)), place, events: 9, chains: 2, invalid: true };
            assert_eq!(read_cursor(&write_cursor(&cursor)), Some(cursor));
        }
        for garbage in [&[][..], &[0; 32], &[0; 40], &[0; 42]] {
            assert_eq!(read_cursor(garbage), None, "{}", garbage.len());
        }
    }

    #[test]
    fn a_token_of_events_fits_its_own_query_only() {
        let request = pb::ListAuditEventsRequest { principal: "gateway".to_owned(), ..Default::default() };
        let token = event_listing(request.clone()).unwrap().token(Uuid::from_u128(3));
        let next = pb::ListAuditEventsRequest { page_token: token.clone(), page_size: 5, ..request };
        assert_eq!(event_listing(next.clone()).unwrap().after, Some(Uuid::from_u128(3)));
        for other in [
            pb::ListAuditEventsRequest { oldest_first: true, ..next.clone() },
            pb::ListAuditEventsRequest { principal: "other".to_owned(), ..next.clone() },
            pb::ListAuditEventsRequest { page_token: token[1..].to_owned(), ..next },
        ] {
            assert!(event_listing(other).is_err());
        }
        assert!(verification(&pb::VerifyAuditLogRequest { page_token: token }).is_err());
    }
}
