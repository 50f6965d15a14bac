//! Several replicas are one vault: whatever crashes, hangs or restarts, what clients see is what
//! they could have seen if their calls had run one after another.

mod register;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use proto::{keyvault::ApiKey, types::Provider};
use system_tests::{
    Replicas, Storage,
    answer::Failure,
    history::{Call, Recorder, check},
    mutation::{Change, Done, Mutation},
    replicas::{Door, eventually},
    soak,
};
use tokio::{task::JoinSet, time::sleep};
use tonic::Code;

use register::{Operation, Register, State, Version};

const CLIENTS: usize = 8;

/// The providers whose default is a register of two keys each.
const DEFAULTS: [Provider; 2] = [Provider::Openai, Provider::Anthropic];
const KEYS: usize = 2;

/// The provider with one key whose name is a number, which clients read and raise.
const COUNTER: Provider = Provider::Gemini;

/// How many calls are answered between two faults.
const CALLS_BETWEEN_FAULTS: usize = 40;

/// How long a replica hangs. One time in ten it is longer than calls to it wait.
const PAUSE: Duration = Duration::from_millis(500);
const LONG_PAUSE: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_are_one_vault_through_crashes_pauses_and_restarts_of_the_database() {
    let Some(mut replicas) = Replicas::start(Storage::Postgres, 3).await else { return };
    let faults = [Fault::Kill, Fault::Pause, Fault::RestartDatabase];
    histories(&mut replicas, &faults, soak::times(5, 50), soak::times(600, 5_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_vault_on_a_file_is_one_vault_through_crashes_and_pauses() {
    let mut replicas = Replicas::start(Storage::Sqlite, 1).await.expect("SQLite is there");
    histories(&mut replicas, &[Fault::Kill, Fault::Pause], soak::times(2, 50), soak::times(600, 5_000)).await;
}

/// What is done to the vault.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Pause,
    RestartDatabase,
}

impl Fault {
    async fn strike(self, replicas: &mut Replicas, random: &mut Rng) {
        let replica = random.usize(..replicas.doors().len());
        match self {
            Self::Kill => replicas.crash(replica).await,
            Self::Pause => {
                replicas.process(replica).pause().await;
                sleep(if random.u8(..10) == 0 { LONG_PAUSE } else { PAUSE.mul_f64(random.f64()) }).await;
                replicas.process(replica).resume().await;
            }
            Self::RestartDatabase => {
                replicas.postgres().stop_immediate().await.expect("PostgreSQL stops");
                replicas.postgres().start_again().await.expect("PostgreSQL starts");
            }
        }
    }
}

/// Records histories under faults, each of an organization of its own, and checks them.
async fn histories(replicas: &mut Replicas, faults: &[Fault], count: usize, calls: usize) {
    for number in 0..count {
        let seed = number as u64;
        let history = History::prepare(&replicas.doors(), number).await;
        let mut random = Rng::with_seed(seed);
        let clients = history.start_clients(calls / CLIENTS, seed);
        let mut struck = 0;
        while !clients.have_ended() {
            let wanted = history.len() + random.usize(1..=CALLS_BETWEEN_FAULTS);
            eventually("progress", || async { (history.len() >= wanted || clients.have_ended()).then_some(()) }).await;
            faults[struck % faults.len()].strike(replicas, &mut random).await;
            struck += 1;
        }
        clients.join().await;
        let unknown = history.check();
        println!("history {number}: {} calls, {unknown} of them without an end, {struck} faults", history.len());
    }
}

/// One recorded register per provider.
#[derive(Clone)]
struct History {
    organization: String,
    doors: Vec<Door>,
    /// The keys of each default, and the one that counts.
    keys: Vec<Vec<ApiKey>>,
    recorders: Vec<Recorder<Operation>>,
}

struct Clients {
    tasks: JoinSet<()>,
    ended: Vec<Arc<AtomicBool>>,
}

impl Clients {
    fn have_ended(&self) -> bool {
        self.ended.iter().all(|ended| ended.load(Ordering::SeqCst))
    }

    async fn join(mut self) {
        while let Some(outcome) = self.tasks.join_next().await {
            outcome.expect("a client ends well");
        }
    }
}

/// Says that its client has ended, however it did.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn material(provider: Provider, key: usize, number: &str) -> String {
    format!("sk-{provider:?}-{key}-{number}")
}

impl History {
    async fn prepare(doors: &[Door], number: usize) -> Self {
        let organization = format!("history-{number}");
        let mut keys = Vec::new();
        for provider in DEFAULTS.into_iter().chain([COUNTER]) {
            let mut of_provider = Vec::new();
            for key in 0..if provider == COUNTER { 1 } else { KEYS } {
                let change = Change::Create {
                    provider,
                    name: "0".to_owned(),
                    material: material(provider, key, "start"),
                    default: key == 0,
                    profiles: Vec::new(),
                };
                let mutation = change.of(&organization);
                let vault = &doors[0];
                let done = eventually("a key", || async { mutation.send(&vault.keys()).await.ok() }).await;
                of_provider.push(done.key());
            }
            keys.push(of_provider);
        }
        let recorders = keys.iter().map(|_| Recorder::default()).collect();
        Self { organization, doors: doors.to_vec(), keys, recorders }
    }

    fn len(&self) -> usize {
        self.recorders.iter().map(Recorder::len).sum()
    }

    fn start_clients(&self, calls: usize, seed: u64) -> Clients {
        let (mut tasks, mut all_ended) = (JoinSet::new(), Vec::new());
        for number in 0..CLIENTS {
            let ended = Arc::new(AtomicBool::new(false));
            all_ended.push(Arc::clone(&ended));
            let client = Client { history: self.clone(), random: Rng::with_seed(seed * 100 + number as u64), number };
            tasks.spawn(async move {
                let _ended = Ended(ended);
                client.run(calls).await;
            });
        }
        Clients { tasks, ended: all_ended }
    }

    /// Checks all registers. Says how many calls nobody knows the outcome of.
    fn check(&self) -> usize {
        let mut unknown = 0;
        for (register, recorder) in self.recorders.iter().enumerate() {
            let provider = self.keys[register][0].provider();
            let start = |key| Version { version: 1, material: material(provider, key, "start") };
            let keys = (0..self.keys[register].len()).map(start).collect();
            let calls = recorder.calls();
            unknown += calls.iter().filter(|call: &&Call<Operation>| call.ended.is_none()).count();
            if let Err(problem) = check(&Register(State { default: Some(0), keys, count: 0, allowed: true }), &calls) {
                panic!("{} {provider:?}: {problem:?}", self.organization);
            }
        }
        unknown
    }
}

struct Client {
    history: History,
    random: Rng,
    number: usize,
}

/// What became of a change.
enum Outcome {
    Done(Done),
    /// It did not happen.
    Refused(Failure),
    /// Nobody knows.
    Unknown,
}

impl Client {
    async fn run(mut self, calls: usize) {
        for number in 0..calls {
            match self.random.u8(..20) {
                0..9 => self.resolve().await,
                9..12 => self.set_default().await,
                12..15 => self.rotate(number).await,
                15 => self.clear_default().await,
                16 => self.set_policy().await,
                _ => self.count().await,
            }
        }
    }

    /// Any replica.
    fn door(&mut self) -> Door {
        self.history.doors[self.random.usize(..self.history.doors.len())].clone()
    }

    /// Any default: its number, its provider, one of its keys, and where calls are noted.
    fn register(&mut self) -> (Provider, usize, String, Recorder<Operation>) {
        let register = self.random.usize(..DEFAULTS.len());
        let key = self.random.usize(..KEYS);
        let id = self.history.keys[register][key].api_key_id.clone();
        (DEFAULTS[register], key, id, self.history.recorders[register].clone())
    }

    /// The number of the key of an id.
    fn number_of(&self, id: &str) -> usize {
        let number = self.history.keys.iter().find_map(|keys| keys.iter().position(|key| key.api_key_id == id));
        number.unwrap_or_else(|| panic!("{id} is no key of {}", self.history.organization))
    }

    async fn resolve(&mut self) {
        let (provider, _, _, recorder) = self.register();
        let door = self.door();
        let began = recorder.now();
        match door.resolve(&self.history.organization, None, provider).await {
            Ok(found) => {
                let material = found.material.expect("material").api_key;
                let version = Version { version: found.version, material };
                recorder.answered(began, Operation::Resolve(Some((self.number_of(&found.api_key_id), version))));
            }
            Err(failure) if failure.class() == "FailedPrecondition NO_KEY_CONFIGURED" => {
                recorder.answered(began, Operation::Resolve(None));
            }
            Err(failure) => assert_is_a_fault(&failure),
        }
    }

    async fn set_default(&mut self) {
        let (_, key, id, recorder) = self.register();
        let began = recorder.now();
        match self.change(Change::SetDefault(id).of(&self.history.organization)).await {
            Outcome::Done(done) => recorder.answered(began, Operation::SetDefault(key, Some(done.key().version))),
            Outcome::Refused(failure) => assert_is_a_fault(&failure),
            Outcome::Unknown => recorder.unknown(began, Operation::SetDefault(key, None)),
        }
    }

    async fn clear_default(&mut self) {
        let (provider, _, _, recorder) = self.register();
        let began = recorder.now();
        match self.change(Change::ClearDefault(provider).of(&self.history.organization)).await {
            Outcome::Done(Done::Was(id)) => {
                let was = (!id.is_empty()).then(|| self.number_of(&id));
                recorder.answered(began, Operation::ClearDefault(Some(was)));
            }
            Outcome::Done(other) => panic!("{other:?}"),
            Outcome::Refused(failure) => assert_is_a_fault(&failure),
            Outcome::Unknown => recorder.unknown(began, Operation::ClearDefault(None)),
        }
    }

    /// Sets the policy of the organization, which the defaults of all providers are under.
    async fn set_policy(&mut self) {
        let recorders = self.history.recorders[..DEFAULTS.len()].to_vec();
        let allowed = self.random.u8(..3) > 0;
        let began: Vec<_> = recorders.iter().map(Recorder::now).collect();
        let change = Change::SetPolicy { profile: None, default: Some(allowed), environment: None };
        let outcome = self.change(change.of(&self.history.organization)).await;
        for (recorder, began) in recorders.iter().zip(began) {
            match &outcome {
                Outcome::Done(Done::Policy(policy)) => {
                    assert_eq!(policy.allow_organization_default, allowed);
                    recorder.answered(began, Operation::SetPolicy(allowed));
                }
                Outcome::Done(other) => panic!("{other:?}"),
                Outcome::Refused(failure) => assert_is_a_fault(failure),
                Outcome::Unknown => recorder.unknown(began, Operation::SetPolicy(allowed)),
            }
        }
    }

    async fn rotate(&mut self, number: usize) {
        let (provider, key, id, recorder) = self.register();
        let material = material(provider, key, &format!("{}-{number}", self.number));
        let began = recorder.now();
        match self.change(Change::Rotate(id, material.clone(), None).of(&self.history.organization)).await {
            Outcome::Done(done) => {
                recorder.answered(began, Operation::Rotate(key, material, Some(done.key().version)));
            }
            Outcome::Refused(failure) => assert_is_a_fault(&failure),
            Outcome::Unknown => recorder.unknown(began, Operation::Rotate(key, material, None)),
        }
    }

    /// Reads the count, and raises it if it is still the same.
    async fn count(&mut self) {
        let register = DEFAULTS.len();
        let recorder = self.history.recorders[register].clone();
        let id = self.history.keys[register][0].api_key_id.clone();
        let door = self.door();
        let began = recorder.now();
        let key = match door.key(&self.history.organization, &id).await {
            Ok(key) => key,
            Err(failure) => return assert_is_a_fault(&failure),
        };
        let count: u64 = key.display_name.parse().expect("a number");
        recorder.answered(began, Operation::Read(count));

        let began = recorder.now();
        let rename = Change::Rename(id, (count + 1).to_string()).of(&self.history.organization).if_still(&key);
        match self.change(rename).await {
            Outcome::Done(done) => {
                assert_eq!(done.key().display_name, (count + 1).to_string());
                recorder.answered(began, Operation::Count(count));
            }
            Outcome::Refused(failure) if failure.class() == "Aborted ETAG_MISMATCH" => {
                recorder.answered(began, Operation::Refused(count));
            }
            Outcome::Refused(failure) => assert_is_a_fault(&failure),
            Outcome::Unknown => recorder.unknown(began, Operation::Count(count)),
        }
    }

    /// Sends a change. While nobody knows whether it happened, it is repeated through any replica,
    /// or, sometimes, left alone.
    async fn change(&mut self, mutation: Mutation) -> Outcome {
        let mut may_have_happened = false;
        for _ in 0..1_000 {
            let door = self.door();
            match mutation.send(&door.keys()).await {
                Ok(done) => return Outcome::Done(done),
                // What a replica says of a repeat holds for all that came before: it would have
                // answered as the first time.
                Err(failure) if !failure.reason.is_empty() && failure.code != Code::Unavailable => {
                    return Outcome::Refused(failure);
                }
                Err(failure) => {
                    assert_is_a_fault(&failure);
                    may_have_happened |= failure.may_have_happened();
                    if !may_have_happened && self.random.bool() {
                        return Outcome::Refused(failure);
                    }
                    if may_have_happened && self.random.u8(..20) == 0 {
                        return Outcome::Unknown;
                    }
                }
            }
            sleep(Duration::from_millis(self.random.u64(1..50))).await;
        }
        panic!("{mutation:?} is never answered");
    }
}

/// Only what a fault explains may fail.
fn assert_is_a_fault(failure: &Failure) {
    let lost_its_database = ["Unavailable STORE_UNAVAILABLE", "Unavailable AUDIT_UNAVAILABLE"];
    let is_a_fault = failure.reason.is_empty() || lost_its_database.contains(&failure.class().as_str());
    assert!(is_a_fault && failure.code != Code::Internal, "{failure:?}");
}
