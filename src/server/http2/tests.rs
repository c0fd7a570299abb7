use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use h2::client;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tokio::time::Instant;
use tonic::Status;

use super::*;
use crate::server::body::{Item, Source};
use crate::server::message::Message;

/// Says what it is given; counts how often it is asked.
struct Told {
    says: mpsc::Receiver<Item>,
    asked: Arc<AtomicUsize>,
    _ended: mpsc::Sender<()>,
}

impl Source for Told {
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let said = ready!(self.says.poll_recv(cx));
        Poll::Ready(said.unwrap_or(Item::End(Status::ok(""))))
    }
}

/// A call under way, and its client's end.
struct Running {
    say: mpsc::Sender<Item>,
    asked: Arc<AtomicUsize>,
    /// Resolves when the call is over.
    over: mpsc::Receiver<()>,
    client: RecvStream,
    _requests: client::SendRequest<Bytes>,
    _tasks: JoinSet<()>,
}

impl Running {
    /// With this room for the responses of the call.
    async fn start(window: u32) -> Self {
        let (near, far) = duplex(1 << 20);
        let (say, says) = mpsc::channel(8);
        let (ended, over) = mpsc::channel(1);
        let asked = Arc::<AtomicUsize>::default();
        let source = Told {
            says,
            asked: Arc::clone(&asked),
            _ended: ended,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_one(far, ResponseBody::new(Box::new(source))));
        let mut builder = client::Builder::new();
        builder.initial_window_size(window);
        let (mut requests, connection) = builder.handshake::<_, Bytes>(near).await.expect("h2");
        tasks.spawn(async move { connection.await.expect("no error") });
        let (response, _body) = requests
            .send_request(Request::default(), true)
            .expect("a call");
        let client = response.await.expect("an answer").into_body();
        while asked.load(Ordering::Relaxed) == 0 {
            yield_now().await;
        }
        Self {
            say,
            asked,
            over,
            client,
            _requests: requests,
            _tasks: tasks,
        }
    }

    /// Says something of at least this length; tells its size.
    fn say(&self, length: usize) -> usize {
        let message = Message::unary(&"x".repeat(length));
        let size = message.size();
        let said = self.say.try_send(Item::Message(message));
        assert!(said.is_ok(), "the call is over");
        size
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Reads so many bytes, and gives the room back.
    async fn read(&mut self, length: usize) {
        let mut left = length;
        while left > 0 {
            let data = self.client.data().await.expect("more").expect("data");
            left -= data.len();
            let room = self.client.flow_control();
            room.release_capacity(data.len()).expect("room");
        }
    }
}

/// A server with one call.
async fn serve_one(socket: DuplexStream, body: ResponseBody) {
    let mut http = h2::server::handshake(socket).await.expect("h2");
    let (_, mut respond) = http.accept().await.expect("a call").expect("a call");
    let out = respond.send_response(Response::default(), false);
    let mut calls = JoinSet::new();
    calls.spawn(Call {
        body,
        out: out.expect("open"),
        began: false,
    });
    let more = http.accept().await;
    assert!(more.is_none_or(|more| more.is_err()), "one call");
}

#[tokio::test]
async fn a_message_is_one_question_more_than_silence() {
    let mut running = Running::start(1 << 20).await;
    // Until then a reset would wake the call, and so does room.
    let size = running.say(1);
    running.read(size).await;
    for length in [1, 1000, 10_000] {
        let before = running.asked();
        let size = running.say(length);
        running.read(size).await;
        // Sent bytes give no reason to ask again.
        for _ in 0..10 {
            yield_now().await;
        }
        assert_eq!(running.asked() - before, 2, "{length}");
    }
}

#[tokio::test]
async fn nothing_is_taken_for_a_client_without_room() {
    let mut running = Running::start(100).await;
    let before = running.asked();
    let sizes: usize = (0..5).map(|_| running.say(100)).sum();
    for _ in 0..10 {
        yield_now().await;
    }
    assert_eq!(running.asked() - before, 1);
    running.read(sizes).await;
    assert!(running.asked() - before >= 5);
}

#[tokio::test]
async fn a_message_may_be_larger_than_the_room_for_it() {
    let mut running = Running::start(1000).await;
    let size = running.say(100_000);
    running.read(size).await;
}

#[tokio::test]
async fn a_call_that_is_reset_before_it_began_ends() {
    let mut running = Running::start(1 << 20).await;
    drop(running.client);
    assert_eq!(running.over.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_begins_is_given_up_like_one_that_is_gone() {
    let (_silent, far) = duplex(1024);
    let (stop, config) = (CancellationToken::new(), Config::default());
    let since = Instant::now();
    let begun = begin(&stop, Coalesced::new(far), &config).await;
    assert!(begun.is_none());
    let patience = config.keepalive_interval + config.keepalive_timeout;
    assert!(since.elapsed() < patience * 2, "{:?}", since.elapsed());
}
