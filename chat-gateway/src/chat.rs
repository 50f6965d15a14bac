//! The pipeline of a chat: detect, resolve, open, relay.
//!
//! Knows no transport, no HTTP and no provider's wire. An [`Answer`] is read by whoever holds
//! it, and dropping it at any point closes the provider's connection.
//!
//! The commit point is [`Chats::start`]: until it returns, a failure has the status of
//! its cause, and what may be done about it is in `rules` and done in `attempts`. After it the
//! answer has begun, and every failure is [`Error::Truncated`].

mod attempts;
mod circuit;
mod error;
mod operation;
mod plan;
mod relay;
mod rules;
mod whole;

use std::{sync::Arc, time::Duration};

use clap::Args;
use futures_util::{Stream, future::BoxFuture, stream};
use service_runtime::{
    drain::Drain,
    semconv::{attribute, seconds},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tracing::Span;

use crate::{
    keys::Keys,
    message::{Ask, Event, Started},
    metrics::Metrics,
    upstream::{Exchange, Fault, Upstream},
    usage::Uses,
};
use attempts::{Attempts, Begun, Trial};
use operation::Operation;
use plan::Plan;

pub(crate) use error::{Attempt, Error};
pub(crate) use relay::Relay;
pub(crate) use whole::{AnswerPart, Whole};

/// The largest answer that is returned in one message. gRPC clients refuse 4 MiB unless
/// told otherwise; longer answers are for streams.
const WHOLE_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How chats are answered.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Chats")]
pub struct ChatLimits {
    /// How many chats may be under way at once. What is beyond is refused with OVERLOADED
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub chats_max: usize,

    /// How often a model is asked before an answer begins, the first time included: again after
    /// a fault of its provider that may pass
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub attempts_max: u32,

    /// After so many faults in a row a provider, or a key that it refuses, is not asked for a
    /// while: 1 s, up to 15 s if it stays. 0 asks always
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    pub circuit_faults: u32,
}

/// Answers chats.
#[derive(Debug)]
pub(crate) struct Chats {
    keys: Keys,
    upstream: Arc<Upstream>,
    uses: Arc<Uses>,
    attempts: Attempts,
    metrics: Arc<Metrics>,
    room: Arc<Semaphore>,
    room_max: usize,
    drain: Drain,
}

impl Chats {
    /// Answers with `keys`, and notes in `uses` what they are used for. What is under way when
    /// the time of `drain` is over is cut.
    ///
    /// # Errors
    ///
    /// Fails if a limit of this code contradicts another.
    pub(crate) fn new(
        keys: Keys,
        upstream: Arc<Upstream>,
        uses: Arc<Uses>,
        limits: &ChatLimits,
        metrics: Arc<Metrics>,
        drain: Drain,
    ) -> anyhow::Result<Self> {
        let room_max = limits.chats_max.min(Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(room_max));
        let attempts = Attempts::new(limits, Arc::clone(&metrics))?;
        Ok(Self { keys, upstream, uses, attempts, metrics, room, room_max, drain })
    }

    /// Finds provider and key, sends the chat, and returns once the answer has begun. Nothing
    /// of the chat is in memory then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the provider's connection.
    pub(crate) async fn start(&self, ask: Ask, callers_deadline: Option<Instant>) -> Result<Answer, Error> {
        let begun = Instant::now();
        let room = Arc::clone(&self.room).try_acquire_owned();
        let room = room.map_err(|_| Error::Overloaded { limit: self.room_max })?;
        let Ask { organization, profile, model, fallback_models, drains: _, chat } = ask;
        let deadline = self.upstream.deadline(callers_deadline);
        let plan = Plan::new(&model, &fallback_models, chat)?;
        Span::current().record(attribute::DETECT_RULE, plan.first.rule.as_str());
        let (organization, profile) = (&organization, profile.as_ref());
        let mut trial = Trial::new(self, organization, profile, deadline);
        let mut cut: BoxFuture<'static, ()> = Box::pin(self.drain.cut());
        let Begun { exchange, attempt, operation } = tokio::select! {
            biased;
            ended = trial.run(plan) => ended?,
            () = &mut cut => return Err(Error::Stopping),
        };
        let own = begun.elapsed().saturating_sub(trial.elsewhere);
        let metrics = Arc::clone(&self.metrics);
        Ok(Answer { exchange, attempt, operation, deadline, own, metrics, cut, _room: room })
    }
}

/// An answer that has begun.
pub(crate) struct Answer {
    exchange: Exchange,
    attempt: Box<Attempt>,
    operation: Operation,
    deadline: Instant,
    /// The time that was spent here, and not waiting for the provider or the caller.
    own: Duration,
    metrics: Arc<Metrics>,
    /// The gateway stops, and waits no longer.
    cut: BoxFuture<'static, ()>,
    _room: OwnedSemaphorePermit,
}

impl Answer {
    /// Who answers.
    pub(crate) fn started(&self) -> Started {
        let Attempt { provider, model, api_key_id, source, request_id, .. } = self.attempt.as_ref();
        Started {
            provider: *provider,
            model: self.exchange.model().unwrap_or(model).to_owned(),
            api_key_id: api_key_id.clone(),
            source: *source,
            provider_request_id: request_id.clone(),
        }
    }

    /// The events of the answer in their order. Ends after [`Event::Finished`] or after
    /// the first error.
    pub(crate) fn events(self) -> impl Stream<Item = Result<Event, Error>> + Send {
        stream::unfold(Some(self), |answer| async {
            let mut answer = answer?;
            match answer.next().await {
                Ok(Some(event)) => Some((Ok(event), Some(answer))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// Reads the answer to its end.
    pub(crate) async fn whole(mut self) -> Result<Whole, Error> {
        let mut draft = whole::Draft::default();
        while let Some(event) = self.next().await? {
            if let Event::Finished(finish) = event {
                return Ok(draft.finished(finish));
            }
            draft.add(event);
            if draft.bytes() > WHOLE_ANSWER_BYTES_MAX {
                return Err(Error::AnswerTooLarge { limit: WHOLE_ANSWER_BYTES_MAX });
            }
        }
        // Unreachable as long as decoders push `Finished` before they end.
        Err(self.truncated(Fault::EndedEarly))
    }

    async fn next(&mut self) -> Result<Option<Event>, Error> {
        let begun = Instant::now();
        let event = tokio::select! {
            biased;
            event = self.exchange.next() => event,
            () = &mut self.cut => Err(Fault::Stopping),
        };
        self.own += begun.elapsed().saturating_sub(self.exchange.take_waited());
        self.operation.used(self.exchange.usage());
        match &event {
            Ok(Some(Event::Finished(finish))) => self.operation.finishes(finish),
            Ok(Some(_)) => self.operation.chunk(),
            Ok(None) => {}
            Err(fault) => {
                self.exchange.fails(fault);
                self.operation.fails(fault);
            }
        }
        event.map_err(|fault| self.truncated(fault))
    }

    fn truncated(&self, fault: Fault) -> Error {
        Error::Truncated { attempt: self.attempt.clone(), fault, usage: self.exchange.usage() }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.metrics.overhead.record(seconds(self.own), &[]);
    }
}
