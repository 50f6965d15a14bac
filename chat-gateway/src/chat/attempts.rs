//! Asks one model after another, each as often as [`super::rules`] say: the one owner of
//! retries. Nothing below it sends a request twice.

use std::{sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use service_runtime::semconv::attribute;
use tokio::time::{Instant, sleep_until};
use tower::{
    retry::{
        backoff::{Backoff as _, ExponentialBackoff, ExponentialBackoffMaker, InvalidBackoff, MakeBackoff as _},
        budget::{Budget as _, TpsBudget},
    },
    util::rng::HasherRng,
};
use tracing::{Instrument as _, Span, info, warn};
use uuid::Uuid;

use super::{
    Attempt, ChatLimits, Chats, Error,
    circuit::{Circuits, Name, Permit},
    operation::Operation,
    plan::{Plan, Target},
    rules::{Again, Culprit, Rule},
};
use crate::{
    keys::Held,
    message::{Label, Provider},
    metrics::{Metrics, provider_name},
    upstream::{Class, Exchange, Fault, Sending},
    usage::Called,
    vault_client::KeyError,
};

/// The wait before a model is asked again that does not say how long: doubled each time, up to
/// half of it added at random, so that those who failed together do not come back together.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const BACKOFF_JITTER: f64 = 0.5;

/// The longest wait that a provider may ask for and get. It is less with another model to ask,
/// and for a circuit that is open. Whoever is asked for more tells its own caller.
const WAIT_MAX: Duration = Duration::from_secs(20);
const SHORT_WAIT_MAX: Duration = Duration::from_secs(3);

/// The longest wait for the key of another model once the vault could not give that of the first.
const VAULT_AGAIN_MAX: Duration = Duration::from_millis(500);

/// How many calls of a provider may be repeats: a fifth of all within the window, and ten a
/// second at any rate. A provider that is ill is not asked thrice as much.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);
const BUDGET_PER_SECOND: u32 = 10;
const BUDGET_SHARE: f32 = 0.2;

/// What attempts of all chats have in common.
#[derive(Debug)]
pub(super) struct Attempts {
    circuits: Circuits,
    budgets: [TpsBudget; Provider::ALL.len()],
    backoffs: ExponentialBackoffMaker,
    metrics: Arc<Metrics>,
    /// How often a model is asked. A second time helps against a fault of one server, a third
    /// against a moment of all; what lasts longer is for another model.
    tries_max: u32,
}

impl Attempts {
    /// Nothing has failed yet.
    pub(super) fn new(limits: &ChatLimits, metrics: Arc<Metrics>) -> Result<Self, InvalidBackoff> {
        let budgets = Provider::ALL.map(|_| TpsBudget::new(BUDGET_WINDOW, BUDGET_PER_SECOND, BUDGET_SHARE));
        let backoffs = ExponentialBackoffMaker::new(BACKOFF_MIN, BACKOFF_MAX, BACKOFF_JITTER, HasherRng::new())?;
        let circuits = Circuits::new(limits.circuit_faults, Arc::clone(&metrics));
        Ok(Self { circuits, budgets, backoffs, metrics, tries_max: limits.attempts_max })
    }

    fn budget(&self, provider: Provider) -> &TpsBudget {
        &self.budgets[provider as usize]
    }
}

/// One chat while it is tried.
pub(super) struct Trial<'a> {
    chats: &'a Chats,
    organization: &'a Label,
    profile: Option<&'a Label>,
    deadline: Instant,
    /// How many requests were sent to providers.
    attempts: u32,
    vault_is_away: bool,
    /// The time that was spent waiting for providers.
    pub(super) elsewhere: Duration,
    /// Who was asked last, with which key.
    last: Option<(Provider, Held)>,
    /// The RPC that the chat is for.
    rpc: Span,
}

impl Drop for Trial<'_> {
    /// Says of the RPC what was tried, once: also if its caller has left.
    fn drop(&mut self) {
        let Some((provider, held)) = &self.last else { return };
        self.rpc.record(attribute::GEN_AI_PROVIDER_NAME, provider_name(*provider));
        // That of the environment has none.
        if !held.api_key_id.is_empty() {
            self.rpc.record(attribute::KEY_ID, held.api_key_id.as_str());
        }
        self.rpc.record(attribute::KEY_VERSION, held.version);
        self.rpc.record(attribute::RESOLUTION_SOURCE, held.source.name());
        self.rpc.record(attribute::CACHE, held.found.name());
        self.rpc.record(attribute::ATTEMPT_COUNT, i64::from(self.attempts));
    }
}

/// An answer that has begun.
pub(super) struct Begun {
    pub(super) exchange: Exchange,
    pub(super) attempt: Box<Attempt>,
    pub(super) operation: Operation,
}

/// What goes for one model only.
struct Turn {
    backoff: ExponentialBackoff,
    tries: u32,
    /// The vault was asked for the key of now.
    has_key_of_now: bool,
    has_next: bool,
    /// From the first key on.
    operation: Option<Operation>,
}

impl<'a> Trial<'a> {
    /// Nothing was tried yet.
    pub(super) fn new(
        chats: &'a Chats,
        organization: &'a Label,
        profile: Option<&'a Label>,
        deadline: Instant,
    ) -> Self {
        let (attempts, vault_is_away, elsewhere) = (0, false, Duration::ZERO);
        let (last, rpc) = (None, Span::current());
        Self { chats, organization, profile, deadline, attempts, vault_is_away, elsewhere, last, rpc }
    }

    /// The answer of the first model that gives one.
    ///
    /// # Errors
    ///
    /// That of the first model: what the others say does not hide it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the provider's connection.
    pub(super) async fn run(&mut self, plan: Plan) -> Result<Begun, Error> {
        let Plan { first: mut target, mut further } = plan;
        let mut failed: Option<Error> = None;
        loop {
            let error = match self.ask(&target, further.are_left()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let goes_on = error.is_for_the_next_model() && Instant::now() < self.until();
            let next = if goes_on { further.next()? } else { None };
            let so_far = match failed.take() {
                None => error,
                Some(first) => first.and(target.model, error),
            };
            let Some(next) = next else { return Err(so_far.after(self.attempts)) };
            info!(
                gen_ai.provider.name = provider_name(next.provider),
                gen_ai.request.model = %next.model,
                "another model is asked"
            );
            failed = Some(so_far);
            target = next;
        }
    }

    /// Asks one model until it answers or there is no use in it.
    async fn ask(&mut self, target: &Target, has_next: bool) -> Result<Begun, Error> {
        let provider = target.provider;
        let backoff = self.chats.attempts.backoffs.clone().make_backoff();
        let mut turn = Turn { backoff, tries: 0, has_key_of_now: false, has_next, operation: None };
        let mut said: Option<Error> = None;
        self.chats.attempts.budget(provider).deposit();
        loop {
            let held = match self.key(provider).await {
                Ok(held) => held,
                // What the provider said tells more than that the vault is away since.
                Err(error) => return Err(said.unwrap_or_else(|| error.into())),
            };
            turn.tries += 1;
            let mut operation = turn.operation.take().unwrap_or_else(|| self.operation(target));
            let (asked, sent) = (Instant::now(), self.attempts);
            let tried = self.attempt(target, &held, operation.sent()).instrument(operation.span().clone()).await;
            self.elsewhere += asked.elapsed();
            operation.used_key(&held, self.attempts - sent);
            self.last = Some((provider, held.clone()));
            let (attempt, fault) = match tried {
                Ok((exchange, attempt)) => {
                    operation.answers(&exchange);
                    return Ok(Begun { exchange, attempt, operation });
                }
                Err(failed) => failed,
            };
            let rule = Rule::for_fault(&fault);
            if rule.forgets_key {
                self.chats.keys.forget(&held);
            }
            let again = match rule.again {
                Again::Never => None,
                Again::WithKeyOfNow if turn.has_key_of_now || turn.tries >= self.chats.attempts.tries_max => None,
                Again::WithKeyOfNow => {
                    turn.has_key_of_now = true;
                    Some(Instant::now())
                }
                Again::Later => self.next_try(provider, &fault, &mut turn),
            };
            let Some(again) = again else {
                operation.fails(&fault);
                let is_shut = matches!(fault, Fault::CircuitOpen { .. });
                let error = Error::Upstream { attempt, fault };
                // Neither does it help that it is not asked for a while.
                return Err(if is_shut { said.unwrap_or(error) } else { error });
            };
            warn!(
                gen_ai.provider.name = provider_name(provider),
                keyvault.key.id = %attempt.api_key_id,
                attempt = self.attempts,
                class = ?fault.class(),
                wait_ms = again.saturating_duration_since(Instant::now()).as_millis(),
                "a provider is asked again"
            );
            turn.operation = Some(operation);
            self.elsewhere += again.saturating_duration_since(Instant::now());
            sleep_until(again).await;
            said = Some(Error::Upstream { attempt, fault });
        }
    }

    fn operation(&self, target: &Target) -> Operation {
        let place = self.chats.upstream.place(target.provider);
        Operation::begin(&self.chats.attempts.metrics, target, self.profile, place)
    }

    /// Until when another request may be sent: a gateway that stops begins nothing that it
    /// would cut.
    fn until(&self) -> Instant {
        self.chats.drain.end().map_or(self.deadline, |end| end.min(self.deadline))
    }

    /// The key of the chat at a provider. A vault that was away a moment ago is not waited for
    /// as long again: keys of other providers may be kept.
    async fn key(&mut self, provider: Provider) -> Result<Held, Arc<KeyError>> {
        let soon = Instant::now() + VAULT_AGAIN_MAX;
        let until = if self.vault_is_away { self.deadline.min(soon) } else { self.deadline };
        let key = self.chats.keys.get(self.organization, self.profile, provider, until).await;
        if let Ok(held) = &key {
            let found = KeyValue::new(attribute::CACHE, held.found.name());
            self.chats.attempts.metrics.cache.add(1, &[found]);
        }
        self.vault_is_away = key.as_ref().is_err_and(|error| error.vault_could_not_answer());
        key
    }

    /// When to ask the same model again. `None` if that is of no use, or too much.
    fn next_try(&self, provider: Provider, fault: &Fault, turn: &mut Turn) -> Option<Instant> {
        let is_shut = matches!(fault, Fault::CircuitOpen { .. });
        if turn.tries >= self.chats.attempts.tries_max || (is_shut && turn.has_next) {
            return None;
        }
        let wait_max = if turn.has_next || is_shut { SHORT_WAIT_MAX } else { WAIT_MAX };
        let again = match fault.retry_after() {
            Some(wait) if wait > wait_max => return None,
            // Nobody comes early, not all at once, and not at once either.
            Some(wait) => {
                Instant::now() + wait.max(BACKOFF_MIN) + BACKOFF_MIN.mul_f64(BACKOFF_JITTER * fastrand::f64())
            }
            None => turn.backoff.next_backoff().deadline(),
        };
        // What is not sent takes nothing of the budget.
        (again < self.until() && (is_shut || self.chats.attempts.budget(provider).withdraw())).then_some(again)
    }

    /// Sends one request, unless a circuit is open.
    async fn attempt(
        &mut self,
        target: &Target,
        held: &Held,
        resent: u32,
    ) -> Result<(Exchange, Box<Attempt>), (Box<Attempt>, Fault)> {
        let provider = target.provider;
        let mut attempt = Box::new(Attempt {
            provider,
            model: target.model.clone(),
            api_key_id: held.key.api_key_id.clone(),
            source: held.key.source,
            request_id: String::new(),
            count: self.attempts,
        });
        let permits = match Permits::ask(&self.chats.attempts.circuits, provider, held) {
            Ok(permits) => permits,
            Err(fault) => return Err((attempt, fault)),
        };
        self.attempts += 1;
        attempt.count = self.attempts;
        let call = self.chats.uses.begin(Called {
            organization: self.organization.clone(),
            profile: self.profile.cloned(),
            provider,
            model: target.model.clone(),
            api_key_id: held.key.api_key_id.clone(),
            version: held.key.version,
            source: held.key.source,
        });
        let call_seed = Uuid::new_v4().simple().to_string();
        let upstream = &self.chats.upstream;
        let sending = Sending { call, call_seed: &call_seed, resent, deadline: self.deadline };
        match upstream.open(&target.outbound, &held.key.material, sending).await {
            Ok(exchange) => {
                permits.judge(None);
                exchange.request_id().clone_into(&mut attempt.request_id);
                Ok((exchange, attempt))
            }
            Err((Fault::KeyNotSendable, _)) => {
                self.attempts -= 1;
                attempt.count = self.attempts;
                Err((attempt, Fault::KeyNotSendable))
            }
            Err((fault, request_id)) => {
                permits.judge(Some(fault.class()));
                attempt.request_id = request_id;
                Err((attempt, fault))
            }
        }
    }
}

/// The leave of both circuits that a call passes.
struct Permits<'a> {
    provider: Permit<'a>,
    key: Permit<'a>,
}

impl<'a> Permits<'a> {
    fn ask(circuits: &'a Circuits, provider: Provider, held: &Held) -> Result<Self, Fault> {
        let api_key_id = held.key.api_key_id.clone();
        let key = Name::Key { provider, api_key_id, version: held.key.version };
        let admit = |name: Name| {
            let provider = matches!(name, Name::Provider(_));
            circuits.admit(name).map_err(|refused| Fault::CircuitOpen {
                class: refused.class,
                wait: refused.wait,
                of_provider: provider,
            })
        };
        Ok(Self { key: admit(key)?, provider: admit(Name::Provider(provider))? })
    }

    /// Tells both circuits what came of the call.
    fn judge(self, class: Option<Class>) {
        let culprit = class.and_then(|class| Some((class, Rule::of(class).counts_against?)));
        match culprit {
            Some((class, Culprit::Provider)) => self.provider.failed(class),
            Some((class, Culprit::Key)) => {
                self.provider.succeeded();
                self.key.failed(class);
            }
            // The time was over, by the caller's will, or it hung up in an orderly way: nothing is
            // known.
            None if matches!(class, Some(Class::Deadline | Class::Cut)) => {}
            None => {
                self.provider.succeeded();
                if class.is_none() {
                    self.key.succeeded();
                }
            }
        }
    }
}
