//! Pure encoders: from a service and a view to framed Envoy resources.
