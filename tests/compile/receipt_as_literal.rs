//! A receipt says that an entry is durable: only the journal knows.

use wardkeep::engine::Receipt;

fn main() {
    let _ = Receipt { sequence: 1 }; //~ E0451 private
}
