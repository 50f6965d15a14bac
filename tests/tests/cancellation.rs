//! How soon a provider sees that a caller has left, in each window of a call, and what is noted
//! of it: used in part, or, for a caller who lets the answer be read to its end, as a whole.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use proto::chat::{OnDisconnect, StreamChatRequest, stream_chat_response::Event};
use system_tests::{
    fake_provider::{Answer as Said, End, Http},
    replicas::eventually,
    stage::{
        Case, Stage,
        row::tell,
        wire::{Api, INPUT_TOKENS},
    },
};

/// From the caller's leaving to the connection's end at the provider.
const CLOSED_WITHIN: Duration = Duration::from_millis(100);

/// How often each window is tried.
const TIMES: usize = 5;

/// A pause of the provider, long enough for a caller to leave in.
const PAUSE: Duration = Duration::from_secs(1);

/// Where in a call its caller leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    BeforeTheHeaders,
    BeforeTheFirstToken,
    MidStream,
}

const WINDOWS: [Window; 3] = [Window::BeforeTheHeaders, Window::BeforeTheFirstToken, Window::MidStream];

/// Which call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    StreamChat,
    Chat,
}

const CALLS: [Call; 2] = [Call::StreamChat, Call::Chat];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_sees_within_100_ms_that_a_caller_has_left() {
    let (mut hold, mut slow) = (0, Vec::new());
    for http in Http::ALL {
        let stage = Stage::start(http, &[]).await;
        for api in Api::PROVIDERS {
            for (window, call) in combinations() {
                let mut times = Vec::new();
                for _ in 0..TIMES {
                    let case = stage.case(api);
                    case.says(api, [silent_in(window, api)]);
                    times.push(leaves(&case, window, call).await);
                }
                times.sort_unstable();
                let slowest = times.last().copied().unwrap_or_default();
                println!("{http:?} {api:?} {call:?} {window:?}: {slowest:?} at most, {:?} mostly", times[TIMES / 2]);
                if slowest <= CLOSED_WITHIN {
                    hold += 1;
                } else {
                    slow.push(format!("{http:?} {api:?} {call:?} {window:?}: {times:?}"));
                }
            }
            notes_parts(&stage.case(api)).await;
        }
    }
    let count = Http::ALL.len() * Api::PROVIDERS.len() * WINDOWS.len() * CALLS.len();
    tell(
        24,
        "caller leaves, closed within 100 ms",
        hold,
        count,
        "3 providers, HTTP/1.1 and HTTP/2, 3 windows, 2 calls",
    );
    assert!(slow.is_empty(), "later than {CLOSED_WITHIN:?}:\n{}", slow.join("\n"));
}

fn combinations() -> impl Iterator<Item = (Window, Call)> {
    WINDOWS.into_iter().flat_map(|window| CALLS.map(|call| (window, call)))
}

/// An answer that never leaves a window.
fn silent_in(window: Window, api: Api) -> Said {
    match window {
        Window::BeforeTheHeaders => Said::stream("").ending(End::SilenceBeforeHeaders),
        Window::BeforeTheFirstToken => Said::stream(api.opening()).ending(End::Silence),
        Window::MidStream => Said::stream(api.opening() + &api.tokens(0..5)).ending(End::Silence),
    }
}

/// Calls, leaves once the call is in its window, and says how long it was until the provider saw
/// it.
async fn leaves(case: &Case, window: Window, call: Call) -> Duration {
    let left_at = leaves_in(case, window, call, case.request(&[])).await;
    let [only] = &case.attempts(case.api)[..] else { panic!("{} attempts", case.tries()) };
    let provider = &case.stage.system.provider;
    let seen_at = eventually("the provider sees the caller leave", async || provider.left(only.number)).await;
    seen_at.saturating_duration_since(left_at)
}

/// Calls, and leaves once the call is in its window. Says when.
async fn leaves_in(case: &Case, window: Window, call: Call, request: StreamChatRequest) -> Instant {
    let provider = &case.stage.system.provider;
    let begun = provider.begun();
    let mut client = case.stage.system.chat.clone();
    let (has_text, mut text) = tokio::sync::watch::channel(false);
    let calls: Pin<Box<dyn Future<Output = ()> + Send>> = match call {
        Call::Chat => Box::pin(async move { drop(client.chat(system_tests::stage::whole(request)).await) }),
        Call::StreamChat => Box::pin(async move {
            let Ok(response) = client.stream_chat(request).await else { return };
            let mut events = response.into_inner();
            while let Ok(Some(response)) = events.message().await {
                if matches!(response.event, Some(Event::TextDelta(_))) {
                    has_text.send_replace(true);
                }
            }
        }),
    };
    let in_window = async {
        case.is_asked().await;
        if window != Window::BeforeTheHeaders {
            provider.has_begun(begun + 1).await;
        }
        if window == Window::MidStream && call == Call::StreamChat {
            text.wait_for(|has| *has).await.expect("the stream is read");
        }
    };
    let mut calls = calls.fuse();
    tokio::select! {
        () = &mut calls => panic!("the call ended before its caller left"),
        () = in_window => {}
    }
    let left_at = Instant::now();
    drop(calls);
    left_at
}

/// All calls of a key are noted, as used in part.
async fn notes_parts(case: &Case) {
    let count = i64::try_from(TIMES * WINDOWS.len() * CALLS.len()).expect("a small number");
    let used = eventually("the calls are in the ledger", async || {
        let used = case.used(case.api).await;
        (used.call_count >= count).then_some(used)
    })
    .await;
    assert_eq!((used.call_count, used.partial_count), (count, count), "{used:?}");
    // What was counted before the caller left. The gateway may not have read all that was sent.
    if case.api == Api::Messages {
        let mid_stream = i64::try_from(TIMES).expect("a small number");
        assert!(used.partial_input_tokens >= INPUT_TOKENS * mid_stream, "{used:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_drained_is_read_to_its_end() {
    let mut hold = 0;
    for http in Http::ALL {
        let stage = Stage::start(http, &[]).await;
        for api in Api::PROVIDERS {
            for (window, call) in combinations() {
                let before = stage.case(api).used(api).await;
                let case = stage.case(api);
                case.says(api, [paused_in(window, api)]);
                let mut request = case.request(&[]);
                request.set_on_disconnect(OnDisconnect::Drain);
                leaves_in(&case, window, call, request).await;
                let provider = &stage.system.provider;
                provider.is_idle(PAUSE * 10).await.expect("the answer ends");
                let [only] = &case.attempts(api)[..] else { panic!("{} attempts", case.tries()) };
                assert_eq!(provider.left(only.number), None, "{http:?} {api:?} {call:?} {window:?}: it was left");
                let used = eventually("the call is in the ledger", async || {
                    let used = case.used(api).await;
                    (used.call_count > before.call_count).then_some(used)
                })
                .await;
                assert_eq!((used.partial_count, used.failed_count), (0, 0), "{used:?}");
                assert_eq!(used.output_tokens - before.output_tokens, 8, "all of it is counted");
                hold += 1;
            }
        }
    }
    tell(24, "caller leaves a drained answer", hold, hold, "3 providers, HTTP/1.1 and HTTP/2, 3 windows, 2 calls");
}

/// A whole answer of eight tokens that pauses in a window.
fn paused_in(window: Window, api: Api) -> Said {
    match window {
        Window::BeforeTheHeaders => api.whole(8).thinking(PAUSE),
        Window::BeforeTheFirstToken => Said::stream(api.opening()).and_after(PAUSE, api.tokens(0..8) + &api.closing(8)),
        Window::MidStream => {
            let begun = api.opening() + &api.tokens(0..5);
            Said::stream(begun).and_after(PAUSE, api.tokens(5..8) + &api.closing(8))
        }
    }
}
