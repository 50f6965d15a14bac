use std::convert::Infallible;

use futures_util::{StreamExt as _, future::BoxFuture, stream};
use http_body_util::{BodyExt as _, StreamBody};
use tower::service_fn;

use super::*;
use crate::failure::Code;

const ROOM: usize = 1_000;
const MESSAGE_MAX: usize = 600;

fn in_hand() -> InHand {
    let no_room = |limit| Failure::new(Code::ResourceExhausted, "test.archestra", "OVERLOADED").with("limit", limit);
    let late = |_| Failure::new(Code::DeadlineExceeded, "test.archestra", "LATE");
    InHand::new(ROOM, MESSAGE_MAX, Refusals { no_room, late })
}

/// A message of so many bytes with its prefix, of which so many arrive, in frames of so many.
fn body(message: usize, arrive: usize, frame: usize) -> Body {
    let length = u32::try_from(message).unwrap().to_be_bytes();
    let bytes: Vec<u8> = [0].into_iter().chain(length).chain(std::iter::repeat(7)).take(arrive).collect();
    let frames: Vec<_> =
        bytes.chunks(frame).map(|chunk| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
    let rest = if arrive < message + PREFIX_BYTES { stream::pending().boxed() } else { stream::empty().boxed() };
    Body::new(StreamBody::new(stream::iter(frames).chain(rest)))
}

/// Reads the request to its end, and answers with what was in hand then.
fn service(
    in_hand: &InHand,
) -> impl Service<http::Request<Body>, Response = usize, Error = Status, Future: Send> + use<> {
    let room = Arc::clone(&in_hand.room);
    in_hand.layer(service_fn(move |request: http::Request<Body>| -> BoxFuture<'static, Result<usize, Status>> {
        let room = Arc::clone(&room);
        Box::pin(async move {
            request.into_body().collect().await?;
            Ok(room.bytes.load(Ordering::Relaxed))
        })
    }))
}

fn held(in_hand: &InHand) -> usize {
    in_hand.room.bytes.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_request_is_in_hand_until_it_is_answered() {
    for frame in [1, 3, 64, 1_000] {
        let in_hand = in_hand();
        let answered = service(&in_hand).call(http::Request::new(body(500, 505, frame))).await;
        assert_eq!(answered.unwrap(), 505, "in frames of {frame}");
        assert_eq!(held(&in_hand), 0);
    }
}

#[tokio::test]
async fn a_message_counts_as_it_is_announced_and_is_given_back_when_its_caller_leaves() {
    for (arrive, expected) in [(0, 0), (4, 4), (5, 505), (300, 505)] {
        let in_hand = in_hand();
        let mut service = service(&in_hand);
        let mut call = Box::pin(service.call(http::Request::new(body(500, arrive, 2))));
        assert!(futures_util::poll!(&mut call).is_pending());
        assert_eq!(held(&in_hand), expected, "{arrive} bytes have arrived");
        drop(call);
        assert_eq!(held(&in_hand), 0);
    }
}

#[tokio::test]
async fn a_caller_that_stops_sending_holds_nothing_for_ever() {
    let in_hand = InHand { arrival_max: Duration::from_millis(20), ..in_hand() };
    let refused = service(&in_hand).call(http::Request::new(body(500, 300, 100))).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded);
    assert_eq!(held(&in_hand), 0);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_nothing_else() {
    let in_hand = in_hand();
    let mut service = service(&in_hand);
    let mut first = Box::pin(service.call(http::Request::new(body(590, 300, 100))));
    assert!(futures_util::poll!(&mut first).is_pending());

    let refused = service.call(http::Request::new(body(500, 505, 100))).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let info = tonic_types::StatusExt::get_details_error_info(&refused).expect("its reason");
    assert_eq!((info.reason.as_str(), info.metadata["limit"].as_str()), ("OVERLOADED", "1000"));
    assert_eq!(held(&in_hand), 595);

    assert_eq!(service.call(http::Request::new(body(400, 405, 100))).await.unwrap(), ROOM);
    drop(first);
    assert_eq!(service.call(http::Request::new(body(500, 505, 100))).await.unwrap(), 505);
}

#[tokio::test]
async fn a_message_that_nobody_reads_sets_nothing_aside() {
    let in_hand = in_hand();
    let answered = service(&in_hand).call(http::Request::new(body(MESSAGE_MAX + 1, 100, 100)));
    let mut answered = Box::pin(answered);
    assert!(futures_util::poll!(&mut answered).is_pending());
    assert_eq!(held(&in_hand), 100);
}

#[tokio::test]
async fn a_handler_gives_back_early_what_it_needs_no_more() {
    let in_hand = in_hand();
    let room = Arc::clone(&in_hand.room);
    let mut service = in_hand.layer(service_fn(move |request: http::Request<Body>| {
        let room = Arc::clone(&room);
        async move {
            let (parts, body) = request.into_parts();
            body.collect().await.unwrap();
            let before = room.bytes.load(Ordering::Relaxed);
            parts.extensions.get::<Held>().unwrap().release();
            Ok::<_, Infallible>((before, room.bytes.load(Ordering::Relaxed)))
        }
    }));
    assert_eq!(service.call(http::Request::new(body(500, 505, 505))).await.unwrap(), (505, 0));
    assert_eq!(held(&in_hand), 0);
}
