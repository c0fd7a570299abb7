//! tracing to stderr, filtered by istiod's scope names.

use std::collections::BTreeMap;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Modules behind each of istiod's log scopes that operators know. A scope
/// that is none of them is taken as a module of isthmus.
const SCOPES: &[(&str, &[&str])] = &[
    ("ads", &["isthmus::ads", "isthmus::server"]),
    ("delta", &["isthmus::ads", "isthmus::server"]),
    ("xds", &["isthmus::xds", "isthmus::server"]),
    ("model", &["isthmus::mesh"]),
    ("kube", &["isthmus::registry"]),
    ("security", &["isthmus::auth", "isthmus::server"]),
    ("serverca", &["isthmus::server::certificates"]),
    ("serviceentry", &["isthmus::mesh"]),
];

/// Never louder than this, whatever the level: kube's client writes whole
/// response bodies, Secrets among them, when one does not decode.
const SILENCED: &str = "kube_client=off,hickory_proto=error,hickory_resolver=error";

/// Starts logging to stderr. `scopes` wins over `default`; `RUST_LOG` wins over
/// both.
pub fn init_logs(default: &str, scopes: &BTreeMap<String, &'static str>, format: LogFormat) {
    let directives = std::env::var("RUST_LOG").unwrap_or_else(|_| directives(default, scopes));
    let filter = EnvFilter::builder().parse_lossy(format!("{directives},{SILENCED}"));
    let layer = fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process (tests) keeps the first subscriber.
    let _ = match format {
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(layer.with_ansi(colour)).try_init()
        }
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
}

fn directives(default: &str, scopes: &BTreeMap<String, &'static str>) -> String {
    let mut all = vec![default.to_owned()];
    for (scope, level) in scopes {
        match SCOPES.iter().find(|(name, _)| name == scope) {
            Some((_, modules)) => all.extend(modules.iter().map(|m| format!("{m}={level}"))),
            None => all.push(format!("isthmus::{scope}={level}")),
        }
    }
    all.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_istiod_name_modules_of_isthmus() {
        let scopes = BTreeMap::from([("ads".to_owned(), "debug")]);
        let directives = directives("info", &scopes);
        assert_eq!(directives, "info,isthmus::ads=debug,isthmus::server=debug");
    }
}
