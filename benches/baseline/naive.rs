//! One script call per descriptor, on a connection taken from a pool for it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use bb8_redis::RedisConnectionManager;
use bb8_redis::bb8::Pool;
use bb8_redis::redis::Script;
use ratekeeper::service::pb::rate_limit_response::Code;
use ratekeeper::service::pb::rate_limit_service_server::RateLimitService;
use ratekeeper::service::pb::{RateLimitDescriptor, RateLimitRequest, RateLimitResponse};
use tonic::{Request, Response, Status};

/// Connections, over all threads.
const CONNECTIONS: usize = 32;

/// Tokens per second, and in a full bucket.
const LIMIT: u32 = 1_000_000;

/// A bucket as the time at which it is full again, in microseconds.
const SCRIPT: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = 1000000 / ARGV[1]
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + interval
if full - now > ARGV[1] * interval then return 0 end
redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', math.ceil((full - now) / 1000) + 1000)
return 1
";

pub(super) struct Naive {
    pool: Pool<RedisConnectionManager>,
    script: Arc<Script>,
}

impl Naive {
    pub(super) fn new(address: &str, threads: NonZeroUsize) -> anyhow::Result<Self> {
        let manager = RedisConnectionManager::new(format!("redis://{address}"))?;
        let connections = u32::try_from((CONNECTIONS / threads).max(1))?;
        let pool = Pool::builder()
            .max_size(connections)
            .test_on_check_out(false)
            .build_unchecked(manager);
        Ok(Self {
            pool,
            script: Arc::new(Script::new(SCRIPT)),
        })
    }

    async fn decide(&self, domain: &str, descriptor: &RateLimitDescriptor) -> anyhow::Result<Code> {
        let mut key = format!("naive:{domain}");
        for entry in &descriptor.entries {
            let [name, value] =
                [&entry.key, &entry.value].map(|text| String::from_utf8_lossy(text));
            key.extend(["|", &name, "=", &value]);
        }
        let mut connection = self.pool.get().await?;
        let admitted: bool = self
            .script
            .key(key)
            .arg(LIMIT)
            .invoke_async(&mut *connection)
            .await?;
        Ok(if admitted { Code::Ok } else { Code::OverLimit })
    }
}

#[tonic::async_trait]
impl RateLimitService for Naive {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let request = request.into_inner();
        let mut codes = Vec::with_capacity(request.descriptors.len());
        for descriptor in &request.descriptors {
            let code = self
                .decide(&String::from_utf8_lossy(&request.domain), descriptor)
                .await;
            codes.push(code.map_err(|error| Status::unavailable(error.to_string()))?);
        }
        Ok(super::response(codes))
    }
}
