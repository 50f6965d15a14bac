//! The loop of a gRPC server: layers, limits, health, reflection, bounded drain.

mod rpc_span;

use std::{
    fmt,
    future::{Ready, ready},
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, builder::BoolishValueParser, value_parser};
use futures_util::{
    StreamExt as _, TryFutureExt as _,
    future::{Either, MapOk},
    stream::{self, BoxStream},
};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};
use tonic::{Status, body::Body, service::Routes, transport::Server};
use tower::{Layer, Service};
use tracing::{info, warn};

use crate::{
    drain::{Drain, Farewell, Gate, HEALTH, Phase},
    failure::Failure,
    health,
    identity::{Identities, Refusal},
    incoming::{Connection, InTurn, Incoming, Io},
    policy::{Policy, Role},
    readiness::Readiness,
    tls::ServerTlsOptions,
};
use rpc_span::RpcSpans;
pub use rpc_span::{FaultOf, code_name};

/// Header fields of one request together, as HTTP/2 counts them. Ours need 1 KiB.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;

/// Streams that a peer reset before the server took them up. A peer that opens and resets
/// without end is disconnected here, before it costs more than itself. It is also what h2
/// has as its default; stated, so that a default of the stack does not change it.
const PENDING_RESETS_MAX: usize = 20;

/// Streams that the server reset because the peer broke the protocol on them. tonic leaves
/// them without a limit unless told; no peer of ours ever makes one.
const LOCAL_RESETS_MAX: usize = 1024;

/// How often an idle connection is asked whether its peer is still there, and how long
/// the answer may take. Together well below the idle limits of common load balancers.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection takes new calls. Afterwards its peer connects anew, with the
/// certificate that it has by then, and to the replicas that there are by then. Calls that
/// are running end in peace.
const CONNECTION_AGE_MAX: Duration = Duration::from_mins(30);

/// How long connections may take to close once everything on them has ended.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// How a service listens and stops.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub struct ServerOptions {
    /// Runs for development: loopback only, no TLS, one principal with every role
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub dev: bool,

    /// Who may call, and what each may do: a JSON file, read anew when it changes
    #[arg(long, value_name = "PATH", help_heading = "Identity")]
    pub policy: Option<PathBuf>,

    /// Answers gRPC server reflection. Always on with --dev
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub reflection: bool,

    /// How long new calls are taken after SIGTERM, while health says already that it ends, in
    /// seconds: as long as whoever sends calls here needs to learn of it. Kubernetes takes a few
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = value_parser!(u64).range(..=86_400))]
    pub drain_delay_seconds: u64,

    /// How long running calls may take to end after that, in seconds. Then they are cut
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = value_parser!(u64).range(..=86_400))]
    pub drain_seconds: u64,

    /// What the server presents, and whom it trusts. Last: what stands after it in `--help` is under
    /// its heading.
    #[command(flatten)]
    pub tls: ServerTlsOptions,
}

impl ServerOptions {
    /// Refuses what must not be served: a server without identities outside of
    /// development, or one in development that others can reach.
    ///
    /// # Errors
    ///
    /// Says which option to change.
    pub fn check(&self, listen: SocketAddr) -> anyhow::Result<()> {
        let identity = [
            ("--tls-certificate", self.tls.tls_certificate.is_some()),
            ("--tls-key", self.tls.tls_key.is_some()),
            ("--policy", self.policy.is_some()),
        ];
        if !self.dev {
            let missing: Vec<_> = identity.iter().filter(|(_, given)| !given).map(|(option, _)| *option).collect();
            ensure!(
                missing.is_empty(),
                "refusing to serve without {}: callers must be known. For development, --dev serves on loopback, to \
                 everyone on this machine",
                missing.join(" and ")
            );
            return Ok(());
        }
        if let Some((option, _)) = identity.iter().find(|(_, given)| *given) {
            bail!("{option} is refused with --dev, which knows nobody: leave one of them out");
        }
        if !is_loopback(listen.ip()) {
            bail!("--listen {listen} is refused with --dev: it must be a loopback address, such as 127.0.0.1");
        }
        Ok(())
    }

    /// Reads who may call. Call [`ServerOptions::check`] first.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read or used, saying what to change.
    pub fn identities<R: Role>(&self) -> anyhow::Result<Identities<R>> {
        match (&self.policy, self.tls.open()?) {
            (Some(policy), Some(tls)) => Ok(Identities::new(Policy::open(policy)?, tls)),
            _ => Ok(Identities::dev()),
        }
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Binds the address that a service listens on.
///
/// # Errors
///
/// Fails if the address cannot be bound, naming it.
pub async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).await.with_context(|| {
        format!("cannot listen on {listen}: is another instance running? choose another with --listen")
    })
}

/// What a service serves, and to whom.
pub struct Served<R> {
    /// Who may call.
    pub identities: Identities<R>,
    /// What becomes of a call whose caller is not known.
    pub refuse: Refuse,
    /// The RPC services.
    pub routes: Routes,
    /// The services, for health checks.
    pub services: &'static [health::Service],
    /// The descriptors that reflection answers with.
    pub descriptors: &'static [u8],
    /// The failure of a request that is larger than a service reads.
    pub too_large: fn() -> Failure,
    /// What the services know of the end.
    pub drain: Drain,
    /// What is said to callers at the end.
    pub farewell: Farewell,
    /// Whether the services can do their work. Health says so; nothing is refused for it.
    pub readiness: Readiness,
    /// Whose fault a reason of the contract is.
    pub fault_of: FaultOf,
    /// The RPCs that programs make every few seconds by themselves, as `package.Service/Method`:
    /// that one went well is logged for debugging only.
    pub routine: &'static [&'static str],
    /// How many calls one connection may have open at once. Further ones wait at the caller.
    pub streams_per_connection_max: u32,
}

impl<R> fmt::Debug for Served<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("services", &self.services)
            .field("identities", &self.identities)
            .finish_non_exhaustive()
    }
}

/// Serves until `stop` resolves, then drains: see [`crate::drain`]. Calls that do not end in time
/// are cut, and told so: that is what the time is for, and no failure.
///
/// # Errors
///
/// Fails if the server cannot run.
pub async fn run<R: Role>(
    options: &ServerOptions,
    listener: TcpListener,
    served: Served<R>,
    stop: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let readiness = served.readiness;
    let mut routes = served.routes.add_service(health::server(readiness.clone(), served.services));
    if options.dev || options.reflection {
        routes = with_reflection(routes, served.descriptors)?;
    }

    let address = listener.local_addr().context("the listener has no address")?;
    if options.dev {
        warn!("development mode: no TLS, and everyone on this machine may do everything");
    }
    info!(%address, "listening");

    let drain = served.drain;
    let identities = Arc::new(served.identities);
    let incoming = InTurn::new(Incoming::new(listener, identities.tls().cloned()));
    let gate = Gate { drain: drain.clone(), farewell: served.farewell };
    let is_served = |name: &str| served.services.iter().any(|service| service.name == name);
    let spans = RpcSpans::new(served.descriptors, is_served, served.fault_of, served.routine)?;
    let serve = |until: Phase, incoming: BoxStream<'static, io::Result<Io>>| {
        builder(served.streams_per_connection_max)
            // First, so that everything below, rejections included, has a trace.
            .layer(spans.clone())
            // Inside the span, so that the refusal has its trace.
            .layer(gate.clone())
            .layer(TooLarge { refusal: served.too_large })
            // Who calls is known before any handler runs.
            .layer(Authenticate { identities: Arc::clone(&identities), refuse: Arc::clone(&served.refuse) })
            .add_routes(routes.clone())
            .serve_with_incoming_shutdown(incoming, drain.reached(until))
    };
    // When its time comes, a server tells the clients of its connections to connect anew. Those
    // who come once calls are refused find another one, which does so in the end only.
    let before = incoming.clone().take_until(drain.reached(Phase::Refusing)).chain(stream::pending());
    let mut serving = pin!(serve(Phase::Parting, before.boxed()));
    let mut refusing = pin!(serve(Phase::Over, incoming.boxed()));

    let mut stop = pin!(stop);
    let mut following = pin!(identities.follow());
    tokio::select! {
        ended = &mut serving => return ended.context("the server ended"),
        () = &mut stop => {}
        // Neither ever ends.
        ((), ()) = async { tokio::join!(&mut following, tell_readiness(&readiness, address)) } => {}
    }
    readiness.shutting_down();
    let closing = async {
        let after = async {
            drain.reached(Phase::Refusing).await;
            refusing.as_mut().await
        };
        let (first, second) = tokio::join!(serving.as_mut(), after);
        first.and(second)
    };
    let (delay, limit) = (Duration::from_secs(options.drain_delay_seconds), Duration::from_secs(options.drain_seconds));
    let running_down = async {
        tokio::select! {
            () = drain.run_down(delay, limit) => {}
            // Who loses its rights meanwhile loses them.
            () = &mut following => {}
        }
    };
    close(closing, running_down).await?;
    info!("stopped");
    Ok(())
}

/// Waits until all connections are closed, which they are some time after `running_down` has ended:
/// what is said last must still be written. Those that nobody reads are left open.
async fn close(
    closing: impl Future<Output = Result<(), tonic::transport::Error>>,
    running_down: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut closing = pin!(closing);
    tokio::select! {
        ended = &mut closing => return ended.context("the server ended"),
        () = running_down => {}
    }
    if let Ok(ended) = timeout(CLOSE_MAX, closing).await {
        ended.context("the server ended")
    } else {
        warn!("connections whose peers do not read are left open");
        Ok(())
    }
}

/// Adds reflection. Tools in the field ask for either version of the protocol.
fn with_reflection(routes: Routes, descriptors: &'static [u8]) -> anyhow::Result<Routes> {
    let reflection =
        || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(descriptors);
    Ok(routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?))
}

/// A server with the limits of every service.
fn builder(streams_per_connection_max: u32) -> Server {
    Server::builder()
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_concurrent_streams(streams_per_connection_max)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(LOCAL_RESETS_MAX))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_connection_age(CONNECTION_AGE_MAX)
}

/// Says in the log when the process becomes ready, and why it is not any more. Never ends.
async fn tell_readiness(readiness: &Readiness, address: SocketAddr) {
    let mut known = readiness.follow();
    let mut was_ready = false;
    loop {
        let (is_ready, why_not) = {
            let known = known.borrow_and_update();
            (known.is_ready(), known.why_not())
        };
        match (was_ready, is_ready) {
            (false, true) => info!(%address, "serving"),
            (true, false) => warn!(why = why_not, "not ready"),
            (true, true) | (false, false) => {}
        }
        was_ready = is_ready;
        // It ends with the last who tells, and then there is no more news.
        if known.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// When the head of a request was here: a deadline counts from then, also while its body
/// arrives or the machine is busy.
#[derive(Clone, Copy, Debug)]
pub struct Arrived(pub Instant);

/// Gives a request that is larger than a service reads the failure of the contract.
///
/// tonic refuses it before any handler runs, as `OUT_OF_RANGE` without details, which is
/// how it is told from a service's own `OUT_OF_RANGE`.
#[derive(Clone, Copy, Debug)]
struct TooLarge {
    refusal: fn() -> Failure,
}

impl<S> Layer<S> for TooLarge {
    type Service = TooLargeService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TooLargeService { inner, refusal: self.refusal }
    }
}

#[derive(Clone, Debug)]
struct TooLargeService<S> {
    inner: S,
    refusal: fn() -> Failure,
}

impl<S> Service<http::Request<Body>> for TooLargeService<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = MapOk<S::Future, Box<dyn FnOnce(S::Response) -> S::Response + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let refusal = self.refusal;
        self.inner.call(request).map_ok(Box::new(move |response| {
            let headers = response.headers();
            let out_of_range = headers.get(Status::GRPC_STATUS).is_some_and(|code| code == "11");
            let has_details = headers.contains_key("grpc-status-details-bin");
            if out_of_range && !has_details { Status::from(refusal()).into_http() } else { response }
        }))
    }
}

/// Says who calls, or refuses: no handler sees a caller that is not known.
///
/// Health is for everyone: it says nothing that a connection does not, and what asks for it
/// has no identity.
#[derive(Clone)]
struct Authenticate<R> {
    identities: Arc<Identities<R>>,
    refuse: Refuse,
}

/// Turns a refusal into the failure that the caller gets, and takes note of it: the path of
/// the method, where the call comes from, why.
pub type Refuse = Arc<dyn Fn(&str, Option<SocketAddr>, &Refusal) -> Failure + Send + Sync>;

impl<R: Role, S> Layer<S> for Authenticate<R> {
    type Service = AuthenticateService<R, S>;

    fn layer(&self, inner: S) -> Self::Service {
        AuthenticateService { inner, gate: self.clone() }
    }
}

#[derive(Clone)]
struct AuthenticateService<R, S> {
    inner: S,
    gate: Authenticate<R>,
}

impl<R: Role, S> Service<http::Request<Body>> for AuthenticateService<R, S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let connection = request.extensions().get::<Connection>().cloned().unwrap_or_default();
        match self.gate.identities.identify(request.headers_mut(), &connection) {
            Ok((peer, roles, standing)) => {
                let extensions = request.extensions_mut();
                extensions.insert(peer);
                extensions.insert(roles);
                extensions.insert(standing);
            }
            Err(_) if request.uri().path().starts_with(HEALTH) => {}
            Err(refusal) => {
                let failure = (self.gate.refuse)(request.uri().path(), connection.address, &refusal);
                return Either::Right(ready(Ok(Status::from(failure).into_http())));
            }
        }
        Either::Left(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn development_is_for_loopback_only_and_everything_else_is_refused() {
        let none = ServerTlsOptions { tls_certificate: None, tls_key: None, tls_client_ca: None };
        let options = |dev, policy: Option<&str>| ServerOptions {
            dev,
            reflection: false,
            drain_delay_seconds: 0,
            drain_seconds: 1,
            policy: policy.map(PathBuf::from),
            tls: none.clone(),
        };
        let loopback = "127.0.0.1:50051".parse().expect("an address");
        let mapped = "[::ffff:127.0.0.1]:50051".parse().expect("an address");
        let public = "0.0.0.0:50051".parse().expect("an address");

        assert!(options(true, None).check(loopback).is_ok());
        assert!(options(true, None).check(mapped).is_ok());
        assert!(options(true, None).check(public).is_err());
        assert!(options(true, Some("policy.json")).check(loopback).is_err());
        let missing = options(false, Some("policy.json")).check(loopback).expect_err("no certificate").to_string();
        assert!(missing.contains("--tls-certificate and --tls-key:"), "{missing}");
    }
}
