use std::{sync::Arc, time::UNIX_EPOCH};

use http::HeaderMap;

use super::*;
use crate::auth::{Channel, Gate, KubernetesTokens, Metrics, Policy, TokenIssuer};
use crate::mesh::Writer;
use crate::model::MeshConfig;
use crate::testing::world::World;

const LIFE: std::time::Duration = std::time::Duration::from_hours(1);

fn now() -> std::time::SystemTime {
    UNIX_EPOCH + LIFE
}

struct Setup {
    issuer: TokenIssuer,
    gate: Gate,
    writer: Writer,
    world: World,
}

impl Setup {
    fn new(change: impl FnOnce(&mut Options)) -> Self {
        let issuer = TokenIssuer::new("https://issuer").unwrap();
        let mut options = Options {
            rule: Some(JwtRule::parse(&issuer.rule("istio-ca")).unwrap()),
            audiences: vec!["istio-ca".to_owned()],
            reviews: None,
            trusted_gateways: Vec::new(),
        };
        change(&mut options);
        let (writer, reader) = Writer::new();
        Self {
            issuer,
            gate: Gate {
                policy: Policy::default(),
                authenticators: Authenticators::new(options, reader, now),
            },
            writer,
            world: World::new("c1"),
        }
    }

    fn headers(&self) -> HeaderMap {
        let token = self.issuer.issue(("shop", "web"), "istio-ca", now(), LIFE);
        let value = format!("Bearer {}", token.unwrap());
        [(http::header::AUTHORIZATION, value.parse().unwrap())]
            .into_iter()
            .collect()
    }

    fn set_trust_domain(&mut self, domain: &str) {
        let mesh = MeshConfig {
            trust_domain: Arc::from(domain),
            ..MeshConfig::default()
        };
        self.writer.publish(self.world.mesh(mesh).unwrap());
    }
}

fn credentials(secure: bool, headers: &HeaderMap) -> Credentials {
    let channel = if secure {
        Channel::Tls(None)
    } else {
        Channel::Plaintext
    };
    Credentials::new(([10, 0, 0, 1], 1).into(), &channel, headers)
}

#[tokio::test]
async fn the_trust_domain_is_that_of_the_mesh_at_the_time() {
    let mut setup = Setup::new(|_| {});
    let credentials = credentials(true, &setup.headers());
    for domain in ["old.td", "new.td"] {
        setup.set_trust_domain(domain);
        let caller = setup
            .gate
            .authenticators
            .authenticate(&credentials)
            .await
            .unwrap();
        assert_eq!(
            caller.identities,
            [format!("spiffe://{domain}/ns/shop/sa/web")]
        );
        assert_eq!(caller.via, Via::Oidc);
    }
}

#[tokio::test]
async fn an_authenticator_that_fails_leaves_the_word_to_the_next() {
    let setup =
        Setup::new(|options| options.trusted_gateways = vec!["10.0.0.0/8".parse().unwrap()]);
    let mut headers = setup.headers();
    headers.insert(
        "x-forwarded-client-cert",
        "URI=spiffe://td/ns/a/sa/b".parse().unwrap(),
    );
    let authenticate = async |headers: &HeaderMap| {
        let credentials = credentials(true, headers);
        setup.gate.authenticators.authenticate(&credentials).await
    };
    assert_eq!(authenticate(&headers).await.unwrap().via, Via::Oidc);
    headers.insert("authorization", "Bearer nonsense".parse().unwrap());
    let caller = authenticate(&headers).await.unwrap();
    assert_eq!(caller.via, Via::ForwardedCertificate);
    assert_eq!(caller.identities, ["spiffe://td/ns/a/sa/b"]);
}

#[tokio::test]
async fn forwarded_certificates_count_for_nothing_without_trusted_gateways() {
    let setup = Setup::new(|_| {});
    let header = ("x-forwarded-client-cert", "URI=spiffe://td/ns/a/sa/b");
    let headers = [(header.0.parse().unwrap(), header.1.parse().unwrap())];
    let mut credentials = credentials(true, &headers.into_iter().collect());
    credentials.peer = ([127, 0, 0, 1], 1).into();
    assert!(
        setup
            .gate
            .authenticators
            .authenticate(&credentials)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn all_reasons_are_told_in_one_error() {
    let setup = Setup::new(|options| {
        let tokens = KubernetesTokens {
            clients: [].into_iter().collect(),
            own: "c1".into(),
            aliases: [].into(),
        };
        let reviews = TokenReviews::new(tokens, &options.audiences, Metrics::default(), now);
        options.reviews = Some(reviews);
    });
    let headers = [
        ("authorization", "Bearer some.secret.token"),
        ("clusterid", "c9"),
    ];
    let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    let error = setup
        .gate
        .authenticators
        .authenticate(&credentials(true, &headers.into_iter().collect()))
        .await
        .unwrap_err();
    let text = error.to_string();
    for part in [
        "request authenticate failure: ",
        "OIDC token: it is not a JWT; ",
        "Kubernetes token: cluster \"c9\" is not known here",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(
        !text.contains("secret") && !format!("{error:?}").contains("secret"),
        "{text}"
    );
}

#[tokio::test]
async fn a_caller_with_nothing_to_show_is_told_what_to_show() {
    let setup = Setup::new(|options| options.rule = None);
    let authenticate = async |headers: &HeaderMap| {
        let credentials = credentials(true, headers);
        let error = setup.gate.authenticators.authenticate(&credentials).await;
        error.unwrap_err().to_string()
    };
    let text = authenticate(&HeaderMap::new()).await;
    assert!(
        text.contains("no client certificate and no bearer token"),
        "{text}"
    );
    // Folders have no API server.
    let text = authenticate(&setup.headers()).await;
    assert!(text.contains("JWT_RULE"), "{text}");
}

#[tokio::test]
async fn settings_say_where_callers_must_show_who_they_are() {
    let mut setup = Setup::new(|_| {});
    let (none, some) = (HeaderMap::new(), setup.headers());
    let policy = |ads, plaintext| Policy {
        ads,
        plaintext,
        identity_check: true,
    };
    // policy, TLS, with a token: ADS open (without caller), certificates given
    for (policy, secure, token, ads, certificates) in [
        (policy(true, false), true, true, Some(true), true),
        (policy(true, false), true, false, None, false),
        (policy(true, false), false, true, Some(false), false),
        (policy(true, false), false, false, Some(false), false),
        (policy(true, true), false, true, Some(true), true),
        (policy(true, true), false, false, None, false),
        (policy(false, false), true, false, Some(false), false),
        (policy(false, false), true, true, Some(false), true),
    ] {
        setup.gate.policy = policy;
        let credentials = credentials(secure, if token { &some } else { &none });
        let caller = setup.gate.for_ads(&credentials).await;
        let caller = caller.map(|caller| caller.is_some()).ok();
        let certified = setup.gate.for_certificates(&credentials).await.is_ok();
        assert_eq!(
            (caller, certified),
            (ads, certificates),
            "{policy:?} {secure} {token}"
        );
    }
}
