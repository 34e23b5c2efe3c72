//! What one caller must not be told, ready to be looked for in the bytes of an answer.

use std::sync::Arc;

use super::{
    oracle::View,
    register::{Register, Told},
    target::{Answer, Request},
    world::World,
};

/// One caller's view of a world, and what of the rest can be recognised.
#[derive(Debug, Clone)]
pub struct Sight {
    /// Places of records.
    pub view: View,
    register: Arc<Register>,
    /// By place.
    hidden: Vec<bool>,
}

impl Sight {
    /// From a view of a small world, some of the records of the one that is registered.
    pub fn of_some(register: &Arc<Register>, some: &World, view: &View) -> Self {
        let place = |at: &usize| register.place(&some.records.get(*at)?.id);
        let places = |of: &[usize]| of.iter().filter_map(place).collect();
        let [permitted, forbidden, unsettled] =
            [&view.permitted, &view.forbidden, &view.unsettled].map(|of| places(of));
        Self::of(register, View { permitted, forbidden, unsettled, ..*view })
    }

    /// From a view of the world that is registered.
    pub fn of(register: &Arc<Register>, view: View) -> Self {
        let places = view.permitted.iter().chain(&view.forbidden).chain(&view.unsettled);
        let mut hidden = vec![false; places.max().map_or(0, |last| last + 1)];
        for at in &view.forbidden {
            if let Some(one) = hidden.get_mut(*at) {
                *one = true;
            }
        }
        Self { register: Arc::clone(register), hidden, view }
    }

    /// Whether the record at this place is hidden.
    pub fn hides_at(&self, at: usize) -> bool {
        self.hidden.get(at).copied().unwrap_or(false)
    }

    /// Whether this id is a hidden record's.
    pub fn hides(&self, id: &str) -> bool {
        self.register.place(id).is_some_and(|at| self.hides_at(at))
    }

    /// Whether there is such a patient, and no record of theirs may be seen.
    pub fn hides_patient(&self, id: &str) -> bool {
        let places = self.register.of_patient(id);
        !places.is_empty() && places.iter().all(|at| self.hides_at(*at))
    }

    /// What an answer tells of hidden records, but for what the request itself said; `world` is the one that is registered.
    pub fn told(&self, world: &World, answer: &Answer, request: &Request) -> Told {
        self.register.told(world, answer, request, &|at| self.hides_at(at))
    }
}
