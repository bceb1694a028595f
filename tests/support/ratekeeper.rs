//! The server under test: its own binary, in a process of its own.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, ExitStatus};

use ratekeeper::service::pb::rate_limit_service_client::RateLimitServiceClient;
use ratekeeper::service::pb::{RateLimitRequest, RateLimitResponse};
use tempfile::TempDir;
use tokio::runtime;
use tonic::Status;
use tonic::transport::Channel;

use super::Process;

/// A running server with a configuration of the test's own.
#[derive(Debug)]
pub struct Ratekeeper {
    process: Process,
    address: SocketAddr,
    _directory: TempDir,
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
        let mut process = Process::start(
            "ratekeeper",
            Command::new(env!("CARGO_BIN_EXE_ratekeeper"))
                .env_clear()
                .env("GRPC_HOST", "127.0.0.1")
                .env("GRPC_PORT", "0")
                .envs(environment)
                .args(["serve", "--config"])
                .arg(&file),
        );
        let address = process
            .wait_for("it listened", listening_address)
            .unwrap_or_else(|ended| panic!("{}", ended.report));
        Self {
            process,
            address,
            _directory: directory,
        }
    }

    /// Where it serves gRPC.
    pub fn address(&self) -> SocketAddr {
        self.address
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
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let response = self.client().await.should_rate_limit(request).await?;
            Ok(response.into_inner())
        })
    }

    /// Stops the server as an operator does, with SIGTERM.
    pub fn stop(self) -> ExitStatus {
        self.process.terminate()
    }
}

/// Reads the address from the line that the server logs when it accepts connections.
fn listening_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening")?;
    let (_, address) = rest.split_once("addr=")?;
    address.split_whitespace().next()?.parse().ok()
}
