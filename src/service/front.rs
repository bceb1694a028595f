//! All services of a server behind one door, with a short way to the one that is called many thousand
//! times a second.

use std::convert::Infallible;
use std::time::Instant;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either};
use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower_service::Service;

use super::buffers::RequestBody;
use crate::telemetry::metrics::{Method, Recorder};

/// Calls of one service go straight to it; all others are looked up among the routes, which costs more
/// than what most calls cost us.
#[derive(Debug, Clone)]
pub struct Front<S> {
    service: S,
    others: Routes,
    recorder: Recorder,
}

impl<S> Front<S> {
    /// `service`, which counts its calls itself, and all others, whose calls are counted here.
    ///
    /// They are called without being asked whether they are ready, which generated services and routes
    /// always are.
    pub fn new(service: S, others: Routes, recorder: Recorder) -> Self {
        Self {
            service,
            others,
            recorder,
        }
    }

    /// Whether the calls of a method that is not of the service are counted.
    fn is_counted(path: &str) -> Option<Method> {
        (path == CHECK).then_some(Method::Check)
    }
}

/// The probe of Kubernetes, and of Envoy's health checks.
const CHECK: &str = "/grpc.health.v1.Health/Check";

impl<S> hyper::service::Service<Request<RequestBody>> for Front<S>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>
        + NamedService
        + Clone,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Self::Response, Infallible>>>;

    fn call(&self, request: Request<RequestBody>) -> Self::Future {
        // A path is /service/method.
        let mut parts = request.uri().path().split('/');
        if parts.nth(1) == Some(S::NAME) {
            Either::Left(self.service.clone().call(request.map(RequestBody::in_time)))
        } else {
            let counted = Self::is_counted(request.uri().path());
            let request = match counted {
                Some(Method::Check) => request.map(RequestBody::in_time),
                _ => request,
            };
            let (began, recorder) = (Instant::now(), self.recorder.clone());
            let answer = self.others.clone().call(request);
            Either::Right(Box::pin(answer.inspect(move |_| {
                if let Some(method) = counted {
                    recorder.answered(method, began.elapsed());
                }
            })))
        }
    }
}
