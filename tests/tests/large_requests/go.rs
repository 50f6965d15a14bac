//! A client that speaks HTTP/2 as grpc-go does with its defaults, for there is no Go here:
//! frames of 16 KiB, windows of 64 KiB, the header fields in its order, and an end of the
//! stream with the last frame of the request.
//!
//! Odd: the order of the pseudo header fields is that of the HTTP/2 library.

use std::{future::poll_fn, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::Message as _;
use proto::chat::{StreamChatResponse, stream_chat_response::Event};
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tonic::{Code, Status};

/// `http2MaxFrameLen`.
const FRAME_BYTES: usize = 16 * 1024;

/// `defaultWindowSize`.
const WINDOW_BYTES: u32 = 64 * 1024 - 1;

/// The prefix of a message: a flag and its length.
const PREFIX_BYTES: usize = 5;

/// A connection. Closed when dropped.
pub(crate) struct Connection {
    address: String,
    requests: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Self {
        let socket = TcpStream::connect(address).await.expect("a connection");
        socket.set_nodelay(true).expect("Go sets it");
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (requests, connection) = builder.handshake(socket).await.expect("HTTP/2");
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Self { address: address.to_owned(), requests, driver }
    }

    /// Sends a serialized `StreamChatRequest`. Returns all text of the answer.
    pub(crate) async fn stream_chat(&self, request: Bytes, deadline: Duration) -> Result<String, Status> {
        timeout(deadline, self.call(request, deadline)).await.expect("the gateway keeps the deadline")
    }

    async fn call(&self, request: Bytes, deadline: Duration) -> Result<String, Status> {
        let mut ready = self.requests.clone().ready().await.map_err(|error| broken(&error))?;
        let head = Request::post(format!("http://{}/archestra.chat.v1.ChatService/StreamChat", self.address))
            .header("content-type", "application/grpc")
            .header("user-agent", "grpc-go/1.76.0")
            .header("te", "trailers")
            .header("grpc-timeout", format!("{}m", deadline.as_millis()));
        let (response, mut body) =
            ready.send_request(head.body(()).expect("a request"), false).map_err(|error| broken(&error))?;
        // A server that refuses answers before it has read all.
        let _ = send(&mut body, request).await;
        let response = response.await.map_err(|error| broken(&error))?;
        let headers = response.headers().clone();
        read(&headers, response.into_body()).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Sends a message in frames, each as soon as both windows let it.
async fn send(body: &mut h2::SendStream<Bytes>, message: Bytes) -> Result<(), h2::Error> {
    let length = u32::try_from(message.len()).expect("a message of less than 4 GiB");
    // The first frame has the prefix with as much of the message as fits.
    let mut first = BytesMut::with_capacity(FRAME_BYTES);
    first.extend_from_slice(&[0]);
    first.extend_from_slice(&length.to_be_bytes());
    let mut rest = message;
    first.extend_from_slice(&rest.split_to(rest.len().min(FRAME_BYTES - PREFIX_BYTES)));
    let mut frame = first.freeze();
    loop {
        while !frame.is_empty() {
            body.reserve_capacity(frame.len());
            let room = poll_fn(|cx| body.poll_capacity(cx)).await.transpose()?.unwrap_or(0);
            if room == 0 {
                // The server has reset the stream.
                return Ok(());
            }
            let piece = frame.split_to(room.min(frame.len()));
            body.send_data(piece, frame.is_empty() && rest.is_empty())?;
        }
        if rest.is_empty() {
            return Ok(());
        }
        frame = rest.split_to(rest.len().min(FRAME_BYTES));
    }
}

/// Reads events to their end.
async fn read(headers: &HeaderMap, mut body: h2::RecvStream) -> Result<String, Status> {
    let (mut text, mut pending) = (String::new(), BytesMut::new());
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| broken(&error))?;
        body.flow_control().release_capacity(data.len()).map_err(|error| broken(&error))?;
        pending.extend_from_slice(&data);
        while let Some(message) = next(&mut pending) {
            let response = StreamChatResponse::decode(message).expect("an event");
            if let Some(Event::TextDelta(delta)) = response.event {
                text.push_str(&delta.text);
            }
        }
    }
    let trailers = body.trailers().await.map_err(|error| broken(&error))?;
    // A refusal has no body and stands in the headers.
    let status = trailers.as_ref().and_then(Status::from_header_map).or_else(|| Status::from_header_map(headers));
    match status.expect("a status") {
        status if status.code() == Code::Ok => Ok(text),
        status => Err(status),
    }
}

fn next(pending: &mut BytesMut) -> Option<BytesMut> {
    let length = u32::from_be_bytes(pending.get(1..PREFIX_BYTES)?.try_into().ok()?) as usize;
    if pending.len() < PREFIX_BYTES + length {
        return None;
    }
    pending.advance(PREFIX_BYTES);
    Some(pending.split_to(length))
}

fn broken(error: &h2::Error) -> Status {
    Status::unavailable(error.to_string())
}
