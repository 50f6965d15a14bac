//! How an answer gets to its caller: as fast as the caller reads and no longer than it waits,
//! or to its end whoever waits.
//!
//! The only place of the pipeline that spawns: a chat that drains has a task of its own, and so
//! has the time limit of a stream, because a stream that nobody reads is not polled. A gateway
//! that stops waits for the former like for a call, and then cuts both.

use std::{
    panic::resume_unwind,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, future::select};
use service_runtime::drain::Drain;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tracing::Instrument as _;

use super::{Answer, Attempt, Chats, Error, Whole};
use crate::{
    message::{Ask, Event, Started},
    upstream::Fault,
};

/// How many chats may drain at once: each may take as long as an answer does, for nobody.
/// Beyond it they end with their callers.
const DRAINS_MAX: usize = 1_000;

/// Events of a chat that drains which wait for its caller.
const WAITING_MAX: usize = 16;

/// Answers chats, and holds on to those that are to be read to their end.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    chats: Arc<Chats>,
    drains: Arc<Semaphore>,
}

/// The events of an answer after the first, [`Started`]. Dropping them closes the provider's
/// connection, unless the chat drains.
pub(crate) type Events = Pin<Box<dyn Stream<Item = Result<Event, Error>> + Send>>;

impl Relay {
    pub(crate) fn new(chats: Chats) -> Self {
        Self { chats: Arc::new(chats), drains: Arc::new(Semaphore::new(DRAINS_MAX)) }
    }

    /// An answer that has begun. `sent` is dropped once nothing of the request is in memory.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the provider's connection, unless the chat drains.
    pub(crate) async fn stream(
        &self,
        ask: Ask,
        deadline: Option<Instant>,
        sent: impl Send + 'static,
    ) -> Result<(Started, Events), Error> {
        if let Some(drain) = self.drain(&ask) {
            return self.drained(ask, deadline, sent, drain).await;
        }
        let answer = self.chats.start(ask, deadline).await?;
        drop(sent);
        Ok((answer.started(), Box::pin(Bounded::new(answer, &self.chats.drain))))
    }

    /// A whole answer. `sent` is dropped once nothing of the request is in memory.
    ///
    /// # Cancel safety
    ///
    /// As [`Relay::stream`].
    pub(crate) async fn whole(
        &self,
        ask: Ask,
        deadline: Option<Instant>,
        sent: impl Send + 'static,
    ) -> Result<(Started, Whole), Error> {
        let drain = self.drain(&ask);
        let drains = drain.is_some();
        let chats = Arc::clone(&self.chats);
        let work = drains.then(|| chats.drain.work());
        let read = async move {
            let _held = (drain, work);
            let answer = chats.start(ask, deadline).await?;
            drop(sent);
            Ok((answer.started(), answer.whole().await?))
        };
        if !drains {
            return read.await;
        }
        // A task goes on when nobody waits for it.
        spawn(read).await.unwrap_or_else(|ended| resume_unwind(ended.into_panic()))
    }

    fn drain(&self, ask: &Ask) -> Option<OwnedSemaphorePermit> {
        if ask.drains { Arc::clone(&self.drains).try_acquire_owned().ok() } else { None }
    }

    async fn drained(
        &self,
        ask: Ask,
        deadline: Option<Instant>,
        sent: impl Send + 'static,
        drain: OwnedSemaphorePermit,
    ) -> Result<(Started, Events), Error> {
        let (begun, beginning) = oneshot::channel();
        let (relayed, events) = mpsc::channel(WAITING_MAX);
        let chats = Arc::clone(&self.chats);
        let work = chats.drain.work();
        let cut = chats.drain.cut();
        let read = async move {
            let _held = (drain, work);
            let answer = match chats.start(ask, deadline).await {
                Ok(answer) => answer,
                Err(error) => return drop(begun.send(Err(error))),
            };
            drop(sent);
            let until = answer.deadline;
            // Whether anybody still reads does not matter here or below.
            let _ = begun.send(Ok((answer.started(), answer.attempt.clone())));
            let mut answer = pin!(answer.events());
            let mut late = pin!(unread(until, cut));
            while let Some(event) = answer.next().await {
                tokio::select! {
                    biased;
                    _ = relayed.send(event) => {}
                    () = &mut late => return,
                }
            }
        };
        let reader = spawn(read);
        match beginning.await {
            Ok(begun) => begun.map(|(started, attempt)| {
                let drain = self.chats.drain.clone();
                (started, Box::pin(Drained { events, cut: Some(attempt), drain }) as Events)
            }),
            // It ended without a word: it panicked.
            Err(_) => match reader.await {
                Ok(()) => Err(Error::Ended),
                Err(ended) => resume_unwind(ended.into_panic()),
            },
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whoever spawns holds the task: a chat that drains is work that the server waits for, a time limit ends with its stream"
)]
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task.in_current_span())
}

/// The events of an answer that a task of its own reads. If that stops before the end, because
/// the time is over, so does this: not as if it were whole.
struct Drained {
    events: mpsc::Receiver<Result<Event, Error>>,
    /// For the error of an answer that was cut. `None` once its end was relayed.
    cut: Option<Box<Attempt>>,
    drain: Drain,
}

impl Stream for Drained {
    type Item = Result<Event, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = std::task::ready!(this.events.poll_recv(cx));
        if matches!(next, Some(Ok(Event::Finished(_)) | Err(_))) {
            this.cut = None;
        }
        let cut = || this.cut.take().map(|attempt| Err(cut_short(attempt, &this.drain)));
        Poll::Ready(next.or_else(cut))
    }
}

/// The error of an answer whose time is over: its own, or that of the gateway.
fn cut_short(attempt: Box<Attempt>, drain: &Drain) -> Error {
    let fault = if drain.is_cutting() { Fault::Stopping } else { Fault::TotalTimeout };
    Error::Truncated { attempt, fault, usage: None }
}

/// How long after its end a stream is cut that nobody reads. One that is read ends by itself
/// before, and says what was used.
const CUT_AFTER: Duration = Duration::from_secs(1);

/// Resolves once a stream that nobody reads is to be cut: at `until`, or because the gateway stops.
async fn unread(until: Instant, cut: impl Future<Output = ()>) {
    let stopped = async {
        cut.await;
        sleep(CUT_AFTER).await;
    };
    select(pin!(sleep_until(until)), pin!(stopped)).await;
}

/// The events of an answer, which ends with its time although nobody reads it: a caller that
/// has shut its window does not hold a provider's connection for ever.
struct Bounded {
    answer: Arc<Mutex<Reading>>,
    /// For the error of an answer that was cut.
    attempt: Box<Attempt>,
    drain: Drain,
    cutter: JoinHandle<()>,
}

enum Reading {
    Goes(Events),
    Cut,
    Over,
}

impl Bounded {
    fn new(answer: Answer, drain: &Drain) -> Self {
        let (attempt, deadline) = (answer.attempt.clone(), answer.deadline);
        Self::of(Box::pin(answer.events()), attempt, deadline, drain)
    }

    fn of(events: Events, attempt: Box<Attempt>, deadline: Instant, drain: &Drain) -> Self {
        let reading = Arc::new(Mutex::new(Reading::Goes(events)));
        let (read, cut) = (Arc::clone(&reading), drain.cut());
        let cutter = spawn(async move {
            unread(deadline + CUT_AFTER, cut).await;
            let mut reading = lock(&read);
            if matches!(*reading, Reading::Goes(_)) {
                *reading = Reading::Cut;
            }
        });
        Self { answer: reading, attempt, drain: drain.clone(), cutter }
    }
}

impl Stream for Bounded {
    type Item = Result<Event, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut reading = lock(&this.answer);
        let next = match &mut *reading {
            Reading::Goes(events) => std::task::ready!(events.as_mut().poll_next(cx)),
            Reading::Cut => {
                *reading = Reading::Over;
                return Poll::Ready(Some(Err(cut_short(this.attempt.clone(), &this.drain))));
            }
            Reading::Over => None,
        };
        if next.is_none() {
            *reading = Reading::Over;
        }
        Poll::Ready(next)
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        self.cutter.abort();
        // Not when the task is cleared away, but now.
        *lock(&self.answer) = Reading::Over;
    }
}

fn lock(reading: &Mutex<Reading>) -> MutexGuard<'_, Reading> {
    // One that panicked while it was read is over.
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Finish, FinishReason, Provider, Source};

    fn attempt() -> Attempt {
        Attempt {
            provider: Provider::OpenAi,
            model: "gpt-5".to_owned(),
            api_key_id: String::new(),
            source: Source::Environment,
            request_id: String::new(),
            count: 1,
        }
    }

    /// What a caller reads of events that a task relayed before it stopped.
    async fn read(relayed: Vec<Event>) -> Vec<Result<Event, Error>> {
        let (sender, events) = mpsc::channel(WAITING_MAX);
        for event in relayed {
            sender.send(Ok(event)).await.expect("it is read");
        }
        drop(sender);
        Drained { events, cut: Some(Box::new(attempt())), drain: Drain::default() }.collect().await
    }

    fn finish() -> Finish {
        Finish {
            reason: FinishReason::Stop,
            provider_reason: String::new(),
            usage: None,
            stop_sequence: String::new(),
            provider_details: String::new(),
            provider_usage: String::new(),
        }
    }

    #[tokio::test]
    async fn a_drained_answer_that_was_cut_does_not_look_whole() {
        let text = || Event::Text("Hello".to_owned());
        let whole = read(vec![text(), Event::Finished(finish())]).await;
        assert!(matches!(whole.as_slice(), [Ok(Event::Text(_)), Ok(Event::Finished(_))]));
        let cut = read(vec![text()]).await;
        assert!(matches!(cut.as_slice(), [Ok(_), Err(Error::Truncated { fault: Fault::TotalTimeout, .. })]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_is_cut_once_its_time_is_over() {
        let (relayed, events) = mpsc::channel::<Result<Event, Error>>(1);
        let events = futures_util::stream::unfold(events, |mut events| async { Some((events.recv().await?, events)) });
        let mut bounded = Bounded::of(Box::pin(events), Box::new(attempt()), Instant::now(), &Drain::default());
        relayed.closed().await;
        assert!(matches!(bounded.next().await, Some(Err(Error::Truncated { .. }))));
        assert!(bounded.next().await.is_none());
    }
}
