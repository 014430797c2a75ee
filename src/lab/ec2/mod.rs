//! A stand-in for one AWS account, over HTTP, good enough for the unmodified AWS SDKs.
pub mod actions;
pub mod facts;
pub mod fault;
pub mod query;
pub mod world;
pub mod xml;
