//! A folder of manifests, as it was last read.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs, io,
    path::{Path, PathBuf},
};

use prometheus_client::metrics::counter::Counter;
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    ClusterDir, Output,
    documents::{Content, MeshTexts, Reader},
    settings::SettingsFile,
    watch::Watch,
};
use crate::manifest::mesh_config;
use crate::mesh::Change;
use crate::model::{ClusterId, Object, ObjectKey, ObjectKind};

/// Folders within folders are read to this depth: a link to a parent ends.
const DEPTH: usize = 32;

/// A folder, file by file.
pub(super) struct Folder {
    cluster: ClusterId,
    path: PathBuf,
    reader: Reader,
    refused: Counter,
    files: BTreeMap<PathBuf, File>,
    /// Objects that were seen twice, so that each is told once.
    doubles: BTreeSet<ObjectKey>,
    /// The mesh settings that were last told; none before the first time.
    told: Option<MeshTexts>,
}

/// A file, and the hash of the text it was read from.
struct File {
    hash: u64,
    content: Content,
}

impl Folder {
    pub(super) fn new(dir: ClusterDir, output: &Output) -> Self {
        let reader = Reader {
            kinds: output.kinds.clone(),
            features: output.features.clone(),
            defaults: output.defaults.clone(),
            is_config: dir.is_config,
            mesh_map: dir.mesh_map,
        };
        Self {
            cluster: dir.cluster,
            path: dir.folder,
            refused: output.refused.clone(),
            reader,
            files: BTreeMap::new(),
            doubles: BTreeSet::new(),
            told: None,
        }
    }

    pub(super) fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the folder: every kind and setting the first time, then those that
    /// changed.
    pub(super) fn read(&mut self, watch: &mut Watch) -> io::Result<Vec<Change>> {
        watch.renew();
        let mut paths = BTreeSet::new();
        find(&self.path, DEPTH, &mut paths)?;
        let mut kinds = self.forget(&paths);
        for path in paths {
            // What it held before it was opened for writing still counts.
            if !(watch.is_writing(&path) && self.files.contains_key(&path)) {
                self.read_file(path, &mut kinds);
            }
        }
        if self.told.is_none() {
            kinds.extend(self.reader.read_kinds());
        }
        let mut changes = self.settings();
        changes.extend(self.resets(&kinds));
        Ok(changes)
    }

    /// Drops files that are gone; the kinds of their objects.
    fn forget(&mut self, present: &BTreeSet<PathBuf>) -> BTreeSet<ObjectKind> {
        let gone = self.files.extract_if(.., |path, _| !present.contains(path));
        gone.flat_map(|(_, file)| file.content.objects)
            .map(|object| object.kind())
            .collect()
    }

    /// Reads a file whose text is new, and adds the kinds that differ in it.
    fn read_file(&mut self, path: PathBuf, kinds: &mut BTreeSet<ObjectKind>) {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // Renamed since it was found, which will be told.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                let (cluster, file) = (&self.cluster, path.display());
                warn!(%cluster, %file, %error, "a manifest file cannot be read; its last good state stays");
                self.refused.inc();
                return;
            }
        };
        let hash = xxh3_64(text.as_bytes());
        if self.files.get(&path).is_some_and(|file| file.hash == hash) {
            return;
        }
        let is_json = path.extension().is_some_and(|e| e == "json");
        let mut content = if is_json {
            self.reader.json(&text)
        } else {
            self.reader.yaml(&text)
        };
        self.report(&path, &content);
        let last = self.files.remove(&path).map(|file| file.content);
        let last = last.unwrap_or_default();
        content.keep_from(&last);
        for kind in ObjectKind::ALL {
            let of_kind = |object: &&Object| object.kind() == *kind;
            let objects = content.objects.iter().filter(of_kind);
            if !objects.eq(last.objects.iter().filter(of_kind)) {
                kinds.insert(*kind);
            }
        }
        self.files.insert(path, File { hash, content });
    }

    fn report(&self, path: &Path, content: &Content) {
        let (cluster, file) = (&self.cluster, path.display());
        for complaint in &content.complaints {
            self.refused.inc();
            let (document, line) = (complaint.document, complaint.line);
            let problem = &complaint.problem;
            warn!(%cluster, %file, document, line, %problem, "a manifest, or a part of it, is not used");
        }
    }

    /// All objects of each of `kinds`.
    fn resets(&mut self, kinds: &BTreeSet<ObjectKind>) -> Vec<Change> {
        let resets = kinds
            .iter()
            .map(|kind| Change::Reset(*kind, self.objects(*kind)));
        resets.collect()
    }

    /// The objects of a kind. Of two with one name the first counts, by file
    /// name and then by place.
    fn objects(&mut self, kind: ObjectKind) -> Vec<Object> {
        let mut objects: BTreeMap<ObjectKey, &Object> = BTreeMap::new();
        for (path, file) in &self.files {
            for object in file.content.objects.iter().filter(|o| o.kind() == kind) {
                match objects.entry(object.key()) {
                    Entry::Vacant(place) => {
                        place.insert(object);
                    }
                    Entry::Occupied(first) if self.doubles.insert(first.key().clone()) => {
                        let (cluster, file, object) = (&self.cluster, path.display(), first.key());
                        warn!(%cluster, %file, %object, "an object is there twice; the first one counts");
                        self.refused.inc();
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
        objects.into_values().cloned().collect()
    }

    /// What the mesh `ConfigMap` says that it did not say before.
    fn settings(&mut self) -> Vec<Change> {
        let texts = self
            .files
            .values()
            .find_map(|file| file.content.mesh.clone());
        let texts = texts.unwrap_or_default();
        let told = self.told.replace(texts.clone());
        let is_new = |text: fn(&MeshTexts) -> &String| {
            told.as_ref().is_none_or(|told| text(told) != text(&texts))
        };
        let Reader {
            mesh_map: map,
            defaults,
            ..
        } = &self.reader;
        let place = format!("ConfigMap {} of {}", map.name, self.cluster);
        let mut changes = Vec::new();
        if self.reader.is_config {
            if map.mesh && is_new(|t| &t.mesh) {
                let read = SettingsFile::MeshConfig.read(&texts.mesh, &defaults.domain, &place);
                changes.push(("mesh", read));
            }
            if map.networks && is_new(|t| &t.networks) {
                let read =
                    SettingsFile::MeshNetworks.read(&texts.networks, &defaults.domain, &place);
                changes.push(("meshNetworks", read));
            }
        } else if is_new(|t| &t.mesh) && (told.is_some() || !texts.mesh.is_empty()) {
            let domain = mesh_config::trust_domain(&texts.mesh);
            let read = domain.map(Change::TrustDomain).map_err(|e| e.to_string());
            changes.push(("mesh", read));
        }
        let good = changes
            .into_iter()
            .filter_map(|(key, change)| self.settled(key, change));
        good.collect()
    }

    fn settled(&self, key: &str, change: Result<Change, String>) -> Option<Change> {
        let problem = match change {
            Ok(change) => return Some(change),
            Err(problem) => problem,
        };
        let (cluster, map) = (&self.cluster, &self.reader.mesh_map.name);
        warn!(%cluster, map, key, %problem, "the mesh settings cannot be used; the last good ones stay");
        self.refused.inc();
        None
    }
}

/// Finds the manifest files below a folder. Hidden entries are left out: a
/// mounted `ConfigMap` keeps its files in one and links to them.
fn find(folder: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.starts_with(b".") {
            continue;
        }
        if path.is_dir() {
            if depth > 0 {
                // A folder that cannot be read is as good as empty.
                if let Err(error) = find(&path, depth - 1, found) {
                    let folder = path.display();
                    warn!(%folder, %error, "a folder of manifests cannot be read");
                }
            }
        } else if path.extension().is_some_and(is_manifest) {
            found.insert(path);
        }
    }
    Ok(())
}

fn is_manifest(extension: &std::ffi::OsStr) -> bool {
    ["yaml", "yml", "json"]
        .iter()
        .any(|known| extension == *known)
}
