//! The log as a whole: what it keeps, what a failing disk does to it, what a crash does, and what tampering is found.

mod append;
mod crash;
mod failing_disk;
mod tamper;
