//! The command line of `isthmus`: istiod's flags and variables, and what is
//! said of wrong ones.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod plane;
}

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use isthmus::testing::identity::{TestCa, TestCaOptions};
use support::plane::{Plane, free_addresses};
use tempfile::TempDir;

/// A folder with what commands here name.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "a/namespace.yaml", NAMESPACE);
    write(folder.path(), "b/namespace.yaml", NAMESPACE);
    folder
}

const NAMESPACE: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: ns}}";

fn write(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(path, text).expect("a written file");
}

/// Runs a command that ends by itself.
fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_isthmus"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(folder)
        .output()
        .expect("isthmus starts")
}

/// A wrong command line ends at once, is no success, and says all of `words`.
fn assert_refused(folder: &Path, arguments: &[&str], variables: &[(&str, &str)], words: &[&str]) {
    // The port of TLS may be taken by somebody else.
    let all = [&["discovery", "--secure-grpc-addr="], arguments].concat();
    let output = run(folder, &all, variables);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?}: {said}");
    assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: no {word:?} in: {said}");
        let doubled = format!("{word}: {word}");
        assert!(!said.contains(&doubled), "{arguments:?}: {said}");
    }
}

fn warnings(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains(" WARN ")).collect()
}

#[tokio::test]
async fn the_arguments_and_variables_of_istiods_deployment_start_it() {
    let folder = folder();
    let mut plane = Plane::launch(|command| {
        command
            .args([
                "--log_output_level=default:info",
                "--domain",
                "cluster.local",
            ])
            .args(["--keepaliveMaxServerConnectionAge", "30m"])
            .args(["--cluster-dir", "cluster1=a", "--ca-state-dir", "state"])
            .current_dir(folder.path())
            .env("REVISION", "default")
            .env("PILOT_CERT_PROVIDER", "istiod")
            .env("POD_NAME", "istiod-7d4")
            .env("POD_NAMESPACE", "istio-system")
            .env("SERVICE_ACCOUNT", "istiod")
            .env("KUBECONFIG", "/var/run/secrets/remote/config")
            .env("CA_TRUSTED_NODE_ACCOUNTS", "istio-system/ztunnel")
            .env("PILOT_ENABLE_ANALYSIS", "false")
            .env("PILOT_TRACE_SAMPLING", "1")
            .env("CLUSTER_ID", "cluster1")
            .env("PLATFORM", "");
    });
    plane.wait_ready().await;
    let log = plane.log();
    let warnings = warnings(&log);
    let [warning] = warnings.as_slice() else {
        panic!("one warning: {log}");
    };
    for unused in [
        "--https-addr",
        "PILOT_ENABLE_ANALYSIS",
        "PILOT_TRACE_SAMPLING",
    ] {
        assert!(warning.contains(unused), "{unused}: {warning}");
    }
    assert!(log.contains("cluster=cluster1"), "{log}");
}

/// Flags of istiod's in its own spelling, but for addresses, which every test
/// here gives.
const FLAGS: &[(&str, &str)] = &[
    ("caCertFile", "serving/ca.crt"),
    ("cniNamespace", "istio-system"),
    ("configDir", "/nowhere"),
    ("kubernetesApiBurst", "160"),
    ("kubernetesApiQPS", "80.0"),
    ("registries", "Kubernetes"),
    ("tlsCertFile", "serving/tls.crt"),
    ("tlsKeyFile", "serving/tls.key"),
    ("tls-cipher-suites", "TLS_AES_128_GCM_SHA256"),
    ("tls-min-version", "1.2"),
    ("ctrlz_port", "9876"),
    ("ctrlz_address", "localhost"),
    ("log_caller", "default"),
    ("log_stacktrace_level", "default:none"),
    ("log_target", "stdout"),
    ("vklog", "9"),
    ("clusterAliases", "x=a,y=a"),
    ("clusterID", "a"),
    ("clusterRegistriesNamespace", "istio-system"),
    ("namespace", "istio-system"),
    ("domain", "cluster.local"),
    ("keepaliveInterval", "30s"),
    ("keepaliveTimeout", "10s"),
    (
        "keepaliveMaxServerConnectionAge",
        "2562047h47m16.854775807s",
    ),
    ("meshConfig", ""),
    ("networksConfig", ""),
    ("shutdownDuration", "10s"),
    ("log_output_level", "default:info,ads:warn"),
];

/// `clusterID` → `cluster-id`.
fn kebab(name: &str) -> String {
    let name = name.replace("QPS", "Qps").replace("ID", "Id");
    let mut kebab = String::new();
    for letter in name.replace('_', "-").chars() {
        if letter.is_uppercase() {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
}

async fn assert_starts(folder: &TempDir, arguments: Vec<String>) {
    let ca = TestCa::root(TestCaOptions::new("root"));
    write(folder.path(), "serving/ca.crt", ca.root_pem());
    write(folder.path(), "serving/tls.crt", &ca.certificate());
    write(folder.path(), "serving/tls.key", ca.key());
    let mut plane = Plane::launch(|command| {
        command.args(["--cluster-dir", "a=a", "--ca-state-dir=state"]);
        command.args(arguments).current_dir(folder.path());
    });
    plane.wait_ready().await;
    let log = plane.log();
    assert_eq!(log.matches(r#""level":"WARN""#).count(), 1, "{log}");
}

#[tokio::test]
async fn every_flag_of_istiods_is_taken_in_every_spelling() {
    let folder = folder();
    let own = |name: &str| name.to_owned();
    for spelling in [&own as &dyn Fn(&str) -> String, &kebab] {
        let json = spelling("log_as_json");
        let apart = FLAGS
            .iter()
            .flat_map(|(name, value)| [format!("--{}", spelling(name)), (*value).to_owned()]);
        let bare = ["-n", "istio-system", "--profile", &format!("--{json}")].map(str::to_owned);
        assert_starts(&folder, apart.chain(bare).collect()).await;

        let joined = FLAGS
            .iter()
            .map(|(name, value)| format!("--{}={value}", spelling(name)));
        let said = [
            "-n=istio-system",
            "--profile=false",
            &format!("--{json}=true"),
        ];
        assert_starts(&folder, joined.chain(said.map(str::to_owned)).collect()).await;
    }
}

#[tokio::test]
async fn empty_variables_and_values_count_as_not_given() {
    const EMPTY: &[&str] = &[
        "REVISION",
        "ROOT_CA_DIR",
        "PILOT_CERT_PROVIDER",
        "ISTIOD_CUSTOM_HOST",
        "DEFAULT_WORKLOAD_CERT_TTL",
        "CLUSTER_ID",
        "POD_NAMESPACE",
        "KUBECONFIG",
        "ISTIO_DUAL_STACK",
        "ISTIO_GPRC_MAXSTREAMS",
        "PILOT_DEBOUNCE_AFTER",
        "PILOT_MULTICLUSTER_KUBECONFIG_PATH",
        "PILOT_REMOTE_CLUSTER_TIMEOUT",
    ];
    let folder = folder();
    let mut plane = Plane::launch(|command| {
        command.args(["--cluster-dir", "only=a", "--cluster-id", ""]);
        command.args(["--mesh-config", "", "--networks-config="]);
        command.args(["--root-ca-dir=", "--ca-state-dir", "", "--tls-key-file="]);
        command.envs(EMPTY.iter().map(|name| (name, "")));
        command.current_dir(folder.path());
    });
    plane.wait_ready().await;
    assert!(plane.log().contains("cluster=only"), "{}", plane.log());
}

#[tokio::test]
async fn the_last_of_several_equal_flags_counts() {
    let folder = folder();
    let mut plane = Plane::launch(|command| {
        command.args(["--log_output_level=error", "--log-output-level=info"]);
        command.args(["--cluster-dir", "a=a", "--cluster-dir", "b=b"]);
        command.args(["--clusterID", "a", "--cluster-id", "b"]);
        command.current_dir(folder.path());
    });
    plane.wait_ready().await;
    assert!(plane.log().contains("cluster=b"), "{}", plane.log());
}

#[test]
fn unknown_flags_are_refused_with_a_hint() {
    let folder = folder();
    let like = ["unexpected argument", "--keepaliveTimeout"];
    assert_refused(folder.path(), &["--keepaliveTimeot", "1s"], &[], &like);
    let help = ["unexpected argument '--bogus'", "--help"];
    assert_refused(folder.path(), &["--bogus"], &[], &help);
    assert_refused(folder.path(), &["stray"], &[], &["'stray'"]);
}

#[test]
fn values_that_cannot_be_read_are_named_with_their_flag_or_variable() {
    let folder = folder();
    let with_folder = |more: &[&'static str]| [&["--cluster-dir", "a=a"], more].concat();
    for (arguments, words) in [
        (
            &["--keepaliveInterval", "soon"][..],
            &["--keepalive-interval", "soon", "10s"][..],
        ),
        (
            &["--grpcAddr", "here"],
            &["--grpc-addr", "\"here\" is not [HOST]:PORT"],
        ),
        (&["--grpcAddr", ":70000"], &["--grpc-addr", "\":70000\""]),
        (
            &["--grpcAddr", ""],
            &["--grpc-addr", "--secure-grpc-addr are empty"],
        ),
        (
            &["--httpAddr", "host.invalid:80"],
            &["--http-addr", "host.invalid"],
        ),
        (
            &["--log_output_level", "ads:loud"],
            &["loud", "debug, info, warn"],
        ),
        (&["--log-as-json=maybe"], &["maybe", "--log-as-json"]),
        (&["--clusterAliases", "x"], &["x", "ALIAS=CLUSTER"]),
        (&["--max-concurrent-streams", "many"], &["many"]),
        (&["--domain"], &["--domain", "a value is required"]),
    ] {
        assert_refused(folder.path(), &with_folder(arguments), &[], words);
    }
    for (variable, value) in [
        ("ISTIO_DUAL_STACK", "maybe"),
        ("PILOT_DEBOUNCE_AFTER", "10"),
        ("PILOT_REMOTE_CLUSTER_TIMEOUT", "-3s"),
        ("ISTIO_GPRC_MAXSTREAMS", "1e9"),
        ("XDS_AUTH", "perhaps"),
        ("TRUSTED_GATEWAY_CIDR", "10.0.0.1"),
    ] {
        let words = [variable, value];
        assert_refused(
            folder.path(),
            &with_folder(&[]),
            &[(variable, value)],
            &words,
        );
    }
}

#[test]
fn missing_folders_and_files_are_named() {
    let folder = folder();
    write(folder.path(), "file", "");
    for (arguments, words) in [
        (&["--cluster-dir", "a"][..], &["NAME=FOLDER"][..]),
        (
            &["--cluster-dir", "a=nowhere"],
            &["--cluster-dir", "nowhere"],
        ),
        (
            &["--cluster-dir", "a=file"],
            &["--cluster-dir", "file", "not a folder"],
        ),
        (
            &["--cluster-dir", "a=a", "--networksConfig", "a"],
            &["--networks-config", "not a file"],
        ),
        (&["--kubeconfig", "nowhere"], &["--kubeconfig", "nowhere"]),
        (
            &["--cluster-dir", "a=a", "--cluster-dir", "a=b"],
            &["\"a\" twice"],
        ),
        (
            &[
                "--cluster-dir",
                "a=a",
                "--cluster-dir",
                "b=b",
                "--clusterID",
                "c",
            ],
            &["\"c\"", "--cluster-id", "a, b"],
        ),
        (
            &["--cluster-dir", "a=a", "--cluster-dir", "b=b"],
            &["\"Kubernetes\"", "--cluster-id", "a, b"],
        ),
        (
            &["--cluster-dir", "a=a", "--kubeconfig", "file"],
            &["cannot be used with"],
        ),
    ] {
        assert_refused(folder.path(), arguments, &[], words);
    }
}

#[test]
fn a_settings_file_that_is_missing_is_named_and_the_config_map_counts() {
    let folder = folder();
    let arguments = ["check", "--cluster-dir", "a=a", "--meshConfig", "nowhere"];
    let output = run(folder.path(), &arguments, &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("--mesh-config nowhere does not exist"),
        "{told}"
    );
    assert!(output.status.success(), "{told}");
}

#[test]
fn settings_files_must_be_good_at_the_start() {
    let folder = folder();
    write(folder.path(), "mesh", "a: [");
    write(
        folder.path(),
        "nets",
        "networks: {n: {endpoints: [{fromCidr: 10.0.0.0/99}]}}",
    );
    let [grpc, http, monitoring] = free_addresses();
    let ports = [
        "--grpcAddr",
        &grpc,
        "--httpAddr",
        &http,
        "--monitoringAddr",
        &monitoring,
    ];
    for (flag, file, word) in [
        ("--meshConfig", "mesh", "not YAML"),
        ("--networksConfig", "nets", "10.0.0.0/99"),
    ] {
        let arguments = [&["--cluster-dir", "a=a", flag, file][..], &ports].concat();
        assert_refused(folder.path(), &arguments, &[], &[file, word]);
    }
}

#[test]
fn kubeconfigs_that_lead_nowhere_are_named_without_their_content() {
    let folder = folder();
    let kubeconfig = |current: &str, server: &str| {
        format!(
            "{{apiVersion: v1, kind: Config, current-context: {current}, \
             clusters: [{{name: c, cluster: {{{server}}}}}], \
             contexts: [{{name: x, context: {{cluster: c, user: u}}}}], \
             users: [{{name: u, user: {{token: hush-hush}}}}]}}"
        )
    };
    let server = "server: 'https://127.0.0.1:1'";
    let [grpc, http, monitoring] = free_addresses();
    let ports = [
        "--grpcAddr",
        &grpc,
        "--httpAddr",
        &http,
        "--monitoringAddr",
        &monitoring,
    ];
    for (text, word) in [
        (String::new(), "config"),
        ("hush-hush: [".to_owned(), "YAML"),
        ("token: hush-hush\nusers: {a: [".to_owned(), "YAML"),
        ("hush-hush".to_owned(), "YAML"),
        (
            format!("{}\nusers: hush-hush", kubeconfig("x", server)),
            "YAML",
        ),
        (kubeconfig("other", server), "other"),
        (kubeconfig("''", server), "context"),
        (kubeconfig("x", ""), "c"),
    ] {
        write(folder.path(), "config", &text);
        for (arguments, variables) in [
            (&["--kubeconfig", "config"][..], &[][..]),
            (&[], &[("KUBECONFIG", "config")]),
        ] {
            let arguments = [arguments, &ports].concat();
            assert_refused(folder.path(), &arguments, variables, &["config", word]);
            let discovery = ["discovery", "--secure-grpc-addr="];
            let all = [&discovery, arguments.as_slice()].concat();
            let output = run(folder.path(), &all, variables);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("hush-hush"), "{said}");
        }
    }
    let missing = [("KUBECONFIG", "/var/run/secrets/remote/config")];
    let words = [
        "/var/run/secrets/remote/config",
        "--kubeconfig",
        "--cluster-dir",
    ];
    assert_refused(folder.path(), &ports, &missing, &words);
}

#[test]
fn a_port_in_use_is_named_with_its_flag() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let _listener = TcpListener::bind(&taken);
    for flag in ["--grpc-addr", "--http-addr", "--monitoring-addr"] {
        let [grpc, http, monitoring] = free_addresses();
        let ports = [
            "--grpc-addr",
            &grpc,
            "--http-addr",
            &http,
            "--monitoring-addr",
            &monitoring,
        ];
        let arguments = [&["--cluster-dir", "a=a"][..], &ports, &[flag, &taken]].concat();
        assert_refused(folder.path(), &arguments, &[], &[flag, &taken, "in use"]);
    }
}

#[test]
fn help_is_grouped_and_in_kebab_case() {
    let folder = folder();
    let output = run(folder.path(), &["discovery", "--help"], &[]);
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    let headings = [
        "Clusters and mesh:",
        "Listening and streams:",
        "Certificates:",
        "Authentication:",
        "What is written to clusters:",
        "Behaviour (istiod's environment names):",
        "Accepted from istiod, without effect:",
    ];
    let places: Vec<_> = headings
        .iter()
        .map(|h| help.find(h).expect("a heading"))
        .collect();
    assert!(places.is_sorted(), "{help}");
    let flags = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"));
    for flag in flags {
        let kebab = flag.split(['[', '=']).next().unwrap_or_default();
        let ok = kebab
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        assert!(ok || kebab.ends_with([',', '.']), "{flag}");
    }
    for named in [
        "--cluster-id",
        "[env: CLUSTER_ID]",
        "--mesh-config",
        "--grpc-addr",
        "-n, --namespace",
    ] {
        assert!(help.contains(named), "{named}: {help}");
    }
}

#[test]
fn a_token_issuer_that_cannot_be_trusted_is_refused_at_the_start() {
    let folder = folder();
    let arguments = ["--cluster-dir", "a=a"];
    for (rule, word) in [
        ("{", "JWT_RULE is not JSON"),
        ("{}", "no issuer"),
        (r#"{"issuer": "a", "jwks_uri": "ftp://b"}"#, "ftp://b"),
    ] {
        assert_refused(folder.path(), &arguments, &[("JWT_RULE", rule)], &[word]);
        let check = [&["check"], &arguments[..]].concat();
        let output = run(folder.path(), &check, &[("JWT_RULE", rule)]);
        assert!(!output.status.success(), "{rule}");
    }
}

const ORPHAN: &str = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: orphan, namespace: ns}, addressType: IPv4, endpoints: []}";

#[test]
fn check_tells_what_is_wrong_by_object_and_by_status() {
    let folder = folder();
    let good = run(folder.path(), &["check", "--cluster-dir", "a=a"], &[]);
    assert!(good.status.success());
    assert!(String::from_utf8_lossy(&good.stdout).contains("no problem found"));

    write(folder.path(), "a/orphan.yaml", ORPHAN);
    let output = run(folder.path(), &["check", "--cluster-dir", "a=a"], &[]);
    let told = String::from_utf8_lossy(&output.stdout);
    let without = "without effect: EndpointSlice ns/orphan of a: it has no label";
    assert!(output.status.success() && told.contains(without), "{told}");

    let bad = "
{apiVersion: v1, kind: Service, metadata: {name: good, namespace: ns}, spec: {clusterIP: 10.1.1.1, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: bad, namespace: ns}, spec: {clusterIP: 999.1.1.1, ports: [{port: 80}]}}
---
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: rule, namespace: ns}, spec: {host: 5}}
---
just: data
";
    write(folder.path(), "a/bad.yaml", bad);
    let output = run(folder.path(), &["check", "--cluster-dir", "a=a"], &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in [
        ["Service ns/bad", "is not an IP address"],
        ["DestinationRule ns/rule: spec.host", "expected a string"],
        ["document=4", "no apiVersion and kind"],
    ] {
        let line = said
            .lines()
            .find(|l| words.iter().all(|word| l.contains(word)));
        let line = line.unwrap_or_else(|| panic!("{words:?}: {said}"));
        assert!(line.contains("a/bad.yaml"), "{line}");
    }
    assert!(told.contains("1 services"), "{told}");
    assert!(told.contains("3 parts could not be read"), "{told}");

    write(folder.path(), "mesh", "outboundTrafficPolicy: 3");
    let output = run(
        folder.path(),
        &["check", "--cluster-dir", "b=b", "--mesh-config", "mesh"],
        &[],
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("mesh: outboundTrafficPolicy"), "{said}");
}

#[test]
fn a_certificate_authority_with_a_part_missing_is_refused_at_the_start() {
    let folder = folder();
    let ca = TestCa::root(TestCaOptions::new("root"));
    write(folder.path(), "etc/cacerts/ca-cert.pem", &ca.certificate());
    write(folder.path(), "etc/cacerts/cert-chain.pem", ca.chain());
    write(folder.path(), "etc/cacerts/root-cert.pem", ca.root_pem());
    let [grpc, http, monitoring] = free_addresses();
    let arguments = [
        "--cluster-dir=a=a",
        "--secureGRPCAddr=",
        "--grpcAddr",
        &grpc,
    ]
    .into_iter()
    .chain(["--httpAddr", &http, "--monitoringAddr", &monitoring])
    .collect::<Vec<_>>();
    let words = ["ROOT_CA_DIR", "./etc/cacerts", "but not ca-key.pem"];
    assert_refused(folder.path(), &arguments, &[], &words);
    let checked = run(folder.path(), &["check", "--cluster-dir=a=a"], &[]);
    assert!(!checked.status.success());
    let other = TestCa::root(TestCaOptions::new("other"));
    write(folder.path(), "etc/cacerts/ca-key.pem", other.key());
    let words = ["ROOT_CA_DIR", "ca-key.pem is not the key of ca-cert.pem"];
    assert_refused(folder.path(), &arguments, &[], &words);
    write(folder.path(), "etc/cacerts/ca-key.pem", "");
    let elsewhere = [
        ("ROOT_CA_DIR", "nowhere"),
        ("PILOT_CERT_PROVIDER", "k8s.io/x"),
    ];
    let words = ["PILOT_CERT_PROVIDER=k8s.io/x", "istiod"];
    assert_refused(folder.path(), &arguments, &elsewhere, &words);
}

#[test]
fn a_serving_certificate_without_its_key_is_told() {
    let folder = folder();
    let arguments = ["check", "--cluster-dir", "a=a", "--tlsCertFile", "nowhere"];
    let output = run(folder.path(), &arguments, &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    let sentence = "--tls-cert-file has no effect without --tls-key-file and --ca-cert-file";
    assert!(told.contains(sentence), "{told}");
}
