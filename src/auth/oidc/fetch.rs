//! Fetches the keys of an issuer.

use std::{fmt, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;

/// Key sets have a few kilobytes.
const LARGEST: usize = 1 << 20;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0:?} is not a URL")]
    Url(String),
    #[error("no root certificates for HTTPS: {0}; set SSL_CERT_FILE")]
    Roots(std::io::Error),
    #[error("cannot read {path}: {error}")]
    File { path: String, error: std::io::Error },
    #[error("{url}: {text}")]
    Http { url: String, text: String },
    #[error("{url} answered {status}")]
    Status { url: String, status: StatusCode },
    #[error("no answer within {} seconds", .0.as_secs())]
    NoAnswer(Duration),
    #[error("the discovery document of {0} is not one of that issuer with a jwks_uri")]
    Discovery(String),
    #[error("it is not a JSON Web Key Set with a usable public key")]
    NoKeys,
}

/// Fetches one document, over HTTP or from a file.
pub(super) struct Fetcher {
    start: Start,
}

enum Start {
    KeysAt(String),
    Issuer(String),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Fetcher {
    /// Of a known place.
    pub(super) fn at(uri: String) -> Self {
        let start = Start::KeysAt(uri);
        Self { start }
    }

    /// Of the place that the issuer's discovery document names.
    pub(super) fn discover(issuer: &str) -> Self {
        let start = Start::Issuer(issuer.to_owned());
        Self { start }
    }

    pub(super) async fn fetch(&self) -> Result<Bytes, FetchError> {
        match &self.start {
            Start::KeysAt(uri) => get(uri).await,
            Start::Issuer(issuer) => {
                let root = issuer.trim_end_matches('/');
                let document = get(&format!("{root}/.well-known/openid-configuration")).await?;
                let wrong = || FetchError::Discovery(issuer.clone());
                let found: Discovery = serde_json::from_slice(&document).map_err(|_| wrong())?;
                if found.issuer != *issuer {
                    return Err(wrong());
                }
                get(&found.jwks_uri).await
            }
        }
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Start::KeysAt(text) | Start::Issuer(text)) = &self.start;
        f.debug_tuple("Fetcher").field(text).finish()
    }
}

async fn get(url: &str) -> Result<Bytes, FetchError> {
    if let Some(path) = url.strip_prefix("file://") {
        let path = PathBuf::from(path);
        let read = tokio::fs::read(&path).await;
        let told = |error| FetchError::File {
            path: path.display().to_string(),
            error,
        };
        return read.map(Bytes::from).map_err(told);
    }
    let uri: Uri = url.parse().map_err(|_| FetchError::Url(url.to_owned()))?;
    let failed = |error: &dyn std::error::Error| FetchError::Http {
        url: url.to_owned(),
        text: chain(error),
    };
    let answer = client()?.get(uri).await.map_err(|error| failed(&error))?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status {
            url: url.to_owned(),
            status: answer.status(),
        });
    }
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    Ok(body.map_err(|error| failed(&*error))?.to_bytes())
}

/// Made for each fetch: they are minutes apart, and the roots may have changed.
fn client() -> Result<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>, FetchError> {
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()
        .map_err(FetchError::Roots)?
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// The error and its causes; the outermost alone says "client error".
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
