//! When what is kept for a quick start may be begun and published, and when it must go. Knows numbers of changes, neither what is kept nor
//! where.
//!
//! A commit that takes something away goes: [`supersede`](Handover::supersede), durable, in force in memory. Until it is in force, memory holds
//! what it takes away; so what is made of memory carries which changes were in force, and is not begun where that is too few. What was begun
//! before is out of date. Every decision is made under one lock, together with what follows from it on disk. The lock is handed in, so that a
//! model can drive this very code through every order of steps (`engine::kept::model`).

use parking_lot::{Mutex, RwLock};
use serde::{Serialize, de::DeserializeOwned};

use super::StoreError;

/// A lock: a real one, or that of a model which tries every order in which threads may take it.
pub trait Guarded<T> {
    /// Looks at what it guards; nothing changes meanwhile.
    fn look<R>(&self, at: impl FnOnce(&T) -> R) -> R;
    /// Changes what it guards.
    fn change<R>(&self, by: impl FnOnce(&mut T) -> R) -> R;
}

impl<T> Guarded<T> for Mutex<T> {
    fn look<R>(&self, at: impl FnOnce(&T) -> R) -> R {
        at(&self.lock())
    }

    fn change<R>(&self, by: impl FnOnce(&mut T) -> R) -> R {
        by(&mut self.lock())
    }
}

impl<T> Guarded<T> for RwLock<T> {
    fn look<R>(&self, at: impl FnOnce(&T) -> R) -> R {
        at(&self.read())
    }

    fn change<R>(&self, by: impl FnOnce(&mut T) -> R) -> R {
        by(&mut self.write())
    }
}

/// Where pieces are written to, one writing at a time.
pub trait Room {
    /// Pieces on their way.
    type Writing<'a>: Sink
    where
        Self: 'a;

    /// Begins to write: what is put in must be read after this, of a state in which every change up to `in_force` was in force before.
    /// `None` where a later one has taken something away.
    fn begin(&self, in_force: u64) -> Result<Option<Self::Writing<'_>>, StoreError>;
}

/// Pieces on their way to where they are kept. Nothing can read them before they are published.
pub trait Sink {
    /// Adds a piece.
    fn put<T: Serialize>(&mut self, piece: &T) -> Result<(), StoreError>;
    /// Whether it is out of date by now, so that more work on it is in vain.
    fn is_outdated(&self) -> bool;
    /// Makes it what the next start finds, unless something was taken away since it was begun.
    fn publish(self) -> Result<Published, StoreError>;
}

/// Pieces as they are read, in the order in which they were put.
pub trait Pieces {
    /// The next piece; `None` where it does not open, or is not of this form: then all of it is nothing.
    fn piece<T: DeserializeOwned>(&mut self) -> Option<T>;
    /// Whether everything was read, and all of it was there.
    fn is_at_end(&self) -> bool;
}

/// What became of what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is there for the next start.
    Whole,
    /// A record was replaced or erased meanwhile: it was thrown away.
    Outdated,
}

/// How far things are.
pub struct Turns {
    /// Counts how often all was taken away: what was begun before is out of date.
    epoch: u64,
    /// What is kept must be made of a state in which this change is in force: the last one that took something away.
    superseded: u64,
    /// Something may be kept.
    present: bool,
}

impl Turns {
    /// Those of a store that was just opened.
    pub fn new(present: bool) -> Self {
        Self { epoch: 0, superseded: 0, present }
    }
}

/// A writing's place in time.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    epoch: u64,
}

/// The decisions, under a lock.
pub struct Handover<L> {
    turns: L,
}

impl<L: Guarded<Turns>> Handover<L> {
    /// Decides under `turns`.
    pub fn new(turns: L) -> Self {
        Self { turns }
    }

    /// What is there goes by `destroy`, and what is being written never will be there; from here on nothing is made of a state in which change
    /// number `by` is not in force.
    pub fn supersede<E>(&self, by: u64, destroy: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        self.turns.change(|turns| {
            turns.superseded = turns.superseded.max(by);
            turns.epoch = turns.epoch.wrapping_add(1);
            if turns.present {
                destroy()?;
                turns.present = false;
            }
            Ok(())
        })
    }

    /// Where a writing stands that is begun now, if it may be: of a state in which every change up to `in_force` is in force.
    pub fn begin(&self, in_force: u64) -> Option<Begun> {
        self.turns.look(|turns| (in_force >= turns.superseded).then_some(Begun { epoch: turns.epoch }))
    }

    /// Whether something was taken away since.
    pub fn is_outdated(&self, begun: Begun) -> bool {
        self.turns.look(|turns| turns.epoch != begun.epoch)
    }

    /// Puts it in its place by `install`, unless something was taken away since; nothing is meanwhile.
    pub fn publish<E>(&self, begun: Begun, install: impl FnOnce() -> Result<(), E>) -> Result<Published, E> {
        self.turns.change(|turns| {
            if turns.epoch != begun.epoch {
                return Ok(Published::Outdated);
            }
            turns.present = true;
            install()?;
            Ok(Published::Whole)
        })
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.turns.look(|turns| !turns.present)
    }
}
