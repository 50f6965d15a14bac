//! What callers can ask: the generated trait, each method the same few lines.

mod admission;
mod convert;
mod failure;
mod key_check;
mod list_models;
mod measured;

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _, stream};
use proto::chat::{
    ChatRequest, ChatResponse, DetectProviderRequest, DetectProviderResponse, ListModelsRequest, ListModelsResponse,
    StreamChatRequest, StreamChatResponse,
    chat_service_server::{ChatService, ChatServiceServer},
    key_check_service_server::KeyCheckServiceServer,
};
use service_runtime::{
    drain::{Drain, Farewell},
    failure::Failure,
    fields,
    health::Service,
    identity::{Identities, Refusal},
    in_hand::{Held, InHand, Refusals},
    readiness::Readiness,
    server::{Arrived, Served},
};
use tokio::time::Instant;
use tonic::{
    Request, Response, Status, async_trait,
    service::{LayerExt as _, Routes},
};
use tracing::debug;

use crate::{
    access::{Denied, Role},
    chat::{self, Relay},
    detect,
    key_check::KeyChecks,
    keys::VAULT,
    message::Event,
    metrics::Metrics,
    model_list::ModelLists,
};
use admission::admit;
use measured::Measured;

/// The largest request: documents of 20 MiB take a third more in some encodings.
pub(crate) const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Calls that one connection may have open. Streams last minutes, and a platform's service
/// has all of its users on one connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 1024;

/// Why an RPC was refused or failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the caller is not known")]
    Unknown(#[from] Refusal),
    #[error("{principal} may not call {method}")]
    NotAllowed { principal: Arc<str>, method: &'static str, denied: Denied },
    #[error("the request is not valid")]
    Invalid(#[from] fields::Invalid),
    #[error(transparent)]
    Chat(#[from] chat::Error),
    #[error("the chat failed")]
    Told(Failure),
}

/// What the services cannot do their work without. A key is checked with its provider alone.
const SERVICES: &[Service] = &[
    Service { name: "archestra.chat.v1.ChatService", needs: &[VAULT] },
    Service { name: "archestra.chat.v1.KeyCheckService", needs: &[] },
];

/// The services of a gateway, which together have up to `requests_bytes_max` in hand.
pub(crate) fn served(
    methods: Methods,
    identities: Identities<Role>,
    readiness: Readiness,
    drain: Drain,
    requests_bytes_max: usize,
) -> Served<Role> {
    let refusals = Refusals { no_room: failure::overloaded, late: failure::late };
    let in_hand = InHand::new(requests_bytes_max, REQUEST_BYTES_MAX, refusals);
    let rpc = Arc::new(methods);
    let chat = ChatServiceServer::from_arc(Arc::clone(&rpc)).max_decoding_message_size(REQUEST_BYTES_MAX);
    let key_check = KeyCheckServiceServer::from_arc(rpc).max_decoding_message_size(REQUEST_BYTES_MAX);
    Served {
        identities,
        refuse: Arc::new(refuse),
        routes: Routes::new(in_hand.named_layer(chat)).add_service(in_hand.named_layer(key_check)),
        services: SERVICES,
        descriptors: proto::FILE_DESCRIPTOR_SET,
        too_large: failure::too_large,
        fault_of: measured::fault_of,
        routine: &[],
        readiness,
        drain,
        farewell: Farewell { refused: failure::stopping, cut: failure::stopping },
        streams_per_connection_max: STREAMS_PER_CONNECTION_MAX,
    }
}

/// The answer to a caller who is not known.
fn refuse(path: &str, address: Option<SocketAddr>, refusal: &Refusal) -> Failure {
    let method = path.rsplit('/').next().unwrap_or_default();
    debug!(address = address.map(tracing::field::display), method, reason = refusal.name(), "a caller is not known");
    failure::refused(refusal)
}

/// What the methods are done with.
#[derive(Debug)]
pub(crate) struct Methods {
    pub(crate) chats: Relay,
    pub(crate) models: ModelLists,
    pub(crate) checks: KeyChecks,
    pub(crate) metrics: Arc<Metrics>,
}

type Events = Pin<Box<dyn Stream<Item = Result<StreamChatResponse, Status>> + Send>>;

/// Turns the outcome of a method's body into what tonic sends.
fn answer<T>(outcome: Result<T, Error>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(status)
}

fn status(error: Error) -> Status {
    Failure::from(error).into()
}

/// An event as it is sent.
#[cfg(feature = "benchmarks")]
pub(crate) fn message(event: Event) -> StreamChatResponse {
    convert::event(event)
}

/// The failure of a chat, counted.
fn told(error: chat::Error, measured: &mut Measured) -> Error {
    let failure = Failure::from(Error::Chat(error));
    measured.failed(&failure);
    Error::Told(failure)
}

#[async_trait]
impl ChatService for Methods {
    type StreamChatStream = Events;

    async fn stream_chat(&self, request: Request<StreamChatRequest>) -> Result<Response<Events>, Status> {
        answer(self.stream(request).await)
    }

    async fn chat(&self, request: Request<ChatRequest>) -> Result<Response<ChatResponse>, Status> {
        answer(self.whole(request).await)
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        answer(self.list(request).await)
    }

    async fn detect_provider(
        &self,
        request: Request<DetectProviderRequest>,
    ) -> Result<Response<DetectProviderResponse>, Status> {
        answer(Self::detect(request))
    }
}

impl Methods {
    async fn stream(&self, request: Request<StreamChatRequest>) -> Result<Events, Error> {
        let request = admit(request)?;
        let deadline = deadline(&request);
        let held = request.extensions().get::<Held>().cloned();
        let ask = convert::ask(request.into_inner())?;
        let mut measured = Measured::begin(&self.metrics, &ask);
        let answer = self.chats.stream(ask, deadline, Sent(held)).await.map_err(|error| told(error, &mut measured));
        let (started, events) = answer?;
        measured.started(&started);
        let started = convert::started(started);
        let events = events.map(move |event| {
            if let Ok(Event::Finished(_)) = &event {
                measured.complete();
            }
            event.map(convert::event).map_err(|error| status(told(error, &mut measured)))
        });
        Ok(Box::pin(stream::once(async { Ok(started) }).chain(events)))
    }

    async fn whole(&self, request: Request<ChatRequest>) -> Result<ChatResponse, Error> {
        let request = admit(request)?;
        let deadline = deadline(&request);
        let held = request.extensions().get::<Held>().cloned();
        let ask = convert::ask(convert::as_stream(request.into_inner()))?;
        let mut measured = Measured::begin(&self.metrics, &ask);
        let answer = self.chats.whole(ask, deadline, Sent(held)).await.map_err(|error| told(error, &mut measured));
        let (started, whole) = answer?;
        measured.started(&started);
        measured.complete();
        Ok(convert::whole(started, whole))
    }

    fn detect(request: Request<DetectProviderRequest>) -> Result<DetectProviderResponse, Error> {
        let model = convert::model("model", &admit(request)?.into_inner().model)?;
        Ok(convert::detection(detect::detect(&model)))
    }
}

/// Gives back the room of a request when it is dropped: the request is sent, and the answer may
/// take minutes.
struct Sent(Option<Held>);

impl Drop for Sent {
    fn drop(&mut self) {
        self.0.iter().for_each(Held::release);
    }
}

/// When the caller stops waiting, if it said so: a little earlier, so that our reason
/// reaches it before its own timer, or tonic's, ends the call without one.
fn deadline<T>(request: &Request<T>) -> Option<Instant> {
    const MARGIN_MAX: Duration = Duration::from_millis(20);
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    let timeout = grpc_timeout(text)?;
    let arrived = request.extensions().get::<Arrived>().map_or_else(Instant::now, |Arrived(at)| *at);
    Some(arrived + timeout.saturating_sub(MARGIN_MAX.min(timeout / 10)))
}

/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>: at most 8 digits and
/// a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3_600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_deadline_is_read_as_grpc_writes_it() {
        for (text, expected) in [
            ("1H", Some(Duration::from_hours(1))),
            ("2M", Some(Duration::from_mins(2))),
            ("30S", Some(Duration::from_secs(30))),
            ("1500m", Some(Duration::from_millis(1_500))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("5x", None),
            ("5ü", None),
        ] {
            assert_eq!(grpc_timeout(text), expected, "{text:?}");
        }
    }
}
