//! The server under test: its own binary, in a process of its own.

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

/// A running server with a configuration of the test's own.
#[derive(Debug)]
pub struct Ratekeeper {
    process: Process,
    address: SocketAddr,
    /// Where its configuration is, when the test has not put it somewhere itself.
    _directory: Option<TempDir>,
}

impl Ratekeeper {
    /// Starts the server with the text of a configuration file and environment variables, and none of
    /// the variables around the test; waits until it accepts calls.
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

    /// Starts the server with these flags and environment variables, likewise.
    ///
    /// # Panics
    /// When it does not come to accept calls.
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

    /// Runs a command that starts the server.
    ///
    /// # Panics
    /// When it does not come to accept calls.
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

    /// What it has logged so far, as far as a test has waited for it.
    pub fn log(&self) -> &str {
        self.process.log()
    }

    /// Waits until it logs a line with this text, after the lines already waited for.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_for_log(&mut self, text: &str) {
        let what = format!("it logged {text:?}");
        self.process
            .wait_for(&what, |line| line.contains(text).then_some(()))
            .unwrap_or_else(|ended| panic!("{}", ended.report));
    }

    /// The same where it may have done so already.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_until_logged(&mut self, text: &str) {
        if !self.log().contains(text) {
            self.wait_for_log(text);
        }
    }

    /// What it says of its health under a name: `""`, or the one that envoyproxy/ratelimit uses.
    ///
    /// # Panics
    /// When it cannot be asked.
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

    /// Where it serves gRPC.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves JSON and health.
    pub fn http(&self) -> Http {
        self.serves("/json")
    }

    /// Where it serves pages for people.
    pub fn debug(&self) -> Http {
        self.serves("/rlconfig")
    }

    fn serves(&self, path: &str) -> Http {
        let mut lines = self
            .log()
            .lines()
            .filter(|line| line.contains("listening for HTTP"));
        let line = lines.find(|line| line.contains(path)).unwrap();
        Http::at(address(line).unwrap())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// A connected client.
    ///
    /// # Panics
    /// When it cannot connect.
    pub async fn client(&self) -> RateLimitServiceClient<Channel> {
        RateLimitServiceClient::connect(format!("http://{}", self.address))
            .await
            .unwrap()
    }

    /// One call, for tests that are not asynchronous.
    ///
    /// # Errors
    /// What the server says when it does not decide.
    pub fn ask(&self, request: RateLimitRequest) -> Result<RateLimitResponse, Status> {
        block_on(async {
            let response = self.client().await.should_rate_limit(request).await?;
            Ok(response.into_inner())
        })
    }

    /// Stops the server as an operator does, with SIGTERM.
    pub fn stop(self) -> ExitStatus {
        self.process.terminate()
    }

    /// Sends the server a signal, such as `TERM`.
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Waits until the server has ended, and returns all that it logged, too.
    pub fn ended(self) -> (ExitStatus, String) {
        self.process.ended()
    }

    /// The most memory that the server has held so far, in MiB.
    pub fn peak_memory(&self) -> u64 {
        self.memory_of("VmHWM:")
    }

    /// The memory that the server holds, in MiB.
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

/// Reads the address from the line that the server logs when it accepts connections.
fn listening_address(line: &str) -> Option<SocketAddr> {
    line.contains("listening for gRPC").then(|| address(line))?
}

/// The address in a line; that of a Unix socket, which has none, is one that nobody has.
fn address(line: &str) -> Option<SocketAddr> {
    let (_, address) = line.split_once("addr=")?;
    let address = address.split_whitespace().next()?;
    if address.starts_with("unix:") {
        return Some(SocketAddr::from(([0, 0, 0, 0], 0)));
    }
    address.parse().ok()
}
