//! A scope says what a caller may see: it is planned by the policies, not written down.

use roaring::RoaringBitmap;
use wardkeep::{engine::Scope, policy::Caps};

fn everything() -> Scope {
    Scope { inquiry: None, caps: Caps::default(), allowed: RoaringBitmap::full(), ask: RoaringBitmap::new() } //~ - private fields
}

fn main() {}
