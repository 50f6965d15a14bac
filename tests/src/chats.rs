//! Chats whose answers say which key paid for them, one by one or all the time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use proto::chat::chat_service_client::ChatServiceClient;
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tonic::{Request, transport::Channel};

use crate::{
    answer::{Answer, ask},
    fake_provider::{Answer as Said, FakeProvider},
};

/// The model of all these chats. Its provider is `OpenAI`.
pub const MODEL: &str = "gpt-4o";

/// The deadline of every chat. Longer than the gateway waits for a vault that does not answer.
pub const DEADLINE: Duration = Duration::from_secs(8);

/// A busy machine adds this to a deadline.
const LATENESS_MAX: Duration = Duration::from_secs(2);

/// What the pauses of [`Chatting`] are.
const PAUSE: Duration = Duration::from_millis(40);

/// How long [`Chatting::sees`] and [`Numbered::go_on`] wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lets a provider answer each request with the key that it came with.
pub fn says_its_key(provider: &FakeProvider) {
    provider.answers_by(|received| answer_of_openai(received.key()));
}

/// A whole answer that says `text`, which needs no escapes.
pub fn answer_of_openai(text: &str) -> Said {
    let chunk = |delta: &str, reason: &str| {
        format!(
            "data: {{\"id\":\"c\",\"model\":\"{MODEL}\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{reason}}}]}}\n\n"
        )
    };
    let text = chunk(&format!("{{\"role\":\"assistant\",\"content\":\"{text}\"}}"), "null");
    let end = chunk("{}", "\"stop\"");
    Said::stream(format!("{text}{end}data: [DONE]\n\n"))
}

/// Who chats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose keys.
    pub organization: String,
    /// As which profile.
    pub profile: String,
}

/// A chat that is over.
#[derive(Clone, Debug)]
pub struct Chatted {
    /// When it began.
    pub began: Instant,
    /// When it was over.
    pub ended: Instant,
    /// The key that was used, or code and reason of the failure.
    pub key: Result<String, String>,
}

/// Chats once. Panics if that hangs.
pub async fn chat(client: &ChatServiceClient<Channel>, caller: &Caller) -> Chatted {
    let mut request = ask(MODEL, Some(&caller.profile), "Hi");
    request.organization_id.clone_from(&caller.organization);
    let mut request = Request::new(request);
    request.set_timeout(DEADLINE);
    let mut client = client.clone();
    let began = Instant::now();
    let answer = timeout(DEADLINE + LATENESS_MAX, async { Answer::read(client.stream_chat(request).await).await });
    let answer = answer.await.unwrap_or_else(|_| panic!("a chat of {caller:?} hangs"));
    let key = match answer.failure {
        None => Ok(answer.text),
        Some(failure) => Err(failure.class()),
    };
    Chatted { began, ended: Instant::now(), key }
}

/// Somebody who chats all the time, in several places at once.
#[derive(Debug)]
pub struct Chatting {
    tasks: JoinSet<()>,
    places: Vec<Arc<Mutex<Vec<Chatted>>>>,
    ends: watch::Sender<bool>,
    count: watch::Sender<usize>,
}

impl Chatting {
    /// Begins to chat in so many places.
    pub fn start(client: &ChatServiceClient<Channel>, caller: &Caller, places: usize) -> Self {
        let (ends, count) = (watch::Sender::new(false), watch::Sender::new(0));
        let places: Vec<_> = (0..places).map(|_| Arc::new(Mutex::new(Vec::new()))).collect();
        let mut tasks = JoinSet::new();
        for place in &places {
            let (client, caller, place) = (client.clone(), caller.clone(), Arc::clone(place));
            let (mut ends, count) = (ends.subscribe(), count.clone());
            tasks.spawn(async move {
                while !*ends.borrow() {
                    let chatted = chat(&client, &caller).await;
                    place.lock().expect("no panic before").push(chatted);
                    count.send_modify(|count| *count += 1);
                    // Not sooner than the end.
                    let _ = timeout(PAUSE, ends.wait_for(|ends| *ends)).await;
                }
            });
        }
        Self { tasks, places, ends, count }
    }

    /// Waits until the last chat in each place was as `expected`.
    pub async fn sees(&self, what: &str, expected: impl Fn(&Chatted) -> bool) {
        let mut count = self.count.subscribe();
        let everywhere =
            || self.places.iter().all(|place| place.lock().expect("no panic").last().is_some_and(&expected));
        let seen = timeout(PATIENCE, count.wait_for(|_| everywhere())).await;
        assert!(seen.is_ok(), "no {what} within {PATIENCE:?}: {:?}", self.last());
    }

    fn last(&self) -> Vec<Option<Chatted>> {
        self.places.iter().map(|place| place.lock().expect("no panic").last().cloned()).collect()
    }

    /// Ends, and returns all chats of each place in their order.
    pub async fn end(mut self) -> Vec<Vec<Chatted>> {
        self.ends.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no chat panics");
        }
        self.places.iter().map(|place| std::mem::take(&mut *place.lock().expect("no panic"))).collect()
    }
}

/// Chats all the time, in several places at once, none of which is like another.
#[derive(Debug)]
pub struct Numbered {
    tasks: JoinSet<()>,
    ends: watch::Sender<bool>,
    count: watch::Sender<usize>,
}

impl Numbered {
    /// Begins in so many places; `chat` is called with another number each time. It panics if a
    /// chat failed.
    pub fn begin<F: Future<Output = ()> + Send>(
        places: usize,
        chat: impl Fn(usize) -> F + Send + Sync + 'static,
    ) -> Self {
        let (ends, count) = (watch::Sender::new(false), watch::Sender::new(0));
        let (chat, numbers) = (Arc::new(chat), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..places {
            let (chat, numbers, ends, count) =
                (Arc::clone(&chat), Arc::clone(&numbers), ends.subscribe(), count.clone());
            tasks.spawn(async move {
                while !*ends.borrow() {
                    chat(numbers.fetch_add(1, Ordering::Relaxed)).await;
                    count.send_modify(|count| *count += 1);
                }
            });
        }
        Self { tasks, ends, count }
    }

    /// Waits for so many further chats. Those that fail are missing.
    pub async fn go_on(&self, chats: usize) {
        let mut count = self.count.subscribe();
        let so_far = *count.borrow();
        let more = timeout(PATIENCE, count.wait_for(|count| *count >= so_far + chats)).await;
        assert!(more.is_ok(), "chats go on");
    }

    /// Ends, and returns how many chats there were. Panics if one failed.
    pub async fn end(mut self) -> usize {
        self.ends.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no chat fails");
        }
        *self.count.borrow()
    }
}

/// The longest time in which a place had no answer that was one.
pub fn longest_gap(places: &[Vec<Chatted>]) -> Duration {
    let gaps = places.iter().flat_map(|place| {
        let answers: Vec<_> = place.iter().filter(|chatted| chatted.key.is_ok()).collect();
        answers.windows(2).map(|pair| pair[1].ended - pair[0].ended).collect::<Vec<_>>()
    });
    gaps.max().unwrap_or_default()
}
