use std::{net::Ipv4Addr, sync::Mutex};

use tokio::{net::UdpSocket, task::JoinSet};

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn answer(v4: &[&str], ttl: u64) -> Answer {
    Answer {
        v4: Ok(v4.iter().map(|a| ip(a)).collect()),
        v6: Ok(Vec::new()),
        ttl: Duration::from_secs(ttl),
    }
}

fn failure() -> Answer {
    Answer {
        v4: Err(DnsError::new("SERVFAIL")),
        v6: Err(DnsError::new("SERVFAIL")),
        ttl: Duration::ZERO,
    }
}

/// Answers from a script, noting when it was asked.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<std::collections::VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<Instant>>>,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            asked: Arc::default(),
        }
    }
}

impl Lookup for Script {
    async fn lookup(&self, _name: &str) -> Answer {
        self.asked
            .lock()
            .expect("not poisoned")
            .push(Instant::now());
        let mut answers = self.answers.lock().expect("not poisoned");
        answers.pop_front().unwrap_or_else(failure)
    }
}

struct Running {
    wanted: watch::Sender<BTreeSet<Arc<str>>>,
    events: mpsc::Receiver<Vec<Event>>,
    _tasks: JoinSet<()>,
}

fn start(lookup: impl Lookup, names: &[&str]) -> Running {
    let (wanted, receiver) = watch::channel(names.iter().map(|n| Arc::from(*n)).collect());
    let (sender, events) = mpsc::channel(8);
    let mut tasks = JoinSet::new();
    tasks.spawn(run(ClusterId::from("c"), lookup, receiver, sender));
    Running {
        wanted,
        events,
        _tasks: tasks,
    }
}

impl Running {
    async fn next(&mut self) -> (String, Vec<IpAddr>) {
        let mut batch = self.events.recv().await.expect("an event");
        match batch.pop().expect("not empty").change {
            Change::Resolved(name, addresses) => (name.to_string(), addresses),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_asked_again_when_its_ttl_is_over_and_told_only_if_it_differs() {
    let script = Script::new([
        answer(&["1.1.1.1"], 60),
        answer(&["1.1.1.1"], 1),
        answer(&["2.2.2.2", "1.1.1.1"], 1_000_000),
        answer(&["3.3.3.3"], 60),
    ]);
    let begin = Instant::now();
    let mut running = start(script.clone(), &["gw"]);
    assert_eq!(running.next().await, ("gw".to_owned(), vec![ip("1.1.1.1")]));
    let both = vec![ip("1.1.1.1"), ip("2.2.2.2")];
    assert_eq!(running.next().await, ("gw".to_owned(), both));
    assert_eq!(running.next().await, ("gw".to_owned(), vec![ip("3.3.3.3")]));
    let asked = script.asked.lock().expect("not poisoned").clone();
    let pauses: Vec<u64> = [begin]
        .iter()
        .chain(&asked)
        .zip(&asked)
        .map(|(a, b)| (*b - *a).as_secs())
        .collect();
    // 60 seconds; at least 30; at most an hour: each and up to a tenth more.
    for (pause, expected) in pauses.iter().zip([0, 60, 30, 3600]) {
        assert!(
            (expected..=expected + expected / 10).contains(pause),
            "{pauses:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn failures_and_empty_answers_keep_the_last_good_one() {
    let script = Script::new([
        answer(&["1.1.1.1"], 30),
        failure(),
        answer(&[], 30),
        answer(&["2.2.2.2"], 30),
    ]);
    let mut running = start(script.clone(), &["gw"]);
    assert_eq!(running.next().await.1, [ip("1.1.1.1")]);
    assert_eq!(running.next().await.1, [ip("2.2.2.2")]);
    assert_eq!(script.asked.lock().expect("not poisoned").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_family_that_fails_keeps_its_addresses_and_one_that_is_empty_loses_them() {
    let both = |v4: &str, v6: Result<&str, ()>| Answer {
        v4: Ok(vec![ip(v4)]),
        v6: match v6 {
            Ok("") => Ok(Vec::new()),
            Ok(address) => Ok(vec![ip(address)]),
            Err(()) => Err(DnsError::new("timeout")),
        },
        ttl: Duration::from_secs(30),
    };
    let script = Script::new([
        both("1.1.1.1", Ok("::1")),
        both("2.2.2.2", Err(())),
        both("2.2.2.2", Ok("")),
    ]);
    let mut running = start(script, &["gw"]);
    assert_eq!(running.next().await.1, [ip("1.1.1.1"), ip("::1")]);
    assert_eq!(running.next().await.1, [ip("2.2.2.2"), ip("::1")]);
    assert_eq!(running.next().await.1, [ip("2.2.2.2")]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_never_resolved_is_told_as_empty_once() {
    let mut running = start(
        Script::new([failure(), failure(), answer(&["1.1.1.1"], 30)]),
        &["gw"],
    );
    assert_eq!(running.next().await.1, Vec::<IpAddr>::new());
    assert_eq!(running.next().await.1, [ip("1.1.1.1")]);
}

#[tokio::test(start_paused = true)]
async fn names_come_and_go() {
    let script = Script::new([answer(&["1.1.1.1"], 3600), answer(&["2.2.2.2"], 3600)]);
    let mut running = start(script.clone(), &["a"]);
    assert_eq!(running.next().await.0, "a");
    running
        .wanted
        .send_replace(BTreeSet::from([Arc::from("b")]));
    assert_eq!(running.next().await, ("b".to_owned(), vec![ip("2.2.2.2")]));
    tokio::time::advance(Duration::from_hours(2)).await;
    tokio::task::yield_now().await;
    assert_eq!(
        script.asked.lock().expect("not poisoned").len(),
        3,
        "only b is asked again"
    );
}

/// A name server that knows `gw.test` (A 10.0.0.7, TTL 42), says SERVFAIL for
/// names with `fail` and NXDOMAIN for all others.
async fn name_server(socket: UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let query = &buffer[..length];
        let end = 12 + query[12..].iter().position(|b| *b == 0).expect("a name") + 5;
        let question = &query[12..end];
        let text = String::from_utf8_lossy(question).to_lowercase();
        let is_a = question[question.len() - 3] == 1;
        let (code, found) = match () {
            () if text.contains("fail") => (2, false),
            () if text.contains("gw\u{4}test") => (0, is_a),
            () => (3, false),
        };
        let mut reply = query[..2].to_vec();
        reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(found), 0, 0, 0, 0]);
        reply.extend(question);
        if found {
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 42, 0, 4]);
            reply.extend(Ipv4Addr::new(10, 0, 0, 7).octets());
        }
        socket.send_to(&reply, from).await.expect("sent");
    }
}

#[tokio::test]
async fn name_servers_are_asked_for_both_families() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let server = socket.local_addr().expect("an address");
    let mut tasks = JoinSet::new();
    tasks.spawn(name_server(socket));
    let lookup = DnsLookup::with_servers(&[server]).expect("a resolver");

    let found = lookup.lookup("gw.test").await;
    assert_eq!(found.v4, Ok(vec![ip("10.0.0.7")]));
    assert_eq!(found.v6, Ok(Vec::new()));
    assert_eq!(found.ttl, Duration::from_secs(42));

    let missing = lookup.lookup("other.test").await;
    assert_eq!((missing.v4, missing.v6), (Ok(Vec::new()), Ok(Vec::new())));

    let failed = lookup.lookup("fail.test").await;
    assert!(failed.v4.is_err() && failed.v6.is_err(), "{failed:?}");
    assert!(lookup.lookup("..").await.v4.is_err());
}
