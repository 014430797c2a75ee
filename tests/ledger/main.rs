//! The ledger on a real Postgres.
#![cfg(all(feature = "ledger", feature = "lab"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod archive;
mod bills;
mod calculator;
mod carried;
mod closing;
mod corrections;
mod facts;
mod feeds;
mod fetching;
mod focus;
mod focus_mistakes;
mod forms;
mod gateways;
mod gpu_use;
mod headers;
mod histories;
mod imports;
mod keys;
mod mixed;
mod models;
mod outage;
mod outside;
mod postings;
mod providers;
mod queries;
mod recommendations;
mod refusals;
mod reports;
mod roles;
mod rules;
mod seals;
mod sentences;
mod statement_histories;
mod statements;
mod usage;
mod variance;
mod vendors;
mod writing;
