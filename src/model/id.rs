//! Names that must not be mixed up, each a shared string.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Makes the name from text that is already shared.
            pub fn shared(text: Arc<str>) -> Self {
                Self(text)
            }
            /// The shared text.
            pub fn as_arc(&self) -> &Arc<str> {
                &self.0
            }
        }
        impl Default for $name {
            fn default() -> Self {
                Self(Arc::from(""))
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }
        impl std::str::FromStr for $name {
            type Err = std::convert::Infallible;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(Self::from(text))
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }
        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

id! {
    /// A Kubernetes cluster, as named by `--clusterID` or a remote Secret's key.
    ClusterId
}
id! {
    /// A network: the clusters and workloads that reach each other directly.
    /// "No network" is `Option::None`, never an empty name.
    NetworkId
}
id! {
    /// A fully qualified service host name, lower case, no trailing dot.
    Hostname
}
id! {
    /// A Kubernetes namespace.
    Namespace
}

impl NetworkId {
    /// The network named by `text`, or none where it is empty.
    pub fn from_text(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::from(text))
    }
}
