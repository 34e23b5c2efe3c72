//! The promises, held against a running server over HTTP. One binary, so that the tests link once; one module a promise.

#![allow(clippy::type_complexity, reason = "tables of cases are read row by row, not by their type")]

mod absence;
mod anchor;
mod backup;
mod bad_input;
mod canaries;
mod caps;
mod cases;
mod crash;
mod deletions;
mod description;
mod diff;
mod disk;
mod engines;
mod explain;
mod failing_disk;
mod fast;
mod filter;
mod formats;
mod harness;
mod hidden;
mod holds;
mod hygiene;
mod immediacy;
mod keys;
mod law_firm;
mod leaktest;
mod lifecycle;
mod outage;
mod plain;
mod powercut;
mod providers;
mod refusals;
mod said;
mod smoke;
mod stream;
mod timetable;
mod trial;
mod ward;
