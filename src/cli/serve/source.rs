//! Options of the management server (xDS).

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::mistakes::Mistakes;
use super::super::options::{Configuration, Secret, boolean, some_time};
use crate::source::Origin;
use crate::source::xds::{Retry, Settings, TlsFiles};

/// Default of gRPC, which `XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES=0` selects.
const DEFAULT_MAX_MESSAGE: usize = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ConfigType {
    /// Files
    #[value(name = "FILE")]
    File,
    /// A management server, over xDS
    #[value(name = "GRPC_XDS_SOTW")]
    GrpcXdsSotw,
}

/// `key=value` pairs.
#[derive(Debug, Clone, Default)]
struct Pairs(Vec<(String, String)>);

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Configuration from a management server (xDS)")]
pub(super) struct SourceOptions {
    /// Source of the configuration
    #[arg(
        long,
        env = "CONFIG_TYPE",
        value_name = "NAME",
        default_value = "FILE",
        ignore_case = true
    )]
    config_type: ConfigType,

    /// Address of the management server, as host:port
    #[arg(long, env = "CONFIG_GRPC_XDS_SERVER_URL", value_name = "ADDRESS",
        default_value = "localhost:18000", value_parser = server)]
    config_grpc_xds_server_url: Authority,

    /// Node ID sent to the management server
    #[arg(
        long,
        env = "CONFIG_GRPC_XDS_NODE_ID",
        value_name = "ID",
        default_value = "default"
    )]
    config_grpc_xds_node_id: String,

    /// Node metadata sent to the management server, as key=value,key2=value2
    #[arg(long, env = "CONFIG_GRPC_XDS_NODE_METADATA", value_name = "PAIRS", value_parser = pairs)]
    config_grpc_xds_node_metadata: Option<Pairs>,

    /// Headers sent to the management server, as name:value,name2:value2
    #[arg(
        long,
        env = "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS",
        value_name = "HEADERS",
        hide_env_values = true
    )]
    config_grpc_xds_client_additional_headers: Option<Secret>,

    /// Connect to the management server with TLS
    #[arg(long, env = "CONFIG_GRPC_XDS_SERVER_USE_TLS", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    config_grpc_xds_server_use_tls: bool,

    /// PEM file with the client certificate for the management server; read for each connection
    #[arg(long, env = "CONFIG_GRPC_XDS_CLIENT_TLS_CERT", value_name = "PATH")]
    config_grpc_xds_client_tls_cert: Option<PathBuf>,

    /// PEM file with the private key of CONFIG_GRPC_XDS_CLIENT_TLS_CERT; read for each connection
    #[arg(long, env = "CONFIG_GRPC_XDS_CLIENT_TLS_KEY", value_name = "PATH")]
    config_grpc_xds_client_tls_key: Option<PathBuf>,

    /// PEM file with the CA certificates that sign the management server's certificate [default: the system's
    /// roots]
    #[arg(long, env = "CONFIG_GRPC_XDS_SERVER_TLS_CACERT", value_name = "PATH")]
    config_grpc_xds_server_tls_cacert: Option<PathBuf>,

    /// Name that the management server's certificate must have [default: the host of CONFIG_GRPC_XDS_SERVER_URL]
    #[arg(long, env = "CONFIG_GRPC_XDS_SERVER_TLS_SAN", value_name = "NAME", value_parser = host)]
    config_grpc_xds_server_tls_san: Option<String>,

    /// Time to wait before the first attempt to reconnect to the management server
    #[arg(long, env = "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", value_name = "DURATION",
        default_value = "3s", value_parser = some_time)]
    config_grpc_xds_server_connect_retry_interval: Duration,

    /// Time to wait before the second attempt to reconnect to the management server; it doubles with each further
    /// attempt
    #[arg(long, env = "XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", value_name = "DURATION",
        default_value = "10s", value_parser = some_time)]
    xds_client_backoff_initial_interval: Duration,

    /// Maximum time to wait between attempts to reconnect to the management server
    #[arg(long, env = "XDS_CLIENT_BACKOFF_MAX_INTERVAL", value_name = "DURATION",
        default_value = "60s", value_parser = some_time)]
    xds_client_backoff_max_interval: Duration,

    /// Random variation of each wait, as a fraction of the wait, from 0 to 1
    #[arg(long, env = "XDS_CLIENT_BACKOFF_RANDOM_FACTOR", value_name = "PART",
        default_value = "0.5", value_parser = part)]
    xds_client_backoff_random_factor: f64,

    /// Vary the waits between attempts to reconnect by XDS_CLIENT_BACKOFF_RANDOM_FACTOR
    #[arg(long, env = "XDS_CLIENT_BACKOFF_JITTER", value_name = "BOOL", value_parser = boolean,
        default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    xds_client_backoff_jitter: bool,

    /// Maximum size of a message from the management server, in bytes; 0 means 4 MiB
    #[arg(
        long,
        env = "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES",
        value_name = "BYTES",
        default_value_t = 0
    )]
    xds_client_max_msg_size_in_bytes: usize,

    /// Time between keepalive pings to the management server; by default, gRPC servers in Go close a connection
    /// with more than one ping in five minutes
    #[arg(long, env = "XDS_CLIENT_KEEPALIVE_INTERVAL", value_name = "DURATION",
        default_value = "330s", value_parser = some_time)]
    xds_client_keepalive_interval: Duration,
}

impl SourceOptions {
    /// The source of the rules, or `None` if options are invalid. All errors are added to `mistakes`.
    pub(super) fn origin(&self, files: &Configuration, mistakes: &mut Mistakes) -> Option<Origin> {
        if self.config_type == ConfigType::File {
            return Some(Origin::Files(files.location()));
        }
        if files.is_path_given() {
            mistakes.add(
                "CONFIG_TYPE=GRPC_XDS_SOTW and CONFIG_PATH: rules come either from a management server or \
                 from files; leave one of them out",
            );
        }
        let settings = self.xds(mistakes)?;
        Some(Origin::Xds(Box::new(settings)))
    }

    fn xds(&self, mistakes: &mut Mistakes) -> Option<Settings> {
        let spread = match self.xds_client_backoff_jitter {
            true => self.xds_client_backoff_random_factor,
            false => 0.0,
        };
        let metadata = self.config_grpc_xds_node_metadata.clone();
        let headers = match &self.config_grpc_xds_client_additional_headers {
            Some(text) => mistakes.take(headers(text.reveal())),
            None => Some(HeaderMap::new()),
        };
        let tls = mistakes.take(self.tls());
        Some(Settings {
            server: self.config_grpc_xds_server_url.to_string(),
            node_id: self.config_grpc_xds_node_id.clone(),
            node_metadata: metadata.unwrap_or_default().0,
            headers: headers?,
            tls: tls?,
            max_message: match self.xds_client_max_msg_size_in_bytes {
                0 => DEFAULT_MAX_MESSAGE,
                bytes => bytes,
            },
            keepalive: self.xds_client_keepalive_interval,
            retry: Retry {
                first: self.config_grpc_xds_server_connect_retry_interval,
                second: self.xds_client_backoff_initial_interval,
                longest: self.xds_client_backoff_max_interval,
                spread,
            },
        })
    }

    fn tls(&self) -> anyhow::Result<Option<TlsFiles>> {
        let certificate = self.config_grpc_xds_client_tls_cert.clone();
        let key = self.config_grpc_xds_client_tls_key.clone();
        let authority = self.config_grpc_xds_server_tls_cacert.clone();
        let server_name = self.config_grpc_xds_server_tls_san.clone();
        if !self.config_grpc_xds_server_use_tls {
            let is_any_given =
                certificate.is_some() || authority.is_some() || server_name.is_some();
            if is_any_given {
                tracing::warn!(
                    "CONFIG_GRPC_XDS_*_TLS_* have no effect without CONFIG_GRPC_XDS_SERVER_USE_TLS=true: \
                     the connection to the management server is in plaintext"
                );
            }
            return Ok(None);
        }
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => anyhow::bail!(
                "CONFIG_GRPC_XDS_CLIENT_TLS_CERT needs CONFIG_GRPC_XDS_CLIENT_TLS_KEY, the file with \
                 its private key"
            ),
            (None, Some(_)) => anyhow::bail!(
                "CONFIG_GRPC_XDS_CLIENT_TLS_KEY needs CONFIG_GRPC_XDS_CLIENT_TLS_CERT, the file with \
                 its certificate"
            ),
        };
        Ok(Some(TlsFiles {
            identity,
            authority,
            server_name,
        }))
    }
}

/// Parses host and port, also as a gRPC target.
fn server(text: &str) -> Result<Authority, String> {
    let prefixes = ["dns:///", "passthrough:///"].into_iter();
    let address = prefixes
        .filter_map(|prefix| text.strip_prefix(prefix))
        .next();
    let address = address.unwrap_or(text);
    let authority = address.parse::<Authority>().ok();
    authority
        .filter(|authority| authority.port_u16().is_some() && !authority.host().is_empty())
        .filter(|authority| !authority.as_str().contains('@'))
        .ok_or_else(|| "write host:port, such as envoy-gateway:18001".to_owned())
}

/// Parses a host name without a port.
fn host(text: &str) -> Result<String, String> {
    let is_host = text
        .parse::<Authority>()
        .is_ok_and(|authority| authority.host() == text);
    if is_host {
        Ok(text.to_owned())
    } else {
        Err("write the name in the certificate, such as envoy-gateway".to_owned())
    }
}

fn pairs(text: &str) -> Result<Pairs, String> {
    let pairs = text.split(',').map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (!key.trim().is_empty()).then(|| (key.trim().to_owned(), value.trim().to_owned()))
    });
    let pairs: Option<Vec<_>> = pairs.collect();
    let pairs = pairs.ok_or_else(|| "write key=value pairs with commas between them".to_owned())?;
    let keys: HashSet<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
    match keys.len() == pairs.len() {
        true => Ok(Pairs(pairs)),
        false => Err("write each key once".to_owned()),
    }
}

/// Parses headers. Their values can be secrets. A name contains neither a colon nor an equals sign, so either can
/// separate it from the value.
fn headers(text: &str) -> anyhow::Result<HeaderMap> {
    let header = |text: &str| {
        let (name, value) = text.split_once([':', '='])?;
        let name = HeaderName::try_from(name.trim()).ok()?;
        let mut value = HeaderValue::try_from(value.trim()).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    let mut headers = HeaderMap::new();
    for text in text.split(',') {
        let (name, value) = header(text).context(
            "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS: write name:value pairs with commas between them",
        )?;
        // A header can be repeated.
        headers.append(name, value);
    }
    Ok(headers)
}

fn part(text: &str) -> Result<f64, String> {
    let part = text.parse().ok();
    let part = part.filter(|part| (0.0..=1.0).contains(part));
    part.ok_or_else(|| "write a number from 0 to 1".to_owned())
}
