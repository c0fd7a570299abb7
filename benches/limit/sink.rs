//! A thousand clients that only count: one thread reads what comes, finds where
//! messages end, and throws it away.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    str::FromStr,
    task::{Context, Poll, ready},
};

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use isthmus::model::TypeUrl;
use isthmus::testing::ads_stream::delta;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::{TcpStream, unix::pipe};
use tokio::task::{JoinSet, LocalSet};

use super::http2::{self, DEFAULT_WINDOW, MAX_WINDOW, Reader, Seen};
use super::{isthmus::NAME, tls};

const EDS: TypeUrl = TypeUrl::ClusterLoadAssignment;

/// How its clients behave once they are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Reads all it gets.
    Reads,
    /// Lets the server send no more than the first window.
    Withholds,
    /// Gives a window without end and reads nothing.
    Sleeps,
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "reads" => Ok(Self::Reads),
            "withholds" => Ok(Self::Withholds),
            "sleeps" => Ok(Self::Sleeps),
            _ => Err(()),
        }
    }
}

trait Socket: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

/// One connection with one stream.
struct Client {
    socket: Box<dyn Socket>,
    reader: Reader,
    /// Of its last message.
    nonce: String,
}

/// What all clients share.
struct Shared {
    /// Clients that wait for their message.
    waiting: Cell<usize>,
    scratch: RefCell<Box<[u8]>>,
}

impl Shared {
    /// Reads what there is; says how many messages it ended, and whether the
    /// server wants its settings answered.
    fn poll_read(
        &self,
        client: &mut Client,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(usize, bool)>> {
        let mut scratch = self.scratch.borrow_mut();
        let mut bytes = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut client.socket).poll_read(cx, &mut bytes))?;
        if bytes.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let (mut messages, mut settings) = (0, false);
        client.reader.read(bytes.filled(), |seen| match seen {
            Seen::Settings => settings = true,
            Seen::Message(nonce) => {
                messages += 1;
                client.nonce = nonce;
            }
        });
        Poll::Ready(Ok((messages, settings)))
    }

    fn count(&self, messages: usize) {
        let left = self.waiting.get() - messages;
        self.waiting.set(left);
        if messages > 0 && left == 0 {
            println!("done");
        }
    }

    /// Reads one client to its end.
    async fn read(self: Rc<Self>, client: Rc<RefCell<Client>>) -> io::Result<()> {
        loop {
            let read = poll_fn(|cx| self.poll_read(&mut client.borrow_mut(), cx));
            self.count(read.await?.0);
        }
    }
}

async fn connect(address: SocketAddr, root: Option<&str>) -> io::Result<Box<dyn Socket>> {
    if let Some(root) = root {
        let client = tls::client(root.as_ref());
        return Ok(Box::new(tls::connect(&client, address).await?));
    }
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(Box::new(socket))
}

/// A client that has its first message.
async fn open(kind: Kind, socket: Box<dyn Socket>, shared: &Shared) -> io::Result<Client> {
    let mut client = Client {
        socket,
        reader: Reader::default(),
        nonce: String::new(),
    };
    let window = match kind {
        Kind::Withholds => DEFAULT_WINDOW,
        Kind::Reads | Kind::Sleeps => MAX_WINDOW,
    };
    let subscribe = DeltaDiscoveryRequest {
        resource_names_subscribe: vec![NAME.to_owned()],
        ..delta(EDS)
    };
    let opening = [http2::open(window), http2::request(&subscribe)].concat();
    client.socket.write_all(&opening).await?;
    client.socket.flush().await?;
    let mut served = false;
    while !served {
        let (messages, settings) = poll_fn(|cx| shared.poll_read(&mut client, cx)).await?;
        if settings {
            client.socket.write_all(&http2::settings_ack()).await?;
        }
        served = messages > 0;
    }
    Ok(client)
}

/// ACKs the last message. Never waits for the reading task, which holds the
/// client only while it reads.
async fn acknowledge(client: &RefCell<Client>) -> io::Result<()> {
    let ack = http2::request(&DeltaDiscoveryRequest {
        node: None,
        response_nonce: client.borrow().nonce.clone(),
        ..delta(EDS)
    });
    let write = |cx: &mut Context<'_>| {
        let socket = &mut client.borrow_mut().socket;
        Pin::new(socket).poll_write(cx, &ack)
    };
    assert_eq!(poll_fn(write).await?, ack.len(), "there is room for an ACK");
    poll_fn(|cx| Pin::new(&mut client.borrow_mut().socket).poll_flush(cx)).await
}

async fn serve(kind: Kind, address: SocketAddr, streams: usize, root: Option<&str>) {
    let shared = Rc::new(Shared {
        waiting: Cell::new(streams),
        scratch: RefCell::new(vec![0; 256 * 1024].into()),
    });
    let mut clients = Vec::new();
    for _ in 0..streams {
        let socket = connect(address, root).await.expect("connects");
        let client = open(kind, socket, &shared).await.expect("is served");
        let client = Rc::new(RefCell::new(client));
        acknowledge(&client).await.expect("open");
        clients.push(client);
    }
    let mut reading = JoinSet::new();
    if kind != Kind::Sleeps {
        for client in &clients {
            reading.spawn_local(Rc::clone(&shared).read(Rc::clone(client)));
        }
    }
    println!("ready");
    let input = pipe::OpenOptions::new().open_receiver("/dev/stdin");
    let mut lines = BufReader::new(input.expect("a pipe")).lines();
    while lines.next_line().await.expect("readable").is_some() {
        for client in &clients {
            acknowledge(client).await.expect("open");
        }
        shared.waiting.set(streams);
        println!("acked");
    }
}

/// Opens `streams` streams, says when all have a message, and ACKs it when told.
pub fn run(kind: Kind, address: SocketAddr, streams: usize, root: Option<&str>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, serve(kind, address, streams, root));
}
