//! Open files: each proxy is one, and the usual limit is 1,024.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this a mesh of some size does not fit.
const LOW: u64 = 4096;

/// Raises the limit of open files as far as the kernel lets this process, and
/// logs it where that is not far.
pub(super) fn raise() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current
        && limit < LOW
    {
        tracing::warn!(
            limit,
            "few files may be open, and each proxy is one: raise the limit (ulimit -n)"
        );
    }
}
