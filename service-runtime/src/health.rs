//! `grpc.health.v1`: what the readiness of a process means for each of its services.
//!
//! Kept apart from `tonic_health`'s own service, whose watches never end and would hold up a
//! shutdown for as long as it may take. Odd, as the protocol has it: a check of a service that
//! is not known is an error, and a watch of one is an answer.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health as Rpc, HealthServer},
};

use crate::readiness::{Known, Readiness};

/// A question about health names a service. Everyone may ask, so it must cost next to nothing.
const REQUEST_BYTES_MAX: usize = 1024;

/// Watches at once. Those who balance over replicas keep one each; everyone may begin one.
const WATCHES_MAX: usize = 1_024;

/// A service, and the components that it cannot do its work without.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its full name.
    pub name: &'static str,
    /// The names of components.
    pub needs: &'static [&'static str],
}

/// The service that answers for these. The empty name stands for all of them.
pub(crate) fn server(readiness: Readiness, services: &'static [Service]) -> HealthServer<impl Rpc> {
    let health = Health { readiness, services, watches: Arc::new(Semaphore::new(WATCHES_MAX)) };
    HealthServer::new(health).max_decoding_message_size(REQUEST_BYTES_MAX)
}

struct Health {
    readiness: Readiness,
    services: &'static [Service],
    watches: Arc<Semaphore>,
}

/// What is asked for.
#[derive(Clone, Copy)]
enum Asked {
    Whole,
    One(&'static Service),
    Unknown,
}

impl Asked {
    fn status(self, known: &Known) -> ServingStatus {
        let serves = match self {
            Self::Whole => known.is_ready(),
            Self::One(service) => known.serves(service.needs),
            Self::Unknown => return ServingStatus::ServiceUnknown,
        };
        if serves { ServingStatus::Serving } else { ServingStatus::NotServing }
    }
}

impl Health {
    fn asked(&self, request: &Request<HealthCheckRequest>) -> Asked {
        match request.get_ref().service.as_str() {
            "" => Asked::Whole,
            name => {
                let known = self.services.iter().find(|service| service.name == name);
                known.map_or(Asked::Unknown, Asked::One)
            }
        }
    }
}

#[async_trait]
impl Rpc for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match self.asked(&request) {
            Asked::Unknown => Err(not_known()),
            asked => Ok(Response::new(response(asked.status(&self.readiness.known())))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let permit = Arc::clone(&self.watches).try_acquire_owned().map_err(|_| too_many())?;
        let watch = Watch { asked: self.asked(&request), known: self.readiness.follow(), last: None, _permit: permit };
        Ok(Response::new(Box::pin(stream::unfold(watch, |mut watch| async move {
            let status = watch.next().await?;
            Some((Ok(response(status)), watch))
        }))))
    }
}

struct Watch {
    asked: Asked,
    known: watch::Receiver<Known>,
    last: Option<ServingStatus>,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    /// What it has become. Ends with the process, so that it holds nothing up.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            let (status, is_ending) = {
                let known = self.known.borrow_and_update();
                (self.asked.status(&known), known.shutting_down)
            };
            if self.last != Some(status) {
                self.last = Some(status);
                return Some(status);
            }
            if is_ending {
                return None;
            }
            self.known.changed().await.ok()?;
        }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[expect(clippy::disallowed_methods, reason = "the protocol of health says how its failures look")]
fn not_known() -> Status {
    Status::not_found("no such service")
}

#[expect(clippy::disallowed_methods, reason = "the protocol of health says how its failures look")]
fn too_many() -> Status {
    Status::resource_exhausted("too many watches of health")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    const SERVICES: &[Service] =
        &[Service { name: "with", needs: &["store"] }, Service { name: "without", needs: &[] }];

    fn health(readiness: &Readiness) -> Health {
        Health { readiness: readiness.clone(), services: SERVICES, watches: Arc::new(Semaphore::new(2)) }
    }

    fn request(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.to_owned() })
    }

    async fn check(health: &Health, service: &str) -> ServingStatus {
        health.check(request(service)).await.expect("it is known").into_inner().status()
    }

    #[tokio::test]
    async fn each_service_is_as_what_it_needs() {
        use ServingStatus::{NotServing, Serving};
        let readiness = Readiness::default();
        let store = readiness.component("store", Duration::ZERO);
        let health = health(&readiness);
        for (name, expected) in [("", NotServing), ("with", NotServing), ("without", Serving)] {
            assert_eq!(check(&health, name).await, expected, "{name:?}");
        }
        store.well();
        for name in ["", "with", "without"] {
            assert_eq!(check(&health, name).await, Serving, "{name:?}");
        }
        readiness.shutting_down();
        for name in ["", "with", "without"] {
            assert_eq!(check(&health, name).await, NotServing, "{name:?}");
        }
        let unknown = health.check(request("other")).await.expect_err("it is not known");
        assert_eq!(unknown.code(), tonic::Code::NotFound);
    }

    #[tokio::test]
    async fn a_watch_tells_news_and_ends_with_the_process() {
        use ServingStatus::{NotServing, ServiceUnknown, Serving};
        let readiness = Readiness::default();
        let store = readiness.component("store", Duration::ZERO);
        let health = health(&readiness);
        let mut watch = health.watch(request("with")).await.expect("there is room").into_inner();
        let mut unknown = health.watch(request("other")).await.expect("there is room").into_inner();
        assert!(health.watch(request("with")).await.is_err(), "there is room for two");
        let status = |said: Option<Result<HealthCheckResponse, Status>>| said.map(|said| said.expect("news").status());
        assert_eq!(status(watch.next().await), Some(NotServing));
        assert_eq!(status(unknown.next().await), Some(ServiceUnknown));
        store.unwell("for another reason");
        assert!(watch.next().now_or_never().is_none(), "no news of the status");
        store.well();
        assert_eq!(status(watch.next().await), Some(Serving));
        readiness.shutting_down();
        assert_eq!(status(watch.next().await), Some(NotServing));
        assert_eq!(status(watch.next().await), None);
        assert_eq!(status(unknown.next().await), None);
        drop(watch);
        assert!(health.watch(request("with")).await.is_ok(), "its room is free again");
    }
}
