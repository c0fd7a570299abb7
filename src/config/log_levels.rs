//! istiod's `--log_output_level`: `scope:level,…`.

use std::collections::BTreeMap;

/// Level for everything, and for single scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevels {
    /// Level of all that has none of its own.
    pub default: &'static str,
    /// Scope → level.
    pub scopes: BTreeMap<String, &'static str>,
}

impl LogLevels {
    /// Reads `level` or `scope:level[,scope:level…]`; `default` and `all` are
    /// everything.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut levels = Self {
            default: "info",
            scopes: BTreeMap::new(),
        };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (scope, name) = part.split_once(':').unwrap_or(("default", part));
            let level = level(name).ok_or_else(|| {
                format!("{name:?} is no log level: debug, info, warn, error, fatal or none")
            })?;
            match scope {
                "default" | "all" => levels.default = level,
                scope => drop(levels.scopes.insert(scope.to_owned(), level)),
            }
        }
        Ok(levels)
    }
}

/// tracing's word for istio's level.
fn level(name: &str) -> Option<&'static str> {
    Some(match name {
        "debug" => "debug",
        "info" => "info",
        "warn" => "warn",
        "error" | "fatal" => "error",
        "none" => "off",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_level_is_for_everything() {
        assert_eq!(LogLevels::parse("debug").unwrap().default, "debug");
    }

    #[test]
    fn scopes_have_levels_of_their_own() {
        let levels = LogLevels::parse("default:warn,ads:debug").unwrap();
        assert_eq!(levels.default, "warn");
        assert_eq!(levels.scopes.get("ads"), Some(&"debug"));
    }

    #[test]
    fn an_unknown_level_is_named() {
        assert!(LogLevels::parse("ads:loud").unwrap_err().contains("loud"));
    }
}
