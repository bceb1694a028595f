//! The server under test, as a process.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::process::{Command, ExitStatus};

use ratekeeper::service::pb::rate_limit_service_client::RateLimitServiceClient;
use ratekeeper::service::pb::{RateLimitRequest, RateLimitResponse};
use tempfile::TempDir;
use tokio::runtime;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Http, Process};

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Ratekeeper {
    process: Process,
    address: SocketAddr,
    /// The directory with the configuration, unless the test passed a path.
    _directory: Option<TempDir>,
}

impl Ratekeeper {
    /// Starts the server with the text of a configuration file and environment variables, and waits until it accepts calls. It does
    /// not inherit the environment of the test.
    pub fn start<'a>(
        configuration: &str,
        environment: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ratelimit.yaml");
        fs::write(&file, configuration).unwrap();
        let server = Self::start_with(["--config".as_ref(), file.as_os_str()], environment);
        Self {
            _directory: Some(directory),
            ..server
        }
    }

    /// Starts the server with flags and environment variables, and waits until it accepts calls. It does not inherit the environment
    /// of the test.
    ///
    /// # Panics
    /// When the server does not start.
    pub fn start_with<'a>(
        flags: impl IntoIterator<Item = impl AsRef<OsStr>>,
        environment: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Self {
        Self::run(
            Command::new(env!("CARGO_BIN_EXE_ratekeeper"))
                .env_clear()
                .envs(["GRPC_HOST", "HOST", "DEBUG_HOST"].map(|name| (name, "127.0.0.1")))
                .envs(["GRPC_PORT", "PORT", "DEBUG_PORT"].map(|name| (name, "0")))
                .envs(environment)
                .arg("serve")
                .args(flags),
        )
    }

    /// Runs a command that starts the server, and waits until it accepts calls.
    ///
    /// # Panics
    /// When the server does not start.
    pub fn run(command: &mut Command) -> Self {
        let mut process = Process::start("ratekeeper", command);
        let address = process
            .wait_for("it listened", listening_address)
            .unwrap_or_else(|ended| panic!("{}", ended.report));
        Self {
            process,
            address,
            _directory: None,
        }
    }

    /// The log lines that were read while waiting.
    pub fn log(&self) -> &str {
        self.process.log()
    }

    /// Waits for a new log line that contains `text`.
    ///
    /// # Panics
    /// When no such line is logged.
    pub fn wait_for_log(&mut self, text: &str) {
        let what = format!("it logged {text:?}");
        self.process
            .wait_for(&what, |line| line.contains(text).then_some(()))
            .unwrap_or_else(|ended| panic!("{}", ended.report));
    }

    /// Waits for a log line that contains `text`; the line may have been read before.
    ///
    /// # Panics
    /// When no such line is logged.
    pub fn wait_until_logged(&mut self, text: &str) {
        if !self.log().contains(text) {
            self.wait_for_log(text);
        }
    }

    /// The status that the gRPC health service reports for a service name, which can be empty.
    ///
    /// # Panics
    /// When the call fails.
    pub fn health(&self, service: &str) -> ServingStatus {
        block_on(async {
            let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
            let mut client = HealthClient::new(endpoint.connect().await.unwrap());
            let request = HealthCheckRequest {
                service: service.to_owned(),
            };
            client.check(request).await.unwrap().into_inner().status()
        })
    }

    /// The address of the gRPC port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of the HTTP port (`/json`, `/healthcheck`).
    pub fn http(&self) -> Http {
        self.serves("/json")
    }

    /// A client of the debug port (admin page and API, statistics).
    pub fn debug(&self) -> Http {
        self.serves("/rlconfig")
    }

    fn serves(&self, path: &str) -> Http {
        let mut lines = self.log().lines().filter(|line| is_listening(line, "HTTP"));
        let line = lines.find(|line| line.contains(path)).unwrap();
        Http::at(address(line).unwrap())
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Connects a gRPC client.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn client(&self) -> RateLimitServiceClient<Channel> {
        RateLimitServiceClient::connect(format!("http://{}", self.address))
            .await
            .unwrap()
    }

    /// Makes one call over a new connection, for tests that are not asynchronous.
    ///
    /// # Errors
    /// The status of a call that fails.
    pub fn ask(&self, request: RateLimitRequest) -> Result<RateLimitResponse, Status> {
        block_on(async {
            let response = self.client().await.should_rate_limit(request).await?;
            Ok(response.into_inner())
        })
    }

    /// Stops the server with SIGTERM, as Kubernetes does, and waits for its end.
    pub fn stop(self) -> ExitStatus {
        self.process.terminate()
    }

    /// Sends the server a signal, such as `TERM`.
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Waits until the server has ended, and returns its status and its log.
    pub fn ended(self) -> (ExitStatus, String) {
        self.process.ended()
    }

    /// The peak resident memory of the server in MiB.
    pub fn peak_memory(&self) -> u64 {
        self.memory_of("VmHWM:")
    }

    /// The resident memory of the server in MiB.
    pub fn memory(&self) -> u64 {
        self.memory_of("VmRSS:")
    }

    fn memory_of(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kib.parse::<u64>().unwrap() / 1024
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

/// Whether a log line has the address of a listener. The previous version of the server logs another text.
fn is_listening(line: &str, protocol: &str) -> bool {
    let texts = [
        format!("listening protocol={}", protocol.to_lowercase()),
        format!("listening for {protocol}"),
    ];
    texts.iter().any(|text| line.contains(text))
}

/// Reads the address from the log line of the gRPC listener.
fn listening_address(line: &str) -> Option<SocketAddr> {
    is_listening(line, "gRPC").then(|| address(line))?
}

/// The address in a log line; an unused one for a Unix socket.
fn address(line: &str) -> Option<SocketAddr> {
    let (_, address) = line.split_once("addr=")?;
    let address = address.split_whitespace().next()?;
    if address.starts_with("unix:") {
        return Some(SocketAddr::from(([0, 0, 0, 0], 0)));
    }
    address.parse().ok()
}
