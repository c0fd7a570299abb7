use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
    time::UNIX_EPOCH,
};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::service_fn;

use super::*;
use crate::auth::TokenIssuer;

const NOW: SystemTime = UNIX_EPOCH;

fn now() -> SystemTime {
    NOW
}

/// An API server that knows the tokens that start with its name.
#[derive(Clone)]
struct FakeApi {
    name: &'static str,
    asked: Arc<AtomicUsize>,
    /// It answers while this is true.
    answers: watch::Sender<bool>,
    status: StatusCode,
}

impl FakeApi {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            asked: Arc::default(),
            answers: watch::Sender::new(true),
            status: StatusCode::CREATED,
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn client(&self) -> Client {
        let api = self.clone();
        let service = service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.subscribe();
        answers.wait_for(|answers| *answers).await.unwrap();
        assert_eq!(request.uri().path(), review::PATH);
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let question: Value = serde_json::from_slice(&body).unwrap();
        let token = question["spec"]["token"].as_str().unwrap();
        let account = token.strip_prefix(self.name).unwrap_or_default();
        let account = account.trim_start_matches('-').split('.').next().unwrap();
        let status = json!({
            "authenticated": !account.is_empty(),
            "audiences": question["spec"]["audiences"],
            "user": {
                "username": format!("system:serviceaccount:shop:{account}"),
                "groups": ["system:serviceaccounts"],
            },
            "error": if account.is_empty() { format!("what is {token}?") } else { String::new() },
        });
        let answer = match self.status {
            StatusCode::CREATED => json!({"spec": question["spec"], "status": status}),
            code => json!({"kind": "Status", "code": code.as_u16(), "message": "go away"}),
        };
        let body = Body::from(serde_json::to_vec(&answer).unwrap());
        Response::builder().status(self.status).body(body).unwrap()
    }
}

fn reviews(apis: &[&FakeApi]) -> TokenReviews {
    let clients = apis.iter().map(|api| (api.name.into(), api.client()));
    let tokens = KubernetesTokens {
        clients: clients.collect(),
        own: "c1".into(),
        aliases: [("alias-1", "c1"), ("alias-2", "c2")]
            .map(|(alias, id)| (alias.into(), id.into()))
            .into(),
    };
    let audiences = ["istio-ca".to_owned()];
    TokenReviews::new(tokens, &audiences, Metrics::default(), now)
}

fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

#[tokio::test]
async fn the_callers_cluster_decides_who_is_asked() {
    let (one, two) = (FakeApi::new("c1"), FakeApi::new("c2"));
    let reviews = reviews(&[&one, &two]);
    for own in ["", "c1", "alias-1"] {
        assert!(reviews.check(&token("c1-web"), own).await.is_ok(), "{own}");
    }
    for remote in ["c2", "alias-2"] {
        assert!(
            reviews.check(&token("c2-web"), remote).await.is_ok(),
            "{remote}"
        );
    }
    assert_eq!((one.asked(), two.asked()), (1, 1), "asked once a token");
    let reason = reviews.check(&token("c1-web"), "c3").await.unwrap_err();
    assert_eq!(reason, Reason::UnknownCluster("c3".to_owned()));
    // What one cluster said of a token says nothing of another.
    let reason = reviews.check(&token("c1-web"), "c2").await.unwrap_err();
    assert!(matches!(reason, Reason::Refused { .. }), "{reason}");
}

#[tokio::test]
async fn the_words_of_an_api_server_are_told_without_the_token() {
    let api = FakeApi::new("c1");
    let reason = reviews(&[&api])
        .check(&token("s3cret"), "")
        .await
        .unwrap_err();
    let text = reason.to_string();
    assert!(
        text.contains("what is (the token)?") && !text.contains("s3cret"),
        "{text}"
    );
    assert!(!reason.is_passing());
}

#[tokio::test]
async fn an_api_server_that_refuses_to_be_asked_is_not_the_callers_fault() {
    let api = FakeApi {
        status: StatusCode::FORBIDDEN,
        ..FakeApi::new("c1")
    };
    let reason = reviews(&[&api])
        .check(&token("c1-web"), "")
        .await
        .unwrap_err();
    assert!(reason.is_passing(), "{reason}");
    assert!(
        reason.to_string().contains("system:auth-delegator"),
        "{reason}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_hangs_is_given_up_and_holds_up_nobody_else() {
    let (hanging, other) = (FakeApi::new("c1"), FakeApi::new("c2"));
    hanging.answers.send_replace(false);
    let reviews = reviews(&[&hanging, &other]);
    let checks = (0..100).map(|n| {
        let (reviews, token) = (&reviews, token(&format!("c1-web.{n}")));
        async move { reviews.check(&token, "").await.unwrap_err() }
    });
    let all = futures::future::join_all(checks);
    let elsewhere = async {
        let token = token("c2-web");
        let check = reviews.check(&token, "c2");
        timeout(Duration::from_secs(1), check)
            .await
            .unwrap()
            .unwrap();
    };
    let (reasons, ()) = tokio::join!(all, elsewhere);
    let (cluster, seconds) = ("c1".to_owned(), 5);
    let expected = Reason::NoAnswer { cluster, seconds };
    assert!(reasons.iter().all(|reason| *reason == expected));
    assert_eq!(hanging.asked(), AT_ONCE);
    // A time-out is not remembered.
    hanging.answers.send_replace(true);
    assert!(reviews.check(&token("c1-web.1"), "").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn more_callers_than_can_wait_are_told_at_once() {
    let hanging = FakeApi::new("c1");
    hanging.answers.send_replace(false);
    let reviews = reviews(&[&hanging]);
    let checks = (0..WAITING + 5).map(|n| {
        let (reviews, token) = (&reviews, token(&format!("c1-web.{n}")));
        async move { reviews.check(&token, "").await.unwrap_err() }
    });
    let reasons = futures::future::join_all(checks).await;
    let busy = |reason: &&Reason| **reason == Reason::Busy("c1".to_owned());
    assert_eq!(reasons.iter().filter(busy).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn callers_with_one_token_share_a_review_even_if_the_first_goes_away() {
    let api = FakeApi::new("c1");
    api.answers.send_replace(false);
    let reviews = reviews(&[&api]);
    let first = async {
        let token = token("c1-web");
        let check = reviews.check(&token, "");
        assert!(timeout(Duration::from_secs(1), check).await.is_err());
    };
    let second = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        reviews.check(&token("c1-web"), "").await
    };
    let answer = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        api.answers.send_replace(true);
    };
    let ((), outcome, ()) = tokio::join!(first, second, answer);
    assert!(outcome.is_ok());
    assert_eq!(api.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_for_half_a_minute_and_never_longer_than_its_token() {
    let issuer = TokenIssuer::new("c1").unwrap();
    let jwt = |seconds| {
        let life = Duration::from_secs(seconds);
        let token = issuer.issue(("shop", "web"), "istio-ca", NOW, life);
        token.unwrap()
    };
    for (text, lives) in [("c1-web".to_owned(), 30), (jwt(7), 7), (jwt(4000), 30)] {
        // The API knows tokens by their first letters.
        let name: &'static str = if text.starts_with("c1") { "c1" } else { "eyJ" };
        let api = FakeApi::new(name);
        let tokens = KubernetesTokens {
            clients: [("c1".into(), api.client())].into_iter().collect(),
            own: "c1".into(),
            aliases: BTreeMap::new(),
        };
        let audiences = ["istio-ca".to_owned()];
        let reviews = TokenReviews::new(tokens, &audiences, Metrics::default(), now);
        let token = token(&text);
        // Of a JWT the fake makes no name that Kubernetes has.
        let account = ServiceAccount::parse("system:serviceaccount:shop:web").unwrap();
        let key = ("c1".into(), token.hash());
        reviews.cache.remember(key, &account, life_of(&token, NOW));
        tokio::time::advance(Duration::from_secs(lives - 1)).await;
        assert!(reviews.check(&token, "").await.is_ok());
        assert_eq!(api.asked(), 0);
        tokio::time::advance(Duration::from_secs(2)).await;
        let _ = reviews.check(&token, "").await;
        assert_eq!(api.asked(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_memory_is_bounded() {
    let cache = Cache::default();
    let account = ServiceAccount::parse("system:serviceaccount:shop:web").unwrap();
    let key = |n: usize| ("c1".into(), token(&format!("t{n}")).hash());
    for n in 0..20_000 {
        cache.remember(key(n), &account, None);
    }
    assert!(cache.known(&key(0)).is_some());
    assert!(cache.known(&key(19_999)).is_none());
    tokio::time::advance(Duration::from_secs(31)).await;
    cache.remember(key(19_999), &account, None);
    assert!(cache.known(&key(0)).is_none());
    assert!(cache.known(&key(19_999)).is_some());
}
