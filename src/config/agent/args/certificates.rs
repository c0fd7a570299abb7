//! The certificate of the workload.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use serde_json::Value;

use super::{Context, ServerArgs, servers};
use crate::config::agent::{
    AgentConfigError, Authority, CertificateFiles, KeyKind, ProxyNode, wrong,
};
use crate::config::values;

/// Certificates that the platform mounts are used as they are.
const MOUNTED_FOLDER: &str = "./var/run/secrets/workload-spiffe-credentials";

#[derive(Debug, Args)]
pub(super) struct CertificateArgs {
    /// Token that says who asks for a certificate; read again each time
    #[arg(
        long,
        default_value = "./var/run/secrets/tokens/istio-token",
        value_name = "FILE"
    )]
    token_file: PathBuf,
    /// Take certificates from the files that the metadata of the node names
    #[arg(
        long, env = "FILE_MOUNTED_CERTS", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    file_mounted_certs: bool,
    /// Life that certificates are asked for
    #[arg(
        long, env = "SECRET_TTL", default_value = "24h",
        value_parser = values::duration, value_name = "DURATION"
    )]
    secret_ttl: Duration,
    /// Renew when this part of the life is left
    #[arg(
        long,
        env = "SECRET_GRACE_PERIOD_RATIO",
        default_value_t = 0.5,
        value_name = "0..1"
    )]
    secret_grace_period_ratio: f64,
    /// How much that part varies by chance
    #[arg(
        long,
        env = "SECRET_GRACE_PERIOD_RATIO_JITTER",
        default_value_t = 0.01,
        value_name = "0..1"
    )]
    secret_grace_period_ratio_jitter: f64,
    /// Kind of the private key: ECDSA or RSA
    #[arg(long, env = "ECC_SIGNATURE_ALGORITHM", value_name = "ALGORITHM")]
    ecc_signature_algorithm: Option<String>,
    /// Curve of an ECDSA key: P256 or P384
    #[arg(long, env = "ECC_CURVE", default_value = "P256", value_name = "CURVE")]
    ecc_curve: String,
    /// Bits of an RSA key: 2048, 3072 or 4096; given alone, it asks for RSA
    #[arg(long, env = "WORKLOAD_RSA_KEY_SIZE", value_name = "BITS")]
    workload_rsa_key_size: Option<u16>,
    /// How long the certificate service may take to answer
    #[arg(
        long, env = "CA_ANSWER_TIMEOUT", default_value = "30s",
        value_parser = values::duration, value_name = "DURATION"
    )]
    ca_answer_timeout: Duration,
    /// Also write key.pem, cert-chain.pem and root-cert.pem to this folder
    #[arg(long, env = "OUTPUT_CERTS", value_name = "FOLDER")]
    output_certs: Option<PathBuf>,
}

impl CertificateArgs {
    /// Certificates that nobody has to ask for.
    pub(super) fn mounted(
        &self,
        node: &ProxyNode,
    ) -> Result<Option<CertificateFiles>, AgentConfigError> {
        if !self.file_mounted_certs {
            let files = CertificateFiles::in_folder(Path::new(MOUNTED_FOLDER));
            let there = [&files.chain, &files.key, &files.roots];
            return Ok(there.iter().all(|path| path.is_file()).then_some(files));
        }
        let path = |key: &'static str| {
            let text = node.metadata.get(key).and_then(Value::as_str);
            let missing = AgentConfigError::Missing {
                name: key,
                flag: "the variable of the same name with ISTIO_META_ before it",
            };
            text.map(PathBuf::from).ok_or(missing)
        };
        Ok(Some(CertificateFiles {
            chain: path("TLS_CLIENT_CERT_CHAIN")?,
            key: path("TLS_CLIENT_KEY")?,
            roots: path("TLS_CLIENT_ROOT_CERT")?,
        }))
    }

    /// How certificates are asked for.
    pub(super) fn authority(
        &self,
        servers: &ServerArgs,
        context: &Context,
        node: &ProxyNode,
    ) -> Result<Authority, AgentConfigError> {
        let signer = node.metadata.get("CERT_SIGNER").and_then(Value::as_str);
        Ok(Authority {
            upstream: servers.authority(context)?,
            headers: servers::headers(context, "CA_HEADER_", &node.cluster_id),
            token: self.token_file.clone(),
            client: servers.provisioned(),
            lifetime: self.secret_ttl,
            grace_ratio: self.secret_grace_period_ratio.clamp(0.0, 1.0),
            grace_jitter: self.secret_grace_period_ratio_jitter.clamp(0.0, 1.0),
            key: self.key()?,
            answer_timeout: self.ca_answer_timeout,
            output: self.output_certs.clone(),
            signer: signer.unwrap_or_default().to_owned(),
        })
    }

    /// ECDSA unless RSA was asked for: a handshake with it costs a tenth.
    fn key(&self) -> Result<KeyKind, AgentConfigError> {
        let bits = self.workload_rsa_key_size;
        match (
            self.ecc_signature_algorithm.as_deref(),
            self.ecc_curve.as_str(),
        ) {
            (Some("RSA") | None, _) if bits.is_some() => rsa(bits.unwrap_or(2048)),
            (Some("RSA"), _) => rsa(2048),
            (Some("ECDSA") | None, "P256") => Ok(KeyKind::P256),
            (Some("ECDSA") | None, "P384") => Ok(KeyKind::P384),
            (Some("ECDSA") | None, curve) => Err(wrong("ECC_CURVE", curve, "P256 or P384")),
            (Some(other), _) => Err(wrong("ECC_SIGNATURE_ALGORITHM", other, "ECDSA or RSA")),
        }
    }
}

fn rsa(bits: u16) -> Result<KeyKind, AgentConfigError> {
    match bits {
        2048 | 3072 | 4096 => Ok(KeyKind::Rsa(bits)),
        other => {
            let expected = "2048, 3072 or 4096";
            Err(wrong("WORKLOAD_RSA_KEY_SIZE", &other.to_string(), expected))
        }
    }
}
