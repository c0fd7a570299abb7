//! One request for a certificate.

use std::{
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use http::uri::PathAndQuery;
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic_prost::ProstCodec;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::WorkloadCertificate;
use crate::agent::dial::{self, ClientCertificate, DialError};
use crate::config::{Authority, CertificateFiles, KeyKind};
use crate::identity;
use crate::identity::{CsrError, KeyAndCsr};
use crate::model::SpiffeId;
use crate::proto::ca::{IstioCertificateRequest, IstioCertificateResponse};

const METHOD: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(in crate::agent) enum RequestError {
    /// The service cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The service refuses.
    #[error("the certificate service answers {:?}: {}", .0.code(), .0.message())]
    Refused(Box<tonic::Status>),
    /// The answer cannot be used.
    #[error("the certificate service's answer cannot be used: {0}")]
    Answer(&'static str),
    /// No key or request can be made.
    #[error(transparent)]
    Key(#[from] CsrError),
    /// The token cannot be read.
    #[error("cannot read the token {path:?}: {source}")]
    Token {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RequestError {
    /// Whether the same request may soon succeed (istiod's clients retry these
    /// codes at once).
    pub(super) fn is_transient(&self) -> bool {
        use tonic::Code;
        match self {
            Self::Dial(DialError::Connect { .. }) => true,
            Self::Refused(status) => matches!(
                status.code(),
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::ResourceExhausted
                    | Code::Aborted
                    | Code::Internal
                    | Code::Unavailable
            ),
            _ => false,
        }
    }
}

/// Asks for a certificate with a new key. Token, roots and provisioned
/// certificate are read now: all of them change while the agent runs.
pub(super) async fn request(
    authority: &Authority,
    who: &SpiffeId,
    now: SystemTime,
) -> Result<WorkloadCertificate, RequestError> {
    let mut key = identity::new_key_and_csr(&who.to_string(), kind(authority.key))?;
    let message = IstioCertificateRequest {
        csr: std::mem::take(&mut key.csr_pem),
        validity_duration: i64::try_from(authority.lifetime.as_secs()).unwrap_or(i64::MAX),
        metadata: Some(metadata(&authority.signer)),
    };
    let mut request = tonic::Request::new(message);
    headers(authority, request.metadata_mut()).await?;
    let client = match &authority.client {
        Some(files) => provisioned(files, now).await,
        None => None,
    };
    let channel = dial::dial(&authority.upstream, client).await?;
    // A server that takes the call and does not answer must not hold up the
    // next try for ever.
    let limit = authority.answer_timeout;
    let answer = tokio::time::timeout(limit, call(channel, request)).await;
    let late = || tonic::Status::deadline_exceeded(format!("no answer in {limit:?}"));
    let answer = answer.unwrap_or_else(|_| Err(late()));
    let answer = answer.map_err(|status| RequestError::Refused(Box::new(status)))?;
    read(answer, &key)
}

async fn call(
    channel: Channel,
    request: tonic::Request<IstioCertificateRequest>,
) -> Result<IstioCertificateResponse, tonic::Status> {
    let mut client = tonic::client::Grpc::new(channel);
    let unavailable = |error| tonic::Status::unavailable(dial::causes(&error));
    client.ready().await.map_err(unavailable)?;
    let codec = ProstCodec::<IstioCertificateRequest, IstioCertificateResponse>::default();
    let path = PathAndQuery::from_static(METHOD);
    Ok(client.unary(request, path, codec).await?.into_inner())
}

fn kind(key: KeyKind) -> identity::KeyKind {
    match key {
        KeyKind::P256 => identity::KeyKind::P256,
        KeyKind::P384 => identity::KeyKind::P384,
        KeyKind::Rsa(3072) => identity::KeyKind::Rsa3072,
        KeyKind::Rsa(4096) => identity::KeyKind::Rsa4096,
        KeyKind::Rsa(_) => identity::KeyKind::Rsa2048,
    }
}

fn metadata(signer: &str) -> Struct {
    let value = Value {
        kind: Some(Kind::StringValue(signer.to_owned())),
    };
    Struct {
        fields: [("CertSigner".to_owned(), value)].into(),
    }
}

async fn headers(authority: &Authority, into: &mut MetadataMap) -> Result<(), RequestError> {
    for (name, value) in &authority.headers.0 {
        let name = MetadataKey::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, MetadataValue::try_from(value)) {
            into.insert(name, value);
        }
    }
    if let Some(bearer) = bearer(&authority.token).await? {
        into.insert("authorization", bearer);
    }
    Ok(())
}

/// The token of a file as a header; none where there is no file: a certificate
/// may say enough.
pub(in crate::agent) async fn bearer(
    path: &Path,
) -> Result<Option<MetadataValue<tonic::metadata::Ascii>>, RequestError> {
    let unreadable = |source| RequestError::Token {
        path: path.to_owned(),
        source,
    };
    let text = match tokio::fs::read_to_string(path).await {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let value = MetadataValue::try_from(format!("Bearer {}", text.trim()));
    let mut value = value.map_err(|_| unreadable(io::ErrorKind::InvalidData.into()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The certificate that says who asks; one that has ended would be refused
/// where a token alone is taken.
async fn provisioned(files: &CertificateFiles, now: SystemTime) -> Option<ClientCertificate> {
    let chain = dial::certificates(&files.chain).await.ok()?;
    let key = dial::private_key(&files.key).await.ok()?;
    let valid = chain.first().and_then(ends).is_some_and(|end| end > now);
    valid.then_some(ClientCertificate { chain, key })
}

/// The first part is the certificate, the last one the roots, those between are
/// intermediates (istiod: `CreateCertificate`).
fn read(
    answer: IstioCertificateResponse,
    key: &KeyAndCsr,
) -> Result<WorkloadCertificate, RequestError> {
    let parts = answer.cert_chain;
    let [chain @ .., roots] = parts.as_slice() else {
        return Err(RequestError::Answer("it is empty"));
    };
    let [leaf, ..] = chain else {
        let problem = "it needs a certificate and a root, and has less than two parts";
        return Err(RequestError::Answer(problem));
    };
    let unreadable = RequestError::Answer("its certificate does not parse");
    let Ok(leaf) = CertificateDer::from_pem_slice(leaf.as_bytes()) else {
        return Err(unreadable);
    };
    let Some(not_after) = ends(&leaf) else {
        return Err(unreadable);
    };
    if !is_for(&leaf, key) {
        return Err(RequestError::Answer("its certificate is for another key"));
    }
    if CertificateDer::from_pem_slice(roots.as_bytes()).is_err() {
        return Err(RequestError::Answer("its root certificate does not parse"));
    }
    let with_newline = |part: &String| format!("{}\n", part.trim_end());
    Ok(WorkloadCertificate {
        chain: chain.iter().map(with_newline).collect(),
        key: key.key_pem.clone(),
        roots: with_newline(roots),
        not_after,
    })
}

fn ends(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn is_for(certificate: &CertificateDer<'_>, key: &KeyAndCsr) -> bool {
    let own = KeyPair::try_from(&key.key).map(|key| key.subject_public_key_info());
    let parsed = X509Certificate::from_der(certificate);
    parsed.is_ok_and(|(_, parsed)| own.is_ok_and(|own| parsed.public_key().raw == own))
}
