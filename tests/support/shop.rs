//! One service, `web`, in numbered clusters that are a network each.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::fmt::Write;

/// Everything of cluster `number`: one pod of `web`, and a gateway.
pub(crate) fn cluster(number: usize) -> String {
    let addresses = [format!("10.{number}.0.1")];
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let parts = [
        namespaces(number),
        service("web"),
        pods(number, &addresses),
        web_slice(number, &addresses),
        gateway(number, &format!("{{ip: 198.51.100.{number}}}")),
        service("marker"),
        marker(number, 1),
    ];
    parts.join("---\n")
}

pub(crate) fn namespaces(number: usize) -> String {
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: istio-system, \
         labels: {{topology.istio.io/network: n{number}}}}}}}
---
{{apiVersion: v1, kind: Namespace, metadata: {{name: shop}}}}
"
    )
}

pub(crate) fn service(name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
"
    )
}

/// Name of the pod with an address.
fn pod_name(address: &str) -> String {
    format!("web-{}", address.replace('.', "-"))
}

/// Ready pods of `web`.
pub(crate) fn pods(_number: usize, addresses: &[&str]) -> String {
    let pods = addresses.iter().map(|address| {
        let name = pod_name(address);
        format!(
            "apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: shop
  labels: {{app: web, security.istio.io/tlsMode: istio}}
spec: {{containers: [{{name: web, image: web}}]}}
status:
  phase: Running
  podIP: {address}
  podIPs: [{{ip: {address}}}]
  conditions: [{{type: Ready, status: 'True'}}]
"
        )
    });
    pods.collect::<Vec<_>>().join("---\n")
}

/// The slice of `web`.
pub(crate) fn web_slice(_number: usize, addresses: &[&str]) -> String {
    let mut slice = "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
"
    .to_owned();
    for address in addresses {
        let name = pod_name(address);
        let _ = writeln!(
            slice,
            "- {{addresses: [{address}], conditions: {{ready: true}}, \
             targetRef: {{kind: Pod, name: {name}, namespace: shop}}}}"
        );
    }
    slice
}

/// The east-west gateway with what its load balancer has.
pub(crate) fn gateway(number: usize, ingress: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: eastwest
  namespace: istio-system
  labels: {{topology.istio.io/network: n{number}}}
spec: {{type: LoadBalancer, ports: [{{name: tls, port: 15443}}]}}
status: {{loadBalancer: {{ingress: [{ingress}]}}}}
"
    )
}

/// The slice of `marker`: a change whose arrival proves that what was done
/// before it in the same cluster has arrived.
pub(crate) fn marker(number: usize, state: u8) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: marker-1, namespace: shop, labels: {{kubernetes.io/service-name: marker}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: [10.{number}.9.{state}], conditions: {{ready: true}}}}]
"
    )
}
