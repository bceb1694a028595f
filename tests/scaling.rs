//! Servers that are added behind a Service of Kubernetes, which balances connections and not requests, with a real Envoy that
//! keeps its connections for as long as it can.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::support::{Envoy, Plan, Ratekeeper, Route, eventually};

const RULES: &str = "
domain: d
descriptors: [{key: k, rate_limit: {unit: year, requests_per_unit: 4000000000}}]
";

/// A Service: each connection goes to the next server. Ended when dropped.
struct Service {
    address: SocketAddr,
    servers: Arc<Mutex<Vec<SocketAddr>>>,
    _runtime: Runtime,
}

impl Service {
    fn start(server: SocketAddr) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let servers = Arc::new(Mutex::new(vec![server]));
        let shared = Arc::clone(&servers);
        runtime.spawn(async move {
            for turn in 0_usize.. {
                let (mut client, _) = listener.accept().await.unwrap();
                let server = {
                    let servers = shared.lock().unwrap();
                    servers[turn % servers.len()]
                };
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    // An error is the end of the connection.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self {
            address,
            servers,
            _runtime: runtime,
        }
    }

    fn add(&self, server: SocketAddr) {
        self.servers.lock().unwrap().push(server);
    }
}

fn requests(server: &Ratekeeper) -> u64 {
    let metrics = server.debug().get("/metrics").body;
    let series = "ratelimit_service_total_requests{grpc_method=\"ShouldRateLimit\"} ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(series));
    value.unwrap().parse().unwrap()
}

#[test]
fn a_server_that_is_added_gets_requests_when_connections_age_and_none_fails() {
    let start = |age: &str| Ratekeeper::start(RULES, [("GRPC_MAX_CONNECTION_AGE", age.to_owned())]);
    for (age, is_balanced) in [("24h", false), ("100ms", true)] {
        let first = start(age);
        let service = Service::start(first.address());
        let plan = Plan {
            routes: vec![Route::new(
                "/",
                json!([{"actions": [{"request_headers": {"header_name": "x-client", "descriptor_key": "k"}}]}]),
            )],
            // What is not decided is denied, so that it shows.
            filter: json!({"domain": "d", "failure_mode_deny": true, "timeout": "30s"}),
            ..Plan::default()
        };
        let envoy = Envoy::start(service.address, &plan);
        let ask = || assert_eq!(envoy.get("/", &[("x-client", "x")]).status, 200);
        ask();
        let second = start(age);
        service.add(second.address());
        if is_balanced {
            eventually("the new server is asked", || {
                ask();
                requests(&second) > 0
            });
            let before = requests(&first);
            eventually("the old server is still asked", || {
                ask();
                requests(&first) > before
            });
        } else {
            // Envoy keeps its one connection.
            for _ in 0..200 {
                ask();
            }
            assert_eq!((requests(&first), requests(&second)), (201, 0));
        }
    }
}
