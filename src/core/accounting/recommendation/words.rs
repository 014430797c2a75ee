//! The names of recommendations, and of reasons for none.
//!
//! Decides: their words in tables and in the ledger. Does not: decide which holds.

/// The four recommendations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// At most so many replicas.
    FewerReplicas,
    /// Several pods on one GPU.
    Sharing,
    /// A GPU with less memory.
    SmallerGpu,
    /// Batches instead of a server that waits.
    Batch,
}

impl What {
    /// As tables and the ledger write it.
    pub fn as_str(self) -> &'static str {
        match self {
            What::FewerReplicas => "fewer-replicas",
            What::Sharing => "sharing",
            What::SmallerGpu => "smaller-gpu",
            What::Batch => "batch",
        }
    }
}

/// Why a workload gets no recommendation at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unknown {
    /// It ran for less than the days that are looked at.
    Young,
    /// Too much of its GPU time was not measured.
    Unmeasured,
    /// It shares GPUs: what is read is the use of all who share them.
    Shared,
    /// A type that it ran on is not in the catalog.
    UnknownType,
}

impl Unknown {
    /// For sentences and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Unknown::Young => "too young",
            Unknown::Unmeasured => "mostly unmeasured",
            Unknown::Shared => "on shared GPUs, whose readings are of all who share them",
            Unknown::UnknownType => "on a type that the catalog does not have",
        }
    }
}

/// Why one of the four is not recommended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Not {
    /// It runs to completion.
    RunsToCompletion,
    /// It has no replica to spare.
    FewReplicas,
    /// The busiest hour leaves no room.
    Busy,
    /// How much memory it uses is not known.
    MemoryUnknown,
    /// Its engine takes the whole GPU's memory, whatever it needs.
    MemoryTakenWhole,
    /// A pod that has several GPUs cannot share one.
    SeveralGpus,
    /// It needs more memory than a share has.
    MemoryNeeded,
    /// No smaller GPU has the memory and the power.
    NoSmaller,
    /// How many requests came is not known for enough hours.
    RequestsUnknown,
    /// Requests come in too many hours.
    AskedAllDay,
}

impl Not {
    /// For tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Not::RunsToCompletion => "runs to completion",
            Not::FewReplicas => "no replica to spare",
            Not::Busy => "too busy",
            Not::MemoryUnknown => "memory not known",
            Not::MemoryTakenWhole => "its engine takes the GPU's memory whatever it needs",
            Not::SeveralGpus => "several GPUs for each pod",
            Not::MemoryNeeded => "needs more memory than a share has",
            Not::NoSmaller => "no smaller GPU has the memory and the power",
            Not::RequestsUnknown => "requests not known",
            Not::AskedAllDay => "asked in too many hours",
        }
    }
}
