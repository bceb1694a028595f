//! One unary gRPC call on an HTTP/2 connection. tonic's client would cost several times as much CPU time per call, and
//! the client would become the bottleneck.

use std::time::Duration;

use anyhow::Context as _;
use bytes::{Buf as _, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use prost::Message;
use tokio::time::timeout;
use tonic::{Code, Status};

use ratekeeper_api::pb::rate_limit_response;
use ratekeeper_api::pb::rate_limit_service_server::SERVICE_NAME;

/// Result of a call.
#[derive(Debug)]
pub(super) enum Answer {
    /// The server decided.
    Verdict(rate_limit_response::Code),
    /// The server returned an error, or nothing before the deadline.
    Refused(Status),
    /// There was no connection, or it was lost during the call.
    Lost(Status),
}

/// The part of a `RateLimitResponse` that is decoded; the rest is skipped.
#[derive(Clone, PartialEq, Message)]
struct Overall {
    #[prost(enumeration = "rate_limit_response::Code", tag = "1")]
    code: i32,
}

/// The parts that all calls share: headers and deadline.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    request: Request<()>,
    deadline: Option<Duration>,
}

impl Caller {
    /// Prepares calls to a server at `host:port`.
    pub(super) fn new(address: &str, deadline: Option<Duration>) -> anyhow::Result<Self> {
        let uri = format!("http://{address}/{SERVICE_NAME}/ShouldRateLimit");
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, "ratekeeper-bench");
        if let Some(deadline) = deadline {
            request = request.header("grpc-timeout", grpc_timeout(deadline)?);
        }
        let request = request
            .body(())
            .with_context(|| format!("{address:?} is not an address; write host:port"))?;
        Ok(Self { request, deadline })
    }

    /// Maximum time of a call.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Sends a framed message and waits for the response until the deadline.
    pub(super) async fn call(&self, sender: SendRequest<Bytes>, message: Bytes) -> Answer {
        let exchange = self.exchange(sender, message);
        let ended = match self.deadline {
            None => exchange.await,
            Some(deadline) => timeout(deadline, exchange).await.unwrap_or_else(|_| {
                let what = format!("no response within {deadline:?}");
                Ok(Answer::Refused(Status::deadline_exceeded(what)))
            }),
        };
        ended.unwrap_or_else(failure)
    }

    async fn exchange(
        &self,
        sender: SendRequest<Bytes>,
        message: Bytes,
    ) -> Result<Answer, h2::Error> {
        let mut sender = sender.ready().await?;
        let (response, mut body) = sender.send_request(self.request.clone(), false)?;
        body.send_data(message, true)?;
        let (head, mut body) = response.await?.into_parts();
        if let Some(answer) = refusal(head.status, &head.headers) {
            return Ok(answer);
        }
        let message = read(&mut body).await?;
        let trailers = body.trailers().await?.unwrap_or_default();
        Ok(refusal(StatusCode::OK, &trailers).unwrap_or_else(|| verdict(message)))
    }
}

/// Converts an HTTP/2 error: of one stream, which the server reset, or of the connection.
fn failure(error: h2::Error) -> Answer {
    if error.is_reset() && error.is_remote() {
        Answer::Refused(Status::from(error))
    } else {
        Answer::Lost(Status::unavailable(format!(
            "the connection was lost: {error}"
        )))
    }
}

/// Reads the whole body. Nearly always it is one frame, which is not copied.
async fn read(body: &mut RecvStream) -> Result<Bytes, h2::Error> {
    let mut whole = Bytes::new();
    while let Some(part) = body.data().await {
        let part = part?;
        // Opens the flow-control window again, for the connection as well.
        body.flow_control().release_capacity(part.len())?;
        if whole.is_empty() {
            whole = part;
        } else {
            whole = BytesMut::from_iter(whole.into_iter().chain(part)).freeze();
        }
    }
    Ok(whole)
}

/// Returns the error in headers or trailers, if there is one.
fn refusal(status: StatusCode, headers: &HeaderMap) -> Option<Answer> {
    match headers.get(Status::GRPC_STATUS) {
        Some(code) if code == "0" => None,
        Some(_) => Status::from_header_map(headers).map(Answer::Refused),
        None if status == StatusCode::OK => None,
        None => {
            let what = format!("HTTP status {status}; is this a gRPC server?");
            Some(Answer::Refused(Status::unknown(what)))
        }
    }
}

fn verdict(mut message: Bytes) -> Answer {
    let garbled = || Answer::Refused(Status::internal("the response cannot be decoded"));
    if message.len() < 5 {
        return garbled();
    }
    // gRPC's prefix: the compression flag and the length.
    message.advance(5);
    match Overall::decode(message).map(|overall| overall.code()) {
        Err(_) => garbled(),
        Ok(rate_limit_response::Code::Unknown) => Answer::Refused(Status::unknown(
            "the overall code of the response is UNKNOWN",
        )),
        Ok(code) => Answer::Verdict(code),
    }
}

/// Formats a duration for the header `grpc-timeout`: at most eight digits and a unit.
fn grpc_timeout(deadline: Duration) -> anyhow::Result<HeaderValue> {
    let text = match (deadline.as_micros(), deadline.as_millis()) {
        (micros, _) if micros < 100_000_000 => format!("{micros}u"),
        (_, millis) if millis < 100_000_000 => format!("{millis}m"),
        _ => anyhow::bail!("a deadline of {deadline:?} is too long; write less than a day"),
    };
    Ok(HeaderValue::try_from(text)?)
}

/// Name of a code in the gRPC specification.
pub(super) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_written_in_at_most_eight_digits() {
        for (deadline, expected) in [
            (Duration::from_millis(20), "20000u"),
            (Duration::from_nanos(99_999_999_999), "99999999u"),
            (Duration::from_secs(100), "100000m"),
        ] {
            assert_eq!(grpc_timeout(deadline).unwrap(), expected);
        }
        assert!(grpc_timeout(Duration::from_secs(100_000)).is_err());
    }

    #[test]
    fn an_answer_is_read_from_its_first_field() {
        // OVER_LIMIT, then a status, which is not looked at.
        let message = Bytes::from_static(&[0, 0, 0, 0, 6, 0x08, 2, 0x12, 2, 0x08, 2]);
        assert!(matches!(
            verdict(message),
            Answer::Verdict(rate_limit_response::Code::OverLimit)
        ));
        for garbled in [&[][..], &[0, 0], &[0, 0, 0, 0, 1, 0xff]] {
            assert!(matches!(
                verdict(Bytes::from_static(garbled)),
                Answer::Refused(_)
            ));
        }
    }
}
