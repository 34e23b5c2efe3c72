//! Protected health information in memory: cannot be printed by accident, wiped when dropped.

use std::fmt;

use zeroize::Zeroize;

/// Content of a record. No `Display`, not `Serialize`, a redacted `Debug`, wiped on drop; read through `reveal`, so that every place
/// that seals or discloses it can be found by that word.
#[derive(Clone, PartialEq, Eq)]
pub struct Phi<T: Zeroize>(T);

impl<T: Zeroize> Phi<T> {
    /// Takes content in.
    pub fn new(content: T) -> Self {
        Self(content)
    }

    /// The content, for those who are about to disclose or seal it.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phi(…)")
    }
}

impl<T: Zeroize> Drop for Phi<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_does_not_show_itself_in_debug_output() {
        let text = Phi::new(String::from("diagnosis"));
        assert_eq!(format!("{text:?}"), "Phi(…)");
        assert_eq!(text.reveal(), "diagnosis");
    }
}
