//! Reads server-sent events from bytes as they arrive.
//!
//! Only the data of an event is of interest; `event:`, `id:` and `retry:` lines and
//! comments are read over. By the rules of <https://html.spec.whatwg.org/#parsing-an-event-stream>,
//! with two differences. An event at the end of the body counts without its blank line,
//! because providers and proxies leave it out. An event whose data is empty is none:
//! some proxies keep a connection alive with it.
//!
//! Bytes are buffered once, and looked at once: the data of an event of one line, which
//! is what providers send, is lent from the buffer. This module knows no provider, and
//! no text: it never decodes a byte.

use std::ops::Range;

/// A line or the data of an event is longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a server-sent event is larger than allowed")]
pub(crate) struct TooLarge;

/// Bytes in, data of events out. Take all events with [`Reader::next_event`] before the
/// next [`Reader::push`]: what waits here is then at most one line and one event.
#[derive(Debug)]
pub(crate) struct Reader {
    event_bytes_max: usize,
    buffer: Vec<u8>,
    /// Where the line that is being read starts in `buffer`.
    line: usize,
    /// Before it, the line that is being read has no end. Nothing is searched twice.
    searched: usize,
    /// The line before ended with a carriage return: a line feed that follows belongs to it.
    after_cr: bool,
    /// The first bytes were seen not to be, or to no longer be, a byte order mark.
    begun: bool,
    ended: bool,
    data: Data,
    joined: Vec<u8>,
}

/// The data lines of the event that is being read.
#[derive(Debug)]
enum Data {
    None,
    /// One, still in `buffer`.
    Line(Range<usize>),
    /// Copied to `joined`.
    Joined,
}

/// Some tools put it before a text. It is no part of the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What an idle buffer may keep for the next event. Most events are far smaller; one
/// large one must not hold its memory for the rest of a long stream.
const IDLE_BYTES_MAX: usize = 64 * 1024;

impl Reader {
    /// `event_bytes_max` is the limit of a line, and of the data of an event.
    pub(crate) fn new(event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            buffer: Vec::new(),
            line: 0,
            searched: 0,
            after_cr: false,
            begun: false,
            ended: false,
            data: Data::None,
            joined: Vec::new(),
        }
    }

    /// Adds what has arrived.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.forget_what_was_read();
        self.buffer.extend_from_slice(chunk);
    }

    /// The body has ended: an unfinished line and event count as they are. If the body
    /// was cut, so is that event.
    pub(crate) fn finish(&mut self) {
        self.ended = true;
    }

    /// The data of the next event. `None` until more arrives, or for good after
    /// [`Reader::finish`].
    ///
    /// # Errors
    ///
    /// [`TooLarge`] ends the reading; so far it held no more than twice the limit.
    pub(crate) fn next_event(&mut self) -> Result<Option<&[u8]>, TooLarge> {
        while let Some(line) = self.next_line()? {
            if !line.is_empty() {
                self.read_field(line)?;
            } else if let Some(event) = self.take_event() {
                return Ok(Some(self.lend(event)));
            }
        }
        let last = if self.ended { self.take_event() } else { None };
        Ok(last.map(|event| self.lend(event)))
    }

    /// How much is held.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held_bytes(&self) -> usize {
        self.buffer.len() + self.joined.len()
    }

    /// Moves what is still needed to the front. At most what the last chunk brought is
    /// moved, so all moves together cost no more than the body is long.
    fn forget_what_was_read(&mut self) {
        let needed = match &self.data {
            Data::Line(data) => data.start,
            Data::None | Data::Joined => self.line,
        };
        if needed == 0 {
            return;
        }
        self.buffer.drain(..needed);
        self.line -= needed;
        self.searched -= needed;
        if let Data::Line(data) = &mut self.data {
            *data = data.start - needed..data.end - needed;
        }
        if self.buffer.is_empty() && self.buffer.capacity() > IDLE_BYTES_MAX {
            self.buffer = Vec::new();
        }
    }

    /// The next line without its end.
    fn next_line(&mut self) -> Result<Option<Range<usize>>, TooLarge> {
        if !self.begin() {
            return Ok(None);
        }
        if self.after_cr && self.line < self.buffer.len() {
            self.after_cr = false;
            if self.buffer[self.line] == b'\n' {
                self.line += 1;
                self.searched = self.line;
            }
        }
        let found = memchr::memchr2(b'\n', b'\r', &self.buffer[self.searched..]);
        let end = found.map_or(self.buffer.len(), |at| self.searched + at);
        self.searched = end;
        if end - self.line > self.event_bytes_max {
            return Err(TooLarge);
        }
        let line = self.line..end;
        if found.is_some() {
            self.after_cr = self.buffer[end] == b'\r';
            self.line = end + 1;
            self.searched = self.line;
            return Ok(Some(line));
        }
        if self.ended && !line.is_empty() {
            self.line = end;
            return Ok(Some(line));
        }
        Ok(None)
    }

    /// Skips a byte order mark. False while it may be one that is not whole.
    fn begin(&mut self) -> bool {
        if self.begun {
            return true;
        }
        if self.buffer.starts_with(BYTE_ORDER_MARK) {
            self.line = BYTE_ORDER_MARK.len();
            self.searched = self.line;
        } else if BYTE_ORDER_MARK.starts_with(&self.buffer) && !self.ended {
            return false;
        }
        self.begun = true;
        true
    }

    /// Reads a line that is not empty.
    fn read_field(&mut self, line: Range<usize>) -> Result<(), TooLarge> {
        let value = data_value(&self.buffer[line.clone()]).map(|offset| line.start + offset..line.end);
        // Any further line of the event, even a comment, frees the buffer of its data:
        // comments without end would fill it.
        match (&self.data, value) {
            (Data::None, Some(value)) => self.data = Data::Line(value),
            (Data::None | Data::Joined, None) => {}
            (Data::Line(first), None) => {
                self.joined.clear();
                self.joined.extend_from_slice(&self.buffer[first.clone()]);
                self.data = Data::Joined;
            }
            (Data::Line(first), Some(value)) => {
                self.joined.clear();
                self.joined.extend_from_slice(&self.buffer[first.clone()]);
                self.data = Data::Joined;
                self.join(value);
            }
            (Data::Joined, Some(value)) => self.join(value),
        }
        if matches!(self.data, Data::Joined) && self.joined.len() > self.event_bytes_max {
            return Err(TooLarge);
        }
        Ok(())
    }

    fn join(&mut self, value: Range<usize>) {
        self.joined.push(b'\n');
        self.joined.extend_from_slice(&self.buffer[value]);
    }

    /// The event that has been read, if it has data.
    fn take_event(&mut self) -> Option<Data> {
        let event = std::mem::replace(&mut self.data, Data::None);
        let has_data = match &event {
            Data::None => false,
            Data::Line(data) => !data.is_empty(),
            Data::Joined => !self.joined.is_empty(),
        };
        has_data.then_some(event)
    }

    fn lend(&self, event: Data) -> &[u8] {
        match event {
            Data::None => &[],
            Data::Line(data) => &self.buffer[data],
            Data::Joined => &self.joined,
        }
    }
}

/// Where the value of a data line starts. One space after the colon is not part of it.
fn data_value(line: &[u8]) -> Option<usize> {
    match line.strip_prefix(b"data")? {
        [] => Some(line.len()),
        [b':', b' ', ..] => Some("data: ".len()),
        [b':', ..] => Some("data:".len()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
