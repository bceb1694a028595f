//! The health service of gRPC (`grpc.health.v1.Health`), for the whole server and for the names of the rate limit
//! service.
//!
//! tonic-health has no `List`, and ends a `Watch` of an unknown name. Clients and load balancers expect the behavior of
//! grpc-go, and thus of envoyproxy/ratelimit: the stream stays open.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::unfold;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::pb::health::health_check_response::ServingStatus;
use super::pb::health::health_server::Health;
use super::pb::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};

/// Names with a health status: the whole server, the name that envoyproxy/ratelimit uses, and the name of the service.
const NAMES: [&str; 3] = [
    "",
    "ratelimit",
    "envoy.service.ratelimit.v3.RateLimitService",
];

/// Maximum number of streams of `Watch`: of a connection, and of all connections. Each takes about 8 KiB, and clients have one per
/// connection and name.
const MAX_WATCHES_OF_A_CONNECTION: usize = 16;
const MAX_WATCHES: usize = 8_192;

/// The streams of `Watch` that a connection can still open; an extension of its requests.
#[derive(Debug, Clone)]
pub(super) struct ConnectionWatches(Arc<Semaphore>);

impl Default for ConnectionWatches {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_WATCHES_OF_A_CONNECTION)))
    }
}

/// The health of the server.
#[derive(Debug, Clone, Copy)]
struct Report {
    is_serving: bool,
    /// Streams of `Watch` end.
    is_over: bool,
}

/// The health service of a server. Clones share the health.
#[derive(Debug, Clone)]
pub(crate) struct HealthService {
    report: watch::Sender<Report>,
    /// The streams of `Watch` that can still be opened.
    watches: Arc<Semaphore>,
}

impl Default for HealthService {
    /// Creates a service that reports NOT_SERVING.
    fn default() -> Self {
        Self {
            report: watch::Sender::new(Report {
                is_serving: false,
                is_over: false,
            }),
            watches: Arc::new(Semaphore::new(MAX_WATCHES)),
        }
    }
}

impl HealthService {
    /// Reports SERVING or NOT_SERVING from now on.
    pub(crate) fn report(&self, is_serving: bool) {
        self.report
            .send_modify(|report| report.is_serving = is_serving);
    }

    /// Ends the streams of `Watch` after they have reported the last change.
    pub(crate) fn end_watching(&self) {
        self.report.send_modify(|report| report.is_over = true);
    }

    /// Returns the status of a service; `None` if its name is unknown.
    fn status(&self, name: &str) -> Option<ServingStatus> {
        status(*self.report.borrow(), NAMES.contains(&name))
    }
}

fn status(report: Report, is_known: bool) -> Option<ServingStatus> {
    is_known.then_some(match report.is_serving {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    })
}

/// Takes one of the streams of `Watch` that can still be opened.
fn permit(left: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
    Arc::clone(left)
        .try_acquire_owned()
        .map_err(|_| Status::resource_exhausted("too many streams of Watch are open; close some"))
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.status(&request.get_ref().service);
        let status = status.ok_or_else(|| Status::not_found("unknown service"))?;
        Ok(Response::new(response(status)))
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let status = |name| Some((name, response(self.status(name)?)));
        let statuses = NAMES.into_iter().filter_map(status);
        Ok(Response::new(HealthListResponse {
            statuses: statuses
                .map(|(name, status)| (name.to_owned(), status))
                .collect(),
        }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let is_known = NAMES.contains(&request.get_ref().service.as_str());
        let of_connection = request.extensions().get::<ConnectionWatches>();
        let of_connection = of_connection
            .map(|ConnectionWatches(left)| permit(left))
            .transpose()?;
        let permits = (permit(&self.watches)?, of_connection);
        let start = (self.report.subscribe(), None);
        let changes = unfold(start, move |(mut reports, last)| async move {
            loop {
                let report = *reports.borrow_and_update();
                let now = status(report, is_known).unwrap_or(ServingStatus::ServiceUnknown);
                if last != Some(now) {
                    return Some((Ok(response(now)), (reports, Some(now))));
                }
                if report.is_over || reports.changed().await.is_err() {
                    return None;
                }
            }
        });
        // The permits are returned when the stream is dropped.
        let changes = changes.inspect(move |_| _ = &permits);
        Ok(Response::new(Box::pin(changes)))
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn request(name: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest {
            service: name.to_owned(),
        })
    }

    #[tokio::test]
    async fn a_stream_reports_each_change_and_the_last_one_before_it_ends() {
        let health = HealthService::default();
        let mut known = health
            .watch(request("ratelimit"))
            .await
            .unwrap()
            .into_inner();
        let mut unknown = health.watch(request("other")).await.unwrap().into_inner();
        let next = async |stream: &mut <HealthService as Health>::WatchStream| {
            let response = stream.next().await.map(Result::unwrap);
            response.map(|response| response.status())
        };
        assert_eq!(next(&mut known).await, Some(ServingStatus::NotServing));
        health.report(true);
        assert_eq!(next(&mut known).await, Some(ServingStatus::Serving));
        // A report without a change is not sent.
        health.report(true);
        health.report(false);
        health.end_watching();
        assert_eq!(next(&mut known).await, Some(ServingStatus::NotServing));
        assert_eq!(next(&mut known).await, None);
        assert_eq!(
            next(&mut unknown).await,
            Some(ServingStatus::ServiceUnknown)
        );
        assert_eq!(next(&mut unknown).await, None);
    }

    #[tokio::test]
    async fn streams_of_a_connection_and_of_all_are_bounded() {
        let health = HealthService::default();
        let connection = ConnectionWatches(Arc::new(Semaphore::new(2)));
        let watch = async || {
            let mut request = request("");
            request.extensions_mut().insert(connection.clone());
            health.watch(request).await.map(Response::into_inner)
        };
        let (first, _second) = (watch().await.unwrap(), watch().await.unwrap());
        let third = watch().await.err().map(|status| status.code());
        assert_eq!(third, Some(Code::ResourceExhausted));
        drop(first);
        let mut first = watch().await.unwrap();
        assert!(first.next().await.is_some_and(|response| response.is_ok()));
        // Another connection has its own, within the bound of all.
        let others: Vec<_> = (2..MAX_WATCHES)
            .map(|_| health.watch(request("")))
            .collect();
        let others = futures_util::future::try_join_all(others).await.unwrap();
        let one_more = health
            .watch(request(""))
            .await
            .err()
            .map(|status| status.code());
        assert_eq!(one_more, Some(Code::ResourceExhausted));
        drop(others);
        assert!(health.watch(request("")).await.is_ok());
    }

    #[tokio::test]
    async fn all_names_have_the_same_health() {
        let health = HealthService::default();
        health.report(true);
        for name in NAMES {
            let response = health.check(request(name)).await.unwrap().into_inner();
            assert_eq!(response.status(), ServingStatus::Serving, "{name}");
        }
        let unknown = health.check(request("other")).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
    }
}
