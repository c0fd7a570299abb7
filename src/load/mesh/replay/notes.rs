//! What a control plane writes for itself: leader locks, its certificate
//! authority, root certificates.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Most objects that are kept: one or two for each namespace.
const MOST: usize = 10_000;

/// `Secret`s and `ConfigMap`s by path. They are read and written by name; no
/// list or watch has them.
#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    version: u64,
    objects: BTreeMap<String, Value>,
}

impl std::fmt::Debug for Kept {
    /// Without what is in them: there are keys among them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.objects.keys()).finish()
    }
}

/// Whether objects at this path are kept: those of a namespace, or their
/// collection.
pub(super) fn are_kept(path: &str) -> bool {
    let mut parts = path.split('/');
    let head = [parts.next(), parts.next(), parts.next()];
    let plural = parts.nth(1);
    head == [Some("api"), Some("v1"), Some("namespaces")]
        && matches!(plural, Some("secrets" | "configmaps"))
}

impl Notes {
    /// Answers as an API server. A write with a version other than the one that
    /// is held is refused, so that of two leaders one wins.
    pub(super) fn ask(
        &self,
        method: &Method,
        path: &str,
        body: Value,
    ) -> Result<Value, StatusCode> {
        let mut kept = self.0.lock();
        match *method {
            Method::GET => {
                let held = kept.objects.get(path);
                held.cloned().ok_or(StatusCode::NOT_FOUND)
            }
            Method::POST => {
                let name = body.pointer("/metadata/name").and_then(Value::as_str);
                let path = format!("{path}/{}", name.ok_or(StatusCode::BAD_REQUEST)?);
                if kept.objects.contains_key(&path) {
                    return Err(StatusCode::CONFLICT);
                }
                if kept.objects.len() >= MOST {
                    return Err(StatusCode::INSUFFICIENT_STORAGE);
                }
                kept.write(path, body)
            }
            Method::PUT => {
                let held = kept.objects.get(path).ok_or(StatusCode::NOT_FOUND)?;
                let version = |object: &Value| object.pointer(VERSION).cloned();
                if version(&body).is_some_and(|v| Some(v) != version(held)) {
                    return Err(StatusCode::CONFLICT);
                }
                kept.write(path.to_owned(), body)
            }
            _ => Err(StatusCode::METHOD_NOT_ALLOWED),
        }
    }
}

const VERSION: &str = "/metadata/resourceVersion";

impl Kept {
    fn write(&mut self, path: String, mut object: Value) -> Result<Value, StatusCode> {
        self.version += 1;
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
        let metadata = metadata.ok_or(StatusCode::BAD_REQUEST)?;
        metadata.insert(
            "resourceVersion".to_owned(),
            json!(self.version.to_string()),
        );
        self.objects.insert(path, object.clone());
        Ok(object)
    }
}
