//! Moves messages between gRPC streams and [`crate::ads`] sessions.
