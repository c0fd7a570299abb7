//! Conversations of a session with a client that knows only the protocol.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::mesh::ChangeSet;
use crate::testing::ads_world::{FakeWorld, Response};
use crate::testing::client::{ModelClient, Verdict};
use crate::testing::told::Told;

const NAMES: [&str; 6] = [
    "outbound|80||a.ns",
    "outbound|80||b.ns",
    "outbound|80|v1|b.ns",
    "outbound_.80_._.b.ns",
    "foreign",
    "*",
];

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// The client changes what it wants.
    Want(TypeUrl, Vec<usize>, Vec<usize>),
    /// The world changes; `None` removes.
    Change(TypeUrl, usize, Option<u8>),
    /// A publish that changes nothing.
    Touch,
    /// The server takes the oldest request.
    Serve,
    /// The client takes the oldest response.
    Take(Option<u32>),
    /// The stream breaks and the client opens another.
    Reconnect,
    /// The server falls so far behind that it has lost track.
    LoseTrack,
}

fn kinds() -> impl Strategy<Value = TypeUrl> {
    prop::sample::select(TypeUrl::ALL.to_vec())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let names = || prop::collection::vec(0..NAMES.len(), 0..4);
    let content = prop::option::weighted(0.8, 0..3_u8);
    let nack = prop::option::weighted(0.15, any::<u32>());
    let step = prop_oneof![
        4 => (kinds(), names(), names()).prop_map(|(k, a, d)| Step::Want(k, a, d)),
        4 => (kinds(), 0..5_usize, content).prop_map(|(k, n, c)| Step::Change(k, n, c)),
        1 => Just(Step::Touch),
        6 => Just(Step::Serve),
        6 => nack.prop_map(Step::Take),
        1 => Just(Step::Reconnect),
        1 => Just(Step::LoseTrack),
    ];
    prop::collection::vec(step, 0..60)
}

/// A client, a session, and what is under way between them.
struct Conversation {
    variant: Variant,
    client: ModelClient,
    session: Session,
    told: Told,
    world: FakeWorld,
    requests: VecDeque<Request>,
    responses: VecDeque<Response>,
}

impl Conversation {
    fn new(variant: Variant) -> Self {
        Self {
            variant,
            client: ModelClient::new(variant),
            session: Session::new(variant, Arc::default()),
            told: Told::default(),
            world: FakeWorld::default(),
            requests: VecDeque::new(),
            responses: VecDeque::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Want(kind, add, drop) => self.want(kind, &add, &drop),
            Step::Change(kind, name, content) => self.change(kind, NAMES[name], content),
            Step::Touch => self.tell(ChangeSet {
                config: true,
                all_endpoints: true,
                ..ChangeSet::default()
            }),
            Step::Serve => self.serve(),
            Step::Take(nack) => self.take(nack.map_or(Verdict::Accept, Verdict::Reject)),
            Step::Reconnect => {
                self.session = Session::new(self.variant, Arc::default());
                self.told = Told::default();
                self.responses.clear();
                self.requests = self.client.reconnect().into();
            }
            Step::LoseTrack => self.session.on_news(&News::everything()),
        }
    }

    fn want(&mut self, kind: TypeUrl, add: &[usize], drop: &[usize]) {
        let text = |at: &usize| NAMES[*at].to_owned();
        let mut add: Vec<String> = add.iter().map(text).collect();
        if self.variant == Variant::Sotw && !self.is_at_rest() {
            // A list with a stale nonce is ignored (36). So the server cannot
            // know of a name that was dropped and asked for again while a push
            // crossed: the protocol has no word for it.
            add.extend(self.client.names(kind));
            if self.client.has_wildcard(kind) {
                add.push("*".to_owned());
            }
        }
        // A client does not name what it adds as dropped (27 has its own test).
        let drop = drop.iter().map(text).filter(|name| !add.contains(name));
        let drop: Vec<String> = drop.collect();
        self.requests.push_back(match self.variant {
            Variant::Delta => self.client.subscribe(kind, &add, &drop),
            Variant::Sotw => self.client.ask(kind, &add),
        });
    }

    fn change(&mut self, kind: TypeUrl, name: &str, content: Option<u8>) {
        match content {
            Some(content) => self.world.set(kind, name, &content.to_string()),
            None => self.world.remove(kind, name),
        }
        let mut set = ChangeSet::default();
        if kind == TypeUrl::ClusterLoadAssignment {
            let host = name.rsplit(['|', '.']).next().map(|_| match name {
                "foreign" => "foreign",
                name if name.ends_with("a.ns") => "a.ns",
                _ => "b.ns",
            });
            set.hosts.extend(host.map(Into::into));
        } else {
            set.config = true;
        }
        self.tell(set);
    }

    fn tell(&mut self, set: ChangeSet) {
        self.told.tell(&mut self.session, set);
    }

    fn serve(&mut self) {
        if let Some(request) = self.requests.pop_front() {
            self.session
                .on_request(request)
                .expect("the stream goes on");
            self.told.follow(&mut self.session);
        }
        self.poll();
    }

    fn is_at_rest(&self) -> bool {
        self.responses.is_empty() && self.requests.is_empty()
    }

    fn poll(&mut self) {
        for round in 0.. {
            assert!(round < 20, "the session never stops sending");
            let due = self.session.is_due();
            let Some(outgoing) = self.session.poll(&self.world) else {
                return;
            };
            assert!(due);
            self.responses.push_back(outgoing.into());
        }
    }

    fn take(&mut self, verdict: Verdict) {
        if let Some(response) = self.responses.pop_front() {
            let reply = self.client.receive(&response, verdict);
            self.requests
                .push_back(reply.expect("the server keeps the protocol"));
        }
    }

    /// Everything under way arrives and is accepted; returns how many responses
    /// that took.
    fn settle(&mut self) -> usize {
        let mut responses = 0;
        for round in 0.. {
            assert!(round < 1000, "the two never come to rest");
            self.serve();
            if self.is_at_rest() {
                return responses;
            }
            responses += usize::from(!self.responses.is_empty());
            self.take(Verdict::Accept);
        }
        responses
    }

    /// A visible change of every type that is watched, so that what was
    /// rejected is sent again (35).
    fn change_all(&mut self, content: u8) {
        for kind in TypeUrl::ALL {
            if self.client.has_wildcard(kind) {
                self.change(kind, NAMES[0], Some(content));
            }
            if let Some(name) = self.client.names(kind).first() {
                self.change(kind, name, Some(content));
            }
        }
    }

    fn expected(&self, kind: TypeUrl) -> BTreeMap<String, String> {
        let mut expected = BTreeMap::new();
        let world = self.world.contents(kind);
        if self.client.has_wildcard(kind) {
            expected.clone_from(&world);
        }
        for name in self.client.names(kind) {
            let empty = match kind {
                TypeUrl::ClusterLoadAssignment => name != "foreign",
                TypeUrl::RouteConfiguration => true,
                _ => false,
            };
            if let Some(content) = world.get(&name) {
                expected.insert(name, content.clone());
            } else if empty {
                expected.insert(name, String::new());
            }
        }
        expected
    }
}

fn run(variant: Variant, steps: Vec<Step>) {
    let mut talk = Conversation::new(variant);
    for step in steps {
        talk.step(step);
    }
    talk.settle();
    talk.change_all(7);
    talk.settle();
    for kind in TypeUrl::ALL {
        let held = talk.client.contents(kind);
        assert_eq!(held, talk.expected(kind), "{kind}");
    }
    // At rest nothing is sent, whatever is recomputed.
    talk.step(Step::Touch);
    assert_eq!(talk.settle(), 0);
}

proptest! {
    #[test]
    fn a_delta_client_comes_to_hold_what_is_true(steps in steps()) {
        run(Variant::Delta, steps);
    }

    #[test]
    fn a_sotw_client_comes_to_hold_what_is_true(steps in steps()) {
        run(Variant::Sotw, steps);
    }
}
