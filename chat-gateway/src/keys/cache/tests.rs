//! What is kept, how long, and what takes it away.

use super::*;
use crate::message::{KeyMaterial, Source};

const GRACE: Duration = Duration::from_mins(5);
const LEASE: Duration = Duration::from_mins(1);
const MOMENT: Duration = Duration::from_millis(1);

fn cache(entries: usize, grace: Duration) -> Cache {
    Cache::new(NonZeroUsize::new(entries).unwrap(), grace)
}

fn label(text: &str) -> Label {
    Label::new(text.to_owned()).unwrap()
}

fn of(organization: &str, profile: &str, provider: Provider) -> Arc<Of> {
    Arc::new(Of { organization: label(organization), profile: Some(label(profile)), provider })
}

fn key(api_key_id: &str, version: i64, material: &str) -> Arc<ResolvedKey> {
    let material = KeyMaterial::new(material.to_owned());
    Arc::new(ResolvedKey { material, api_key_id: api_key_id.to_owned(), version, source: Source::Profile })
}

/// Keeps a key that was asked for now.
fn keep(cache: &Cache, of: &Arc<Of>, api_key_id: &str, now: Instant) {
    cache.keep(of, &key(api_key_id, 1, "sk"), 0, now + LEASE, cache.changes());
}

/// What is found, in a word, and its id.
fn found(cache: &Cache, of: &Of, now: Instant) -> String {
    match cache.find(of, now) {
        Find::Fresh(key) => format!("fresh {}", key.api_key_id),
        Find::Resting(key) => format!("resting {}", key.api_key_id),
        Find::Old => "old".to_owned(),
        Find::Nothing => "nothing".to_owned(),
    }
}

#[test]
fn a_key_is_fresh_for_its_lease_and_old_for_the_grace() {
    let begun = Instant::now();
    let just_before = |age: Duration| age.checked_sub(MOMENT).unwrap();
    for (grace, age, expected) in [
        (GRACE, Duration::ZERO, "fresh k"),
        (GRACE, just_before(LEASE), "fresh k"),
        (GRACE, LEASE, "old"),
        (GRACE, just_before(LEASE + GRACE), "old"),
        (GRACE, LEASE + GRACE, "nothing"),
        (Duration::ZERO, just_before(LEASE), "fresh k"),
        (Duration::ZERO, LEASE, "nothing"),
    ] {
        let (cache, of) = (cache(9, grace), of("acme", "p", Provider::OpenAi));
        keep(&cache, &of, "k", begun);
        assert_eq!(found(&cache, &of, begun + age), expected, "{grace:?} {age:?}");
    }
}

#[test]
fn a_key_is_that_of_one_organization_profile_and_provider() {
    let (cache, now) = (cache(9, GRACE), Instant::now());
    keep(&cache, &of("acme", "p", Provider::OpenAi), "k", now);
    let without = Of { organization: label("acme"), profile: None, provider: Provider::OpenAi };
    assert_eq!(found(&cache, &of("acme", "p", Provider::OpenAi), now), "fresh k");
    for other in [
        &*of("acme", "q", Provider::OpenAi),
        &of("other", "p", Provider::OpenAi),
        &of("acme", "p", Provider::Gemini),
        &without,
    ] {
        assert_eq!(found(&cache, other, now), "nothing", "{other:?}");
    }
}

#[test]
fn while_the_vault_cannot_answer_it_is_asked_once_a_second() {
    let (cache, of, begun) = (cache(9, GRACE), of("acme", "p", Provider::OpenAi), Instant::now());
    assert!(cache.rest(&of, begun).is_none(), "there is nothing to use");
    keep(&cache, &of, "k", begun);
    let past = begun + LEASE;
    assert_eq!(cache.rest(&of, past).map(|key| key.api_key_id.clone()).as_deref(), Some("k"));
    assert_eq!(found(&cache, &of, past + REST - MOMENT), "resting k");
    assert_eq!(found(&cache, &of, past + REST), "old");
    assert!(cache.rest(&of, past + GRACE - MOMENT).is_some());
    assert_eq!(found(&cache, &of, past + GRACE), "nothing", "not even at rest");
    assert!(cache.rest(&of, past + GRACE).is_none());

    keep(&cache, &of, "k2", past);
    assert_eq!(found(&cache, &of, past), "fresh k2");
    assert_eq!(found(&cache, &of, past + LEASE), "old", "an answer ends the rest");
    cache.drop_one(&of);
    assert_eq!(found(&cache, &of, past), "nothing");
}

#[test]
fn a_change_drops_what_it_may_have_made_wrong() {
    use Provider::{Anthropic, Gemini, OpenAi};
    let all = [("acme", OpenAi), ("acme", Gemini), ("other", OpenAi)];
    for (organization, providers, left) in [
        (Some("acme"), Some(vec![OpenAi]), vec![1, 2]),
        (Some("acme"), Some(vec![OpenAi, Gemini]), vec![2]),
        (Some("acme"), Some(vec![Anthropic]), vec![0, 1, 2]),
        (Some("acme"), None, vec![2]),
        (Some("nobody"), None, vec![0, 1, 2]),
        (None, None, vec![]),
    ] {
        let (cache, now) = (cache(9, GRACE), Instant::now());
        let kept = all.map(|(organization, provider)| of(organization, "p", provider));
        for of in &kept {
            keep(&cache, of, "k", now);
        }
        cache.changed(7, organization.map(label).as_ref(), providers.as_deref());
        let stays: Vec<_> = (0..3).filter(|index| found(&cache, &kept[*index], now) == "fresh k").collect();
        assert_eq!(stays, left, "{organization:?} {providers:?}");
    }
}

#[test]
fn an_answer_that_may_be_of_before_a_change_is_not_kept() {
    // What comes between the question and its answer of revision 10.
    type Between<'a> = &'a dyn Fn(&Cache);
    let (of, now) = (of("acme", "p", Provider::OpenAi), Instant::now());
    let other = label("other");
    let cases: [(&str, Between<'_>, bool); 8] = [
        ("nothing", &|_| (), true),
        ("a heartbeat of the same revision", &|cache| cache.told_of(10), true),
        ("a heartbeat of a later revision", &|cache| cache.told_of(11), false),
        ("a change", &|cache| cache.changed(10, Some(&other), None), false),
        ("a refused key", &|cache| cache.forget(&key("x", 1, "sk")), true),
        ("another history", &|cache| cache.begin_anew(1), false),
        ("a lost history", &Cache::clear, false),
        ("a sweep", &|cache| cache.sweep(now), true),
    ];
    for (what, between, kept) in cases {
        let cache = cache(9, GRACE);
        let changes = cache.changes();
        between(&cache);
        cache.keep(&of, &key("k", 1, "sk"), 10, now + LEASE, changes);
        assert_eq!(found(&cache, &of, now) == "fresh k", kept, "{what}");
    }
    let cache = cache(9, GRACE);
    cache.told_of(11);
    cache.begin_anew(3);
    keep_of(&cache, &of, 3, now);
    assert_eq!(found(&cache, &of, now), "fresh k", "another history has its own count");
}

fn keep_of(cache: &Cache, of: &Arc<Of>, revision: i64, now: Instant) {
    cache.keep(of, &key("k", 1, "sk"), revision, now + LEASE, cache.changes());
}

#[test]
fn an_answer_that_is_not_kept_ends_what_was() {
    let (cache, of, now) = (cache(9, GRACE), of("acme", "p", Provider::OpenAi), Instant::now());
    keep_of(&cache, &of, 0, now);
    cache.told_of(5);
    keep_of(&cache, &of, 4, now);
    assert_eq!(found(&cache, &of, now), "nothing");
}

#[test]
fn a_refused_key_is_forgotten_wherever_it_is_kept() {
    let now = Instant::now();
    let kept = [("k", 1, "sk"), ("k", 1, "sk"), ("k", 2, "sk2"), ("", 0, "environment"), ("", 0, "elsewhere")];
    for (refused, left) in [
        (("k", 1, "sk"), vec![2, 3, 4]),
        (("", 0, "environment"), vec![0, 1, 2, 4]),
        (("k", 3, "sk"), vec![0, 1, 2, 3, 4]),
    ] {
        let cache = cache(9, GRACE);
        let of = |index: usize| of("acme", &format!("p{index}"), Provider::OpenAi);
        for (index, (id, version, material)) in kept.into_iter().enumerate() {
            cache.keep(&of(index), &key(id, version, material), 0, now + LEASE, cache.changes());
        }
        cache.forget(&key(refused.0, refused.1, refused.2));
        let stays: Vec<_> = (0..kept.len()).filter(|index| found(&cache, &of(*index), now) != "nothing").collect();
        assert_eq!(stays, left, "{refused:?}");
    }
}

#[test]
fn what_is_kept_is_bounded_and_the_least_recently_used_goes_first() {
    let (cache, now) = (cache(3, GRACE), Instant::now());
    let of = |n: usize| of("acme", &format!("p{n}"), Provider::OpenAi);
    (0..3).for_each(|n| keep(&cache, &of(n), "k", now));
    assert_eq!(found(&cache, &of(0), now), "fresh k");
    keep(&cache, &of(3), "k", now);
    let stays: Vec<_> = (0..4).filter(|n| found(&cache, &of(*n), now) == "fresh k").collect();
    assert_eq!(stays, [0, 2, 3]);
}

#[test]
fn material_is_let_go_with_its_entry() {
    let (cache, now) = (cache(9, GRACE), Instant::now());
    let of = |n: usize| of("acme", &format!("p{n}"), Provider::OpenAi);
    let keys: Vec<_> = (0..5).map(|n| key(&n.to_string(), 1, "sk")).collect();
    let held = || keys.iter().filter(|key| Arc::strong_count(key) > 1).count();
    let fill = |age: Duration| {
        for (n, key) in keys.iter().enumerate() {
            cache.keep(&of(n), key, 0, now + age, cache.changes());
        }
    };
    fill(LEASE);
    cache.sweep(now + LEASE + GRACE - MOMENT);
    assert_eq!(held(), 5);
    cache.sweep(now + LEASE + GRACE);
    assert_eq!(held(), 0);
    fill(LEASE);
    cache.clear();
    assert_eq!(held(), 0);
}
