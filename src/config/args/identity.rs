//! The certificate authority and the certificate that is served with.

use std::{path::PathBuf, time::Duration};

use clap::{Args, builder::PossibleValuesParser, builder::TypedValueParser};

use crate::config::{CertProvider, Identity, TlsFiles, values};

#[derive(Debug, Args)]
pub(super) struct IdentityArgs {
    /// Sign workload certificates
    #[arg(
        long, env = "ENABLE_CA_SERVER", default_value = "true",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    ca_server: bool,
    /// Folder of a plugged-in authority: ca-key.pem, ca-cert.pem, cert-chain.pem
    /// and root-cert.pem, or tls.key, tls.crt and ca.crt
    #[arg(
        long, env = "ROOT_CA_DIR", default_value = "./etc/cacerts",
        value_parser = values::path(), value_name = "FOLDER"
    )]
    root_ca_dir: PathBuf,
    /// Folder that keeps the self-signed root where there is no Kubernetes;
    /// without it the root is new after every start
    #[arg(long, value_parser = values::path(), value_name = "FOLDER")]
    ca_state_dir: Option<PathBuf>,
    /// Life of certificates that ask for none
    #[arg(
        long, env = "DEFAULT_WORKLOAD_CERT_TTL", default_value = "24h",
        value_parser = values::lifetime, value_name = "DURATION"
    )]
    default_workload_cert_ttl: Duration,
    /// The longest life that a certificate may ask for
    #[arg(
        long, env = "MAX_WORKLOAD_CERT_TTL", default_value = "2160h",
        value_parser = values::lifetime, value_name = "DURATION"
    )]
    max_workload_cert_ttl: Duration,
    /// Life of a self-signed root
    #[arg(
        long, env = "CITADEL_SELF_SIGNED_CA_CERT_TTL", default_value = "87600h",
        value_parser = values::lifetime, value_name = "DURATION"
    )]
    self_signed_ca_cert_ttl: Duration,
    /// Key of a self-signed root
    #[arg(
        long, env = "CITADEL_SELF_SIGNED_CA_RSA_KEY_SIZE", default_value = "2048",
        value_parser = PossibleValuesParser::new(["2048", "3072", "4096"]).map(|bits| bits.parse::<u32>().unwrap_or(2048)),
        value_name = "BITS"
    )]
    self_signed_ca_rsa_key_size: u32,
    /// Keep the self-signed root in Secret cacerts, not istio-ca-secret
    #[arg(
        long, env = "USE_CACERTS_FOR_SELF_SIGNED_CA", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    use_cacerts_for_self_signed_ca: bool,
    /// Who issues the serving certificate: istiod for the own authority, or none
    #[arg(
        long,
        env = "PILOT_CERT_PROVIDER",
        default_value = "istiod",
        value_name = "NAME"
    )]
    pilot_cert_provider: String,
    /// More names and addresses in the serving certificate, comma separated
    #[arg(
        long,
        env = "ISTIOD_CUSTOM_HOST",
        default_value = "",
        value_name = "HOST,…"
    )]
    istiod_custom_host: String,
    /// Roots of the serving certificate in files; needs the two that follow
    #[arg(long, alias = "caCertFile", value_parser = values::path(), value_name = "FILE")]
    ca_cert_file: Option<PathBuf>,
    /// Serving certificate with its chain
    #[arg(long, alias = "tlsCertFile", value_parser = values::path(), value_name = "FILE")]
    tls_cert_file: Option<PathBuf>,
    /// Key of the serving certificate
    #[arg(long, alias = "tlsKeyFile", value_parser = values::path(), value_name = "FILE")]
    tls_key_file: Option<PathBuf>,
}

impl IdentityArgs {
    pub(super) fn identity(&self) -> Identity {
        let given = |path: &Option<PathBuf>| path.clone().filter(|p| !p.as_os_str().is_empty());
        let files = [&self.tls_cert_file, &self.tls_key_file, &self.ca_cert_file].map(given);
        let tls_files = match files {
            [Some(certificate), Some(key), Some(roots)] => Some(TlsFiles {
                certificate,
                key,
                roots,
            }),
            _ => None,
        };
        Identity {
            ca_server: self.ca_server,
            root_ca_dir: given(&Some(self.root_ca_dir.clone())),
            ca_state_dir: given(&self.ca_state_dir),
            default_lifetime: self.default_workload_cert_ttl,
            max_lifetime: self.max_workload_cert_ttl,
            self_signed_lifetime: self.self_signed_ca_cert_ttl,
            self_signed_rsa_bits: self.self_signed_ca_rsa_key_size,
            use_cacerts: self.use_cacerts_for_self_signed_ca,
            cert_provider: match self.pilot_cert_provider.as_str() {
                "istiod" => CertProvider::Istiod,
                "none" => CertProvider::None,
                other => CertProvider::Other(other.to_owned()),
            },
            custom_hosts: self.istiod_custom_host.clone(),
            tls_files,
        }
    }

    /// Files that were given and count only together with others, a sentence.
    pub(super) fn incomplete(&self) -> Option<String> {
        let files = [
            ("--tls-cert-file", &self.tls_cert_file),
            ("--tls-key-file", &self.tls_key_file),
            ("--ca-cert-file", &self.ca_cert_file),
        ];
        let (given, missing): (Vec<_>, Vec<_>) = files.iter().partition(|(_, path)| {
            path.as_ref()
                .is_some_and(|path| !path.as_os_str().is_empty())
        });
        let names = |files: &[&(&str, _)]| {
            let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
            names.join(" and ")
        };
        (!given.is_empty() && !missing.is_empty()).then(|| {
            format!(
                "{} has no effect without {}",
                names(&given),
                names(&missing)
            )
        })
    }
}
