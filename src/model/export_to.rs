//! `exportTo`: who may see a service or a rule.

use std::collections::BTreeSet;

use super::Namespace;

/// Who may see a service or a rule (`exportTo`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum ExportTo {
    /// `*`.
    #[default]
    Everyone,
    /// `~`.
    Nobody,
    /// `.` (resolved to its own namespace) and named namespaces.
    Namespaces(BTreeSet<Namespace>),
}

impl ExportTo {
    /// The namespace that stands for "the object's own".
    const OWN: &str = ".";

    /// Reads a list, or the parts of the annotation split at commas. None
    /// where nothing is listed, which means the mesh's default. `*` beside
    /// other entries is everyone, else `~` is nobody.
    ///
    /// For the mesh's own defaults `own` is `.`, kept until
    /// [`Self::in_namespace`] resolves it.
    ///
    /// ```
    /// use isthmus::model::{ExportTo, Namespace};
    /// let parse = |text: &str| ExportTo::parse(text.split(','), &Namespace::from("shop"));
    /// assert_eq!(parse(""), None);
    /// assert_eq!(parse("dev, *"), Some(ExportTo::Everyone));
    /// assert!(parse(". , dev").is_some_and(|e| e.includes("shop") && e.includes("dev")));
    /// ```
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>, own: &Namespace) -> Option<Self> {
        let entries: BTreeSet<&str> = entries.into_iter().map(str::trim).collect();
        let named = entries.iter().filter(|name| !name.is_empty());
        let named: BTreeSet<Namespace> = named
            .map(|name| match *name {
                Self::OWN => own.clone(),
                name => Namespace::from(name),
            })
            .collect();
        // istiod: push_context.go initServiceRegistry gives `*` and `~` this order.
        match (named.contains("*"), named.contains("~"), named.is_empty()) {
            (true, ..) => Some(Self::Everyone),
            (_, true, _) => Some(Self::Nobody),
            (.., true) => None,
            _ => Some(Self::Namespaces(named)),
        }
    }

    /// The same for an object of namespace `own`: a mesh-wide `.` becomes it.
    #[must_use]
    pub fn in_namespace(&self, own: &Namespace) -> Self {
        match self {
            Self::Namespaces(names) if names.contains(Self::OWN) => {
                let resolve = |name: &Namespace| match &**name {
                    Self::OWN => own.clone(),
                    _ => name.clone(),
                };
                Self::Namespaces(names.iter().map(resolve).collect())
            }
            other => other.clone(),
        }
    }

    /// Whether proxies of `namespace` may see it.
    pub fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Nobody => false,
            Self::Namespaces(names) => names.contains(namespace),
        }
    }

    /// Whether only proxies of `namespace` may see it.
    pub fn is_private_to(&self, namespace: &str) -> bool {
        matches!(self, Self::Namespaces(names) if names.len() == 1 && names.contains(namespace))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<ExportTo> {
        ExportTo::parse(text.split(','), &Namespace::from("shop"))
    }

    #[test]
    fn a_tilde_hides_from_everyone_unless_a_star_stands_beside_it() {
        assert_eq!(parse("~"), Some(ExportTo::Nobody));
        assert_eq!(parse("~,dev"), Some(ExportTo::Nobody));
        assert_eq!(parse("~,*"), Some(ExportTo::Everyone));
    }

    #[test]
    fn nothing_listed_leaves_the_choice_to_the_mesh() {
        assert_eq!(parse(""), None);
        assert_eq!(parse(" , "), None);
    }

    #[test]
    fn a_private_mesh_default_means_each_objects_own_namespace() {
        let own = Namespace::from(".");
        let default = ExportTo::parse(["."], &own).unwrap_or_default();
        let shop = default.in_namespace(&Namespace::from("shop"));
        assert!(shop.is_private_to("shop"));
        assert!(!shop.includes("dev"));
    }

    proptest! {
        #[test]
        fn a_listed_namespace_sees_it(names in proptest::collection::vec("[a-z]{1,4}", 1..5)) {
            let export = ExportTo::parse(names.iter().map(String::as_str), &Namespace::from("own"));
            let export = export.unwrap_or(ExportTo::Nobody);
            prop_assert!(names.iter().all(|n| export.includes(n)));
            prop_assert!(!export.includes("Other"));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse(&text);
        }
    }
}
