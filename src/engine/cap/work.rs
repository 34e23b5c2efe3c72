//! How much may be tried for one answer, so that no ranking and no bundle can hold a request for long.

/// What may still be done, in steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    left: u64,
}

/// No more may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent;

impl Work {
    pub(super) fn of(steps: u64) -> Self {
        Self { left: steps }
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Spent> {
        let enough = self.left > steps as u64;
        self.left = self.left.saturating_sub(1 + steps as u64);
        if enough { Ok(()) } else { Err(Spent) }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// What may still be done.
    #[cfg(test)]
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// At most `steps` of what is left, for one question.
    pub(super) fn share(&self, steps: u64) -> Self {
        Self { left: self.left.min(steps) }
    }

    /// Takes off what a share of it has used.
    pub(super) fn settle(&mut self, given: Self, left: Self) {
        self.left = self.left.saturating_sub(given.left.saturating_sub(left.left));
    }
}
