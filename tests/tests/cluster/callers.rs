//! Callers of the gateways, each of which stays with one until that sends it away, and what the
//! provider answers them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use proto::chat::chat_service_client::ChatServiceClient;
use system_tests::{
    answer::{Answer, ask},
    certs::Issued,
    cluster::Endpoints,
    fake_provider::{Answer as Said, Received},
    stage::wire::{Api, text},
};
use tokio::{sync::watch, time::sleep};
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

const API: Api = Api::Messages;

/// The time between two tokens.
const PAUSE: Duration = Duration::from_millis(100);

/// One chat of so many is slow: it goes on while pods come and go.
const SLOW_EVERY: usize = 20;

/// The tokens of a slow chat and of any other.
const TOKENS: [usize; 2] = [20, 2];

/// How long a chat is tried.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection, and where it leads.
type Way = (SocketAddr, Channel);

/// Those who call a Service, in several places.
#[derive(Clone, Debug)]
pub(crate) struct Callers {
    endpoints: watch::Receiver<Endpoints>,
    ca: String,
    identity: Issued,
    places: Arc<Mutex<Vec<Option<Way>>>>,
}

impl Callers {
    pub(crate) fn new(endpoints: watch::Receiver<Endpoints>, ca: &str, identity: &Issued, places: usize) -> Self {
        let places = Arc::new(Mutex::new(vec![None; places]));
        Self { endpoints, ca: ca.to_owned(), identity: identity.clone(), places }
    }

    /// Chats as a profile that nobody chatted as, so that the vault is asked for the key, and
    /// tries again as callers are told to. Panics if there is no whole answer.
    pub(crate) async fn chat(self, number: usize) {
        let tokens = TOKENS[usize::from(!number.is_multiple_of(SLOW_EVERY))];
        let begun = Instant::now();
        let mut attempt = 0;
        loop {
            let (address, channel) = self.way(number, attempt);
            let profile = format!("newcomer-{number}");
            let question = ask(API.model(), Some(&profile), &format!("tokens={tokens} of it"));
            let answer = Answer::read(ChatServiceClient::new(channel).stream_chat(question).await).await;
            let Some(failure) = answer.failure else {
                assert_eq!(answer.text, text(0..tokens));
                return;
            };
            assert_eq!(failure.code, Code::Unavailable, "only what may be repeated: {failure:?}");
            assert!(begun.elapsed() < PATIENCE, "nobody answers: {failure:?}");
            self.leaves(number, address);
            attempt += 1;
            // To another gateway at once; to the same one not before it asks for.
            let others = self.addresses().iter().any(|other| *other != address);
            let wait = failure.retry_after.filter(|_| !others).unwrap_or(Duration::from_millis(10));
            sleep(wait).await;
        }
    }

    /// The connection of a place; a new one, as a node chooses one, if it has none.
    fn way(&self, number: usize, attempt: usize) -> Way {
        let mut places = self.places.lock().expect("no panic before");
        let at = number % places.len();
        let connect = || {
            let addresses = self.addresses();
            let address = addresses[(at + attempt) % addresses.len()];
            (address, channel(address, "chat-gateway.archestra.svc", &self.ca, &self.identity))
        };
        places[at].get_or_insert_with(connect).clone()
    }

    /// A place gives its connection up, unless another chat did so before.
    fn leaves(&self, number: usize, address: SocketAddr) {
        let mut places = self.places.lock().expect("no panic before");
        let at = number % places.len();
        places[at].take_if(|(connected, _)| *connected == address);
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.endpoints.borrow()["chat-gateway"].clone()
    }
}

/// A connection to a pod, made by the first call, which holds it to the name of its Service.
pub(crate) fn channel(address: SocketAddr, name: &str, ca: &str, identity: &Issued) -> Channel {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca))
        .identity(Identity::from_pem(&identity.certificate, &identity.key))
        .domain_name(name);
    let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("a URL");
    endpoint.tls_config(tls).expect("certificates").connect_lazy()
}

/// An answer of as many tokens as were asked for, at a pace.
pub(crate) fn said(received: &Received) -> Said {
    let body = String::from_utf8_lossy(&received.body);
    let rest = body.split_once("tokens=").expect("a question of ours").1;
    let tokens: usize = rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    if tokens == TOKENS[1] {
        return API.whole(tokens);
    }
    let first = Said::stream(API.opening() + &API.tokens(0..1));
    let paced = (1..tokens).fold(first, |said, n| said.and_after(PAUSE, API.tokens(n..n + 1)));
    paced.and_after(PAUSE, API.closing(tokens))
}
