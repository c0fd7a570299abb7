//! Flags of istiod's that isthmus takes, so that swapping the image in an
//! istiod Deployment starts it, and does not act on.

use clap::Args;

macro_rules! unused {
    ($($(#[$attr:meta])* $field:ident $long:literal $istiod:literal),* $(,)?) => {
        /// One field a flag; what is given is named in one warning.
        #[derive(Debug, Args)]
        pub(super) struct UnusedArgs {
            $(
                $(#[$attr])*
                #[arg(long = $long, alias = $istiod, value_name = "VALUE")]
                $field: Vec<String>,
            )*
        }

        impl UnusedArgs {
            /// Names of the flags that were given, and of set variables that
            /// istiod reads and isthmus does not.
            pub(super) fn given(&self) -> Vec<String> {
                let mut given = Vec::new();
                $(if !self.$field.is_empty() { given.push(concat!("--", $long).to_owned()); })*
                given.extend(variables());
                given
            }
        }
    };
}

unused! {
    /// Webhook listener: with injection
    https_addr "https-addr" "httpsAddr",
    /// Cipher suites of the TLS listener
    tls_cipher_suites "tls-cipher-suites" "tls_cipher_suites",
    /// Least TLS version of the TLS listener
    tls_min_version "tls-min-version" "tls_min_version",
    /// Rate limit of the Kubernetes client: isthmus lists once and watches
    kubernetes_api_qps "kubernetes-api-qps" "kubernetesApiQPS",
    /// Burst of the Kubernetes client
    kubernetes_api_burst "kubernetes-api-burst" "kubernetesApiBurst",
    /// Namespace of istio-cni
    cni_namespace "cni-namespace" "cniNamespace",
    /// Folder of Istio objects: see --cluster-dir
    config_dir "config-dir" "configDir",
    /// Registries: Kubernetes is always read
    registries "registries" "Registries",
    /// ControlZ port
    ctrlz_port "ctrlz-port" "ctrlz_port",
    /// ControlZ address
    ctrlz_address "ctrlz-address" "ctrlz_address",
    /// Go profiling
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    profile "profile" "Profile",
    /// Call sites in logs
    log_caller "log-caller" "log_caller",
    /// Stack traces in logs
    log_stacktrace_level "log-stacktrace-level" "log_stacktrace_level",
    /// Log outputs: stderr is always used
    log_target "log-target" "log_target",
    /// Verbosity of the Go Kubernetes client
    vklog "vklog" "v",
}

/// Variables that isthmus reads, beside those that clap knows, or that say
/// nothing of behaviour.
const KNOWN: &[&str] = &[
    "PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS",
    "PILOT_CERT_PROVIDER",
    "PILOT_CA_CERT_CONFIGMAP",
    "PILOT_DEBOUNCE_AFTER",
    "PILOT_DEBOUNCE_MAX",
    "PILOT_DRAINING_LABEL",
    "PILOT_ENABLE_CROSS_CLUSTER_WORKLOAD_ENTRY",
    "PILOT_ENABLE_EDS_FOR_HEADLESS_SERVICES",
    "PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES",
    "PILOT_ENABLE_SERVICEENTRY_SELECT_PODS",
    "PILOT_ENABLE_XDS_IDENTITY_CHECK",
    "PILOT_ENDPOINT_TELEMETRY_LABEL",
    "PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS",
    "PILOT_MAX_REQUESTS_PER_SECOND",
    "PILOT_MULTICLUSTER_KUBECONFIG_PATH",
    "PILOT_MULTI_NETWORK_DISCOVER_GATEWAY_API",
    "PILOT_PERSISTENT_SESSION_HEADER_LABEL",
    "PILOT_PERSISTENT_SESSION_LABEL",
    "PILOT_REMOTE_CLUSTER_TIMEOUT",
    "PILOT_SCOPE_GATEWAY_TO_NAMESPACE",
    "PILOT_SEND_UNHEALTHY_ENDPOINTS",
    "PILOT_XDS_SEND_TIMEOUT",
];

fn variables() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut unknown: Vec<_> = names
        .filter(|n| n.starts_with("PILOT_") && !KNOWN.contains(&n.as_str()))
        .collect();
    unknown.sort();
    unknown
}
