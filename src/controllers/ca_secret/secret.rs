//! One Secret. Its text never gets into an error: kube's typed requests log
//! answers that they cannot decode, so the text is decoded here.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use kube::{
    Client,
    api::{GetParams, PostParams, Request},
};
use serde::{Deserialize, Serialize};

use super::{GENERATED, PLUGGED_IN, TYPE};
use crate::identity::CaPems;
use crate::registry::kube::Failure;

/// Values by key, in base64 as they are sent.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Secret {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
}

#[derive(Serialize, Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
}

impl Secret {
    pub(super) fn from_json(json: &str) -> Result<Self, Failure> {
        serde_json::from_str(json).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Failure::Transport(format!(
                "the Secret is not JSON of a Secret (line {line} column {column})"
            ))
        })
    }

    /// A root as istiod writes it (`BuildSecret`), so that either can take over
    /// from the other.
    pub(super) fn own(name: &str, namespace: &str, parts: &CaPems) -> Self {
        let [key, certificate, chain, roots] = CaPems::NAMES;
        let mut values: BTreeMap<&str, &[u8]> = BTreeMap::from([
            (key, parts.key.as_slice()),
            (certificate, &parts.certificate),
            (roots, &parts.roots),
            (chain, &[]),
            ("key.pem", &[]),
        ]);
        if name == PLUGGED_IN {
            values.insert(GENERATED, &[]);
        }
        let data = values.into_iter();
        let data = data.map(|(key, value)| (key.to_owned(), BASE64_STANDARD.encode(value)));
        Self {
            api_version: "v1".to_owned(),
            kind: "Secret".to_owned(),
            metadata: Metadata {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
            },
            r#type: TYPE.to_owned(),
            data: Some(data.collect()),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.data
            .as_ref()
            .is_some_and(|data| data.contains_key(key))
    }

    /// A value; one that is not base64 counts as not there.
    pub(super) fn value(&self, key: &str) -> Option<Vec<u8>> {
        let value = self.data.as_ref()?.get(key)?;
        BASE64_STANDARD.decode(value).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

fn path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}

fn unasked(error: &dyn std::error::Error) -> Failure {
    Failure::Transport(format!("the request could not be made: {error}"))
}

/// The Secret, if it is there.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<Secret>, Failure> {
    let request = Request::new(path(namespace)).get(name, &GetParams::default());
    let request = request.map_err(|error| unasked(&error))?;
    match client.request_text(request).await.map_err(Failure::from) {
        Ok(text) => Secret::from_json(&text).map(Some),
        Err(failure) if failure.code() == Some(404) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Makes a Secret; one that is there already is a failure with code 409.
pub(super) async fn create(client: &Client, secret: &Secret) -> Result<(), Failure> {
    let body = serde_json::to_vec(secret).map_err(|error| unasked(&error))?;
    let request = Request::new(path(&secret.metadata.namespace));
    let request = request.create(&PostParams::default(), body);
    let request = request.map_err(|error| unasked(&error))?;
    client.request_text(request).await?;
    Ok(())
}
