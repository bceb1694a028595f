//! Isolation of failures between the parts of the server. Other behavior of the server is tested from outside.

use std::fs;
use std::future::pending;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tonic::Code;

use super::*;
use crate::bucket::Share;
use crate::key::KeyFormat;
use crate::limiter::{Bounds, LimiterSettings};
use crate::rules::{Algorithm, LoadOptions};
use crate::service::pb::rate_limit_service_client::RateLimitServiceClient;
use crate::service::pb::{RateLimitDescriptor, RateLimitRequest, rate_limit_descriptor};
use crate::service::{ConnectionSettings, ResponseSettings, StoreView};
use crate::source::Origin;
use crate::store::fallback::FallbackSettings;
use crate::store::memory::MemoryStore;
use crate::store::{Charge, Decision, OnStoreFailure, StoreError};
use crate::telemetry::TelemetrySettings;
use crate::watch::Location;

/// A store that panics if a charge has more than one hit.
struct Panics(MemoryStore);

impl Store for Panics {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: Instant,
    ) -> Result<Decision, StoreError> {
        assert!(charges[0].hits <= 1, "too many hits for this store");
        self.0.decide(charges, deadline).await
    }
}

fn settings(origin: Origin) -> Settings {
    Settings {
        origin,
        load: LoadOptions::default(),
        store: StoreSettings::Memory { max_buckets: 10 },
        failure: FailureSettings {
            fallback: FallbackSettings {
                mode: OnStoreFailure::Local,
                share: Share::WHOLE,
                max_buckets: 10,
            },
            min_store_timeout: Duration::ZERO,
            health_follows: false,
        },
        limiter: LimiterSettings {
            keys: KeyFormat::new(""),
            bounds: Bounds {
                descriptors: 10,
                entries: 10,
                bytes: 1_000,
            },
            default_algorithm: Algorithm::TokenBucket,
            default_hits: crate::rules::Hits::Auto,
            shadow_mode: false,
            quota_mode: false,
        },
        response: ResponseSettings::default(),
        recording: None,
        telemetry: TelemetrySettings::default(),
        threads: NonZeroUsize::MIN,
        shutdown: ShutdownSettings {
            delay: Duration::ZERO,
            grace: Duration::from_secs(10),
        },
        ports: PortSettings {
            connections: ConnectionSettings {
                connections: 10,
                streams: 10,
                header_bytes: 10_000,
                handshake_timeout: Duration::from_secs(10),
                age: None,
                age_grace: Duration::ZERO,
            },
            tls: None,
            http_connections: 10,
            health: HealthSettings::default(),
            admin_token: None,
            top_size: 10,
            reread: watch::channel(()).1,
        },
    }
}

/// Any free port of the loopback address.
fn any_port() -> Address {
    Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 0,
        options: ("HOST", "PORT"),
    }
}

fn request(hits: u32) -> RateLimitRequest {
    let entry = rate_limit_descriptor::Entry {
        key: "k".into(),
        value: "v".into(),
    };
    RateLimitRequest {
        domain: "d".into(),
        descriptors: vec![RateLimitDescriptor {
            entries: vec![entry],
            ..RateLimitDescriptor::default()
        }],
        hits_addend: hits,
    }
}

#[tokio::test]
async fn a_panic_only_fails_its_request() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    let rules = "{ domain: d, descriptors: [{ key: k, rate_limit: { unit: year, requests_per_unit: 9 } }] }";
    fs::write(&file, rules).unwrap();
    let backend = Backend {
        view: StoreView::Memory(Arc::new(MemoryStore::new(10, clock::system()))),
        new_store: || Ok(Panics(MemoryStore::new(10, clock::system()))),
        background: Box::pin(pending()),
        health: Vec::new(),
    };
    let addresses = Addresses {
        grpc: any_port(),
        http: any_port(),
        debug: any_port(),
    };
    let listeners = Listeners::bind(&addresses).await.unwrap();
    let address = listeners.grpc.to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { stopped.await.unwrap_or_default() };
    let telemetry = TelemetrySettings::default();
    let process = Process {
        telemetry: Telemetry::start(telemetry, NonZeroUsize::MIN, None).unwrap(),
        recording: None,
    };
    let server = serve(
        settings(Origin::Files(Location::Path(file))),
        &process,
        backend,
        listeners,
        StopSignals::new(shutdown, pending()),
    );
    let calls = async {
        let url = format!("http://{address}");
        let mut client = RateLimitServiceClient::connect(url).await.unwrap();
        for _ in 0..3 {
            let failure = client.should_rate_limit(request(2)).await.unwrap_err();
            assert_eq!(failure.code(), Code::Internal, "{failure}");
            client.should_rate_limit(request(1)).await.unwrap();
        }
        stop.send(()).unwrap();
    };
    let (served, ()) = tokio::join!(server, calls);
    served.unwrap();
}
