//! `PeerAuthentication`s.

use serde::Deserialize;

use super::{Selector, one_of};
use crate::manifest::{
    Problem,
    json::{Map, Text},
    meta::{Manifest, from_json},
};
use crate::model::{MtlsMode, ObjectKind, PeerAuthentication};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Spec<'a> {
    selector: Option<Selector<'a>>,
    mtls: Option<Mtls<'a>>,
    port_level_mtls: Map<'a, Option<Mtls<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Mtls<'a> {
    mode: Text<'a>,
}

const MODES: &[(&str, MtlsMode)] = &[
    ("", MtlsMode::Unset),
    ("UNSET", MtlsMode::Unset),
    ("DISABLE", MtlsMode::Disable),
    ("PERMISSIVE", MtlsMode::Permissive),
    ("STRICT", MtlsMode::Strict),
];

/// Reads a `PeerAuthentication`. A mode that is unknown refuses the whole: to
/// guess would turn security on or off.
pub(in crate::manifest) fn read(json: &[u8]) -> Result<PeerAuthentication, Problem> {
    let Manifest { metadata, spec, .. }: Manifest<'_, Spec<'_>> = from_json(json)?;
    let ports = spec.port_level_mtls.iter().map(|(port, mtls)| {
        let field = format!("spec.portLevelMtls.{}", &**port);
        let number = port.parse::<u16>().ok().filter(|n| *n > 0);
        let number = number.ok_or_else(|| {
            Problem::new(
                field.clone(),
                format!("{:?} is not a port; use 1 to 65535", &**port),
            )
        });
        Ok((number?, mode(&format!("{field}.mode"), mtls.as_ref())?))
    });
    let mut ports = ports.collect::<Result<Vec<_>, Problem>>()?;
    ports.sort_by_key(|(port, _)| *port);
    Ok(PeerAuthentication {
        meta: metadata.object(ObjectKind::PeerAuthentication),
        selector: spec
            .selector
            .as_ref()
            .map(Selector::match_labels)
            .unwrap_or_default(),
        mode: mode("spec.mtls.mode", spec.mtls.as_ref())?,
        ports,
    })
}

fn mode(field: &str, mtls: Option<&Mtls<'_>>) -> Result<MtlsMode, Problem> {
    one_of(field, mtls.map(|m| &*m.mode).unwrap_or_default(), MODES)
}
