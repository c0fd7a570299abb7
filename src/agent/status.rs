//! The agent's own pages, under pilot-agent's paths.

use std::{io, net::SocketAddr};

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use tokio::net::TcpListener;

use super::admin::Admin;
use super::dns::Names;
use super::drain::Drain;
use super::readiness::Readiness;
use super::{AgentConfig, bootstrap};

/// What the pages read and do.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    pub(super) readiness: Readiness,
    pub(super) drain: Drain,
    pub(super) admin: Admin,
    pub(super) names: Option<Names>,
}

/// The socket of the pages.
pub(super) async fn listen(config: &AgentConfig) -> io::Result<TcpListener> {
    TcpListener::bind((bootstrap::wildcard(config), config.envoy.status_port)).await
}

/// Serves the pages for ever.
pub(super) async fn serve(listener: TcpListener, pages: Pages) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz/ready", get(ready))
        .route("/stats/prometheus", get(metrics))
        .route("/metrics", get(metrics))
        .route("/debug/ndsz", get(names))
        .route("/quitquitquit", post(quit))
        .route("/drain", post(drain))
        .with_state(pages);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).await
}

async fn ready(State(pages): State<Pages>) -> Response {
    match pages.readiness.check().await {
        Ok(()) => (StatusCode::OK, "ready\n").into_response(),
        Err(problem) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {problem}\n"),
        )
            .into_response(),
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    match pages.admin.get("/stats/prometheus").await {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(problem) => (StatusCode::BAD_GATEWAY, format!("{problem}\n")).into_response(),
    }
}

async fn names(State(pages): State<Pages>) -> Response {
    let names = pages.names.map(|names| names.list()).unwrap_or_default();
    (
        [(CONTENT_TYPE, "application/json")],
        json!(names).to_string(),
    )
        .into_response()
}

type Peer = ConnectInfo<SocketAddr>;

/// Only the pod itself may end its proxy.
fn is_own(ConnectInfo(peer): Peer) -> bool {
    peer.ip().to_canonical().is_loopback()
}

const NOT_OWN: (StatusCode, &str) = (StatusCode::FORBIDDEN, "only from this machine\n");

async fn quit(peer: Peer, State(pages): State<Pages>) -> Response {
    if !is_own(peer) {
        return NOT_OWN.into_response();
    }
    pages.drain.quit();
    (StatusCode::OK, "OK").into_response()
}

async fn drain(peer: Peer, State(pages): State<Pages>) -> Response {
    if !is_own(peer) {
        return NOT_OWN.into_response();
    }
    match pages.drain.begin().await {
        Ok(()) => (StatusCode::OK, "OK").into_response(),
        Err(problem) => (StatusCode::BAD_GATEWAY, format!("{problem}\n")).into_response(),
    }
}
