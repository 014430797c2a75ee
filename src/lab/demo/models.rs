//! What the demo models instead of measuring, each with its source.
//!
//! Decides: the modelled seconds. They are inputs; every report that uses one says so.

use serde::Serialize;

/// A duration that is played, not measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Model {
    /// Real seconds, before the time scale.
    pub seconds: f64,
    /// Where the figure comes from.
    pub source: &'static str,
}

/// From launch to the registration of a GPU node.
pub const BOOT: Model = Model {
    seconds: 60.0,
    source: "launch to node Ready of GPU nodes: 60-90 s (AWS, \"We instrumented the full path from pod creation\", 2026); prebuilt driver image",
};

/// Start of a server whose image and weights are on the machine's snapshot.
pub const WARM_START: Model = Model {
    seconds: 25.0,
    source: "image from an EBS snapshot with fast restore <5 s (EKS Blueprints, ml-container-cache); engine start of a small uncompiled model about 20 s",
};

/// Start of a server that pulls its image and weights and compiles.
pub const COLD_START: Model = Model {
    seconds: 175.0,
    source: "image 23-40 s + weights 12-30 s + compile 34-53 s + engine 30-45 s + framework import; with the boot 180-290 s, middle 235 s",
};

/// EC2's notice.
pub const NOTICE: Model =
    Model { seconds: 120.0, source: "Amazon EC2 User Guide, \"Spot Instance interruption notices\": two minutes, best effort" };

/// Writing a checkpoint after SIGTERM.
pub const CHECKPOINT: Model = Model { seconds: 12.0, source: "chosen for the story: a checkpoint of some GiB to a network disk" };
