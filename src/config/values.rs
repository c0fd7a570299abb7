//! Values as Go programs spell them on command lines.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::builder::{OsStringValueParser, TypedValueParser};
use ipnet::IpNet;

use crate::model::{ClusterId, parse_duration};

/// `1`, `t`, `true`, `TRUE` … as Go's `strconv.ParseBool`.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("{other:?} is neither true nor false")),
    }
}

/// `10s`, `1h30m`, `100ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .ok_or_else(|| format!("{text:?} is no duration such as 10s, 1m30s or 100ms"))
}

/// A duration that something may live for.
pub(super) fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = duration(text)?;
    let lives = lifetime >= Duration::from_secs(1);
    lives
        .then_some(lifetime)
        .ok_or_else(|| format!("{text:?} is less than a second; nothing could be done with it"))
}

/// A path; an empty one is one that was not given, as in istiod. (clap's own
/// parser refuses it.)
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// `NAME=FOLDER`.
pub(super) fn cluster_dir(text: &str) -> Result<(ClusterId, PathBuf), String> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !folder.is_empty() => {
            Ok((ClusterId::from(name), PathBuf::from(folder)))
        }
        _ => Err(format!("{text:?} is not NAME=FOLDER")),
    }
}

/// `alias=id`.
pub(super) fn alias(text: &str) -> Result<(ClusterId, ClusterId), String> {
    match text.split_once('=') {
        Some((alias, id)) if !alias.is_empty() && !id.is_empty() => {
            Ok((ClusterId::from(alias), ClusterId::from(id)))
        }
        _ => Err(format!("{text:?} is not ALIAS=CLUSTER")),
    }
}

/// `10.0.0.0/8,fd00::/8`; none for an empty text.
pub(super) fn ranges(text: &str) -> Result<Arc<[IpNet]>, String> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let parse = |part: &str| {
        let range = part.parse::<IpNet>();
        range.map_err(|_| format!("{part:?} is no range such as 10.0.0.0/8"))
    };
    parts.map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_read_as_go_reads_them() {
        assert_eq!(boolean("1"), Ok(true));
        assert_eq!(boolean("F"), Ok(false));
        assert!(boolean("yes").is_err());
    }

    #[test]
    fn ranges_are_a_list_that_may_be_empty() {
        assert_eq!(ranges("").unwrap().len(), 0);
        assert_eq!(ranges("10.0.0.0/8, fd00::/8").unwrap().len(), 2);
        assert!(ranges("10.0.0.1").is_err());
    }

    #[test]
    fn a_lifetime_is_not_nothing() {
        assert_eq!(lifetime("2m"), Ok(Duration::from_mins(2)));
        assert!(lifetime("0").is_err() && lifetime("10ms").is_err());
    }

    #[test]
    fn a_cluster_folder_may_hold_an_equals_sign() {
        let (name, folder) = cluster_dir("c1=/x=y").unwrap();
        assert_eq!((&*name, folder), ("c1", PathBuf::from("/x=y")));
        assert!(cluster_dir("c1").is_err());
        assert!(cluster_dir("=/x").is_err());
    }
}
