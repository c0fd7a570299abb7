use std::path::Path;

use super::*;

fn read(yaml: &str) -> MeshNetworks {
    parse(yaml).expect("readable").value
}

fn refused(yaml: &str) -> String {
    parse(yaml).expect_err("refused").to_string()
}

const BARE: &str = "
n1:
  endpoints: [{fromRegistry: c1}, {fromCidr: 10.0.0.0/8}, {fromCidr: 192.0.2.7}, {}]
  gateways:
  - {address: 192.0.2.1, port: 15443}
  - {address: gw.example.com, port: 15443}
  - {registryServiceName: gw.istio-system.svc.cluster.local, port: 15443}
  - {address: '', port: 15443}
n2:
";

#[test]
fn networks_are_read_bare_or_under_their_name() {
    let bare = read(BARE);
    let nested = format!("networks:{}", BARE.replace('\n', "\n  "));
    assert_eq!(read(&nested), bare);
    let n1 = &bare.networks[&NetworkId::from("n1")];
    assert_eq!((n1.members.len(), n1.gateways.len()), (3, 3));
    assert_eq!(
        n1.members[0],
        NetworkMember::Registry(ClusterId::from("c1"))
    );
    assert_eq!(
        bare.networks[&NetworkId::from("n2")],
        MeshNetwork::default()
    );
}

#[test]
fn nothing_is_no_network() {
    for yaml in ["", "networks: {}", "networks:", "{}"] {
        assert_eq!(read(yaml), MeshNetworks::default(), "{yaml:?}");
    }
}

#[test]
fn the_files_of_the_scenarios_are_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    for folder in std::fs::read_dir(root).expect("scenarios") {
        let folder = folder.expect("entry").path();
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect("text");
        assert_eq!(
            parse(&text("meshnetworks.yaml"))
                .expect("networks")
                .warnings,
            [""; 0]
        );
        let mesh = super::super::mesh_config::parse(&text("mesh.yaml"), "cluster.local");
        assert_eq!(mesh.expect("mesh").warnings, [""; 0]);
    }
}

#[test]
fn errors_say_which_part_is_wrong() {
    let gateway = |text: &str| refused(&format!("n: {{gateways: [{{{text}}}]}}"));
    assert_eq!(
        gateway("address: 1.2.3.4, port: 0"),
        "networks.n.gateways[0].port: 0 is not a port; use 1 to 65535"
    );
    assert_eq!(
        gateway("address: 1.2.3.400, port: 1"),
        "networks.n.gateways[0].address: \"1.2.3.400\" is neither an IP address nor a host name"
    );
    assert!(gateway("registryServiceName: a_b, port: 1").contains("is not a full host name"));
    let member = |text: &str| refused(&format!("n: {{endpoints: [{{{text}}}]}}"));
    assert!(member("fromCidr: 10.0.0.0/33").contains("networks.n.endpoints[0].fromCidr"));
    assert!(member("fromRegistry: a.b").contains("cannot be a cluster's name"));
}
