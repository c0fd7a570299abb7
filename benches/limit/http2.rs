//! As much of HTTP/2 and gRPC as a blind server and a blind client need.

use prost::Message;

/// Payload of one frame, as Envoy allows it.
pub const FRAME: usize = 16 * 1024;

/// The largest window there is.
pub const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The window that every connection, and each of its streams, starts with.
pub const DEFAULT_WINDOW: u32 = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Length, type, flags and stream of a frame.
pub type Head = [u8; 9];

fn head(length: usize, kind: u8, flags: u8, stream: u8) -> Head {
    let [_, a, b, c] = u32::try_from(length).expect("short").to_be_bytes();
    [a, b, c, kind, flags, 0, 0, 0, stream]
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&head(payload.len(), kind, flags, stream), payload].concat()
}

/// Head of the DATA frame of `part`, on the first stream of the connection.
pub fn data(part: &[u8]) -> Head {
    head(part.len(), DATA, 0, 1)
}

/// One gRPC message.
pub fn message(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).expect("short");
    [&[0][..], &length.to_be_bytes(), &body].concat()
}

/// One short request.
pub fn request(request: &impl Message) -> Vec<u8> {
    let message = message(request);
    [&data(&message), &message[..]].concat()
}

/// What a client says before its first request: settings and a call of the
/// delta variant, where the server may send `window` bytes before it has to
/// wait.
pub fn open(window: u32) -> Vec<u8> {
    const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
    let settings = [&INITIAL_WINDOW_SIZE[..], &window.to_be_bytes()].concat();
    let mut opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    opening.extend(frame(SETTINGS, 0, 0, &settings));
    let more = window - DEFAULT_WINDOW;
    if more > 0 {
        opening.extend(frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes()));
    }
    let path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    opening.extend(frame(HEADERS, END_HEADERS, 1, &compress(&headers)));
    opening
}

/// What a server says before its first response.
pub fn accept() -> Vec<u8> {
    let headers = [(":status", "200"), ("content-type", "application/grpc")];
    [
        frame(SETTINGS, 0, 0, &[]),
        settings_ack(),
        frame(HEADERS, END_HEADERS, 1, &compress(&headers)),
    ]
    .concat()
}

/// The answer to [`Seen::Settings`].
pub fn settings_ack() -> Vec<u8> {
    frame(SETTINGS, ACK, 0, &[])
}

/// HPACK without its tables.
fn compress(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in headers {
        out.push(0);
        for text in [name, value] {
            out.push(u8::try_from(text.len()).expect("short"));
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// What a [`Reader`] saw.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// The peer's settings, which want an answer.
    Settings,
    /// All of a message; its nonce, if that stood near its start.
    Message(String),
}

/// Finds the messages among bytes without keeping them.
#[derive(Debug, Default)]
pub struct Reader {
    head: Head,
    /// Bytes of `head` that are there.
    filled: usize,
    /// Bytes of the frame that are still to come.
    left: usize,
    messages: Messages,
}

impl Reader {
    /// Goes on with `bytes`.
    pub fn read(&mut self, mut bytes: &[u8], mut saw: impl FnMut(Seen)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (part, rest) = bytes.split_at(self.left.min(bytes.len()));
                if self.head[3] == DATA {
                    self.messages.read(part, &mut saw);
                }
                self.left -= part.len();
                bytes = rest;
                continue;
            }
            bytes = fill(&mut self.head, &mut self.filled, bytes);
            if self.filled == self.head.len() {
                self.filled = 0;
                let [a, b, c, kind, flags, ..] = self.head;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                assert!(kind != RST_STREAM && kind != GOAWAY, "the server ended");
                if kind == SETTINGS && flags & ACK == 0 {
                    saw(Seen::Settings);
                }
            }
        }
    }
}

/// Copies what `target` lacks; the rest of `bytes`.
fn fill<'a>(target: &mut [u8], filled: &mut usize, bytes: &'a [u8]) -> &'a [u8] {
    let (part, rest) = bytes.split_at((target.len() - *filled).min(bytes.len()));
    target[*filled..*filled + part.len()].copy_from_slice(part);
    *filled += part.len();
    rest
}

/// Finds messages in what DATA frames carry.
#[derive(Debug, Default)]
struct Messages {
    prefix: [u8; 5],
    filled: usize,
    /// Bytes of the message that are still to come.
    left: usize,
    /// Its first bytes.
    start: Vec<u8>,
}

impl Messages {
    /// Room for what stands before the nonce.
    const START: usize = 256;

    fn read(&mut self, mut bytes: &[u8], saw: &mut impl FnMut(Seen)) {
        while !bytes.is_empty() {
            if self.filled < self.prefix.len() {
                bytes = fill(&mut self.prefix, &mut self.filled, bytes);
                if self.filled == self.prefix.len() {
                    let [_, length @ ..] = self.prefix;
                    self.left = u32::from_be_bytes(length) as usize;
                    self.start.clear();
                }
                continue;
            }
            let (part, rest) = bytes.split_at(self.left.min(bytes.len()));
            let wanted = Self::START - self.start.len();
            self.start.extend(part.iter().take(wanted));
            self.left -= part.len();
            bytes = rest;
            if self.left == 0 {
                self.filled = 0;
                saw(Seen::Message(nonce(&self.start)));
            }
        }
    }
}

/// The nonce of a delta response that begins with `start`, where short fields
/// stand before it.
fn nonce(start: &[u8]) -> String {
    const NONCE: u8 = 5 << 3 | 2;
    let mut fields = start;
    while let [key, length, rest @ ..] = fields
        && let Some((value, rest)) = rest.split_at_checked(usize::from(*length))
    {
        if *key == NONCE {
            return String::from_utf8_lossy(value).into_owned();
        }
        fields = rest;
    }
    String::new()
}
