//! All services of a server behind one door, with a short way to the one that is called many thousand
//! times a second.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::Either;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower_service::Service;

/// Calls of one service go straight to it; all others are looked up among the routes, which costs more
/// than what most calls cost us.
#[derive(Debug, Clone)]
pub struct Front<S> {
    service: S,
    others: Routes,
}

impl<S> Front<S> {
    /// `service`, and all others.
    pub fn new(service: S, others: Routes) -> Self {
        Self { service, others }
    }
}

type Request = http::Request<Body>;

impl<S> Service<Request> for Front<S>
where
    S: Service<Request, Response = http::Response<Body>, Error = Infallible> + NamedService,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, <Routes as Service<Request>>::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The routes are always ready.
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // A path is /service/method.
        let mut parts = request.uri().path().split('/');
        if parts.nth(1) == Some(S::NAME) {
            Either::Left(self.service.call(request))
        } else {
            Either::Right(self.others.call(request))
        }
    }
}
