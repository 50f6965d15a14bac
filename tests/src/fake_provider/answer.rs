//! What a fake provider is told to say, and how it goes wrong.

use std::time::Duration;

/// How to answer a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How many bytes are written at a time; 0 writes all at once.
    pub write_size: usize,
    /// How it ends.
    pub end: End,
    /// How long it thinks before its headers.
    pub thinks: Duration,
    /// Where in the body it pauses, and for how long. In the order of the body.
    pub pauses: Vec<(usize, Duration)>,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Clean,
    /// The connection breaks.
    Cut,
    /// Nothing more comes, and the connection stays open.
    Silence,
    /// Not even headers come.
    SilenceBeforeHeaders,
    /// Before the headers the connection is reset (HTTP/1.1), or the stream (HTTP/2).
    ResetBeforeHeaders,
    /// The last byte of the body is repeated for as long as anybody reads.
    Endless,
}

impl Answer {
    fn new(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body,
            write_size: 0,
            end: End::Clean,
            thinks: Duration::ZERO,
            pauses: Vec::new(),
        }
    }

    /// An event stream.
    pub fn stream(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "text/event-stream", body.into())
    }

    /// JSON.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, "application/json", body.into())
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes so many bytes at a time.
    #[must_use]
    pub fn in_writes_of(mut self, bytes: usize) -> Self {
        self.write_size = bytes;
        self
    }

    /// Ends otherwise.
    #[must_use]
    pub fn ending(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    /// Sends its headers after a time.
    #[must_use]
    pub fn thinking(mut self, time: Duration) -> Self {
        self.thinks = time;
        self
    }

    /// Pauses, and goes on with `more`.
    #[must_use]
    pub fn and_after(mut self, pause: Duration, more: impl AsRef<[u8]>) -> Self {
        self.pauses.push((self.body.len(), pause));
        self.body.extend_from_slice(more.as_ref());
        self
    }
}
