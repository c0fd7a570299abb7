//! One validated `Config` from flags and istiod-named environment.
