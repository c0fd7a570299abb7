//! What the mesh says of hosts whose rules say nothing.

use serde::Deserialize;

use crate::manifest::{
    Defaults, Problem, Scope,
    istio::{
        one_of,
        traffic_policy::{Ejection, H2_UPGRADES, Keepalive, Pool},
        virtual_service::RetryRule,
    },
    json::Text,
};
use crate::model::{MeshConfig, PolicySettings};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct TrafficDefaults<'a> {
    default_traffic_policy: Option<Policy<'a>>,
    default_http_retry_policy: Option<RetryRule<'a>>,
    tcp_keepalive: Option<Keepalive<'a>>,
    h2_upgrade_policy: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Policy<'a> {
    connection_pool: Option<Pool<'a>>,
    outlier_detection: Option<Ejection<'a>>,
}

impl TrafficDefaults<'_> {
    /// Default settings, but for these.
    pub(super) fn read(&self) -> Result<MeshConfig, Problem> {
        let policy = self.default_traffic_policy.as_ref().map(Policy::read);
        let retries = self.default_http_retry_policy.as_ref();
        let retries = retries.map(|rule| rule.read("defaultHttpRetryPolicy"));
        let keepalive = self.tcp_keepalive.as_ref();
        let keepalive = keepalive.map(|k| whole(|scope| k.read("tcpKeepalive", scope)));
        let upgrade = one_of("h2UpgradePolicy", &self.h2_upgrade_policy, H2_UPGRADES)?;
        Ok(MeshConfig {
            default_policy: policy.transpose()?.unwrap_or_default(),
            default_retries: retries.transpose()?,
            tcp_keepalive: keepalive.transpose()?,
            h2_upgrade: upgrade.unwrap_or_default(),
            ..MeshConfig::default()
        })
    }
}

impl Policy<'_> {
    fn read(&self) -> Result<PolicySettings, Problem> {
        let field = |name: &str| format!("defaultTrafficPolicy.{name}");
        let pool = self.connection_pool.as_ref();
        let pool = pool.map(|pool| whole(|scope| pool.read(&field("connectionPool"), scope)));
        let outlier = self.outlier_detection.as_ref();
        let outlier = outlier.map(|o| whole(|scope| o.read(&field("outlierDetection"), scope)));
        Ok(PolicySettings {
            connection_pool: pool.transpose()?.transpose()?,
            outlier_detection: outlier.transpose()?,
            ..PolicySettings::default()
        })
    }
}

/// What an object would leave out is an error here: the operator looks at it.
fn whole<T>(read: impl FnOnce(&mut Scope<'_>) -> T) -> Result<T, Problem> {
    let defaults = Defaults::default();
    let mut scope = Scope::new(&defaults);
    let value = read(&mut scope);
    match scope.left_out.pop() {
        Some(problem) => Err(problem),
        None => Ok(value),
    }
}
