//! Options for TLS on the gRPC port.

use std::path::PathBuf;

use anyhow::Context as _;
use tokio_rustls::rustls::pki_types::ServerName;

use super::super::mistakes::Mistakes;
use super::super::options::boolean;
use crate::tls::{ClientAuth, ServerTls};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "TLS of the gRPC port")]
pub(super) struct TlsOptions {
    /// Serve gRPC with TLS; the files are read again when they are replaced
    #[arg(long, env = "GRPC_SERVER_USE_TLS", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    grpc_server_use_tls: bool,

    /// PEM file with the server's certificate and its intermediate CA certificates
    #[arg(long, env = "GRPC_SERVER_TLS_CERT", value_name = "PATH")]
    grpc_server_tls_cert: Option<PathBuf>,

    /// PEM file with the private key of GRPC_SERVER_TLS_CERT
    #[arg(long, env = "GRPC_SERVER_TLS_KEY", value_name = "PATH")]
    grpc_server_tls_key: Option<PathBuf>,

    /// PEM file with the CA certificates that sign client certificates; if set, clients must present a certificate
    #[arg(long, env = "GRPC_CLIENT_TLS_CACERT", value_name = "PATH")]
    grpc_client_tls_cacert: Option<PathBuf>,

    /// Accepted because Envoy Gateway sets it, without effect; to authenticate clients, set GRPC_CLIENT_TLS_CACERT
    #[arg(long, env = "GRPC_SERVER_TLS_CA_CERT", value_name = "PATH")]
    grpc_server_tls_ca_cert: Option<PathBuf>,

    /// DNS name that client certificates must have
    #[arg(long, env = "GRPC_CLIENT_TLS_SAN", value_name = "NAME", value_parser = name)]
    grpc_client_tls_san: Option<ServerName<'static>>,
}

/// Parses a name in a certificate.
fn name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned())
        .map_err(|_| "write a DNS name, such as envoy.example.com".to_owned())
}

impl TlsOptions {
    /// The settings, or `None` for plaintext or if options are invalid. All errors are added to `mistakes`.
    pub(super) fn settings(&self, mistakes: &mut Mistakes) -> Option<ServerTls> {
        if !self.grpc_server_use_tls {
            return None;
        }
        let certificate = needed(
            self.grpc_server_tls_cert.as_ref(),
            "GRPC_SERVER_TLS_CERT, the file with its certificate",
        );
        let key = needed(
            self.grpc_server_tls_key.as_ref(),
            "GRPC_SERVER_TLS_KEY, the file with its private key",
        );
        let clients = self.clients();
        let (certificate, key, clients) = (
            mistakes.take(certificate),
            mistakes.take(key),
            mistakes.take(clients),
        );
        Some(ServerTls {
            certificate: certificate?,
            key: key?,
            clients: clients?,
        })
    }

    /// Checks the files, so that errors in them are reported together with all others.
    pub(super) fn check_files(&self, mistakes: &mut Mistakes) {
        let tls = self.settings(&mut Mistakes::default());
        for error in tls.iter().flat_map(ServerTls::mistakes) {
            mistakes.add(format!("GRPC_SERVER_USE_TLS=true: {error}"));
        }
    }

    fn clients(&self) -> anyhow::Result<Option<ClientAuth>> {
        match (&self.grpc_client_tls_cacert, &self.grpc_client_tls_san) {
            (Some(authorities), name) => Ok(Some(ClientAuth {
                authorities: authorities.clone(),
                name: name.clone(),
            })),
            (None, None) => Ok(None),
            (None, Some(_)) => anyhow::bail!(
                "GRPC_CLIENT_TLS_SAN needs GRPC_CLIENT_TLS_CACERT, because a name proves nothing without trusted CAs"
            ),
        }
    }

    /// Warns that clients are not authenticated, if a variable suggests that they are.
    pub(super) fn warn_about_clients(&self) {
        let is_taken_for_more = self.grpc_server_use_tls
            && self.grpc_server_tls_ca_cert.is_some()
            && self.grpc_client_tls_cacert.is_none();
        if is_taken_for_more {
            tracing::warn!(
                "client certificates are not required: GRPC_SERVER_TLS_CA_CERT does not authenticate clients, as in \
                 envoyproxy/ratelimit; set GRPC_CLIENT_TLS_CACERT to the same file to require them"
            );
        }
    }

    /// TLS options that are set but have no effect, because TLS is off.
    pub(super) fn unused(&self) -> Vec<&'static str> {
        if self.grpc_server_use_tls {
            return Vec::new();
        }
        [
            ("GRPC_SERVER_TLS_CERT", self.grpc_server_tls_cert.is_some()),
            ("GRPC_SERVER_TLS_KEY", self.grpc_server_tls_key.is_some()),
            (
                "GRPC_CLIENT_TLS_CACERT",
                self.grpc_client_tls_cacert.is_some(),
            ),
            (
                "GRPC_SERVER_TLS_CA_CERT",
                self.grpc_server_tls_ca_cert.is_some(),
            ),
            ("GRPC_CLIENT_TLS_SAN", self.grpc_client_tls_san.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_given)| is_given.then_some(name))
        .collect()
    }
}

fn needed(path: Option<&PathBuf>, what: &str) -> anyhow::Result<PathBuf> {
    path.cloned()
        .with_context(|| format!("GRPC_SERVER_USE_TLS=true needs {what}"))
}
