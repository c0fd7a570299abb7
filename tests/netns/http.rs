//! Servers and clients of the tests: in this process, but in the namespaces of
//! their pods, so that their sockets are taken by the sidecars.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use hickory_resolver::proto::{
    op::{Message, Query},
    rr::{Name, RData, RecordType},
};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::namespace::{Entrance, Namespace};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A server in a pod. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct App {
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    /// What it answers.
    text: String,
    /// Other services whose answers are part of its own.
    calls: Vec<Call>,
    entrance: Entrance,
    failing: AtomicBool,
}

/// A service as a client calls it.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) host: String,
    pub(crate) address: SocketAddrV4,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl App {
    /// Serves in a pod at `port`.
    pub(crate) fn start(pod: &Namespace, port: u16, text: &str, calls: Vec<Call>) -> Self {
        let listener = pod.listen(SocketAddr::from(([0, 0, 0, 0], port)));
        let state = Arc::new(State {
            text: text.to_owned(),
            calls,
            entrance: pod.entrance(),
            failing: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&state);
        tasks.spawn(async move {
            let mut streams = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                streams.spawn(serve(stream, Arc::clone(&shared)));
                while streams.try_join_next().is_some() {}
            }
        });
        Self {
            state,
            _tasks: tasks,
        }
    }

    /// Makes it answer 500, or well again.
    pub(crate) fn fail(&self, failing: bool) {
        self.state.failing.store(failing, SeqCst);
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(|request: Request<Incoming>| answer(request, &state));
    // The caller may be gone.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    state: &State,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut text = state.text.clone();
    let mut status = StatusCode::OK;
    if state.failing.load(SeqCst) {
        status = StatusCode::INTERNAL_SERVER_ERROR;
    }
    for call in &state.calls {
        let said = get(&state.entrance, call, request.uri().path()).await;
        match said {
            Some(Answer { status: 200, body }) => text = format!("{text}, {body}"),
            other => {
                status = StatusCode::BAD_GATEWAY;
                text = format!("{text}, {}: {other:?}", call.host);
            }
        }
    }
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    Ok(response)
}

/// A connection that a pod keeps.
#[derive(Debug)]
pub(crate) struct Client {
    sender: SendRequest<Empty<Bytes>>,
    _connection: JoinSet<()>,
}

impl Client {
    pub(crate) async fn connect(from: &Entrance, to: SocketAddrV4) -> Option<Self> {
        let stream = from.connect(to.into()).ok()?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Its end is seen by the sender.
            let _ = connection.await;
        });
        Some(Self {
            sender,
            _connection: tasks,
        })
    }

    pub(crate) async fn get(&mut self, host: &str, path: &str) -> Option<Answer> {
        let request = Request::get(path).header("host", host);
        let request = request.body(Empty::new()).expect("a request");
        let exchange = async {
            self.sender.ready().await.ok()?;
            let response = self.sender.send_request(request).await.ok()?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.ok()?.to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            Some(Answer { status, body })
        };
        timeout(LIMIT, exchange).await.ok()?
    }
}

/// One request on a connection of its own, if someone answers.
pub(crate) async fn get(from: &Entrance, call: &Call, path: &str) -> Option<Answer> {
    let mut client = Client::connect(from, call.address).await?;
    client.get(&call.host, path).await
}

/// Answers by their number.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    answers: BTreeMap<(u16, String), u32>,
}

/// Asks so often.
pub(crate) async fn tally(client: &mut Client, call: &Call, path: &str, times: u32) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..times {
        let answer = client.get(&call.host, path).await;
        let answer = answer.map_or((0, "no answer".to_owned()), |a| (a.status, a.body));
        *tally.answers.entry(answer).or_default() += 1;
    }
    tally
}

impl Tally {
    /// How many answers were other than 200.
    pub(crate) fn failed(&self) -> u32 {
        let failed = self
            .answers
            .iter()
            .filter(|((status, _), _)| *status != 200);
        failed.map(|(_, count)| count).sum()
    }

    /// How many good answers had just this text.
    pub(crate) fn count(&self, text: &str) -> u32 {
        let found = self.answers.get(&(200, text.to_owned()));
        found.copied().unwrap_or_default()
    }

    /// How many answers have this text in them.
    pub(crate) fn with(&self, part: &str) -> u32 {
        let with = self
            .answers
            .iter()
            .filter(|((_, text), _)| text.contains(part));
        with.map(|(_, count)| count).sum()
    }
}

/// What a name resolves to in a pod: whatever server is asked, the sidecar's
/// agent answers.
pub(crate) async fn resolve(from: &Entrance, name: &str) -> Vec<Ipv4Addr> {
    let mut query = Message::query();
    let name = Name::from_ascii(name).expect("a name");
    query.add_query(Query::query(name, RecordType::A));
    let socket = from.udp().expect("a socket");
    let server = (Ipv4Addr::new(10, 96, 0, 10), 53);
    let query = query.to_vec().expect("a query");
    socket.send_to(&query, server).await.expect("sent");
    let mut answer = vec![0; 4096];
    let received = timeout(LIMIT, socket.recv(&mut answer)).await;
    let size = received.expect("an answer").expect("an answer");
    let answer = Message::from_vec(&answer[..size]).expect("DNS");
    let addresses = answer
        .answers
        .iter()
        .filter_map(|record| match record.data {
            RData::A(address) => Some(address.0),
            _ => None,
        });
    addresses.collect()
}
