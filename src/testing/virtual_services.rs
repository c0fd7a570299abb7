//! `VirtualService`s for tests, written as users write them.

use crate::manifest::{Defaults, parse, yaml_to_json};
use crate::mesh::{MeshState, VirtualServices};
use crate::model::{ExportTo, Object, ObjectKind, VirtualService};

/// Reads one manifest, YAML without `apiVersion` and `kind`.
///
/// # Panics
///
/// Where it is not one.
#[allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]
pub fn virtual_service(yaml: &str) -> VirtualService {
    let json = yaml_to_json(yaml).expect("YAML").to_string();
    let kind = ObjectKind::VirtualService;
    let parsed = parse(kind, json.as_bytes(), &Defaults::default());
    match parsed.map(|parsed| (parsed.object, parsed.left_out)) {
        Ok((Object::VirtualService(read), told)) if told.is_empty() => read,
        other => panic!("{other:?}\n{yaml}"),
    }
}

/// A mesh of these `VirtualService`s, divided by `---`.
pub fn mesh_with(manifests: &str) -> MeshState {
    let all = manifests.split("---\n").map(virtual_service);
    let all = all.map(std::sync::Arc::new);
    MeshState {
        virtual_services: VirtualServices::new(all, &ExportTo::Everyone),
        ..MeshState::default()
    }
}
