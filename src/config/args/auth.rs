//! Who may call, and how they show who they are.

use clap::Args;
use ipnet::IpNet;

use crate::config::{Auth, values};

#[derive(Debug, Args)]
pub(super) struct AuthArgs {
    /// Trust tokens of an OIDC issuer: JSON with its name, audiences, and its
    /// keys or their address (https, http or file)
    #[arg(
        long,
        env = "JWT_RULE",
        default_value = "",
        hide_default_value = true,
        value_name = "JSON"
    )]
    jwt_rule: String,
    /// Audiences of tokens that are accepted
    #[arg(
        long,
        env = "TOKEN_AUDIENCES",
        default_value = "istio-ca",
        value_delimiter = ',',
        value_name = "NAME,…"
    )]
    token_audiences: Vec<String>,
    /// Gateways whose x-forwarded-client-cert is believed
    #[arg(
        long, env = "TRUSTED_GATEWAY_CIDR", default_value = "", hide_default_value = true,
        value_parser = values::ranges, value_name = "RANGE,…"
    )]
    trusted_gateway_cidr: Ranges,
    /// Callers of ADS on the secure address must show who they are
    #[arg(
        long, env = "XDS_AUTH", default_value = "true",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    xds_auth: bool,
    /// So must those on the plain-text address, which may then ask for
    /// certificates too
    #[arg(
        long, env = "XDS_AUTH_PLAINTEXT", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    xds_auth_plaintext: bool,
    /// A proxy may only be of the namespace and service account of its caller
    #[arg(
        long, env = "PILOT_ENABLE_XDS_IDENTITY_CHECK", default_value = "true",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    xds_identity_check: bool,
}

/// One value of clap's, which otherwise takes a list for many values.
type Ranges = std::sync::Arc<[IpNet]>;

impl AuthArgs {
    pub(super) fn auth(self) -> Auth {
        let audiences = self.token_audiences.into_iter();
        Auth {
            jwt_rule: Some(self.jwt_rule).filter(|rule| !rule.is_empty()),
            audiences: audiences.filter(|name| !name.is_empty()).collect(),
            trusted_gateways: self.trusted_gateway_cidr.to_vec(),
            ads: self.xds_auth,
            plaintext: self.xds_auth_plaintext,
            identity_check: self.xds_identity_check,
        }
    }
}
