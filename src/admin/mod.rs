//! Readiness, metrics and version over HTTP, at istiod's paths.

use std::{future::Future, io};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use tokio::net::TcpListener;

use crate::telemetry::{Readiness, Registry};

/// What the pages read; they write nothing.
#[derive(Debug, Clone)]
pub struct Views {
    /// What start-up waits for.
    pub readiness: Readiness,
    /// Metrics.
    pub metrics: Registry,
}

/// Serves the pages until `stop` is done. istiod shows the same pages on its
/// http and monitoring ports; so do we.
pub async fn serve(
    listener: TcpListener,
    views: Views,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(views))
        .with_graceful_shutdown(stop)
        .await
}

fn router(views: Views) -> Router {
    Router::new()
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route(
            "/version",
            get(|| async { concat!(env!("CARGO_PKG_VERSION"), "\n") }),
        )
        .with_state(views)
}

async fn ready(State(views): State<Views>) -> impl IntoResponse {
    if views.readiness.is_ready() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let waiting = views.readiness.pending().join(", ");
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready: waiting for {waiting}\n"),
    )
}

async fn metrics(State(views): State<Views>) -> impl IntoResponse {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match views.metrics.encode() {
        Ok(text) => (StatusCode::OK, [("content-type", TYPE)], text),
        Err(error) => {
            let text = format!("cannot encode metrics: {error}\n");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                [("content-type", "text/plain")],
                text,
            )
        }
    }
}
