//! What is asked of an API server.

use serde_json::{Value, json};

use super::collection::Collection;
use crate::load::mesh::objects::{RECORD, SYSTEM};

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// The version of the API server.
    Version,
    /// All objects of a kind.
    Collection(Collection),
    /// One `EndpointSlice`.
    Slice {
        /// Its namespace.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// The `ConfigMap` that says what the cluster was populated with.
    Record,
    /// Anything else.
    Unknown,
}

impl<'a> Place<'a> {
    /// Reads the path below a cluster.
    pub(super) fn parse(path: &'a str) -> Self {
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["version"] => Self::Version,
            ["api", "v1", "namespaces", SYSTEM, "configmaps", RECORD] => Self::Record,
            [
                "api",
                "v1",
                "namespaces",
                SYSTEM,
                plural @ ("secrets" | "configmaps"),
            ]
            | ["api", "v1", plural] => Self::of(Collection::find("", plural)),
            ["apis", group, "v1", plural] => Self::of(Collection::find(group, plural)),
            [
                "apis",
                "discovery.k8s.io",
                "v1",
                "namespaces",
                namespace,
                "endpointslices",
                name,
            ] => Self::Slice { namespace, name },
            _ => Self::Unknown,
        }
    }

    fn of(collection: Option<Collection>) -> Self {
        collection.map_or(Self::Unknown, Self::Collection)
    }
}

/// The query of a list or a watch. Selectors are not looked at: what control
/// planes select, all objects have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ask {
    /// Follow changes.
    pub(super) watch: bool,
    /// Objects of one page.
    pub(super) limit: Option<usize>,
    /// The first object of the page.
    pub(super) first: usize,
    /// Follow from here; none from the objects that are there.
    pub(super) version: Option<u64>,
    /// Send the objects that are there, and a mark behind them.
    pub(super) initial: bool,
    /// Tell from time to time that nothing happened.
    pub(super) bookmarks: bool,
    /// How long the watch lasts, in seconds.
    pub(super) seconds: Option<u64>,
}

impl Ask {
    pub(super) fn parse(query: &str) -> Self {
        let mut ask = Self::default();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let is_true = matches!(value, "true" | "1");
            match key {
                "watch" => ask.watch = is_true,
                "limit" => ask.limit = value.parse().ok().filter(|limit| *limit > 0),
                "continue" => ask.first = value.parse().unwrap_or(0),
                // 0 asks for any version.
                "resourceVersion" => ask.version = value.parse().ok().filter(|v| *v > 0),
                "sendInitialEvents" => ask.initial = is_true,
                "allowWatchBookmarks" => ask.bookmarks = is_true,
                "timeoutSeconds" => ask.seconds = value.parse().ok(),
                _ => {}
            }
        }
        ask
    }
}

/// An error as API servers tell it.
pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    })
}
