//! Small servers that real Envoys are led to.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{fs, net::Ipv4Addr, path::Path, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A loopback address that no other test of this process, and hardly any of
/// another, uses.
pub(crate) fn own_address(test: u8) -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | (test & 0x3f), high, low)
}

/// Servers that say their name: over HTTP, or to every TCP connection.
pub(crate) struct Server {
    pub(crate) port: u16,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Says its name to every request.
    pub(crate) async fn http(name: &'static str) -> Self {
        Self::start(move |mut stream: TcpStream| async move {
            let mut head = Vec::new();
            while let Ok(byte) = stream.read_u8().await {
                head.push(byte);
                if head.ends_with(b"\r\n\r\n") {
                    head.clear();
                    let length = name.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}");
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// Says its name to every connection.
    pub(crate) async fn tcp(name: &'static str) -> Self {
        Self::start(move |mut stream: TcpStream| async move {
            // The caller may be gone.
            let _ = stream.write_all(name.as_bytes()).await;
        })
        .await
    }

    /// Does with each connection what `serve` does.
    pub(crate) async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at(Ipv4Addr::LOCALHOST, serve).await
    }

    /// The same on an address of its own.
    pub(crate) async fn start_at<F>(
        address: Ipv4Addr,
        serve: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((address, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut tasks = JoinSet::new();
        let serve = Arc::new(serve);
        tasks.spawn(async move {
            let mut streams = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                streams.spawn(serve(stream));
            }
        });
        Self {
            port,
            _tasks: tasks,
        }
    }
}

/// Writes a file in one step: its reader never sees a part.
pub(crate) fn write(folder: &Path, file: &str, text: &str) {
    let (beside, path) = (folder.join("new"), folder.join(file));
    fs::write(&beside, text).expect("a written file");
    fs::rename(beside, path).expect("a renamed file");
}
