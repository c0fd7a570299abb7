//! One HTTP request, one connection.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, body::Bytes};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Sends a request without a body and reads the whole answer.
pub(super) async fn send(
    method: &str,
    address: SocketAddr,
    host: &str,
    path: &str,
) -> Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder().method(method).uri(path);
    let request = request.header("host", host).body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok::<_, hyper::Error>((status, response.collect().await?.to_bytes()))
    };
    tokio::select! {
        answer = exchange => Ok(answer?),
        ended = connection => match ended {
            Ok(()) => bail!("{address} closed the connection without an answer"),
            Err(error) => Err(error.into()),
        },
    }
}

/// The body of a page.
pub(super) async fn page(address: SocketAddr, path: &str) -> Result<Bytes> {
    let (status, body) = send("GET", address, "localhost", path).await?;
    if status != StatusCode::OK {
        bail!("{address}{path} answered {status}");
    }
    Ok(body)
}
