//! The EC2 simulator.
