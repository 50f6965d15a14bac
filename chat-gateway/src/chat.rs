//! The pipeline of a chat: detect, resolve, open, relay.
//!
//! Knows no transport, no HTTP and no provider's wire. Spawns nothing: an [`Answer`] is
//! read by whoever holds it, and dropping it at any point closes the provider's
//! connection.
//!
//! The commit point is [`Chats::start`]: until it returns, a failure has the status of
//! its cause. After it the answer has begun, and every failure is [`Error::Truncated`].

mod error;
mod whole;

use std::sync::Arc;

use futures_util::{Stream, stream};
use tokio::time::Instant;
use tracing::{info, instrument};
use uuid::Uuid;

use crate::{
    detect,
    keys::Keys,
    message::{Ask, Event, Started},
    provider,
    upstream::{Exchange, Fault, Upstream},
    usage::{Called, Uses},
};

pub(crate) use error::{Attempt, Error};
pub(crate) use whole::{AnswerPart, Whole};

/// The largest answer that is returned in one message. gRPC clients refuse 4 MiB unless
/// told otherwise; longer answers are for streams.
const WHOLE_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Answers chats.
#[derive(Debug)]
pub(crate) struct Chats {
    keys: Keys,
    upstream: Arc<Upstream>,
    uses: Arc<Uses>,
}

impl Chats {
    /// Answers with `keys`, and notes in `uses` what they are used for.
    pub(crate) fn new(keys: Keys, upstream: Arc<Upstream>, uses: Arc<Uses>) -> Self {
        Self { keys, upstream, uses }
    }

    /// Finds provider and key, sends the chat, and returns once the answer has begun. Nothing
    /// of the chat is in memory then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the provider's connection.
    #[instrument(skip_all, fields(org.id = %ask.organization, gen_ai.request.model = %ask.model))]
    pub(crate) async fn start(&self, ask: Ask, callers_deadline: Option<Instant>) -> Result<Answer, Error> {
        let Ask { organization, profile, model, chat, .. } = ask;
        let deadline = self.upstream.deadline(callers_deadline);
        let detected = match detect::detect(&model) {
            Ok(detected) => detected,
            Err(none) => return Err(Error::ModelUnknown { model, why: none.reason }),
        };
        let provider = detected.provider;
        if !detected.chats {
            return Err(Error::ModelUnsupported { model, provider });
        }
        let outbound = provider::outbound(provider, &detected.provider_model, &chat)
            .map_err(|refused| Error::Unsupported { field: refused.field, problem: refused.problem })?;
        // Files are in the body now; the wait for the provider is long.
        drop(chat);
        let key = self.keys.get(&organization, profile.as_ref(), provider, deadline).await?;
        let call = self.uses.begin(Called {
            organization,
            profile,
            provider,
            model: detected.provider_model.clone(),
            api_key_id: key.api_key_id.clone(),
            version: key.version,
            source: key.source,
        });
        let mut attempt = Box::new(Attempt {
            provider,
            model: detected.provider_model,
            api_key_id: key.api_key_id.clone(),
            source: key.source,
            request_id: String::new(),
        });
        let call_seed = Uuid::new_v4().simple().to_string();
        match self.upstream.open(outbound, &key.material, &call_seed, deadline, call).await {
            Ok(exchange) => {
                exchange.request_id().clone_into(&mut attempt.request_id);
                Ok(Answer { exchange, attempt })
            }
            Err((fault, request_id)) => {
                attempt.request_id = request_id;
                Err(Error::Upstream { attempt, fault })
            }
        }
    }
}

/// An answer that has begun.
pub(crate) struct Answer {
    exchange: Exchange,
    attempt: Box<Attempt>,
}

impl Answer {
    /// Who answers.
    pub(crate) fn started(&self) -> Started {
        let Attempt { provider, model, api_key_id, source, request_id } = self.attempt.as_ref();
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
        let event = self.exchange.next().await.map_err(|fault| self.truncated(fault))?;
        if let Some(Event::Finished(finish)) = &event {
            info!(
                gen_ai.provider.name = %self.attempt.provider,
                gen_ai.request.model = %self.attempt.model,
                keyvault.key.id = %self.attempt.api_key_id,
                keyvault.resolution.source = self.attempt.source.name(),
                finish_reason = ?finish.reason,
                "chat answered"
            );
        }
        Ok(event)
    }

    fn truncated(&self, fault: Fault) -> Error {
        Error::Truncated { attempt: self.attempt.clone(), fault, usage: self.exchange.usage() }
    }
}
