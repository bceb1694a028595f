//! All services of a server behind one door, with a short way to the one that is called many thousand
//! times a second.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Frame;
use percent_encoding::percent_decode;
use prost::Message as _;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower_service::Service;

use super::bad_requests::BadRequests;
use super::buffers::RequestBody;
use super::pb::RateLimitResponse;
use crate::telemetry::metrics::{Method, Recorder};

/// Calls of one service go straight to it; all others are looked up among the routes, which costs more
/// than what most calls cost us.
#[derive(Debug, Clone)]
pub struct GrpcRouter<S> {
    service: S,
    others: Routes,
    calls: Arc<Calls>,
}

/// What calls are counted with, and answered with that the service does not get to see.
#[derive(Debug)]
struct Calls {
    recorder: Recorder,
    bad_requests: BadRequests,
}

impl<S> GrpcRouter<S> {
    /// `service`, which counts its calls itself, and all others, whose calls are counted here.
    ///
    /// They are called without being asked whether they are ready, which generated services and routes
    /// always are.
    pub fn new(
        service: S,
        others: Routes,
        (recorder, bad_requests): (Recorder, BadRequests),
    ) -> Self {
        Self {
            service,
            others,
            calls: Arc::new(Calls {
                recorder,
                bad_requests,
            }),
        }
    }

    /// Whether the calls of a method that is not of the service are counted.
    fn is_counted(path: &str) -> Option<Method> {
        (path == CHECK).then_some(Method::Check)
    }
}

/// The probe of Kubernetes, and of Envoy's health checks.
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// The other method of health with one message.
const LIST: &str = "/grpc.health.v1.Health/List";

impl<S> hyper::service::Service<Request<RequestBody>> for GrpcRouter<S>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>
        + NamedService
        + Clone,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        Either<Answered<S::Future>, BoxFuture<'static, Result<Self::Response, Infallible>>>;

    fn call(&self, mut request: Request<RequestBody>) -> Self::Future {
        // A path is /service/method.
        let mut parts = request.uri().path().split('/');
        if parts.nth(1) == Some(S::NAME) {
            request.body_mut().must_arrive_in_time();
            Either::Left(Answered {
                answer: self.service.clone().call(request),
                calls: Arc::clone(&self.calls),
            })
        } else {
            let counted = Self::is_counted(request.uri().path());
            if counted.is_some() || request.uri().path() == LIST {
                request.body_mut().must_arrive_in_time();
            }
            let (began, calls) = (Instant::now(), Arc::clone(&self.calls));
            let answer = self.others.clone().call(request);
            Either::Right(Box::pin(answer.inspect(move |_| {
                if let Some(method) = counted {
                    calls.recorder.answered(method, began.elapsed());
                }
            })))
        }
    }
}

// --- Messages that are too large ---

/// The call of a service. A message that is larger than what is read at all never reaches the service: the library ends
/// its call with an error, which is replaced by what requests get that cannot be decided.
#[derive(Debug)]
pub struct Answered<F> {
    answer: F,
    calls: Arc<Calls>,
}

impl<F> Future for Answered<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Ok(response) = ready!(Pin::new(&mut this.answer).poll(context));
        Poll::Ready(Ok(this.calls.decided(response)))
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// `RESOURCE_EXHAUSTED` and `OUT_OF_RANGE`: too many large messages at once, and a message that is too large. The
/// service itself never answers so.
const TOO_LARGE: [&str; 2] = ["8", "11"];

impl Calls {
    /// The response, or what replaces the error that a message is too large.
    fn decided(&self, response: Response<Body>) -> Response<Body> {
        // Only a call without a message has its status among the headers.
        let Some(status) = response.headers().get(GRPC_STATUS) else {
            return response;
        };
        if !TOO_LARGE.iter().any(|code| status == code) {
            return response;
        }
        let message = response.headers().get(GRPC_MESSAGE);
        let message = message.map(HeaderValue::as_bytes).unwrap_or_default();
        let error = percent_decode(message).decode_utf8_lossy();
        let answer = self.bad_requests.answer(&self.recorder, &error);
        answer.map_or(response, |answer| whole(&answer))
    }
}

/// A response of gRPC with one message.
fn whole(message: &RateLimitResponse) -> Response<Body> {
    // The prefix of a message: not compressed, so many bytes.
    let length = message.encoded_len();
    let mut data = BytesMut::with_capacity(5 + length);
    data.put_u8(0);
    data.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    data.extend_from_slice(&message.encode_to_vec());
    let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
    let body = Body::new(Whole {
        trailers: Some(trailers),
        data: Some(data.freeze()),
    });
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// A body that is complete.
struct Whole {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl hyper::body::Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let data = this.data.take().map(Frame::data);
        let frame = data.or_else(|| this.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }
}
