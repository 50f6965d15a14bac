//! The chain rule, by tables.

use std::time::Instant;

use super::*;

fn key() -> AuditKey {
    AuditKey::new(Uuid::from_u128(7), &[1; 32])
}

fn event(n: u128) -> Event {
    let caller = Caller {
        principal: Arc::from("gateway"),
        authentication: "certificate".to_owned(),
        address: Some(([127, 0, 0, 1], 4_000).into()),
        method: "ResolveKey",
        trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        since: Instant::now(),
    };
    let time = DateTime::from_timestamp_micros(1_700_000_000_000_001).unwrap();
    Event {
        organization: "acme".to_owned(),
        profile: "research".to_owned(),
        provider: "openai".into(),
        key: Some(KeyId(Uuid::from_u128(n))),
        key_version: 3,
        source: "profile".into(),
        epoch: Some(Uuid::from_u128(9)),
        revision: 12,
        ..Event::of(&caller, Uuid::from_u128(n), time, Duration::from_micros(850))
    }
}

fn records(chain: &Chain, events: &[Event], macs: &[Vec<u8>]) -> Vec<Record> {
    let places = chain.sequence + 1..;
    let of = |((event, mac), sequence): ((&Event, &Vec<u8>), i64)| Record {
        chain: chain.id,
        sequence,
        event: event.clone(),
        mac: mac.clone(),
    };
    events.iter().zip(macs).zip(places).map(of).collect()
}

#[test]
fn each_event_follows_the_one_before_and_no_other() {
    let key = key();
    let start = Chain::new(Uuid::from_u128(1), 1).sealed(&key);
    let events = [event(1), event(2), event(3)];
    let (end, macs) = start.extended(&key, &events);
    let records = records(&start, &events, &macs);

    assert!(end.is_sealed(&key) && end.sequence == 3 && end.mac == macs[2]);
    let befores = [&start.mac, &macs[0], &macs[1]];
    for (n, record) in records.iter().enumerate() {
        for (m, before) in befores.iter().enumerate() {
            assert_eq!(record.follows(&key, before), n == m, "{n} after {m}");
        }
        assert!(!record.follows(&AuditKey::new(key.vault(), &[2; 32]), befores[n]), "under another key");
        assert!(!record.follows(&AuditKey::new(Uuid::nil(), &[1; 32]), befores[n]), "of another vault");
    }
}

/// A way to change an event.
type Edit = fn(&mut Event);

#[test]
fn every_field_is_under_the_mac() {
    let key = key();
    let start = Chain::new(Uuid::from_u128(1), 1).sealed(&key);
    let (_, macs) = start.extended(&key, &[event(1)]);
    let edits: [Edit; 21] = [
        |e| e.id = Uuid::from_u128(8),
        |e| e.time += chrono::Duration::microseconds(1),
        |e| e.principal = Arc::from("gateway2"),
        |e| e.authentication = "dev".to_owned(),
        |e| e.address.push('1'),
        |e| e.action = "GetApiKey".into(),
        |e| e.organization = "acm".to_owned(),
        |e| e.profile = String::new(),
        |e| e.provider = "gemini".into(),
        |e| e.key = None,
        |e| e.key_version += 1,
        |e| e.source = "environment".into(),
        |e| e.decision = "failed".into(),
        |e| e.reason = "KEY_UNUSABLE".into(),
        |e| e.epoch = None,
        |e| e.revision -= 1,
        |e| e.request = Some(Uuid::nil()),
        |e| e.trace_id = String::new(),
        |e| e.latency_us = 0,
        |e| e.count = 2,
        |e| e.profiles = " a ".to_owned(),
    ];
    for (n, edit) in edits.iter().enumerate() {
        let mut edited = event(1);
        edit(&mut edited);
        let record = records(&start, &[edited], &macs).remove(0);
        assert!(!record.follows(&key, &start.mac), "edit {n}");
    }
    // What moves from one field to the next is seen as well.
    let mut moved = event(1);
    (moved.organization, moved.profile) = ("acmer".to_owned(), "esearch".to_owned());
    assert!(!records(&start, &[moved], &macs)[0].follows(&key, &start.mac));
}

#[test]
fn everything_of_a_chain_is_under_its_seal_and_a_broken_seal_stays_broken() {
    let key = key();
    let chain = Chain::new(Uuid::from_u128(1), 1).sealed(&key).extended(&key, &[event(1)]).0;
    let edits: [fn(&mut Chain); 7] = [
        |c| c.id = Uuid::nil(),
        |c| c.ordinal += 1,
        |c| c.sequence -= 1,
        |c| c.mac[0] ^= 1,
        |c| c.floor_sequence = 1,
        |c| c.floor_mac.push(0),
        |c| c.others = 1,
    ];
    for (n, edit) in edits.iter().enumerate() {
        let mut edited = chain.clone();
        edit(&mut edited);
        assert!(!edited.is_sealed(&key), "edit {n}");
        for later in
            [edited.extended(&key, &[event(2)]).0, edited.with_another(&key), edited.without(&key, 1, Vec::new())]
        {
            assert!(!later.is_sealed(&key) && later.seal.is_empty(), "edit {n}");
        }
    }
    assert!(chain.with_another(&key).is_sealed(&key));
    assert!(chain.without(&key, 1, chain.mac.clone()).is_sealed(&key));
}

#[test]
fn profiles_stand_between_spaces() {
    let profiles: Vec<_> = ["a", "b"].map(|id| ProfileId::try_from(id.to_owned()).unwrap()).into();
    assert_eq!(joined(&profiles), " a b ");
    assert_eq!(joined(&[]), "");
}
