//! Proxies as offices run them: HTTP CONNECT and SOCKS5, on real sockets, with or without credentials. Every name they
//! are asked for leads to this machine.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use base64::Engine as _;

/// Which protocol a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTTP CONNECT.
    Http,
    /// SOCKS version 5.
    Socks5,
}

/// A running proxy; it ends with the process.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    kind: Kind,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts one that wants `credentials`, written `USER:PASSWORD`, if there are any.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start(kind: Kind, credentials: Option<&str>) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, wanted) = (asked.clone(), credentials.map(str::to_owned));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, wanted) = (seen.clone(), wanted.clone());
                thread::spawn(move || serve(kind, stream, wanted.as_deref(), &seen));
            }
        });
        Proxy { address, kind, asked }
    }

    /// As `--proxy` takes it.
    pub fn url(&self) -> String {
        let scheme = if self.kind == Kind::Http { "http" } else { "socks5" };
        format!("{scheme}://{}", self.address)
    }

    /// The targets that it was asked for, as `HOST:PORT`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(kind: Kind, mut stream: TcpStream, wanted: Option<&str>, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let target = match kind {
        Kind::Http => read_connect(&mut stream, wanted)?,
        Kind::Socks5 => read_socks(&mut stream, wanted)?,
    };
    let Some(target) = target else { return Ok(()) };
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(target.clone());
    let (host, port) = target.rsplit_once(':').ok_or(io::ErrorKind::InvalidData)?;
    let port: u16 = port.parse().map_err(|_| io::ErrorKind::InvalidData)?;
    let ip = host.trim_matches(['[', ']']).parse().unwrap_or(Ipv4Addr::LOCALHOST.into());
    let reached = TcpStream::connect(SocketAddr::new(ip, port));
    match (kind, &reached) {
        (Kind::Http, Ok(_)) => stream.write_all(b"HTTP/1.1 200 Connection established\r\nProxy-Agent: test\r\n\r\n")?,
        (Kind::Http, Err(_)) => stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")?,
        (Kind::Socks5, Ok(_)) => stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?,
        (Kind::Socks5, Err(_)) => stream.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0])?,
    }
    let far = reached?;
    let (mut from, mut to) = (stream.try_clone()?, far.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let (mut from, mut to) = (far, stream);
    let _ = io::copy(&mut from, &mut to);
    to.shutdown(std::net::Shutdown::Write)
}

fn read_connect(stream: &mut TcpStream, wanted: Option<&str>) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8 << 10 {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let basic = |wanted: &str| base64::engine::general_purpose::STANDARD.encode(wanted);
    if wanted.is_some_and(|wanted| !head.contains(&format!("Proxy-Authorization: Basic {}\r\n", basic(wanted)))) {
        stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")?;
        return Ok(None);
    }
    Ok(head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).map(str::to_owned))
}

fn read_socks(stream: &mut TcpStream, wanted: Option<&str>) -> io::Result<Option<String>> {
    let read = |bytes: usize, stream: &mut TcpStream| -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        stream.read_exact(&mut buffer)?;
        Ok(buffer)
    };
    let methods = read(2, stream)?[1];
    let methods = read(methods.into(), stream)?;
    let method = if wanted.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        stream.write_all(&[5, 0xff])?;
        return Ok(None);
    }
    stream.write_all(&[5, method])?;
    if let Some(wanted) = wanted {
        let user = read(2, stream)?[1];
        let user = read(user.into(), stream)?;
        let password = read(1, stream)?[0];
        let password = read(password.into(), stream)?;
        let given = [&user[..], b":", &password[..]].concat();
        stream.write_all(&[1, u8::from(given != wanted.as_bytes())])?;
        if given != wanted.as_bytes() {
            return Ok(None);
        }
    }
    let head = read(4, stream)?;
    let host = match head[3] {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(read(4, stream)?).expect("four bytes")).to_string(),
        3 => {
            let length = read(1, stream)?[0];
            String::from_utf8_lossy(&read(length.into(), stream)?).into_owned()
        }
        _ => return Ok(None),
    };
    let port = read(2, stream)?;
    Ok(Some(format!("{host}:{}", u16::from_be_bytes([port[0], port[1]]))))
}
