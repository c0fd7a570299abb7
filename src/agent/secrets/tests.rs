use std::time::SystemTime;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status as RpcStatus;

use super::stream::{TYPE_URL, Wanted};
use super::*;

fn certificate(text: &str) -> WorkloadCertificate {
    WorkloadCertificate {
        chain: format!("chain {text}"),
        key: format!("key {text}"),
        roots: "roots".to_owned(),
        not_after: SystemTime::UNIX_EPOCH,
    }
}

fn asking(names: &[&str], nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        response_nonce: nonce.to_owned(),
        type_url: TYPE_URL.to_owned(),
        ..Default::default()
    }
}

/// What a secret holds, as text.
fn text(secret: &[u8]) -> String {
    let secret = EnvoySecret::decode(secret).expect("a secret");
    let inline = |source: Option<DataSource>| match source.and_then(|s| s.specifier) {
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8(bytes).expect("text"),
        other => panic!("{other:?}"),
    };
    match secret.r#type {
        Some(secret::Type::TlsCertificate(tls)) => format!(
            "{}: {}, {}",
            secret.name,
            inline(tls.certificate_chain),
            inline(tls.private_key)
        ),
        Some(secret::Type::ValidationContext(context)) => {
            format!("{}: {}", secret.name, inline(context.trusted_ca))
        }
        other => panic!("{other:?}"),
    }
}

fn sent(wanted: &mut Wanted, secrets: &Secrets) -> Vec<String> {
    let response = wanted.response(secrets);
    let resources = response.map(|r| r.resources).unwrap_or_default();
    resources.iter().map(|any| text(&any.value)).collect()
}

#[test]
fn a_secret_is_sent_when_there_is_one_and_again_when_it_changes() {
    let secrets = Secrets::default();
    let mut wanted = Wanted::default();
    wanted.on_request(asking(&[OWN], ""));
    assert!(wanted.response(&secrets).is_none(), "nothing yet");
    secrets.put(&certificate("1"));
    assert_eq!(sent(&mut wanted, &secrets), ["default: chain 1, key 1"]);
    wanted.on_request(asking(&[OWN], "1"));
    assert!(wanted.response(&secrets).is_none(), "an ACK");
    secrets.put(&certificate("1"));
    assert!(wanted.response(&secrets).is_none(), "the same");
    secrets.put(&certificate("2"));
    assert_eq!(sent(&mut wanted, &secrets), ["default: chain 2, key 2"]);
}

#[test]
fn a_refused_secret_is_not_sent_again_by_itself() {
    let secrets = Secrets::default();
    secrets.put(&certificate("1"));
    let mut wanted = Wanted::default();
    wanted.on_request(asking(&[OWN], ""));
    assert_eq!(sent(&mut wanted, &secrets).len(), 1);
    let refusal = RpcStatus {
        message: "no".to_owned(),
        ..RpcStatus::default()
    };
    wanted.on_request(DiscoveryRequest {
        error_detail: Some(refusal),
        ..asking(&[OWN], "1")
    });
    assert!(wanted.response(&secrets).is_none());
}

#[test]
fn a_name_that_is_added_is_answered() {
    let secrets = Secrets::default();
    secrets.put(&certificate("1"));
    let mut wanted = Wanted::default();
    wanted.on_request(asking(&[ROOTS], ""));
    assert_eq!(sent(&mut wanted, &secrets), ["ROOTCA: roots"]);
    wanted.on_request(asking(&[ROOTS, OWN], "1"));
    assert_eq!(sent(&mut wanted, &secrets).len(), 2);
}

#[test]
fn delta_streams_get_what_is_new() {
    let secrets = Secrets::default();
    secrets.put(&certificate("1"));
    let subscribe = |names: &[&str]| DeltaDiscoveryRequest {
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    let mut wanted = Wanted::default();
    let mut next = |request| {
        wanted.on_delta_request(request);
        let response = wanted.delta_response(&secrets);
        let resources = response.map(|r| r.resources).unwrap_or_default();
        resources.into_iter().map(|r| r.name).collect::<Vec<_>>()
    };
    assert_eq!(next(subscribe(&[OWN, ROOTS])), [ROOTS, OWN]);
    assert!(next(subscribe(&[])).is_empty(), "an ACK");
    secrets.put(&certificate("2"));
    assert_eq!(next(subscribe(&[])), [OWN], "the roots are the same");
    let gone = DeltaDiscoveryRequest {
        resource_names_unsubscribe: vec![OWN.to_owned()],
        ..Default::default()
    };
    assert!(next(gone).is_empty());
    secrets.put(&certificate("3"));
    assert!(next(subscribe(&[])).is_empty());
}

#[test]
fn debug_output_has_no_key() {
    let secrets = Secrets::default();
    secrets.put(&certificate("hidden"));
    assert!(!format!("{secrets:?}").contains("hidden"));
    let held = secrets.get(OWN).expect("a secret");
    let printed = format!("{held:?}");
    assert!(!printed.contains("hidden") && !printed.contains("body"));
}

#[tokio::test]
async fn secrets_of_files_follow_the_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("root.pem");
    let name = format!("file-root:{}", path.display());
    let secrets = Secrets::default();
    let mut changed = secrets.watch();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(secrets.clone().follow_files());
    secrets.want(&name);
    std::fs::write(&path, "first").expect("a file");
    changed.changed().await.expect("it goes on");
    let held = || secrets.get(&name).map(|secret| text(&secret.body));
    assert_eq!(held(), Some(format!("{name}: first")));
    // Gone for a while, as a mount that is renewed: Envoy keeps what it has.
    std::fs::remove_file(&path).expect("removed");
    std::fs::write(&path, "second").expect("a file");
    changed.changed().await.expect("it goes on");
    assert_eq!(held(), Some(format!("{name}: second")));
}
