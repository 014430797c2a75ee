//! The ledger on a real Postgres.
#![cfg(all(feature = "ledger", feature = "lab"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod archive;
mod calculator;
mod corrections;
mod facts;
mod focus;
mod histories;
mod imports;
mod outage;
mod outside;
mod postings;
mod queries;
mod reports;
mod rules;
mod seals;
mod sentences;
mod statements;
mod usage;
mod variance;
mod vendors;
mod writing;
