//! Kubeconfigs of remote clusters: who wrote them may not be trusted with this
//! machine, so what runs programs or reads files here is refused.

use std::{collections::BTreeSet, fmt, sync::Arc};

use kube::config::{AuthInfo, Kubeconfig};

use crate::model::ClusterId;

/// The bytes of a kubeconfig. They hold credentials and are never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct KubeconfigBytes(Arc<[u8]>);

impl KubeconfigBytes {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }
}

impl fmt::Debug for KubeconfigBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KubeconfigBytes({} bytes)", self.0.len())
    }
}

/// Why a kubeconfig is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KubeconfigError {
    /// Nothing in it.
    #[error("the kubeconfig is empty")]
    Empty,
    /// Not text.
    #[error("the kubeconfig is not UTF-8 text")]
    NotText,
    /// Not YAML, or not a kubeconfig.
    #[error(
        "the kubeconfig is not valid YAML of kind Config{place}; write it with \
         `istioctl create-remote-secret`"
    )]
    Malformed {
        /// Where, if known.
        place: String,
    },
    /// The current context does not lead to an API server.
    #[error("the kubeconfig's current-context does not lead to a cluster with a server URL: {0}")]
    NoServer(&'static str),
    /// Something that would act on this machine.
    #[error(
        "user {user:?} of the kubeconfig has {what}, which is refused; use a token or inline \
         data, or list {option:?} in PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS"
    )]
    Insecure {
        /// Which user entry.
        user: String,
        /// What it has.
        what: &'static str,
        /// What would allow it.
        option: String,
    },
    /// Several clusters and none chosen.
    #[error("the kubeconfig names no cluster: set current-context")]
    NoCluster,
}

/// What of a kubeconfig is allowed beyond the safe parts
/// (`PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS`): `exec`, `tokenFile`,
/// `clientKey`, `clientCertificate`, or the name of an auth provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InsecureOptions(BTreeSet<String>);

impl InsecureOptions {
    /// Reads the comma-separated list of the environment.
    pub fn parse(list: &str) -> Self {
        let options = list.split(',').map(str::trim).filter(|o| !o.is_empty());
        Self(options.map(str::to_owned).collect())
    }

    fn allows(&self, option: &str) -> bool {
        self.0.contains(option)
    }
}

/// Reads and checks a kubeconfig.
pub(super) fn check(
    bytes: &KubeconfigBytes,
    allowed: &InsecureOptions,
) -> Result<Kubeconfig, KubeconfigError> {
    let kubeconfig = read(bytes)?;
    find_server(&kubeconfig)?;
    for user in &kubeconfig.auth_infos {
        if let Some(info) = &user.auth_info {
            check_user(&user.name, info, allowed)?;
        }
    }
    Ok(kubeconfig)
}

fn read(bytes: &KubeconfigBytes) -> Result<Kubeconfig, KubeconfigError> {
    let text = std::str::from_utf8(&bytes.0).map_err(|_| KubeconfigError::NotText)?;
    if text.trim().is_empty() {
        return Err(KubeconfigError::Empty);
    }
    // The parser's own message may quote the text, and with it a credential:
    // only the place is told.
    Kubeconfig::from_yaml(text).map_err(|_| {
        let yaml = yaml_serde::from_str::<yaml_serde::Value>(text);
        let place = yaml.err().and_then(|e| e.location());
        KubeconfigError::Malformed {
            place: place.map_or_else(String::new, |p| format!(" (line {})", p.line())),
        }
    })
}

fn find_server(kubeconfig: &Kubeconfig) -> Result<(), KubeconfigError> {
    let refuse = |what| Err(KubeconfigError::NoServer(what));
    let Some(current) = kubeconfig
        .current_context
        .as_ref()
        .filter(|c| !c.is_empty())
    else {
        return refuse("current-context is not set");
    };
    let context = kubeconfig.contexts.iter().find(|c| &c.name == current);
    let Some(context) = context.and_then(|c| c.context.as_ref()) else {
        return refuse("there is no context of that name");
    };
    let cluster = kubeconfig
        .clusters
        .iter()
        .find(|c| c.name == context.cluster);
    let Some(cluster) = cluster.and_then(|c| c.cluster.as_ref()) else {
        return refuse("there is no cluster of that name");
    };
    if cluster.server.as_ref().is_none_or(String::is_empty) {
        return refuse("the cluster has no server");
    }
    Ok(())
}

fn check_user(
    user: &str,
    info: &AuthInfo,
    allowed: &InsecureOptions,
) -> Result<(), KubeconfigError> {
    // istiod: oidc is the one provider that neither runs nor reads anything.
    let provider = info.auth_provider.as_ref().map(|p| p.name.as_str());
    let found = [
        provider
            .filter(|&p| p != "oidc")
            .map(|p| (p, "an auth provider")),
        info.exec.is_some().then_some(("exec", "an exec plugin")),
        is_set(info.token_file.as_ref()).then_some(("tokenFile", "a token file")),
        is_set(info.client_key.as_ref()).then_some(("clientKey", "a client key file")),
        is_set(info.client_certificate.as_ref())
            .then_some(("clientCertificate", "a client certificate file")),
    ];
    match found
        .into_iter()
        .flatten()
        .find(|(o, _)| !allowed.allows(o))
    {
        Some((option, what)) => Err(KubeconfigError::Insecure {
            user: user.to_owned(),
            what,
            option: option.to_owned(),
        }),
        None => Ok(()),
    }
}

fn is_set(path: Option<&String>) -> bool {
    path.is_some_and(|p| !p.is_empty())
}

/// The cluster that a kubeconfig file stands for: that of the current context,
/// else of the first context by name, else the first cluster by name (istiod:
/// `kubeconfig_files.go`).
pub(super) fn cluster_of(bytes: &KubeconfigBytes) -> Result<ClusterId, KubeconfigError> {
    let kubeconfig = read(bytes)?;
    let current = kubeconfig.current_context.as_deref();
    let named: Vec<_> = kubeconfig
        .contexts
        .iter()
        .filter_map(|c| Some((c.name.as_str(), c.context.as_ref()?.cluster.as_str())))
        .filter(|(_, cluster)| !cluster.is_empty())
        .collect();
    let current = named.iter().find(|(name, _)| Some(*name) == current);
    let first = || named.iter().min();
    let lone = || kubeconfig.clusters.iter().map(|c| c.name.as_str()).min();
    let cluster = current.or_else(first).map(|(_, cluster)| *cluster);
    let cluster = cluster.or_else(lone).filter(|c| !c.is_empty());
    cluster
        .map(ClusterId::from)
        .ok_or(KubeconfigError::NoCluster)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kubeconfig(user: &str) -> KubeconfigBytes {
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: west\n  cluster: {{server: \
             'https://10.0.0.1'}}\nusers:\n- name: reader\n  user: {user}\ncontexts:\n- name: \
             ctx\n  context: {{cluster: west, user: reader}}\ncurrent-context: ctx\n"
        );
        KubeconfigBytes::new(text.as_bytes())
    }

    fn refused(user: &str, allowed: &str) -> Option<String> {
        let allowed = InsecureOptions::parse(allowed);
        check(&kubeconfig(user), &allowed)
            .err()
            .map(|e| e.to_string())
    }

    #[test]
    fn inline_credentials_and_oidc_pass() {
        for user in [
            "{token: secret}",
            "{username: a, password: b}",
            "{client-key-data: aGVsbG8=, client-certificate-data: aGVsbG8=}",
            "{auth-provider: {name: oidc}}",
            "{as: someone}",
        ] {
            assert_eq!(refused(user, ""), None, "{user}");
        }
    }

    #[test]
    fn what_acts_on_this_machine_is_refused_unless_allowed() {
        for (user, option) in [
            ("{exec: {command: aws}}", "exec"),
            ("{tokenFile: /etc/passwd}", "tokenFile"),
            ("{client-key: /key}", "clientKey"),
            ("{client-certificate: /cert}", "clientCertificate"),
            ("{auth-provider: {name: gcp}}", "gcp"),
        ] {
            let error = refused(user, "other").expect("refused");
            assert!(
                error.contains("\"reader\"") && error.contains(option),
                "{error}"
            );
            assert_eq!(refused(user, &format!("x, {option}")), None, "{user}");
        }
    }

    #[test]
    fn a_malformed_kubeconfig_is_told_without_its_text() {
        let bytes = KubeconfigBytes::new(b"users:\n- name: a\n  user: {token: [hunter2\n");
        let error = check(&bytes, &InsecureOptions::default()).expect_err("refused");
        assert!(!format!("{error} {error:?} {bytes:?}").contains("hunter2"));
        assert!(matches!(error, KubeconfigError::Malformed { .. }));
    }

    #[test]
    fn a_kubeconfig_without_a_server_is_refused() {
        for text in [
            "kind: Config",
            "current-context: x",
            "current-context: x\ncontexts: [{name: x, context: {cluster: y}}]",
            "current-context: x\ncontexts: [{name: x, context: {cluster: y}}]\nclusters: [{name: y, cluster: {}}]",
        ] {
            let error = check(
                &KubeconfigBytes::new(text.as_bytes()),
                &InsecureOptions::default(),
            );
            assert!(
                matches!(error, Err(KubeconfigError::NoServer(_))),
                "{text}: {error:?}"
            );
        }
        let empty = check(&KubeconfigBytes::new(b" \n"), &InsecureOptions::default());
        assert_eq!(empty.err(), Some(KubeconfigError::Empty));
    }

    #[test]
    fn a_file_stands_for_the_cluster_of_its_current_context() {
        let id = |text: &str| cluster_of(&KubeconfigBytes::new(text.as_bytes()));
        let contexts =
            "contexts: [{name: b, context: {cluster: two}}, {name: a, context: {cluster: one}}]\n";
        let current = format!("{contexts}current-context: b");
        assert_eq!(id(&current), Ok(ClusterId::from("two")));
        assert_eq!(id(contexts), Ok(ClusterId::from("one")));
        let clusters = "clusters: [{name: z, cluster: {}}, {name: y, cluster: {}}]";
        assert_eq!(id(clusters), Ok(ClusterId::from("y")));
        assert_eq!(id("kind: Config"), Err(KubeconfigError::NoCluster));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(bytes: Vec<u8>) {
            let bytes = KubeconfigBytes::new(&bytes);
            let _ = check(&bytes, &InsecureOptions::default());
            let _ = cluster_of(&bytes);
        }
    }
}
