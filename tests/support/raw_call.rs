//! A call of `ShouldRateLimit` with headers and bytes that no gRPC client sends.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::handshake;
use prost::Message as _;
use ratekeeper::service::pb::RateLimitResponse;
use tokio::net::TcpStream;
use tonic::Code;

/// The path of the method.
const CALL: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// Sends an encoded request with additional headers and returns the response or the status. This client ignores deadlines in the
/// headers.
///
/// # Panics
/// When the connection fails, or the server does not end the call.
pub async fn raw_call(
    server: SocketAddr,
    headers: &[(&str, &str)],
    message: &[u8],
) -> Result<RateLimitResponse, (Code, String)> {
    let socket = TcpStream::connect(server).await.unwrap();
    let (client, connection) = handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let mut request = http::Request::post(format!("http://{server}{CALL}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (response, mut body) = client
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let framed = [&[0][..], &length, message].concat();
    // The server can respond and reset the call before it has read the request.
    let _ = body.send_data(Bytes::from(framed), true);
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut data = Vec::new();
    while let Some(more) = body.data().await {
        let more = more.unwrap();
        let _ = body.flow_control().release_capacity(more.len());
        data.extend_from_slice(&more);
    }
    let trailers = body.trailers().await.unwrap().unwrap_or(head.headers);
    connection.abort();
    let field = |name| {
        let value = trailers.get(name).map(|value| value.to_str().unwrap());
        value.unwrap_or_default().to_owned()
    };
    match field("grpc-status").as_str() {
        "0" => Ok(RateLimitResponse::decode(&data[5..]).unwrap()),
        code => Err((Code::from_bytes(code.as_bytes()), field("grpc-message"))),
    }
}
