//! `ProxyConfig`: the part of istio's mesh configuration that is about one
//! proxy. Layers replace each other field by field (istiod: `ApplyProxyConfig`).

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{AgentConfigError, StatsSelection};
use crate::model::parse_duration;

/// The fields that mean something to a proxy that gets the rest over xDS.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ProxyConfig {
    pub(super) discovery_address: Option<String>,
    pub(super) binary_path: Option<String>,
    pub(super) config_path: Option<String>,
    pub(super) service_cluster: Option<String>,
    pub(super) proxy_admin_port: Option<u16>,
    pub(super) status_port: Option<u16>,
    pub(super) concurrency: Option<u32>,
    pub(super) control_plane_auth_policy: Option<String>,
    #[serde(deserialize_with = "duration")]
    pub(super) drain_duration: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub(super) termination_drain_duration: Option<Duration>,
    pub(super) proxy_metadata: BTreeMap<String, String>,
    pub(super) runtime_values: BTreeMap<String, String>,
    pub(super) proxy_stats_matcher: Matcher,
}

/// `proxyStatsMatcher`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Matcher {
    #[serde(rename = "inclusionPrefixes")]
    prefixes: Vec<String>,
    #[serde(rename = "inclusionSuffixes")]
    suffixes: Vec<String>,
    #[serde(rename = "inclusionRegexps")]
    regexps: Vec<String>,
}

impl From<Matcher> for StatsSelection {
    fn from(matcher: Matcher) -> Self {
        Self {
            prefixes: matcher.prefixes,
            suffixes: matcher.suffixes,
            regexps: matcher.regexps,
        }
    }
}

fn duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    let read = parse_duration(&text);
    let wrong = || serde::de::Error::custom(format!("{text:?} is no duration such as 45s"));
    read.map(Some).ok_or_else(wrong)
}

/// Layers of settings, the later ones over the earlier ones.
#[derive(Debug, Default)]
pub(super) struct Layers(Map<String, Value>);

impl Layers {
    /// Puts the `defaultConfig` of a mesh configuration on top.
    pub(super) fn add_mesh(&mut self, origin: &str, yaml: &str) -> Result<(), AgentConfigError> {
        let mut mesh = fields(origin, yaml)?;
        match mesh.remove("defaultConfig") {
            Some(Value::Object(config)) => self.add_fields(config),
            None | Some(Value::Null) => {}
            Some(_) => return Err(wrong(origin, &"defaultConfig is not an object")),
        }
        Ok(())
    }

    /// Puts a `ProxyConfig` on top.
    pub(super) fn add(&mut self, origin: &str, yaml: &str) -> Result<(), AgentConfigError> {
        self.add_fields(fields(origin, yaml)?);
        Ok(())
    }

    /// Whole fields are replaced; only the metadata of the proxy is merged.
    fn add_fields(&mut self, layer: Map<String, Value>) {
        for (key, value) in layer {
            let merged = key == "proxyMetadata";
            match (self.0.get_mut(&key), value) {
                (Some(Value::Object(old)), Value::Object(new)) if merged => old.extend(new),
                (_, value) => drop(self.0.insert(key, value)),
            }
        }
    }

    /// All settings, as they go into the metadata of the node.
    pub(super) fn json(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The settings.
    pub(super) fn read(&self) -> Result<ProxyConfig, AgentConfigError> {
        let all = Value::Object(self.0.clone());
        serde_json::from_value(all).map_err(|e| wrong("the proxy configuration", &e))
    }
}

fn fields(origin: &str, yaml: &str) -> Result<Map<String, Value>, AgentConfigError> {
    match yaml_serde::from_str(yaml) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(wrong(origin, &"it is not an object")),
        Err(error) => Err(wrong(origin, &error)),
    }
}

fn wrong(origin: &str, problem: &dyn ToString) -> AgentConfigError {
    AgentConfigError::ProxyConfig {
        origin: origin.to_owned(),
        problem: problem.to_string(),
    }
}
