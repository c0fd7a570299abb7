//! `isthmus helloworld`: the sample service of Istio's multi-cluster guides,
//! small enough to run beside every Envoy of a demo or a test.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{
    Router,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
};
use clap::Args;
use tokio::{net::TcpListener, runtime::Runtime, time::sleep};

use super::stop;
use crate::model::parse_duration;

/// Flags of `isthmus helloworld`.
#[derive(Debug, Args)]
pub struct HelloworldArgs {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "HOST:PORT")]
    listen: SocketAddr,
    /// Version that answers
    #[arg(
        long,
        env = "SERVICE_VERSION",
        default_value = "v1",
        value_name = "TEXT"
    )]
    version: String,
    /// Instance that answers
    #[arg(long, env = "HOSTNAME", default_value = "local", value_name = "TEXT")]
    instance: String,
}

#[derive(Debug)]
struct Service {
    greeting: String,
    /// What it answers with.
    status: AtomicU16,
}

pub(super) fn run(args: &HelloworldArgs) -> Result<ExitCode> {
    Runtime::new()?.block_on(async {
        let listener = TcpListener::bind(args.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", args.listen))?;
        axum::serve(listener, router(args))
            .with_graceful_shutdown(stop::told()?)
            .await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn router(args: &HelloworldArgs) -> Router {
    let service = Service {
        greeting: format!(
            "Hello version: {}, instance: {}\n",
            args.version, args.instance
        ),
        status: AtomicU16::new(StatusCode::OK.as_u16()),
    };
    Router::new()
        .route("/hello", get(hello))
        .route("/status/{code}", post(answer_with))
        .with_state(Arc::new(service))
}

/// `?delay=500ms` is a request that takes its time.
async fn hello(
    State(service): State<Arc<Service>>,
    RawQuery(query): RawQuery,
) -> impl IntoResponse {
    let delay = query
        .as_deref()
        .and_then(|query| query.strip_prefix("delay="));
    sleep(delay.and_then(parse_duration).unwrap_or(Duration::ZERO)).await;
    let status = StatusCode::from_u16(service.status.load(Ordering::Relaxed));
    (status.unwrap_or(StatusCode::OK), service.greeting.clone())
}

/// From now on every answer has this status: 503 fails, 200 is well again.
async fn answer_with(
    State(service): State<Arc<Service>>,
    Path(code): Path<u16>,
) -> impl IntoResponse {
    if StatusCode::from_u16(code).is_err() {
        return (StatusCode::BAD_REQUEST, "no status\n");
    }
    service.status.store(code, Ordering::Relaxed);
    (StatusCode::OK, "OK\n")
}
