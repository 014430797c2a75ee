//! The policies on recorded spot markets.
