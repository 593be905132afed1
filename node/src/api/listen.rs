//! Where the API listens: the Unix socket of the data directory, and by choice a loopback TCP port.
//!
//! **Invariant:** the socket is 0600, or 0660 for the one group that the configuration names; it never exists with wider rights.
//! **Invariant:** the TCP listener binds to loopback only and answers nobody without the token; a browser page of
//! another origin is refused even with it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::types::{ErrorCode, ServiceError};
use super::{ApiError, ApiState};
use crate::config::{ApiConfig, ApiTcp};
use crate::service::Node;
use crate::{ambient, files};

/// Name of the socket in the data directory.
pub const SOCKET_NAME: &str = "api.sock";
/// Name of the token file in the data directory.
pub const TOKEN_NAME: &str = "api.token";
/// Longest path that fits into a socket address on every system that we run on.
const SOCKET_PATH_BYTES_MAX: usize = 100;
/// How long open requests may go on after the order to stop.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);

/// The running listeners.
#[derive(Debug)]
pub struct ApiServer {
    tasks: Vec<JoinHandle<()>>,
    work: TaskTracker,
    socket: PathBuf,
    /// Path of the Unix socket.
    pub socket_text: String,
    /// URL of the TCP listener.
    pub tcp: Option<String>,
}

impl ApiServer {
    /// Binds the listeners and serves `node` until `shutdown`.
    ///
    /// # Errors
    /// When another node holds the socket, a listener cannot be bound, or the group is unknown.
    pub async fn start(
        dir: &Path,
        config: &ApiConfig,
        node: Node,
        shutdown: CancellationToken,
    ) -> anyhow::Result<ApiServer> {
        let socket = dir.join(SOCKET_NAME);
        let unix = bind_socket(&socket, config.group.as_deref())?;
        let tcp = bind_tcp(config.tcp).await?;
        let tcp_url = tcp.as_ref().map(|(_, address)| format!("http://{address}"));
        let socket_text = socket.display().to_string();
        let (work, socket_shown) = (TaskTracker::new(), socket_text.clone());
        let stop = shutdown.clone();
        let state = ApiState { node, socket: socket_shown, tcp: tcp_url.clone(), shutdown: stop, work: work.clone() };
        let mut tasks = vec![tokio::spawn(serve_unix(unix, super::router(state.clone()), shutdown.clone()))];
        if let Some((listener, address)) = tcp {
            let guard = Guard { token: token(dir)?, address };
            let router = super::router(state).layer(axum::middleware::from_fn_with_state(Arc::new(guard), admit));
            tasks.push(tokio::spawn(serve_tcp(listener, router, shutdown)));
        }
        Ok(ApiServer { tasks, work, socket, socket_text, tcp: tcp_url })
    }

    /// Waits until open requests have ended, and changes whose clients have gone, a few seconds at most; removes the socket.
    pub async fn stopped(self) {
        for mut task in self.tasks {
            if tokio::time::timeout(SHUTDOWN_PATIENCE, &mut task).await.is_err() {
                task.abort();
            }
        }
        self.work.close();
        let _ = tokio::time::timeout(SHUTDOWN_PATIENCE, self.work.wait()).await;
        let _ = fs::remove_file(&self.socket);
    }
}

async fn serve_unix(listener: UnixListener, router: Router, shutdown: CancellationToken) {
    let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the API socket stopped");
    }
}

async fn serve_tcp(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the API's TCP listener stopped");
    }
}

// ----------------------------------------------------------------------------------------------------- Unix socket

/// Binds under a temporary name, sets the rights, then takes the place of a stale socket in one step.
fn bind_socket(socket: &Path, group: Option<&str>) -> anyhow::Result<UnixListener> {
    if let Ok(meta) = fs::symlink_metadata(socket) {
        if !meta.file_type().is_socket() {
            bail!("{} exists and is not a socket", socket.display());
        }
        if connects(socket) {
            bail!("another node answers on {}", socket.display());
        }
    }
    let temporary = socket.with_extension("sock.new");
    let _ = fs::remove_file(&temporary);
    let listener = with_short_path(&temporary, |path| std::os::unix::net::UnixListener::bind(path))
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    let mode = match group {
        None => 0o600,
        Some(name) => {
            give_to_group(&temporary, name)?;
            0o660
        }
    };
    fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))?;
    fs::rename(&temporary, socket)?;
    listener.set_nonblocking(true)?;
    Ok(UnixListener::from_std(listener)?)
}

fn connects(socket: &Path) -> bool {
    with_short_path(socket, |path| std::os::unix::net::UnixStream::connect(path)).is_ok()
}

/// Calls `then` with a path for `socket` that fits into a socket address: long ones go through the open directory.
///
/// # Errors
/// Those of opening the directory and of `then`.
pub fn with_short_path<T>(socket: &Path, then: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return then(socket);
    }
    let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else { return then(socket) };
    let directory = fs::File::open(parent)?;
    then(&Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name))
}

/// Makes `path` belong to the group that `[api] group` in the configuration names.
///
/// # Errors
/// `failed` with the setting, the path and what to do: usually this user is no member of the group.
pub(crate) fn give_to_group(path: &Path, name: &str) -> Result<(), ServiceError> {
    let gid = group_id(name)?;
    std::os::unix::fs::chown(path, None, Some(gid)).map_err(|e| {
        let message = format!("config.toml: [api] group: {} cannot be given to group {name}: {e}", path.display());
        let hint = format!(
            "make the user who runs this node a member of it (usermod -aG {name} USER, then log in or start the service \
             anew), or name another group in config.toml"
        );
        ServiceError::new(ErrorCode::Failed, message, hint)
    })
}

/// The number of a Unix group, from its name or written as a number.
fn group_id(name: &str) -> Result<u32, ServiceError> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    let table = fs::read_to_string("/etc/group").map_err(|e| files::read_error(Path::new("/etc/group"), &e))?;
    let row = table.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|row| row.first() == Some(&name));
    row.and_then(|row| row.get(2)?.parse().ok()).ok_or_else(|| {
        let message = format!("config.toml: [api] group: there is no Unix group {name} on this machine");
        let hint = format!("create it (groupadd --system {name}), or correct or remove that line");
        ServiceError::new(ErrorCode::Failed, message, hint)
    })
}

// ------------------------------------------------------------------------------------------------------------- TCP

async fn bind_tcp(tcp: ApiTcp) -> anyhow::Result<Option<(TcpListener, SocketAddr)>> {
    let port = match tcp {
        ApiTcp::Enabled(false) => return Ok(None),
        ApiTcp::Enabled(true) => 0,
        ApiTcp::Port(port) => port,
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("[api] tcp: cannot listen on {address}"))?;
    let bound = listener.local_addr()?;
    Ok(Some((listener, bound)))
}

/// Reads the token, or makes one: 32 bytes from the operating system as hex.
fn token(dir: &Path) -> anyhow::Result<String> {
    let path = dir.join(TOKEN_NAME);
    if path.exists() {
        let text = files::read_private(&path, 256)?;
        return Ok(String::from_utf8_lossy(&text).trim().to_owned());
    }
    let text = hex::encode(ambient::random::<32>());
    files::write_private(&path, format!("{text}\n").as_bytes())?;
    Ok(text)
}

/// What a request over TCP must show.
struct Guard {
    token: String,
    address: SocketAddr,
}

impl Guard {
    fn admits(&self, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let port = self.address.port();
        let hosts = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
        let host_is_ours = text(header::HOST).is_some_and(|host| hosts.iter().any(|ours| ours == host));
        let origin_is_ours = text(header::ORIGIN)
            .is_none_or(|origin| hosts.iter().any(|ours| origin.strip_prefix("http://") == Some(ours)));
        let token = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        // Hashes are compared, so that the time tells nothing about how much of the token was right.
        let token_is_right =
            token.is_some_and(|token| blake3::hash(token.as_bytes()) == blake3::hash(self.token.as_bytes()));
        host_is_ours && origin_is_ours && token_is_right
    }
}

async fn admit(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if guard.admits(request.headers()) {
        return next.run(request).await;
    }
    let hint = format!("send `Authorization: Bearer` with the content of {TOKEN_NAME} in the data directory");
    ApiError(ServiceError::new(ErrorCode::Unauthorized, "the token is missing or wrong", hint)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_over_tcp_needs_the_token_our_host_and_no_foreign_origin() {
        let guard = Guard { token: "secret".into(), address: SocketAddr::from(([127, 0, 0, 1], 4321)) };
        let check = |admitted: bool, rows: &[(header::HeaderName, &str)]| {
            let headers = rows.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            assert_eq!(guard.admits(&headers), admitted, "{rows:?}");
        };
        let host = (header::HOST, "127.0.0.1:4321");
        let token = (header::AUTHORIZATION, "Bearer secret");
        check(true, &[host.clone(), token.clone()]);
        check(true, &[(header::HOST, "localhost:4321"), token.clone()]);
        check(true, &[host.clone(), token.clone(), (header::ORIGIN, "http://localhost:4321")]);
        check(false, std::slice::from_ref(&host));
        check(false, std::slice::from_ref(&token));
        check(false, &[host.clone(), (header::AUTHORIZATION, "Bearer secre")]);
        check(false, &[host.clone(), (header::AUTHORIZATION, "Basic secret")]);
        check(false, &[(header::HOST, "evil.example:4321"), token.clone()]);
        check(false, &[host, token, (header::ORIGIN, "https://evil.example")]);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join(SOCKET_NAME);
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let first = bind_socket(&socket, None).unwrap();
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        let error = bind_socket(&socket, None).unwrap_err();
        assert!(error.to_string().contains("another node"), "{error}");
        drop(first);
    }

    #[tokio::test]
    async fn a_long_path_still_gets_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a".repeat(120));
        fs::create_dir(&deep).unwrap();
        let socket = deep.join(SOCKET_NAME);
        let listener = bind_socket(&socket, None).unwrap();
        assert!(connects(&socket));
        drop(listener);
    }

    #[test]
    fn the_token_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = token(dir.path()).unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(token(dir.path()).unwrap(), first);
        fs::set_permissions(dir.path().join(TOKEN_NAME), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(token(dir.path()).is_err());
    }

    #[test]
    fn a_group_is_found_by_name_or_number() {
        assert_eq!(group_id("root").unwrap(), 0);
        assert_eq!(group_id("1234").unwrap(), 1234);
        let unknown = group_id("no-such-group-anywhere").unwrap_err();
        assert!(unknown.message.contains("[api] group") && unknown.hint.contains("groupadd"), "{unknown:?}");
    }

    #[test]
    fn a_group_that_cannot_be_given_is_named_with_its_setting() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join(SOCKET_NAME);
        let error = give_to_group(&absent, "root").unwrap_err();
        for part in ["config.toml", "[api] group", "group root", SOCKET_NAME] {
            assert!(error.message.contains(part), "{error:?}");
        }
        assert!(error.hint.contains("usermod -aG root"), "{error:?}");
    }
}
