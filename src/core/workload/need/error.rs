//! What can be wrong with a pod that requests lowtide's capacity, and what its owner should do.

/// One fault. Its message says what was expected, what was found and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NeedError {
    /// An annotation under our prefix that we do not know: most likely a spelling mistake.
    #[error("annotation {key} is not known; known are {known}; correct it or remove it")]
    UnknownAnnotation {
        /// As given.
        key: String,
        /// The keys an owner may write.
        known: String,
    },
    /// A required annotation.
    #[error("annotation {key} is missing; expected {expected}")]
    MissingAnnotation {
        /// Its key.
        key: String,
        /// The expected value.
        expected: &'static str,
    },
    /// A value that cannot be read.
    #[error("annotation {key} is {value:?}; expected {expected}")]
    BadAnnotation {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A GPU model that no EC2 type has.
    #[error("GPU model {model:?} is not in the catalog; known are {known}")]
    UnknownModel {
        /// As given.
        model: String,
        /// The models of the catalog.
        known: String,
    },
    /// A region, or a pattern that matches none.
    #[error("region {pattern:?} matches no region with NVIDIA types; known are {known}")]
    UnknownRegion {
        /// As given.
        pattern: String,
        /// The regions known.
        known: String,
    },
    /// No container asks for a GPU.
    #[error("no container has the limit nvidia.com/gpu; set it to the number of GPUs the pod needs")]
    NoGpu,
    /// A resource quantity that cannot be read.
    #[error("{path} is {value:?}; expected a Kubernetes quantity of at least 0, e.g. 500m or 16Gi")]
    BadQuantity {
        /// Where.
        path: String,
        /// As given.
        value: String,
    },
    /// A scheduling constraint that lowtide would violate if it accepted the pod.
    #[error("{path} {what}, which lowtide does not honour; {advice}")]
    NotHonoured {
        /// Where in the pod.
        path: String,
        /// What it requires.
        what: String,
        /// What to do instead.
        advice: String,
    },
    /// Two constraints that no node can meet together.
    #[error("{what} leave no possible {of}; make them agree")]
    Contradiction {
        /// Which constraints.
        what: &'static str,
        /// What has no possible value left.
        of: &'static str,
    },
}
