//! Binds the sockets that the server listens on.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener, lookup_host};

use crate::service::Listener;

/// Maximum number of connections that wait to be accepted. The kernel can allow fewer.
const BACKLOG: i32 = 4096;

/// Addresses of the ports.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    /// Address of the gRPC port.
    pub grpc: Address,
    /// Address of the port for JSON and health checks.
    pub http: Address,
    /// Address of the debug port with the admin page.
    pub debug: Address,
}

/// Address of a port.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    /// TCP.
    Tcp {
        /// Host name or IP address; `::` includes IPv4.
        host: String,
        /// Port number; 0 for any free port.
        port: u16,
        /// Names of the options, for errors.
        options: (&'static str, &'static str),
    },
    /// Path of a Unix socket.
    Unix(PathBuf),
}

/// Sockets that are bound.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// gRPC port.
    pub grpc: Listener,
    /// Port for JSON and health checks.
    pub http: Listener,
    /// Debug port with the admin page.
    pub debug: Listener,
    /// Prometheus endpoint, if there is one.
    pub prometheus: Option<TcpListener>,
    files: Vec<SocketFile>,
}

impl Listeners {
    /// Binds the addresses of the server, without a Prometheus endpoint.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub(crate) async fn bind(addresses: &Addresses) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        Ok(Self {
            grpc: addresses.grpc.bind(&mut files).await?,
            http: addresses.http.bind(&mut files).await?,
            debug: addresses.debug.bind(&mut files).await?,
            prometheus: None,
            files,
        })
    }
}

impl Listeners {
    /// Returns the listeners that requests are served on, and the files of Unix sockets, which must be kept as long as
    /// they are used.
    pub(super) fn into_parts(self) -> (RequestListeners, Vec<SocketFile>) {
        let listeners = RequestListeners {
            grpc: self.grpc,
            http: HttpListeners {
                http: self.http,
                debug: self.debug,
            },
        };
        (listeners, self.files)
    }
}

/// The listeners that requests are served on.
pub(super) struct RequestListeners {
    pub(super) grpc: Listener,
    pub(super) http: HttpListeners,
}

/// The listeners of the HTTP ports.
pub(super) struct HttpListeners {
    /// Port for JSON and health checks.
    pub(super) http: Listener,
    /// Debug port with the admin page.
    pub(super) debug: Listener,
}

impl Address {
    async fn bind(&self, files: &mut Vec<SocketFile>) -> anyhow::Result<Listener> {
        match self {
            Self::Tcp {
                host,
                port,
                options: (host_option, port_option),
            } => bind_host(host, *port)
                .await
                .map(Listener::Tcp)
                .with_context(|| {
                    format!("cannot listen on {host_option} {host}, {port_option} {port}")
                }),
            Self::Unix(path) => {
                let (listener, file) = bind_path(path)
                    .with_context(|| format!("cannot listen on GRPC_UDS {}", path.display()))?;
                files.push(file);
                Ok(Listener::Unix(listener))
            }
        }
    }
}

/// Listens on the first address of the host that can be bound.
async fn bind_host(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await? {
        match bind_address(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    // Without IPv6, all addresses are those of IPv4.
    let is_any = host.parse() == Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    if is_any
        && !matches!(
            last.kind(),
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
        )
    {
        return bind_address(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    }
    Err(last)
}

fn bind_address(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // Overrides net.ipv6.bindv6only.
        socket.set_only_v6(false)?;
    }
    // Connections in TIME_WAIT of a previous server must not prevent a restart.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Listens at a path. Replaces the socket file that a server left behind.
fn bind_path(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the path exists and is not a socket; choose another path",
            ));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)?;
            }
            Err(error) => return Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    let inode = fs::symlink_metadata(path)?.ino();
    let file = SocketFile {
        path: path.to_owned(),
        inode,
    };
    Ok((listener, file))
}

/// The file of a Unix socket, which is removed with it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another server can have replaced the file.
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        if is_ours {
            // If it cannot be removed, the next server replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
