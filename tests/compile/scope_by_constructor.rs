//! Nothing makes a scope but the policies in force, and nothing widens one.

use roaring::RoaringBitmap;
use wardkeep::engine::Scope;

fn by_default() -> Scope {
    Scope::default()
}

fn from_rows(rows: RoaringBitmap) -> Scope {
    Scope::from(rows)
}

fn widened(scope: &Scope) -> RoaringBitmap {
    scope.searchable()
}

fn main() {}
