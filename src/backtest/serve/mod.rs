//! A service of equal replicas on a recorded market: the simulator, the published policies, ours and a lower bound.

pub mod policies;
pub mod simulate;
pub mod spread;
