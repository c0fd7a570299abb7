//! What one stream of Envoy's wants and has, without any I/O.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;
use tracing::warn;

use super::{Secret, Secrets};

pub(super) const TYPE_URL: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// Names asked for on one stream, each with the version that was sent last.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    names: BTreeMap<String, Option<u64>>,
    sent: u64,
    /// A request waits for an answer, whatever has changed.
    owed: bool,
}

impl Wanted {
    /// A SotW request names all that is wanted.
    pub(super) fn on_request(&mut self, request: DiscoveryRequest) {
        if let Some(error) = request.error_detail {
            refused(&request.resource_names, &error.message);
        }
        let before = std::mem::take(&mut self.names);
        for name in request.resource_names {
            let version = before.get(&name).copied();
            self.owed |= version.is_none();
            self.names.insert(name, version.flatten());
        }
        self.owed |= request.response_nonce.is_empty();
    }

    /// A delta request names what is wanted from now on, or no more.
    pub(super) fn on_delta_request(&mut self, request: DeltaDiscoveryRequest) {
        if let Some(error) = request.error_detail {
            let names: Vec<String> = self.names.keys().cloned().collect();
            refused(&names, &error.message);
        }
        for name in request.resource_names_unsubscribe {
            self.names.remove(&name);
        }
        for name in request.resource_names_subscribe {
            // Asked for again: Envoy may have forgotten it.
            self.names.insert(name, None);
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.names.keys()
    }

    /// All wanted secrets that there are, if one of them is new.
    pub(super) fn response(&mut self, secrets: &Secrets) -> Option<DiscoveryResponse> {
        let found = self.found(secrets);
        let is_new = found.iter().any(|(_, _, new)| *new);
        if found.is_empty() || !(is_new || self.owed) {
            return None;
        }
        self.owed = false;
        self.mark(&found);
        Some(DiscoveryResponse {
            version_info: self.sent.to_string(),
            resources: found.iter().map(|(_, secret, _)| any(secret)).collect(),
            type_url: TYPE_URL.to_owned(),
            nonce: self.sent.to_string(),
            ..Default::default()
        })
    }

    /// The wanted secrets that are new.
    pub(super) fn delta_response(&mut self, secrets: &Secrets) -> Option<DeltaDiscoveryResponse> {
        let mut found = self.found(secrets);
        found.retain(|(_, _, new)| *new);
        if found.is_empty() {
            return None;
        }
        self.mark(&found);
        let resource = |(name, secret, _): &(String, Secret, bool)| Resource {
            name: name.clone(),
            version: format!("{:x}", secret.version),
            resource: Some(any(secret)),
            ..Default::default()
        };
        Some(DeltaDiscoveryResponse {
            system_version_info: self.sent.to_string(),
            resources: found.iter().map(resource).collect(),
            type_url: TYPE_URL.to_owned(),
            nonce: self.sent.to_string(),
            ..Default::default()
        })
    }

    fn found(&self, secrets: &Secrets) -> Vec<(String, Secret, bool)> {
        let found = self.names.iter().filter_map(|(name, version)| {
            let secret = secrets.get(name)?;
            let is_new = *version != Some(secret.version);
            Some((name.clone(), secret, is_new))
        });
        found.collect()
    }

    fn mark(&mut self, found: &[(String, Secret, bool)]) {
        self.sent += 1;
        for (name, secret, _) in found {
            self.names.insert(name.clone(), Some(secret.version));
        }
    }
}

fn any(secret: &Secret) -> Any {
    Any {
        type_url: TYPE_URL.to_owned(),
        value: secret.body.to_vec(),
    }
}

/// The text is Envoy's and is about the form of the secret, never its content.
fn refused(names: &[String], problem: &str) {
    warn!(names = names.join(", "), problem, "Envoy refuses a secret");
}
