//! Nothing makes a scope but the policies in force, and nothing widens one.

use roaring::RoaringBitmap;
use wardkeep::engine::Scope;

fn by_default() -> Scope {
    Scope::default() //~ E0599 `default`
}

fn from_rows(rows: RoaringBitmap) -> Scope {
    Scope::from(rows) //~ E0308 mismatched types
}

fn widened(scope: &Scope) -> RoaringBitmap {
    scope.searchable() //~ E0624 private
}

fn main() {}
