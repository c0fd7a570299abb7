use std::net::{IpAddr, SocketAddr};

use hickory_resolver::proto::op::{Edns, Query};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::{net::UdpSocket, task::JoinSet};

use super::*;
use crate::proto::nds::name_table::NameInfo;

fn info(ips: &[&str], short: Option<(&str, &str)>) -> NameInfo {
    let (shortname, namespace) = short.unwrap_or_default();
    NameInfo {
        ips: ips.iter().map(|ip| (*ip).to_owned()).collect(),
        registry: if short.is_some() {
            "Kubernetes"
        } else {
            "External"
        }
        .to_owned(),
        shortname: shortname.to_owned(),
        namespace: namespace.to_owned(),
    }
}

fn names_of(list: Vec<(&str, NameInfo)>) -> NameTable {
    NameTable {
        table: list
            .into_iter()
            .map(|(host, info)| (host.to_owned(), info))
            .collect(),
    }
}

fn mesh() -> NameTable {
    names_of(vec![
        (
            "web.shop.svc.cluster.local",
            info(&["10.96.0.1"], Some(("web", "shop"))),
        ),
        (
            "db.other.svc.cluster.local",
            info(&["10.96.0.2", "fd00::2"], Some(("db", "other"))),
        ),
        ("*.wild.example", info(&["240.0.0.1"], None)),
        ("Api.Example", info(&["240.0.0.2"], None)),
    ])
}

/// Names of a proxy in namespace `shop`, with other servers.
fn names(servers: &[SocketAddr], table: Option<&NameTable>) -> Names {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let servers = servers
        .iter()
        .map(|server| format!("nameserver {server}\n"));
    let search = "search shop.svc.cluster.local svc.cluster.local corp.example\n";
    let text: String = servers.chain([search.to_owned()]).collect();
    std::fs::write(file.path(), text).expect("a file");
    let config = DnsConfig {
        address: String::new(),
        resolv_conf: file.path().to_owned(),
        forward_timeout: Duration::from_millis(200),
    };
    let node = crate::config::agent_config(&["--namespace", "shop", "--ip", "10.0.0.1"], &[]).node;
    let names = Names::new(&config, &node, &[]);
    if let Some(table) = table {
        names.set(table);
    }
    names
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    let name = Name::from_ascii(name).expect("a name");
    message.add_query(Query::query(name, kind));
    message
}

async fn ask_as(names: &Names, question: &Message, transport: Transport) -> Message {
    let bytes = question.to_vec().expect("bytes");
    let answer = names.answer(&bytes, transport).await.expect("an answer");
    let answer = Message::from_vec(&answer).expect("a message");
    assert_eq!(answer.metadata.id, 77);
    answer
}

/// Records of the answer as text: `NAME VALUE`.
async fn ask(names: &Names, name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let answer = ask_as(names, &question(name, kind), Transport::Udp).await;
    let records = answer.answers.iter().map(|record| {
        let value = match &record.data {
            RData::A(ip) => ip.0.to_string(),
            RData::AAAA(ip) => ip.0.to_string(),
            RData::CNAME(target) => target.0.to_string(),
            other => panic!("{other:?}"),
        };
        format!("{} {value}", record.name)
    });
    (answer.metadata.response_code, records.collect())
}

async fn v4(names: &Names, name: &str) -> Vec<String> {
    let (code, records) = ask(names, name, RecordType::A).await;
    assert_eq!(code, ResponseCode::NoError, "{name}");
    records
}

#[tokio::test]
async fn names_of_the_mesh_resolve_in_all_their_forms() {
    let names = names(&[], Some(&mesh()));
    for name in [
        "web.shop.svc.cluster.local.",
        "WEB.shop.svc.cluster.local.",
        "web.shop.svc.",
        "web.shop.",
        "web.",
    ] {
        assert_eq!(v4(&names, name).await, [format!("{name} 10.96.0.1")]);
    }
    let answer = v4(&names, "db.other.").await;
    assert_eq!(answer, ["db.other. 10.96.0.2"]);
    assert_eq!(v4(&names, "api.example.").await, ["api.example. 240.0.0.2"]);
    let wild = v4(&names, "a.b.wild.example.").await;
    assert_eq!(wild, ["a.b.wild.example. 240.0.0.1"]);
}

#[tokio::test]
async fn a_short_name_of_another_namespace_is_not_this_ones() {
    let names = names(&[], Some(&mesh()));
    let (code, _) = ask(&names, "db.", RecordType::A).await;
    assert_eq!(code, ResponseCode::ServFail, "nobody else to ask");
}

#[tokio::test]
async fn search_domains_are_taken_off_again() {
    let names = names(&[], Some(&mesh()));
    let answer = v4(&names, "api.example.corp.example.").await;
    let expected = [
        "api.example.corp.example. api.example.",
        "api.example. 240.0.0.2",
    ];
    assert_eq!(answer, expected);
    let answer = v4(&names, "web.shop.svc.cluster.local.shop.svc.cluster.local.").await;
    assert_eq!(answer.len(), 2);
}

#[tokio::test]
async fn the_other_family_of_a_known_name_is_an_empty_answer() {
    let names = names(&[], Some(&mesh()));
    let v6 = ask(&names, "db.other.", RecordType::AAAA).await;
    assert_eq!(
        v6,
        (ResponseCode::NoError, vec!["db.other. fd00::2".into()])
    );
    let none = ask(&names, "web.shop.", RecordType::AAAA).await;
    assert_eq!(none, (ResponseCode::NoError, Vec::new()));
}

#[tokio::test]
async fn a_whole_name_counts_before_a_short_form() {
    let table = names_of(vec![
        ("web.shop", info(&["240.0.0.9"], None)),
        (
            "web.shop.svc.cluster.local",
            info(&["10.96.0.1"], Some(("web", "shop"))),
        ),
    ]);
    let names = names(&[], Some(&table));
    assert_eq!(v4(&names, "web.shop.").await, ["web.shop. 240.0.0.9"]);
}

#[tokio::test]
async fn before_the_first_table_nothing_is_denied() {
    let names = names(&[], None);
    let (code, _) = ask(&names, "web.shop.", RecordType::A).await;
    assert_eq!(code, ResponseCode::ServFail);
    assert!(!names.are_known());
}

#[tokio::test]
async fn addresses_are_answered_in_turn() {
    let table = names_of(vec![("a.example", info(&["240.0.0.1", "240.0.0.2"], None))]);
    let names = names(&[], Some(&table));
    let first = v4(&names, "a.example.").await;
    let second = v4(&names, "a.example.").await;
    assert_eq!(
        (first.len(), &first[0], &first[1]),
        (2, &second[1], &second[0])
    );
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_cut_over_udp_only() {
    let ips: Vec<String> = (0..250).map(|n| format!("240.0.0.{n}")).collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    let table = names_of(vec![("many.example", info(&ips, None))]);
    let names = names(&[], Some(&table));
    let mut asked = question("many.example.", RecordType::A);
    let cut = ask_as(&names, &asked, Transport::Udp).await;
    assert!(cut.metadata.truncation);
    assert!(cut.to_vec().expect("bytes").len() <= 512);
    assert!(cut.answers.len() > 10, "{}", cut.answers.len());
    let whole = ask_as(&names, &asked, Transport::Tcp).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 250);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    asked.set_edns(edns);
    let more = ask_as(&names, &asked, Transport::Udp).await;
    assert!(more.answers.len() > cut.answers.len());
    assert!(more.to_vec().expect("bytes").len() <= 1232);
}

#[tokio::test]
async fn other_names_are_asked_of_other_servers_byte_by_byte() {
    let server = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let at = |socket: &UdpSocket| socket.local_addr().expect("an address");
    let names = names(&[at(&silent), at(&server)], Some(&mesh()));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, client) = server.recv_from(&mut buffer).await.expect("a question");
            let mut answer = buffer[..length].to_vec();
            answer.extend(b"what no parser knows");
            // Of another question: not taken.
            let mut other = answer.clone();
            other[0] ^= 1;
            server.send_to(&other, client).await.expect("sent");
            server.send_to(&answer, client).await.expect("sent");
        }
    });
    for kind in [RecordType::A, RecordType::TXT] {
        let asked = question("example.com.", kind).to_vec().expect("bytes");
        let answer = names
            .answer(&asked, Transport::Udp)
            .await
            .expect("an answer");
        assert!(answer.starts_with(&asked));
        assert!(answer.ends_with(b"what no parser knows"));
    }
}

#[tokio::test]
async fn what_is_no_question_gets_no_data() {
    let names = names(&[], Some(&mesh()));
    assert_eq!(names.answer(&[], Transport::Udp).await, None);
    assert_eq!(names.answer(&[1], Transport::Udp).await, None);
    let broken = names.answer(&[0, 77, 0, 0, 0, 9], Transport::Udp).await;
    let broken = Message::from_vec(&broken.expect("an answer")).expect("a message");
    assert_eq!(broken.metadata.response_code, ResponseCode::FormErr);
    let mut answer = question("web.", RecordType::A);
    answer.metadata.message_type = MessageType::Response;
    let bytes = answer.to_vec().expect("bytes");
    assert_eq!(names.answer(&bytes, Transport::Udp).await, None);
    // Broken, and an answer: two servers would talk for ever.
    assert_eq!(
        names.answer(&[0, 77, 0x80, 0, 0, 9], Transport::Udp).await,
        None
    );
}

#[tokio::test]
async fn localhost_is_listened_on_over_udp_and_tcp() {
    let sockets = listen("localhost:0").await.expect("sockets");
    assert!(!sockets.is_empty());
    assert!(sockets.iter().all(|s| s.address.ip().is_loopback()));
    let taken = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = taken.local_addr().expect("an address").to_string();
    let error = listen(&address).await.expect_err("taken");
    assert!(error.to_string().contains(&address), "{error}");
    let _: IpAddr = taken.local_addr().expect("an address").ip();
}
