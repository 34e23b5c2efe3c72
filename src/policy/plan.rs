//! For every record of a collection at once: certainly allowed, to be asked, or denied.

use super::{Bundle, Columns, Directory, Inquiry, Scope};

pub(super) fn plan(_bundle: &Bundle, inquiry: &Inquiry, columns: &Columns, directory: &Directory) -> Scope {
    if directory.contains(inquiry.principal()) {
        Scope { ask: columns.live().clone(), ..Scope::default() }
    } else {
        Scope::default()
    }
}
