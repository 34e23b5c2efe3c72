#![doc = include_str!("README.md")]
#![deny(unsafe_code)]
#![deny(missing_docs, unreachable_pub)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::print_stdout,
        clippy::print_stderr,
        clippy::dbg_macro
    )
)]

pub mod audit;
pub mod authn;
pub mod cli;
pub mod clock;
pub mod crypto;
pub mod engine;
pub mod http;
pub mod index;
pub mod leaktest;
pub mod model;
pub mod policy;
pub mod store;
