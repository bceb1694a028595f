//! Routes gRPC calls: those of the rate limit service directly, because it receives thousands per second, and all
//! others through a router.

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
use hyper::body::{Body as _, Frame};
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

/// Routes the calls of one service directly, and all others through [`Routes`], whose lookup costs more than most
/// calls.
#[derive(Debug, Clone)]
pub(crate) struct GrpcRouter<S> {
    service: S,
    others: Routes,
    shared: Arc<Shared>,
}

/// What all calls of a router share.
#[derive(Debug)]
struct Shared {
    recorder: Recorder,
    bad_requests: BadRequests,
}

impl<S> GrpcRouter<S> {
    /// Creates a router. `service` records its own calls; those of `others` are recorded here. Requests of `service`
    /// that are too large to be read are answered by `bad_requests`.
    ///
    /// Readiness of the services is not checked: generated services and routes are always ready.
    pub(crate) fn new(
        service: S,
        others: Routes,
        recorder: Recorder,
        bad_requests: BadRequests,
    ) -> Self {
        Self {
            service,
            others,
            shared: Arc::new(Shared {
                recorder,
                bad_requests,
            }),
        }
    }
}

/// Whether a path, `/service/method`, is of this service.
fn is_of_service(path: &str, service: &str) -> bool {
    let rest = path
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(service));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Method of health probes of Kubernetes and Envoy.
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// The method of the health service with streams.
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// The other unary method of the health service.
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
        Either<ServiceCall<S::Future>, BoxFuture<'static, Result<Self::Response, Infallible>>>;

    fn call(&self, mut request: Request<RequestBody>) -> Self::Future {
        if is_of_service(request.uri().path(), S::NAME) {
            request.body_mut().set_timeout();
            return Either::Left(ServiceCall {
                response: self.service.clone().call(request),
                shared: Arc::clone(&self.shared),
            });
        }
        let recorded = match request.uri().path() {
            CHECK => Some(Method::Check),
            _ => None,
        };
        if recorded.is_some() || request.uri().path() == LIST {
            request.body_mut().set_timeout();
        }
        if request.uri().path() == WATCH {
            let watches = request.body().watches();
            request.extensions_mut().insert(watches);
        }
        let (began, shared) = (Instant::now(), Arc::clone(&self.shared));
        let response = self.others.clone().call(request);
        Either::Right(Box::pin(response.inspect(move |_| {
            if let Some(method) = recorded {
                shared.recorder.answered(method, began.elapsed());
            }
        })))
    }
}

// --- Messages that are too large ---

/// A call of the service. The library ends a call whose message is too large with an error before the service receives
/// it. That error is replaced by the response to invalid requests.
#[derive(Debug)]
pub(crate) struct ServiceCall<F> {
    response: F,
    shared: Arc<Shared>,
}

impl<F> Future for ServiceCall<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Ok(response) = ready!(Pin::new(&mut this.response).poll(context));
        Poll::Ready(Ok(this.shared.replace_too_large(response)))
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// `RESOURCE_EXHAUSTED` (too many large messages at once) and `OUT_OF_RANGE` (a message is too large). The service
/// itself never returns them.
const TOO_LARGE: [&str; 2] = ["8", "11"];

impl Shared {
    /// Returns the response, or what replaces the error of a message that is too large.
    fn replace_too_large(&self, response: Response<Body>) -> Response<Body> {
        // Only a response without a message has its status in the headers.
        if !response.body().is_end_stream() {
            return response;
        }
        let Some(status) = response.headers().get(GRPC_STATUS) else {
            return response;
        };
        if !TOO_LARGE.iter().any(|code| status == code) {
            return response;
        }
        let message = response.headers().get(GRPC_MESSAGE);
        let message = message.map(HeaderValue::as_bytes).unwrap_or_default();
        let error = percent_decode(message).decode_utf8_lossy();
        let replacement = self.bad_requests.respond(&self.recorder, &error);
        replacement.map_or(response, |message| unary_response(&message))
    }
}

/// Encodes a gRPC response with one message.
fn unary_response(message: &RateLimitResponse) -> Response<Body> {
    // The prefix of a message: not compressed, and its length.
    let length = message.encoded_len();
    let mut data = BytesMut::with_capacity(5 + length);
    data.put_u8(0);
    data.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    data.extend_from_slice(&message.encode_to_vec());
    let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
    let body = Body::new(UnaryBody {
        trailers: Some(trailers),
        data: Some(data.freeze()),
    });
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// A body with one message and trailers.
struct UnaryBody {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl hyper::body::Body for UnaryBody {
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
