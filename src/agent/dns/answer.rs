//! Answers of the agent's own, on the wire.

use hickory_resolver::proto::op::{Edns, Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, AAAA, CNAME},
};

use super::Transport;
use super::table::Found;

/// Short, so that a client soon sees a changed address (istiod's agent: 30 s).
const TTL: u32 = 30;
/// The largest answer over UDP that is not cut on its way (DNS flag day 2020).
const LARGEST_DATAGRAM: u16 = 1232;

/// The addresses of a name, in turn.
pub(super) fn found(
    question: &Message,
    found: &Found,
    turn: usize,
    transport: Transport,
) -> Option<Vec<u8>> {
    let query = question.queries.first()?;
    let mut answer = reply(question, ResponseCode::NoError);
    answer.metadata.authoritative = true;
    let mut name = query.name.clone();
    let mut records = addresses(found, query.query_type);
    if records.is_empty() {
        return encode(answer, question, transport);
    }
    if let Some(alias) = &found.alias {
        let target = Name::from_ascii(format!("{alias}.")).ok()?;
        let cname = RData::CNAME(CNAME(target.clone()));
        answer.add_answer(Record::from_rdata(name, TTL, cname));
        name = target;
    }
    let first = turn % records.len();
    records.rotate_left(first);
    for data in records {
        answer.add_answer(Record::from_rdata(name.clone(), TTL, data));
    }
    encode(answer, question, transport)
}

fn addresses(found: &Found, kind: RecordType) -> Vec<RData> {
    let addresses = &found.addresses;
    match kind {
        RecordType::A => addresses.v4.iter().map(|ip| RData::A(A(*ip))).collect(),
        RecordType::AAAA => {
            let v6 = addresses.v6.iter();
            v6.map(|ip| RData::AAAA(AAAA(*ip))).collect()
        }
        _ => Vec::new(),
    }
}

/// An answer that says why there is none.
pub(super) fn failure(question: &Message, code: ResponseCode) -> Option<Vec<u8>> {
    reply(question, code).to_vec().ok()
}

/// The answer to a question that does not parse, if it has a number to answer
/// to.
pub(super) fn malformed(question: &[u8]) -> Option<Vec<u8>> {
    let id = question
        .first_chunk::<2>()
        .map(|id| u16::from_be_bytes(*id))?;
    // What answers must not be answered: two servers would talk for ever.
    let is_answer = question.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let answer = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    (!is_answer).then(|| answer.to_vec().ok())?
}

fn reply(question: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    answer.queries.clone_from(&question.queries);
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST_DATAGRAM);
        answer.set_edns(edns);
    }
    answer
}

/// As many records as fit. A client that needs all asks again over TCP.
fn encode(mut answer: Message, question: &Message, transport: Transport) -> Option<Vec<u8>> {
    let limit = match transport {
        Transport::Udp => usize::from(question.max_payload().min(LARGEST_DATAGRAM)),
        Transport::Tcp => usize::from(u16::MAX),
    };
    loop {
        let bytes = answer.to_vec().ok()?;
        if bytes.len() <= limit || answer.answers.is_empty() {
            return Some(bytes);
        }
        answer.metadata.truncation = true;
        let excess = bytes.len() - limit;
        // No record is shorter than 16 bytes.
        let fewer = answer
            .answers
            .len()
            .saturating_sub(excess.div_ceil(16).max(1));
        answer.answers.truncate(fewer.max(answer.answers.len() / 2));
    }
}
