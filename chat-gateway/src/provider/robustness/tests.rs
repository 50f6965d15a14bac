//! Bytes of any kind, and plausible answers with something wrong in them.

mod grammar;

use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

use super::{decoders::decoder as named, *};
use grammar::{ALL, Endless, Grammar};

/// How much one thing of an answer may be: what decoders hold at most, and as much again for
/// what stands around it.
const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;

proptest! {
    #[test]
    fn any_bytes_are_an_event_stream(body in bytes_like(&["data: ", "data:", "data", "event: x", ":", "\n\n", "\r\n", "\r"]), step in 1..50_usize) {
        check_sse(&body, step);
    }

    #[test]
    fn any_bytes_have_an_answer(body in bytes_like(&["data: {", "}\n\n", "[DONE]", "\"type\":", "\"error\"", "[", "]", "null", "\n\n"]), step in 1..50_usize) {
        for grammar in ALL {
            check(decoder(grammar), &body, step);
        }
    }

    #[test]
    fn a_plausible_answer_of_anthropic_holds(body in answer(&grammar::ANTHROPIC), step in 1..400_usize) {
        check(decoder(&grammar::ANTHROPIC), &body, step);
    }

    #[test]
    fn a_plausible_answer_of_chat_completions_holds(body in answer(&grammar::OPENAI_CHAT), step in 1..400_usize) {
        check(decoder(&grammar::OPENAI_CHAT), &body, step);
    }

    #[test]
    fn a_plausible_answer_of_responses_holds(body in answer(&grammar::OPENAI_RESPONSES), step in 1..400_usize) {
        check(decoder(&grammar::OPENAI_RESPONSES), &body, step);
    }

    #[test]
    fn a_plausible_answer_of_gemini_holds(body in answer(&grammar::GEMINI), step in 1..400_usize) {
        check(decoder(&grammar::GEMINI), &body, step);
    }
}

#[test]
fn events_as_they_may_come_hold() {
    for grammar in ALL {
        for skip in 0..grammar.events.len() {
            let events = grammar.events.iter().enumerate().filter(|(at, _)| *at != skip).map(|(_, event)| event);
            let body: String = events.flat_map(|event| ["data: ", event, "\n\n"]).collect();
            check(decoder(grammar), body.as_bytes(), 7);
        }
    }
}

#[test]
fn what_does_not_end_is_not_held_for_ever() {
    for grammar in ALL {
        for endless in grammar.endless {
            let most = held(decoder(grammar), endless);
            assert!(most <= HELD_BYTES_MAX, "{}: {} held {most} bytes", grammar.of, endless.goes_on);
        }
    }
}

#[test]
fn counts_without_output_are_not_held_for_ever() {
    let counts = |n: usize| match n % 4 {
        0 => format!(r#"{{"choices":[],"usage":{{"prompt_tokens":{n}}}}}"#),
        1 => format!(r#"{{"candidates":[],"usageMetadata":{{"promptTokenCount":{n}}}}}"#),
        2 => format!(r#"{{"type":"message_delta","delta":{{}},"usage":{{"output_tokens":{n}}}}}"#),
        _ => format!(r#"{{"type":"response.in_progress","response":{{"usage":{{"output_tokens":{n}}}}}}}"#),
    };
    for (n, grammar) in ALL.iter().enumerate() {
        let kind = [2, 0, 3, 1][n];
        let body = (0..2_000).flat_map(|at| ["data: ".to_owned(), counts(4 * at + kind), "\n\n".to_owned()]);
        let body: String = body.collect();
        check(decoder(grammar), body.as_bytes(), 997);
    }
}

/// How many bytes a decoder says at once after it was given far more than it may hold.
fn held(new: NewDecoder, endless: &Endless) -> usize {
    const PIECE: usize = 1024 * 1024;
    const PIECES: usize = 2 * HELD_BYTES_MAX / PIECE;
    let goes_on = endless.goes_on.replace('…', &"x".repeat(PIECE)).into_bytes();
    let mut decoder = new("seed");
    let mut out = Output::default();
    let before = endless.begins.iter().map(|event| event.as_bytes());
    for event in before.chain(std::iter::repeat_n(goes_on.as_slice(), PIECES)) {
        if decoder.event(event, &mut out).is_err() {
            return 0;
        }
        out.events.clear();
    }
    let ended = decoder.event(endless.ends.as_bytes(), &mut out).and_then(|()| decoder.end(&mut out));
    if ended.is_err() { 0 } else { out.events.iter().map(bytes).sum() }
}

fn decoder(grammar: &Grammar) -> NewDecoder {
    named(grammar.of).unwrap_or_else(|| panic!("{} answers a chat", grammar.of))
}

/// Bytes that are partly what such input is made of.
fn bytes_like(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(words).prop_map(|word| word.as_bytes().to_vec());
    let piece = prop_oneof![3 => word, 1 => prop::collection::vec(any::<u8>(), 0..40), 1 => any_json().prop_map(|json| json.to_string().into_bytes())];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// An answer in the right order with events left out, said twice and changed; or events in any
/// order.
fn answer(grammar: &'static Grammar) -> impl Strategy<Value = Vec<u8>> {
    let events = grammar.events;
    let in_order = prop::collection::vec((times(), change()), events.len()).prop_map(move |choices| {
        let repeated = |(event, (times, change))| std::iter::repeat_n((event, change), times);
        events.iter().zip(choices).flat_map(repeated).collect::<Vec<_>>()
    });
    let in_any = prop::collection::vec((prop::sample::select(events), change()), 0..20);
    let in_any = in_any.prop_map(|events| events.into_iter().collect::<Vec<_>>());
    let chosen = prop_oneof![
        in_order.prop_map(|events| events.into_iter().map(|(event, change)| (*event, change)).collect::<Vec<_>>()),
        in_any,
    ];
    (chosen, prop::sample::select(vec!["\n", "\r\n", "\r"])).prop_map(|(events, line)| {
        let mut body = String::new();
        for (event, change) in events {
            body.extend(["data: ", &changed(event, change), line, line]);
        }
        body.into_bytes()
    })
}

fn times() -> impl Strategy<Value = usize> {
    prop_oneof![8 => Just(1), 2 => Just(0), 1 => Just(2)]
}

/// What happens to a value somewhere in an event.
#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    Remove,
    /// A field beside it that nobody knows.
    Add(Value),
    /// The event ends in the middle.
    Cut,
}

fn change() -> impl Strategy<Value = Option<(Index, Change)>> {
    let change = prop_oneof![
        4 => any_json().prop_map(Change::Replace),
        2 => Just(Change::Remove),
        2 => any_json().prop_map(Change::Add),
        1 => Just(Change::Cut),
    ];
    prop_oneof![8 => Just(None), 1 => (any::<Index>(), change).prop_map(Some)]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec![
            json!(0),
            json!(1),
            json!(-1),
            json!(1.5),
            json!(u64::MAX),
            json!(1e300),
            json!(256)
        ]),
        prop::sample::select(vec!["", "{}", "{\"a\":", "text", "tool_use", "STOP", "\u{1f980}", "a\nb", "\u{0}"])
            .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(inner, 0..3).prop_map(|values| values
                .into_iter()
                .zip(["type", "index", "x"])
                .map(|(value, name)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

fn changed(event: &str, change: Option<(Index, Change)>) -> String {
    let Some((at, change)) = change else { return event.to_owned() };
    if matches!(change, Change::Cut) {
        let end = event.floor_char_boundary(at.index(event.len()));
        return event[..end].to_owned();
    }
    let Ok(mut whole) = serde_json::from_str::<Value>(event) else { return event.to_owned() };
    let mut at = at.index(places(&whole));
    apply(&mut whole, &mut at, &change);
    whole.to_string()
}

/// How many values are below a value, or one if there are none.
fn places(value: &Value) -> usize {
    fn count(value: &Value) -> usize {
        match value {
            Value::Array(items) => items.iter().map(|item| 1 + count(item)).sum(),
            Value::Object(fields) => fields.values().map(|field| 1 + count(field)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }
    count(value).max(1)
}

/// Changes the value `at` so many places below `value`. Whether it was there.
fn apply(value: &mut Value, at: &mut usize, change: &Change) -> bool {
    match value {
        Value::Array(items) => {
            for n in 0..items.len() {
                if *at == 0 {
                    match change {
                        Change::Replace(new) => items[n] = new.clone(),
                        Change::Remove | Change::Cut => drop(items.remove(n)),
                        Change::Add(new) => items.push(new.clone()),
                    }
                    return true;
                }
                *at -= 1;
                if apply(&mut items[n], at, change) {
                    return true;
                }
            }
            false
        }
        Value::Object(fields) => {
            let names: Vec<_> = fields.keys().cloned().collect();
            for name in names {
                if *at == 0 {
                    match change {
                        Change::Replace(new) => drop(fields.insert(name, new.clone())),
                        Change::Remove | Change::Cut => drop(fields.remove(&name)),
                        Change::Add(new) => drop(fields.insert("something_new".to_owned(), new.clone())),
                    }
                    return true;
                }
                *at -= 1;
                if fields.get_mut(&name).is_some_and(|field| apply(field, at, change)) {
                    return true;
                }
            }
            false
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
