//! What the node says of itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{AgentConfigError, wrong};
use crate::model::Locality;

const PREFIX: &str = "ISTIO_META_";
const JSON_PREFIX: &str = "ISTIO_METAJSON_";
const OWN_NETWORK: &str = "NETWORK";
const NETWORK_VIEW: &str = "REQUESTED_NETWORK_VIEW";
/// Changes with every rollout, so that nothing may select by it.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Labels that say where a workload is; dots may stand for slashes, which
/// labels cannot have.
const LOCALITY_LABELS: [&str; 2] = ["istio-locality", "topology.istio.io/locality"];

/// Node metadata in the making.
#[derive(Debug, Default)]
pub(super) struct Metadata(Map<String, Value>);

impl Metadata {
    /// `ISTIO_META_X=y` is `X: "y"`; the fields of the JSON object of an
    /// `ISTIO_METAJSON_X` are taken as they are, except for the labels (istiod:
    /// `GetNodeMetaData`).
    pub(super) fn read(
        proxy_metadata: &BTreeMap<String, String>,
        environment: &[(String, String)],
    ) -> Result<Self, AgentConfigError> {
        let mut metadata = Self::default();
        let all = proxy_metadata.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let all = all.chain(environment.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        for (name, value) in all {
            if let Some(key) = name.strip_prefix(JSON_PREFIX) {
                let expected = "a JSON object";
                let fields: Map<String, Value> =
                    serde_json::from_str(value).map_err(|_| wrong(name, value, expected))?;
                if key == "LABELS" {
                    metadata.put_json("LABELS", fields.clone().into());
                    metadata.put_json("STATIC_LABELS", fields.into());
                } else {
                    metadata.0.extend(fields);
                }
            } else if let Some(key) = name.strip_prefix(PREFIX) {
                metadata.put_json(key, value.into());
            } else if name == "DNS_PROXY_ADDR" && !value.is_empty() {
                metadata.put_json(name, value.into());
            }
        }
        Ok(metadata)
    }

    /// Sets a text that was given.
    pub(super) fn put(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.put_json(key, value.into());
        }
    }

    /// Sets a value.
    pub(super) fn put_json(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    /// Adds the labels of the pod.
    pub(super) fn labels(&mut self, pod: &BTreeMap<String, String>) {
        self.extend(
            "LABELS",
            pod.iter().filter(|(key, _)| *key != TEMPLATE_HASH),
        );
    }

    /// Adds the annotations of the pod.
    pub(super) fn annotations(&mut self, pod: &BTreeMap<String, String>) {
        self.extend("ANNOTATIONS", pod.iter());
    }

    fn extend<'a>(&mut self, key: &str, pairs: impl Iterator<Item = (&'a String, &'a String)>) {
        let mut pairs = pairs
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .peekable();
        if pairs.peek().is_none() {
            return;
        }
        let entry = self.0.entry(key).or_insert_with(|| Map::new().into());
        if let Value::Object(map) = entry {
            map.extend(pairs);
        }
    }

    /// Asks for the own network's endpoints only, unless something was asked
    /// for: an empty text asks for all.
    pub(super) fn default_to_own_network(&mut self) {
        if !self.0.contains_key(NETWORK_VIEW) && !self.text(OWN_NETWORK).is_empty() {
            let network = self.text(OWN_NETWORK).to_owned();
            self.put(NETWORK_VIEW, Some(&network));
        }
    }

    /// A text, empty where there is none.
    pub(super) fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// What a label says of the place.
    pub(super) fn locality(&self) -> Option<Locality> {
        let labels = self.0.get("LABELS")?;
        let mut found = LOCALITY_LABELS.iter().filter_map(|key| labels.get(key));
        let text = found.next()?.as_str()?;
        let slashed = if text.contains('/') {
            text.to_owned()
        } else {
            text.replace('.', "/")
        };
        (!slashed.is_empty()).then(|| Locality::parse(&slashed))
    }

    pub(super) fn into_map(self) -> Map<String, Value> {
        self.0
    }
}
