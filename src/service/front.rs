//! All services of a server behind one door, with a short way to the one that is called many thousand
//! times a second.

use std::convert::Infallible;
use std::time::Instant;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either};
use http::{Request, Response};
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower_service::Service;

use super::metered::{Allowance, Metered};
use crate::telemetry::metrics::{Method, Recorder};

/// Calls of one service go straight to it; all others are looked up among the routes, which costs more
/// than what most calls cost us.
#[derive(Debug, Clone)]
pub struct Front<S> {
    service: S,
    others: Routes,
    recorder: Recorder,
    allowance: Allowance,
}

impl<S> Front<S> {
    /// `service`, which counts its calls itself, and all others, whose calls are counted here. What
    /// requests take up before they are complete has a bound.
    ///
    /// They are called without being asked whether they are ready, which generated services and routes
    /// always are.
    pub fn new(service: S, others: Routes, recorder: Recorder, allowance: Allowance) -> Self {
        Self {
            service,
            others,
            recorder,
            allowance,
        }
    }

    /// Whether the calls of a method that is not of the service are counted.
    fn is_counted(path: &str) -> Option<Method> {
        (path == CHECK).then_some(Method::Check)
    }
}

/// The probe of Kubernetes, and of Envoy's health checks.
const CHECK: &str = "/grpc.health.v1.Health/Check";

impl<S> hyper::service::Service<Request<Incoming>> for Front<S>
where
    S: Service<Request<Metered>, Response = Response<Body>, Error = Infallible>
        + NamedService
        + Clone,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Self::Response, Infallible>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let request = request.map(|body| Metered::new(body, self.allowance.clone()));
        // A path is /service/method.
        let mut parts = request.uri().path().split('/');
        if parts.nth(1) == Some(S::NAME) {
            Either::Left(self.service.clone().call(request))
        } else {
            let counted = Self::is_counted(request.uri().path());
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
