//! The client: what an application in the sleep pod would do.

use std::{fmt, future::Future, net::SocketAddr, pin::pin, time::Duration};

use anyhow::Result;
use hyper::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::super::http::send;
use super::super::{BAD, DIM};

/// Between two requests of a load.
const PACE: Duration = Duration::from_millis(5);
const LIMIT: Duration = Duration::from_secs(10);
/// How many answers of a load are shown.
const SHOWN: usize = 12;

/// Asks helloworld through the Envoy of sleep.
#[derive(Debug)]
pub(super) struct Client {
    sidecar: SocketAddr,
}

/// Versions that answered, in their order, and what failed.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    answers: Vec<Result<String, String>>,
}

impl Client {
    pub(super) fn new(sidecar: SocketAddr) -> Self {
        Self { sidecar }
    }

    /// Asks so often.
    pub(super) async fn ask(&self, times: usize) -> Log {
        let mut log = Log::default();
        for _ in 0..times {
            log.answers.push(self.version().await);
        }
        log
    }

    /// Asks for as long as `work` takes.
    pub(super) async fn while_doing<T>(&self, work: impl Future<Output = T>) -> (T, Log) {
        let mut work = pin!(work);
        let mut log = Log::default();
        loop {
            let load = async {
                sleep(PACE).await;
                self.version().await
            };
            let mut load = pin!(load);
            tokio::select! {
                answer = &mut load => log.answers.push(answer),
                done = &mut work => {
                    // The last one counts too.
                    log.answers.push(load.await);
                    return (done, log);
                }
            }
        }
    }

    async fn version(&self) -> Result<String, String> {
        let exchange = send("GET", self.sidecar, "helloworld.default", "/hello");
        let answer = timeout(LIMIT, exchange).await;
        let answer = answer.map_err(|_| "no answer".to_owned())?;
        let (status, body) = answer.map_err(|error| error.to_string())?;
        let body = String::from_utf8_lossy(&body).trim().to_owned();
        if status != StatusCode::OK {
            return Err(format!("{status} {body}"));
        }
        let version = body.strip_prefix("Hello version: ");
        let version = version.and_then(|rest| rest.split(',').next());
        version.map(str::to_owned).ok_or(body)
    }
}

impl Log {
    pub(super) fn add(&mut self, other: Self) {
        self.answers.extend(other.answers);
    }

    pub(super) fn count(&self) -> usize {
        self.answers.len()
    }

    /// What went wrong, each time.
    pub(super) fn problems(&self) -> impl Iterator<Item = &str> {
        let problems = self
            .answers
            .iter()
            .filter_map(|answer| answer.as_ref().err());
        problems.map(String::as_str)
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for answer in self.answers.iter().take(SHOWN) {
            match answer {
                Ok(version) => write!(f, "{version} ")?,
                Err(_) => write!(f, "{BAD}failed{BAD:#} ")?,
            }
        }
        if self.count() > SHOWN {
            let (count, failed) = (self.count(), self.problems().count());
            write!(f, "{DIM}… {count} requests, {failed} failed{DIM:#}")?;
        }
        Ok(())
    }
}

/// What someone says to a request in plain text.
pub(super) async fn plain(to: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(to).await?;
    let mut said = Vec::new();
    let exchange = async {
        stream
            .write_all(b"GET /hello HTTP/1.1\r\nhost: helloworld\r\n\r\n")
            .await?;
        stream.read_to_end(&mut said).await
    };
    // It may end with a reset.
    let _ = timeout(LIMIT, exchange).await;
    Ok(String::from_utf8_lossy(&said).into_owned())
}
