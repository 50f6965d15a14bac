//! The trace that a caller sends along, by the W3C's rules: who is its parent, what others say of
//! it, and whether it is recorded.

use system_tests::{Setup, answer::ask, collector::Trace, stage::wire::Api};

use super::desk::{CALLER, Desk, Seen, new_trace, sampled, unsampled};

/// A request that goes through both services, and fails in the end, so that its answer names the
/// trace.
async fn fails(desk: &mut Desk, headers: &[(&'static str, &str)]) -> String {
    desk.system.provider.always_answers(Api::ChatCompletions.error(400));
    let answer = desk.chat_as(ask(Api::ChatCompletions.model(), None, "Hi"), headers).await;
    assert_eq!(answer.failed().class(), "InvalidArgument PROVIDER_INVALID_REQUEST");
    answer.failed().trace_id.clone()
}

fn assert_whole(trace: &Trace, root: &str) {
    let names: Vec<_> = trace.walk(root).iter().map(|span| (span.service.as_str(), span.name.as_str())).collect();
    assert!(names.contains(&("key-vault", super::spans::RESOLVE_KEY)), "{names:?}");
    assert!(names.contains(&("chat-gateway", "POST")), "{names:?}");
}

fn assert_logged(seen: &Seen, trace: &str) {
    assert!(seen.gateway_log.contains(trace), "the gateway's log names trace {trace}");
}

#[tokio::test]
async fn what_others_say_of_a_trace_passes_on() {
    const STATE: &str = "vendor=opaque-7,other=t61rcWkgMzE";
    let mut desk = Desk::start().await;
    let trace = new_trace();
    let said = fails(&mut desk, &[("traceparent", &sampled(&trace)), ("tracestate", STATE)]).await;
    assert_eq!(said, trace);
    // Who is no part of the trace is not told of it.
    let sent = desk.system.provider.last();
    for header in ["traceparent", "tracestate", "baggage"] {
        assert_eq!(sent.header(header), "", "{header} goes to a provider");
    }
    let seen = desk.ends().await;
    let trace = seen.trace(&trace);
    assert_whole(&trace, CALLER);
    for span in trace.spans() {
        assert_eq!(span.state, STATE, "{} of {}", span.name, span.service);
    }
}

#[tokio::test]
async fn what_a_caller_does_not_record_nobody_records() {
    let mut desk = Desk::start().await;
    let trace = new_trace();
    assert_eq!(fails(&mut desk, &[("traceparent", &unsampled(&trace))]).await, trace);
    let recorded = new_trace();
    assert_eq!(fails(&mut desk, &[("traceparent", &sampled(&recorded))]).await, recorded);
    let seen = desk.ends().await;
    assert!(seen.trace(&trace).spans().is_empty(), "{:?}", seen.trace(&trace));
    assert!(!seen.trace(&recorded).spans().is_empty(), "what is recorded arrives");
    assert_logged(&seen, &trace);
}

#[tokio::test]
async fn a_ratio_of_nothing_records_what_callers_record() {
    let ratio = || vec!["--trace-sample-ratio=0".to_owned()];
    let mut desk = Desk::with(Setup { gateway_options: ratio(), vault_options: ratio(), ..Setup::default() }).await;
    let own = fails(&mut desk, &[]).await;
    let trace = new_trace();
    assert_eq!(fails(&mut desk, &[("traceparent", &sampled(&trace))]).await, trace);
    let seen = desk.ends().await;
    assert_logged(&seen, &own);
    assert!(!seen.trace(&trace).spans().is_empty(), "what a caller records arrives");
    let others: Vec<_> = seen.collector.spans().into_iter().filter(|span| span.trace != trace).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test]
async fn a_parent_that_is_none_begins_a_new_trace() {
    let id = new_trace();
    let malformed = [
        String::new(),
        "nonsense".to_owned(),
        id.clone(),
        format!("00-{id}-{CALLER}"),
        format!("00-{}-{CALLER}-01", &id[1..]),
        format!("00-{id}-{}-01", &CALLER[1..]),
        format!("00-{}-{CALLER}-01", "0".repeat(32)),
        format!("00-{id}-{}-01", "0".repeat(16)),
        format!("00-{}-{CALLER}-01", id.replace(|digit: char| digit.is_ascii_digit(), "g")),
        format!("00-{}-{CALLER}-01", "ABCDEF0123456789".repeat(2)),
        format!("ff-{id}-{CALLER}-01"),
        // Version 0 has no more than this.
        format!("00-{id}-{CALLER}-01-more"),
        format!("00_{id}_{CALLER}_01"),
        "a".repeat(4_000),
    ];
    let mut desk = Desk::start().await;
    let mut begun = Vec::new();
    for parent in &malformed {
        begun.push(fails(&mut desk, &[("traceparent", parent), ("tracestate", "vendor=opaque")]).await);
    }
    let seen = desk.ends().await;
    let mut problems = Vec::new();
    for (number, (id, parent)) in begun.iter().zip(&malformed).enumerate() {
        let trace = seen.trace(id);
        let says_nothing = trace.spans().iter().all(|span| span.state.is_empty());
        let is_new = id.len() == 32 && !begun[..number].contains(id) && !parent.contains(id.as_str());
        if !is_new || trace.children("").count() != 1 || !says_nothing {
            problems.push(format!("{parent:?} begins {id}"));
        }
    }
    assert!(problems.is_empty(), "no new traces:\n{}", problems.join("\n"));
    assert_whole(&seen.trace(&begun[0]), "");
}

#[tokio::test]
async fn a_later_version_of_the_header_is_understood() {
    let mut desk = Desk::start().await;
    let trace = new_trace();
    let parent = format!("01-{trace}-{CALLER}-01");
    assert_eq!(fails(&mut desk, &[("traceparent", &parent)]).await, trace);
    assert_whole(&desk.ends().await.trace(&trace), CALLER);
}
