//! Kubernetes, Istio and Gateway API manifests as JSON → model.
