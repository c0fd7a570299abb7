//! The text of a manifest file → objects.

use std::collections::BTreeSet;

use serde_json::Value;

use super::MeshMap;
use crate::manifest::{self, Defaults, Kind, ManifestError, yaml_documents, yaml_to_json};
use crate::model::{Features, Object, ObjectKey, ObjectKind};

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Its readable objects, in their order.
    pub(super) objects: Vec<Object>,
    /// Objects that are there but cannot be used.
    pub(super) refused: Vec<ObjectKey>,
    /// Some document cannot be read at all, so any object may be missing.
    pub(super) broken: bool,
    /// The mesh settings, where the file has their `ConfigMap`.
    pub(super) mesh: Option<MeshTexts>,
    /// What is wrong, and where.
    pub(super) complaints: Vec<Complaint>,
}

/// The texts of the mesh `ConfigMap`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MeshTexts {
    pub(super) mesh: String,
    pub(super) networks: String,
}

/// One thing that is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    /// Number of the document, from 1.
    pub(super) document: usize,
    /// Line, from 1: of the fault where it is known, else of the document.
    pub(super) line: usize,
    /// What is wrong.
    pub(super) problem: String,
}

/// Reads the files of one cluster.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) kinds: Vec<Kind>,
    pub(super) features: Features,
    pub(super) defaults: Defaults,
    pub(super) is_config: bool,
    pub(super) mesh_map: MeshMap,
}

/// Where a document stands.
#[derive(Clone, Copy)]
struct Place {
    document: usize,
    line: usize,
}

impl Reader {
    /// The kinds that are read from the cluster.
    pub(super) fn read_kinds(&self) -> impl Iterator<Item = ObjectKind> {
        let kinds = self.kinds.iter();
        let read = kinds.filter(|kind| kind.is_read(self.is_config, &self.features));
        read.map(|kind| kind.object)
    }

    /// Reads a YAML file.
    pub(super) fn yaml(&self, text: &str) -> Content {
        let mut content = Content::default();
        for (i, document) in yaml_documents(text).enumerate() {
            let mut place = Place {
                document: i + 1,
                line: document.line,
            };
            match yaml_to_json(document.text) {
                Ok(value) => self.manifest(&value, place, &mut content),
                Err(error) => {
                    place.line += error.line.saturating_sub(1);
                    content.broken = true;
                    content.complain(place, format!("not YAML: {error}"));
                }
            }
        }
        content
    }

    /// Reads a JSON file, which may hold several objects, one after another.
    pub(super) fn json(&self, text: &str) -> Content {
        let mut content = Content::default();
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        let mut document = 0;
        loop {
            let behind = text.get(..values.byte_offset()).unwrap_or_default();
            let line = behind.matches('\n').count() + 1;
            document += 1;
            match values.next() {
                Some(Ok(value)) => self.manifest(&value, Place { document, line }, &mut content),
                Some(Err(error)) => {
                    let line = error.line();
                    content.broken = true;
                    content.complain(Place { document, line }, format!("not JSON: {error}"));
                    return content;
                }
                None => return content,
            }
        }
    }

    fn manifest(&self, value: &Value, place: Place, content: &mut Content) {
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
            content.broken = true;
            content.complain(
                place,
                "no manifest: it has no apiVersion and kind".to_owned(),
            );
            return;
        };
        let items = value.get("items").and_then(Value::as_array);
        match (kind.strip_suffix("List"), items) {
            (Some(item_kind), Some(items)) => {
                for item in items {
                    // Only the items of a plain `List` name their kind.
                    if item_kind.is_empty() {
                        self.manifest(item, place, content);
                    } else {
                        self.object(item, (api_version, item_kind), place, content);
                    }
                }
            }
            _ => self.object(value, (api_version, kind), place, content),
        }
    }

    fn object(
        &self,
        value: &Value,
        (api_version, kind): (&str, &str),
        place: Place,
        content: &mut Content,
    ) {
        if (api_version, kind) == ("v1", "ConfigMap") {
            if let Some(texts) = self.mesh_texts(value) {
                content.mesh.get_or_insert(texts);
            }
            return;
        }
        let kind = Kind::find(&self.kinds, api_version, kind);
        let Some(kind) = kind.filter(|k| k.is_read(self.is_config, &self.features)) else {
            return;
        };
        match manifest::parse(kind.object, value.to_string().as_bytes(), &self.defaults) {
            Ok(parsed) => {
                for part in &parsed.left_out {
                    content.complain(place, part.to_string());
                }
                content.objects.push(parsed.object);
            }
            Err(error) => {
                content.complain(place, error.to_string());
                match error {
                    ManifestError::Field { object, .. } => content.refused.push(object),
                    _ => content.broken = true,
                }
            }
        }
    }

    /// The mesh settings, where this is their `ConfigMap`.
    fn mesh_texts(&self, value: &Value) -> Option<MeshTexts> {
        let meta = |key: &str| value.get("metadata")?.get(key)?.as_str();
        let is_it = meta("name") == Some(&self.mesh_map.name)
            && meta("namespace") == Some(&self.mesh_map.namespace);
        let data = |key: &str| value.get("data")?.get(key)?.as_str().map(str::to_owned);
        is_it.then(|| MeshTexts {
            mesh: data("mesh").unwrap_or_default(),
            networks: data("meshNetworks").unwrap_or_default(),
        })
    }
}

impl Content {
    fn complain(&mut self, place: Place, problem: String) {
        let Place { document, line } = place;
        self.complaints.push(Complaint {
            document,
            line,
            problem,
        });
    }

    /// Keeps from `last` what this content cannot say itself.
    pub(super) fn keep_from(&mut self, last: &Self) {
        if self.broken && self.mesh.is_none() {
            self.mesh.clone_from(&last.mesh);
        }
        if !self.broken && self.refused.is_empty() {
            return;
        }
        let here: BTreeSet<ObjectKey> = self.objects.iter().map(Object::key).collect();
        let is_kept = |object: &&Object| {
            let key = object.key();
            !here.contains(&key) && (self.broken || self.refused.contains(&key))
        };
        let kept: Vec<Object> = last.objects.iter().filter(is_kept).cloned().collect();
        self.objects.extend(kept);
    }
}
