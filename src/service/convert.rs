//! Converts requests from protobuf to the types of the limiter, and verdicts back.

use prost_types::Duration;

use super::pb::rate_limit_descriptor::RateLimitOverride;
use super::pb::rate_limit_response::rate_limit::Unit as WireUnit;
use super::pb::rate_limit_response::{Code as WireCode, DescriptorStatus, RateLimit};
use super::pb::{RateLimitDescriptor, RateLimitRequest};
use crate::limiter::{
    BadRequest, Bounds, Code, Descriptor, Entry, Override, Request, ShownLimit, Status, Verdict,
};
use crate::rules::Unit;

/// Maximum of `google.protobuf.Duration` by its specification: 10,000 years.
const MAX_DURATION_SECONDS: u64 = 315_576_000_000;

/// Default of gRPC for the maximum size of a message, on which clients can rely.
const GRPC_MAX_MESSAGE: usize = 4 << 20;

/// Returns the maximum size of an encoded request in bytes.
#[must_use]
pub(crate) fn max_message_bytes(bounds: &Bounds) -> usize {
    bounds.bytes.max(GRPC_MAX_MESSAGE)
}

impl TryFrom<RateLimitRequest> for Request {
    type Error = BadRequest;

    fn try_from(wire: RateLimitRequest) -> Result<Self, BadRequest> {
        Ok(Self {
            domain: wire.domain.into(),
            hits_addend: wire.hits_addend,
            descriptors: wire
                .descriptors
                .into_iter()
                .enumerate()
                .map(|(index, descriptor)| from_wire(index, descriptor))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn from_wire(index: usize, wire: RateLimitDescriptor) -> Result<Descriptor, BadRequest> {
    let limit = wire
        .limit
        .map(|limit| override_from_wire(index, &limit))
        .transpose()?;
    Ok(Descriptor {
        entries: wire
            .entries
            .into_iter()
            .map(|entry| Entry {
                key: entry.key.into(),
                value: entry.value.into(),
            })
            .collect(),
        limit,
        hits_addend: wire.hits_addend,
        is_negative_hits: wire.is_negative_hits,
    })
}

fn override_from_wire(index: usize, wire: &RateLimitOverride) -> Result<Override, BadRequest> {
    let number = wire.unit;
    let unit = unit(number).ok_or(BadRequest::UnknownUnit { index, number })?;
    let unit_multiplier = wire.unit_multiplier.unwrap_or(1);
    if !(1..=unit.max_multiplier()).contains(&unit_multiplier) {
        let (unit, bound) = (unit.name(), unit.max_multiplier());
        return Err(BadRequest::UnitMultiplier {
            index,
            unit_multiplier,
            unit,
            bound,
        });
    }
    Ok(Override {
        requests_per_unit: wire.requests_per_unit,
        unit,
        unit_multiplier,
    })
}

/// Returns the unit with a number, which is the same in limits and in overrides.
fn unit(number: i32) -> Option<Unit> {
    Unit::ALL
        .into_iter()
        .find(|unit| wire_unit(*unit) as i32 == number)
}

pub(super) fn wire_unit(unit: Unit) -> WireUnit {
    match unit {
        Unit::Second => WireUnit::Second,
        Unit::Minute => WireUnit::Minute,
        Unit::Hour => WireUnit::Hour,
        Unit::Day => WireUnit::Day,
        Unit::Week => WireUnit::Week,
        Unit::Month => WireUnit::Month,
        Unit::Year => WireUnit::Year,
    }
}

impl From<Code> for WireCode {
    fn from(code: Code) -> Self {
        match code {
            Code::Ok => Self::Ok,
            Code::OverLimit => Self::OverLimit,
        }
    }
}

/// Returns the statuses of a response.
///
/// The `x-ratelimit-*` headers of Envoy show the first status with the least `limit_remaining`, which must be a denied
/// one if the request is denied. Therefore a denied status has none remaining, and the other statuses of a denied
/// request have at least one.
pub(super) fn statuses(verdict: &Verdict) -> Vec<DescriptorStatus> {
    let least = u32::from(verdict.code == Code::OverLimit);
    let wire = |status: &Status| DescriptorStatus {
        code: WireCode::from(status.code).into(),
        current_limit: status.limit.as_ref().map(RateLimit::from),
        limit_remaining: match status.limit {
            Some(_) if status.code == Code::Ok => status.remaining.max(least),
            _ => status.remaining_for_clients(),
        },
        duration_until_reset: status.reset_seconds.map(duration),
    };
    verdict.statuses.iter().map(wire).collect()
}

impl From<&ShownLimit> for RateLimit {
    fn from(limit: &ShownLimit) -> Self {
        Self {
            name: limit.name.clone(),
            requests_per_unit: limit.requests_per_unit,
            unit: wire_unit(limit.unit).into(),
            unit_multiplier: Some(limit.unit_multiplier).filter(|multiplier| *multiplier > 1),
        }
    }
}

fn duration(seconds: u64) -> Duration {
    let seconds = i64::try_from(seconds.min(MAX_DURATION_SECONDS)).unwrap_or(i64::MAX);
    Duration { seconds, nanos: 0 }
}
