//! `ratekeeper hit`: sends one request to a server and prints the response.

use std::error::Error as _;
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::Endpoint;

use crate::Outcome;
use crate::harmless::plain;
use crate::output::stdout;
use crate::values::{address, boolean, some_time};
use ratekeeper_api::pb::rate_limit_descriptor::{Entry, RateLimitOverride};
use ratekeeper_api::pb::rate_limit_response::{Code, DescriptorStatus, rate_limit};
use ratekeeper_api::pb::rate_limit_service_client::RateLimitServiceClient;
use ratekeeper_api::pb::{RateLimitDescriptor, RateLimitRequest, RateLimitResponse};
use ratekeeper_core::descriptor::Typed;
use ratekeeper_rules::Unit;

/// Options of the command.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code: 0 allowed, 2 denied, 1 no response or wrong options.\n\n\
    Try:  ratekeeper hit shop client=alice\n      \
          ratekeeper hit shop client=alice,path=/cart method=GET --hits 5 --json"
)]
pub struct Args {
    /// Domain of the request
    domain: String,

    /// Descriptors, each as key=value,key=value
    #[arg(required = true)]
    descriptors: Vec<Typed>,

    /// Address of the server's gRPC port, as host:port
    #[arg(long, short, value_name = "ADDRESS", default_value = "localhost:8081", value_parser = address)]
    address: String,

    /// Number of hits of the request; 0 means 1, as in Envoy's protocol
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    hits: u32,

    /// Number of hits of each descriptor, instead of --hits; 0 queries the buckets without charging them
    #[arg(long, value_name = "COUNT")]
    descriptor_hits: Option<u64>,

    /// Refund the hits instead of charging them
    #[arg(long, value_name = "BOOL", value_parser = boolean, default_value = "false",
        default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    give_back: bool,

    /// Limit to use instead of the configured ones, such as 10/minute
    #[arg(long, value_name = "LIMIT", value_parser = parse_limit)]
    limit: Option<RateLimitOverride>,

    /// Maximum time to wait for the response
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = some_time)]
    timeout: Duration,

    /// Print the response as JSON, in protobuf's JSON mapping
    #[arg(long)]
    json: bool,
}

/// Sends the request; the outcome is its verdict.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let response = runtime.block_on(send(args))?;
    if args.json {
        writeln!(stdout(), "{:#}", to_json(&response))?;
    } else {
        write!(stdout(), "{}", to_text(args, &response))?;
    }
    match response.overall_code() {
        Code::Ok => Ok(Outcome::Done),
        Code::OverLimit => Ok(Outcome::Denied),
        Code::Unknown => anyhow::bail!("the server returned the overall code UNKNOWN"),
    }
}

async fn send(args: &Args) -> anyhow::Result<RateLimitResponse> {
    let Args {
        address, timeout, ..
    } = args;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .with_context(|| format!("{address:?} is not an address; write host:port"))?;
    let call = async {
        let channel = endpoint
            .connect()
            .await
            .with_context(|| format!("no server at {address}; is ratekeeper running there?"))?;
        let response = RateLimitServiceClient::new(channel)
            .should_rate_limit(args.request())
            .await;
        anyhow::Ok(response)
    };
    let answer = tokio::time::timeout(*timeout, call).await;
    // A status with a source comes from the connection, not from the server.
    let status = match answer {
        Ok(Ok(Ok(response))) => return Ok(response.into_inner()),
        Ok(Ok(Err(status))) if status.source().is_none() => Some(status),
        Ok(Err(error)) if !is_broken(&error) => return Err(error),
        _ => None,
    };
    if let Some(status) = status {
        anyhow::bail!("{}: {}", status.code(), status.message());
    }
    match tokio::time::timeout(*timeout, diagnose(address)).await {
        Ok(Some(cause)) => anyhow::bail!("cannot reach {address} over gRPC: {cause}"),
        _ => anyhow::bail!(
            "no response from {address} within {timeout:?}; check that this is the gRPC port (default 8081)"
        ),
    }
}

/// Whether a connection was opened and then lost, as happens on a port without HTTP/2.
fn is_broken(error: &anyhow::Error) -> bool {
    let mut causes = error.chain();
    !causes.any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused)
            || cause.to_string() == "dns error"
    })
}

/// Sends an HTTP/1.1 request to find out why gRPC in plaintext fails.
async fn diagnose(address: &str) -> Option<&'static str> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request =
        format!("GET /healthcheck HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = [0; 5];
    match stream.read_exact(&mut answer).await {
        Ok(_) if answer.starts_with(b"HTTP/") => {
            Some("this is an HTTP port; use the gRPC port (default 8081)")
        }
        // A TLS alert.
        Ok(_) if answer.starts_with(&[0x15, 0x03]) => Some(
            "this port uses TLS, which hit does not support; use grpcurl with the certificates",
        ),
        // A server with TLS closes the connection as well.
        Ok(_) | Err(_) => Some(
            "the server closed the connection; check that this is the gRPC port (default 8081), without TLS (GRPC_SERVER_USE_TLS)",
        ),
    }
}

impl Args {
    fn request(&self) -> RateLimitRequest {
        RateLimitRequest {
            domain: self.domain.as_str().into(),
            hits_addend: self.hits,
            descriptors: self
                .descriptors
                .iter()
                .map(|typed| self.descriptor(typed))
                .collect(),
        }
    }

    fn descriptor(&self, Typed(entries): &Typed) -> RateLimitDescriptor {
        RateLimitDescriptor {
            entries: entries
                .iter()
                .map(|e| Entry {
                    key: e.key.clone().into(),
                    value: e.value.clone().into(),
                })
                .collect(),
            limit: self.limit,
            hits_addend: self.descriptor_hits,
            is_negative_hits: self.give_back,
        }
    }
}

fn parse_limit(text: &str) -> Result<RateLimitOverride, String> {
    let parsed = text.split_once('/').and_then(|(requests, unit)| {
        let unit = Unit::from_name(unit)?.name().to_ascii_uppercase();
        Some(RateLimitOverride {
            requests_per_unit: requests.parse().ok()?,
            unit: rate_limit::Unit::from_str_name(&unit)?.into(),
            unit_multiplier: None,
        })
    });
    parsed.ok_or_else(|| {
        "write requests/unit, such as 10/minute; units are second, minute, hour, day, week, \
         month and year"
            .to_owned()
    })
}

// --- Text ---

fn to_text(args: &Args, response: &RateLimitResponse) -> String {
    let mut text = format!("{}\n", response.overall_code().as_str_name());
    for (Typed(entries), status) in args.descriptors.iter().zip(&response.statuses) {
        let entries: Vec<_> = entries
            .iter()
            .map(|e| plain(&format!("{}={}", e.key, e.value)))
            .collect();
        text += &format!(
            "  {}: {}, {}\n",
            entries.join(","),
            status.code().as_str_name(),
            describe(status)
        );
    }
    for header in &response.response_headers_to_add {
        let (key, value) = (plain(&header.key), plain(&header.value));
        text += &format!("  header {key}: {value}\n");
    }
    if let Some(metadata) = &response.dynamic_metadata {
        text += &format!("  dynamic metadata {}\n", struct_to_json(metadata));
    }
    let mut statuses = response.statuses.iter();
    if statuses.all(|status| status.current_limit.is_none() && status.limit_remaining == 0) {
        text += &format!(
            "no rule matched: check that '{}' is a domain of this server (/rlconfig on the debug port, 6070 by default, \
             lists the limits), and run ratekeeper explain with the descriptor\n",
            plain(&args.domain)
        );
    }
    text
}

fn describe(status: &DescriptorStatus) -> String {
    let Some(limit) = &status.current_limit else {
        return "no limit applies".to_owned();
    };
    let name = if limit.name.is_empty() {
        String::new()
    } else {
        format!(" ({})", plain(&limit.name))
    };
    let mut unit = limit.unit().as_str_name().to_ascii_lowercase();
    if let Some(multiplier) = limit.unit_multiplier {
        unit = format!("{multiplier} {unit}");
    }
    let when = match (&status.duration_until_reset, status.code()) {
        (None, _) => "too small for these hits".to_owned(),
        (Some(wait), Code::OverLimit) => format!("try again in {} s", wait.seconds),
        (Some(wait), _) => format!("full again in {} s", wait.seconds),
    };
    format!(
        "{} left of {}/{unit}{name}, {when}",
        status.limit_remaining, limit.requests_per_unit
    )
}

// --- JSON ---

/// Formats the response in protobuf's JSON mapping: no default values, durations as `"5s"`.
fn to_json(response: &RateLimitResponse) -> Value {
    let statuses: Vec<Value> = response.statuses.iter().map(status_to_json).collect();
    let mut json =
        json!({ "overallCode": response.overall_code().as_str_name(), "statuses": statuses });
    if !response.response_headers_to_add.is_empty() {
        json["responseHeadersToAdd"] = response
            .response_headers_to_add
            .iter()
            .map(|header| json!({ "key": header.key, "value": header.value }))
            .collect();
    }
    if let Some(metadata) = &response.dynamic_metadata {
        json["dynamicMetadata"] = struct_to_json(metadata);
    }
    json
}

fn status_to_json(status: &DescriptorStatus) -> Value {
    let mut json = json!({ "code": status.code().as_str_name() });
    if let Some(limit) = &status.current_limit {
        json["currentLimit"] = json!({ "unit": limit.unit().as_str_name() });
        if limit.requests_per_unit > 0 {
            json["currentLimit"]["requestsPerUnit"] = limit.requests_per_unit.into();
        }
        if let Some(multiplier) = limit.unit_multiplier {
            json["currentLimit"]["unitMultiplier"] = multiplier.into();
        }
        if !limit.name.is_empty() {
            json["currentLimit"]["name"] = limit.name.as_str().into();
        }
    }
    if status.limit_remaining > 0 {
        json["limitRemaining"] = status.limit_remaining.into();
    }
    if let Some(reset) = &status.duration_until_reset {
        json["durationUntilReset"] = format!("{}s", reset.seconds).into();
    }
    json
}

fn struct_to_json(fields: &prost_types::Struct) -> Value {
    fields
        .fields
        .iter()
        .map(|(name, value)| (name.clone(), value_to_json(value)))
        .collect()
}

fn value_to_json(value: &prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => (*value).into(),
        Some(Kind::NumberValue(value)) => (*value).into(),
        Some(Kind::StringValue(value)) => value.as_str().into(),
        Some(Kind::ListValue(list)) => list.values.iter().map(value_to_json).collect(),
        Some(Kind::StructValue(fields)) => struct_to_json(fields),
    }
}
