//! Kubernetes: the custom resources, and the adapter that makes a cluster one of the four ports.

pub mod api;
