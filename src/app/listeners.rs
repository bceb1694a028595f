//! The sockets that the server listens on.

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

/// Connections that wait to be accepted; the kernel may allow fewer.
const BACKLOG: i32 = 4096;

/// Where a server listens.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// For gRPC.
    pub grpc: Address,
    /// For JSON and health.
    pub http: Address,
    /// For people who look into the server.
    pub debug: Address,
}

/// Where one port is.
#[derive(Debug, Clone)]
pub enum Address {
    /// A host and a port, and the options that named them.
    Tcp {
        /// A name or an address; `::` is IPv4, too.
        host: String,
        /// The port; 0 takes any.
        port: u16,
        /// The options, for mistakes.
        options: (&'static str, &'static str),
    },
    /// A path.
    Unix(PathBuf),
}

/// Sockets that are bound already.
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC.
    pub grpc: Listener,
    /// For JSON and health.
    pub http: Listener,
    /// For people who look into the server.
    pub debug: Listener,
    /// For Prometheus, if it is to be told.
    pub prometheus: Option<TcpListener>,
    files: Vec<SocketFile>,
}

impl Listeners {
    /// Binds the addresses of the server.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn bind(addresses: &Addresses) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        Ok(Self {
            grpc: addresses.grpc.bind(&mut files).await?,
            http: addresses.http.bind(&mut files).await?,
            debug: addresses.debug.bind(&mut files).await?,
            prometheus: None,
            files,
        })
    }

    /// The listeners, and what is to be kept until they are no longer used.
    pub(super) fn into_parts(self) -> ([Listener; 3], Vec<SocketFile>) {
        ([self.grpc, self.http, self.debug], self.files)
    }
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

/// Listens on the first address of the host that can be listened on.
async fn bind_host(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await? {
        match bind_address(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    // A machine without IPv6 has all of its addresses in IPv4.
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
        // Whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    // What a server that was here before has left waiting is in nobody's way.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Listens at a path, in the place of a server that is gone and left its socket behind.
fn bind_path(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is something else; name a path where nothing is",
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

/// The file of a socket, which goes with it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another server may have taken the place meanwhile.
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        if is_ours {
            // It stays behind where it cannot be removed; the next server removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
