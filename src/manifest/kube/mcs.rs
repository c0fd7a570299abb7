//! Multi-Cluster Services.

use serde::Deserialize;

use super::ip;
use crate::manifest::{
    Problem, Scope,
    json::{List, Text},
    meta::{Manifest, from_json},
};
use crate::model::{ObjectKind, ServiceExport, ServiceImport};

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct ImportSpec<'a> {
    ips: List<Text<'a>>,
}

/// Reads a `ServiceExport`.
pub(in crate::manifest) fn export(json: &[u8]) -> Result<ServiceExport, Problem> {
    let Manifest { metadata, .. }: Manifest<'_> = from_json(json)?;
    Ok(ServiceExport {
        meta: metadata.key(ObjectKind::ServiceExport),
    })
}

/// Reads a `ServiceImport`.
pub(in crate::manifest) fn import(
    json: &[u8],
    scope: &mut Scope<'_>,
) -> Result<ServiceImport, Problem> {
    let Manifest { metadata, spec, .. }: Manifest<'_, ImportSpec<'_>> = from_json(json)?;
    let texts = spec.ips.iter().enumerate();
    let mut ips = scope.keep(texts.map(|(i, text)| ip(text, || format!("spec.ips[{i}]"))));
    ips.sort_unstable();
    Ok(ServiceImport {
        meta: metadata.key(ObjectKind::ServiceImport),
        ips,
    })
}
