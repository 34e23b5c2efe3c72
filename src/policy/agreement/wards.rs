//! Generated entities and records, of which some are not stored and some do not fit the schema, and changes to them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    design::{Design, Shape, Ty},
    dice::Dice,
    values::{RECORDS, ids, reference, value},
};
use crate::{
    model::{Action, Entity, EntityUid, Slot, Value},
    policy::{Bundle, Columns, Directory, Inquiry},
};

/// Types whose entities lie in the directory.
const STORED: [&str; 9] =
    ["Staff", "Service", "Team", "Org", "Ns::Org", "Patient", "Document", "Collection", "Administrator"];

/// What is stored.
pub(super) struct Ward<'a> {
    design: &'a Design,
    pub(super) directory: Directory,
    pub(super) columns: Columns,
    pub(super) records: BTreeMap<u32, Entity>,
    /// One value in so many does not fit the schema.
    misfits: Option<usize>,
}

impl<'a> Ward<'a> {
    pub(super) fn roll(dice: &mut Dice, design: &'a Design) -> Self {
        let misfits = dice.one_in(8).then_some(30);
        let (directory, columns) = (Directory::new(), Columns::new());
        let mut ward = Self { design, directory, columns, records: BTreeMap::new(), misfits };
        // one in ten of everything is not stored, and in some wards nothing is missing
        let whole = dice.one_in(3);
        for ty in STORED {
            for id in design.shapes.iter().find(|s| s.name == ty).map(|_| ids(design, ty)).unwrap_or_default() {
                if whole || !dice.one_in(10) {
                    ward.put(dice, &EntityUid::new(ty, id.as_str()));
                }
            }
        }
        for slot in 0..RECORDS as u32 {
            if !dice.one_in(10) {
                ward.put_record(dice, slot);
            }
        }
        ward
    }

    fn put(&mut self, dice: &mut Dice, uid: &EntityUid) {
        let entity = self.entity(dice, uid);
        self.directory.upsert(entity);
    }

    fn put_record(&mut self, dice: &mut Dice, slot: u32) {
        let record = self.entity(dice, &EntityUid::new("Record", format!("ward/{slot}")));
        self.columns.insert(Slot(slot), &record);
        self.records.insert(slot, record);
    }

    /// Whether all stored values are of their types.
    pub(super) fn fits(&self) -> bool {
        self.misfits.is_none()
    }

    fn entity(&self, dice: &mut Dice, uid: &EntityUid) -> Entity {
        let shape = self.design.shape(&uid.ty);
        let mut entity = Entity::bare(uid.clone());
        for field in &shape.fields {
            if self.misfits.is_some_and(|one| dice.one_in(one)) {
                if dice.one_in(2) {
                    entity.attrs.insert(field.name.as_str().into(), value(dice, self.design, &Ty::Long));
                }
            } else if field.required || dice.percent(70) {
                entity.attrs.insert(field.name.as_str().into(), value(dice, self.design, &field.ty));
            }
        }
        if let Some(ty) = &shape.tags {
            for _ in 0..dice.below(4) {
                if let Value::Text(key) = value(dice, self.design, &Ty::Text) {
                    entity.tags.insert(key, value(dice, self.design, ty));
                }
            }
        }
        entity.parents = self.parents(dice, uid, shape);
        entity
    }

    /// Parents of a higher rank only: no hierarchy that may be stored has a cycle.
    fn parents(&self, dice: &mut Dice, uid: &EntityUid, shape: &Shape) -> BTreeSet<EntityUid> {
        let mut parents = BTreeSet::new();
        for ty in &shape.parents {
            let certain = uid.ty.as_ref() == "Record" && matches!(ty.as_str(), "Document" | "Collection");
            for _ in 0..if certain { 1 } else { dice.below(3) } {
                let parent = reference(dice, self.design, ty);
                if rank(&parent) > rank(uid) {
                    parents.insert(parent);
                }
            }
        }
        parents
    }

    /// Entities and records come, change and go: what was remembered must not be used.
    pub(super) fn change(&mut self, dice: &mut Dice) {
        for _ in 0..dice.between(1, 5) {
            let types: Vec<&str> =
                STORED.into_iter().filter(|ty| self.design.shapes.iter().any(|s| s.name == *ty)).collect();
            let ty = *dice.pick(&types);
            let uid = reference(dice, self.design, ty);
            let slot = dice.below(RECORDS) as u32;
            match dice.below(4) {
                0 => drop(self.directory.remove(&uid)),
                1 => self.put(dice, &uid),
                2 => {
                    self.columns.remove(Slot(slot));
                    self.records.remove(&slot);
                }
                _ => self.put_record(dice, slot),
            }
        }
    }

    /// Questions of a few; not everyone who asks is stored. Some ask twice, in another context.
    pub(super) fn questions(&self, dice: &mut Dice, bundle: &Bundle, wanted: usize) -> Vec<Inquiry> {
        let mut questions: Vec<Inquiry> = Vec::new();
        while questions.len() < wanted {
            let asked = questions.last().filter(|_| dice.one_in(3)).map(|q| (q.principal().clone(), q.action()));
            let (principal, action) = asked.unwrap_or_else(|| {
                let ty = dice.pick(&self.design.principals).clone();
                (reference(dice, self.design, &ty), *dice.pick(&Action::ON_RECORD))
            });
            questions.push(self.question(dice, bundle, principal, action));
        }
        questions
    }

    fn question(&self, dice: &mut Dice, bundle: &Bundle, principal: EntityUid, action: Action) -> Inquiry {
        let mut offered = BTreeMap::new();
        for name in ["purpose", "now", "source_ip", "break_glass", "patient", "actor", "collection", "token"] {
            let field = self.design.context.iter().find(|field| field.name == name);
            if let Some(field) = field.filter(|field| field.required || dice.percent(60)) {
                offered.insert(name, value(dice, self.design, &field.ty));
            }
        }
        bundle.inquiry(principal, action, &offered).unwrap()
    }
}

fn rank(uid: &EntityUid) -> (usize, &str) {
    let order = ["Patient", "Record", "Document", "Collection", "Staff", "Service", "Org", "Ns::Org", "Team", "Level"];
    (order.iter().position(|ty| *ty == uid.ty.as_ref()).unwrap_or(0), &uid.id)
}
