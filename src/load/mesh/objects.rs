//! The objects of one cluster, as JSON.

use std::net::Ipv4Addr;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::forms::{
    Labels, Meta, Plain, Pod, PodSpec, PodStatus, Secret, Slice, SliceEndpoint, SlicePort, Stored,
    TargetRef, encode, managed_fields,
};
use super::shape::{NODES, Shape, cluster_name, load_namespace, network_name, service_name};

/// Namespace of the control plane.
pub(super) const SYSTEM: &str = "istio-system";
/// Name of the `ConfigMap` that says that a cluster is populated, and with what.
pub(super) const RECORD: &str = "isthmus-load";
/// Port of the endpoints.
const PORT: u16 = 8080;

/// Makes the objects of one cluster. They depend on the shape only.
#[derive(Debug, Clone, Copy)]
pub struct Objects {
    shape: Shape,
    cluster: u32,
    stored: bool,
}

impl Objects {
    /// Manifests, as a user writes them.
    pub fn manifests(shape: Shape, cluster: u32) -> Self {
        Self {
            shape,
            cluster,
            stored: false,
        }
    }

    /// Objects as an API server sends them: with what it adds to their metadata
    /// at its version [`Self::VERSION`].
    pub(super) fn stored(shape: Shape, cluster: u32) -> Self {
        Self {
            stored: true,
            ..Self::manifests(shape, cluster)
        }
    }

    /// Version of the stored objects.
    pub(super) const VERSION: u64 = 1000;

    /// Namespaces: the control plane's and those of the services.
    pub(super) fn namespaces(self) -> u32 {
        self.shape.namespaces.saturating_add(1)
    }

    /// A namespace. The first is the control plane's and names the network.
    pub fn namespace(self, number: u32) -> Vec<u8> {
        let (name, network) = match number.checked_sub(1) {
            None => (SYSTEM.to_owned(), network_name(self.cluster)),
            Some(load) => (load_namespace(load), String::new()),
        };
        let labels = [("topology.istio.io/network", network.as_str())];
        let labels = if network.is_empty() { &[] } else { &labels[..] };
        encode(&Plain {
            api_version: "v1",
            kind: "Namespace",
            metadata: self.meta("Namespace", (None, &name), labels),
            spec: json!({}),
            status: json!({"phase": "Active"}),
        })
    }

    /// A node, in a zone of its own.
    pub fn node(self, number: u32) -> Vec<u8> {
        let region = format!("region-{}", self.cluster);
        let zone = zone(number);
        let labels = [
            ("topology.kubernetes.io/region", region.as_str()),
            ("topology.kubernetes.io/zone", zone.as_str()),
        ];
        encode(&Plain {
            api_version: "v1",
            kind: "Node",
            metadata: self.meta("Node", (None, &node(number)), &labels),
            spec: json!({}),
            status: json!({}),
        })
    }

    /// A Service; only a stored one has its address, which else the API server
    /// gives it.
    pub fn service(self, service: u32) -> Vec<u8> {
        let name = service_name(service);
        let mut spec = json!({
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": PORT}],
            "type": "ClusterIP",
        });
        if self.stored {
            self.give_address(&mut spec, service);
        }
        let namespace = self.shape.namespace_of(service);
        encode(&Plain {
            api_version: "v1",
            kind: "Service",
            metadata: self.meta("Service", (Some(&namespace), &name), &[]),
            spec,
            status: json!({"loadBalancer": {}}),
        })
    }

    /// What an API server adds to the spec of a Service.
    fn give_address(self, spec: &mut Value, service: u32) {
        let address = self.shape.service_ip(self.cluster, service);
        let given = [
            ("clusterIP", json!(address)),
            ("clusterIPs", json!([address])),
            ("internalTrafficPolicy", json!("Cluster")),
            ("ipFamilies", json!(["IPv4"])),
            ("ipFamilyPolicy", json!("SingleStack")),
            ("sessionAffinity", json!("None")),
        ];
        for (field, value) in given {
            if let Some(spec) = spec.as_object_mut() {
                spec.insert(field.to_owned(), value);
            }
        }
    }

    /// The east-west gateway: the one way into the cluster's network.
    pub fn gateway(self) -> Vec<u8> {
        let network = network_name(self.cluster);
        let labels = [
            ("app", "istio-eastwestgateway"),
            ("istio", "eastwestgateway"),
            ("topology.istio.io/network", network.as_str()),
        ];
        let address = self.shape.gateway_ip(self.cluster);
        encode(&Plain {
            api_version: "v1",
            kind: "Service",
            metadata: self.meta("Service", (Some(SYSTEM), GATEWAY), &labels),
            spec: json!({
                "type": "LoadBalancer",
                "selector": {"istio": "eastwestgateway"},
                "ports": [{"name": "tls", "port": 15443, "protocol": "TCP", "targetPort": 15443}],
            }),
            status: json!({"loadBalancer": {"ingress": [{"ip": address}]}}),
        })
    }

    /// A pod that runs and is ready.
    pub fn pod(self, service: u32, endpoint: u32) -> Vec<u8> {
        let app = service_name(service);
        let version = format!("v{}", endpoint % 2 + 1);
        let labels = [
            ("app", app.as_str()),
            ("security.istio.io/tlsMode", "istio"),
            ("version", version.as_str()),
        ];
        let namespace = self.shape.namespace_of(service);
        let name = pod_name(service, endpoint);
        let ip = self.shape.pod_ip(self.cluster, service, endpoint);
        encode(&Pod {
            api_version: "v1",
            kind: "Pod",
            metadata: self.meta("Pod", (Some(&namespace), &name), &labels),
            spec: PodSpec::on(&node(endpoint % NODES)),
            status: PodStatus::ready_at(ip),
        })
    }

    /// The status of a pod, to be merged into it.
    pub(super) fn pod_status(self, service: u32, endpoint: u32) -> Vec<u8> {
        let ip = self.shape.pod_ip(self.cluster, service, endpoint);
        encode(&json!({"status": PodStatus::ready_at(ip)}))
    }

    /// An `EndpointSlice` of a service, with the marker as its last endpoint.
    pub fn slice(self, service: u32, slice: u32, marker: Option<Ipv4Addr>) -> Vec<u8> {
        let app = service_name(service);
        let labels = [
            (
                "endpointslice.kubernetes.io/managed-by",
                "endpointslice-controller.k8s.io",
            ),
            ("kubernetes.io/service-name", app.as_str()),
        ];
        let namespace = self.shape.namespace_of(service);
        let name = slice_name(service, slice);
        let pods = self.shape.endpoints_of(slice);
        let pods = pods.map(|endpoint| {
            SliceEndpoint::of(
                self.shape.pod_ip(self.cluster, service, endpoint),
                TargetRef::pod(pod_name(service, endpoint), &namespace),
                (node(endpoint % NODES), zone(endpoint % NODES)),
            )
        });
        let marker = marker.map(SliceEndpoint::bare);
        encode(&Slice {
            api_version: "discovery.k8s.io/v1",
            kind: "EndpointSlice",
            metadata: self.meta("EndpointSlice", (Some(&namespace), &name), &labels),
            address_type: "IPv4",
            endpoints: pods.chain(marker).collect(),
            ports: [SlicePort {
                name: "http",
                port: PORT,
                protocol: "TCP",
            }],
        })
    }

    /// Says that the cluster is populated, and with what.
    pub(super) fn record(self) -> Vec<u8> {
        encode(&json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": RECORD, "namespace": SYSTEM},
            "data": {"shape": self.shape_text()},
        }))
    }

    /// The shape as it is recorded.
    pub(super) fn shape_text(self) -> String {
        json!(self.shape).to_string()
    }

    /// The Secret that registers this cluster with the config cluster.
    pub(super) fn remote_secret(self, kubeconfig: &str) -> Vec<u8> {
        let name = cluster_name(self.cluster);
        let labels = [("istio/multiCluster", "true")];
        let secret = remote_secret_name(self.cluster);
        encode(&Secret {
            api_version: "v1",
            kind: "Secret",
            metadata: self.meta("Secret", (Some(SYSTEM), &secret), &labels),
            data: [(name, BASE64_STANDARD.encode(kubeconfig))].into(),
        })
    }

    fn meta<'a>(
        self,
        kind: &str,
        (namespace, name): (Option<&'a str>, &'a str),
        labels: &'a [(&'a str, &'a str)],
    ) -> Meta<'a> {
        let stored = self.stored.then(|| Stored {
            // Nothing tells objects apart by it.
            uid: "6f1c5f0e-5d3f-4c55-9b0e-2f3b7a1d9c10",
            resource_version: Self::VERSION.to_string(),
            creation_timestamp: "2026-01-01T00:00:00Z",
            managed_fields: managed_fields(kind),
        });
        Meta {
            name,
            namespace,
            labels: Labels(labels),
            stored,
        }
    }
}

/// Name of the Service of the east-west gateway.
pub(super) const GATEWAY: &str = "istio-eastwestgateway";

fn node(number: u32) -> String {
    format!("node-{number}")
}

fn zone(number: u32) -> String {
    format!("zone-{number}")
}

/// Name of the pod behind an endpoint.
pub(super) fn pod_name(service: u32, endpoint: u32) -> String {
    format!("{}-{endpoint}", service_name(service))
}

/// Name of a slice of a service.
pub(super) fn slice_name(service: u32, slice: u32) -> String {
    format!("{}-{slice}", service_name(service))
}

/// Name of the Secret that registers a cluster.
pub(super) fn remote_secret_name(cluster: u32) -> String {
    format!("istio-remote-secret-{}", cluster_name(cluster))
}
