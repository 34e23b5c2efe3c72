//! What a restart need not make again: codes, columns, and which row lies where, as pieces in the store's room for derived data.
//!
//! Written piece by piece, each copied under the world's lock and sealed without it: a write waits for one piece at most, and has nothing to
//! copy itself. Pieces of different moments fit together, because a
//! commit that replaces or erases a record makes all that was begun before it was in force out of date, and records that came since lie
//! at slots that were free: what pieces say of those is left out. Nothing of it decides anything: a row that is read back counts once the stored record
//! was seen to be the writing that it was made of (`loading`).

use std::{
    collections::{BTreeMap, HashMap},
    panic::resume_unwind,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use parking_lot::RwLock;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::{
    Memory,
    world::{Holding, Row, World},
};
use crate::{
    crypto::Stamp,
    index::{Block, CODEC_VERSION},
    model::{Collection, CollectionName, DocumentId, EntityUid, RecordId, Slot},
    policy::{Sheet, SheetName},
    store::{Bytes, Guarded, Pieces, Published, Room, Sink, Store, StoreError, StoredName},
};

/// Changes with the form of any piece.
const FORM: u32 = 1;
/// Slots of one piece of rows, most.
const ROWS: u32 = 4_096;
/// Bytes of codes in one piece of rows, about: of long ones it holds fewer.
const CODES_BYTES: usize = 2 << 20;
/// Pieces that are opened and wait to be taken in, most.
const PIECES_WAITING: usize = 2;
/// Slots of one piece of a column.
const SHEET_SLOTS: u32 = 1 << 18;

#[derive(Serialize, Deserialize, PartialEq)]
struct Head {
    form: u32,
    codec: u32,
    collections: u32,
}

#[derive(Serialize, Deserialize)]
struct Part {
    spec: Collection,
    slots: u32,
    sheets: u32,
}

#[derive(Serialize, Deserialize)]
struct Rows {
    /// Patients that no piece before has named, in the order of their numbers.
    patients: Vec<EntityUid>,
    rows: Vec<Option<KeptRow>>,
    bytes: Bytes,
    scales: Bytes,
    bits: Bytes,
}

#[derive(Serialize, Deserialize)]
struct KeptRow {
    name: StoredName,
    stamp: Stamp,
    id: RecordId,
    document: DocumentId,
    /// The patient's number.
    patient: Option<u32>,
}

/// How much a piece holds.
#[derive(Clone, Copy)]
struct Grain {
    rows: u32,
    sheet_slots: u32,
}

impl Grain {
    const USUAL: Self = Self { rows: ROWS, sheet_slots: SHEET_SLOTS };
}

/// Writes all collections; gives the world's turnover that it covers.
pub(super) fn write(store: &Store, world: &RwLock<World>) -> Result<(Published, u64), StoreError> {
    let named = |collection: &CollectionName, id: &RecordId| store.name_of_record(collection, id);
    Keeping { room: store.derived(), world, named, grain: Grain::USUAL }.write()
}

/// From memory into a room, whatever locks the one and keeps the other: a model tries every order of these steps and those of commits.
struct Keeping<'a, R, W, N> {
    room: &'a R,
    world: &'a W,
    named: N,
    grain: Grain,
}

/// One collection as it was at one moment.
struct Moment {
    spec: Collection,
    live: RoaringBitmap,
    slots: u32,
    /// Slots of one piece of rows.
    rows: u32,
    sheets: Vec<SheetName>,
}

impl Moment {
    fn of(holding: &Holding, grain: Grain) -> Self {
        let fit = CODES_BYTES / holding.index.code_bytes().max(1);
        Self {
            spec: holding.spec.clone(),
            live: holding.index.live().clone(),
            slots: holding.index.slots(),
            rows: u32::try_from(fit).unwrap_or(u32::MAX).clamp(1, grain.rows),
            sheets: holding.columns.sheets(),
        }
    }
}

impl<R: Room, W: Guarded<World>, N: Fn(&CollectionName, &RecordId) -> StoredName> Keeping<'_, R, W, N> {
    fn write(&self) -> Result<(Published, u64), StoreError> {
        let (in_force, turnover, names) = self.world.look(|world| {
            (world.sequence, world.turnover, world.collections.keys().cloned().collect::<Vec<CollectionName>>())
        });
        let Some(mut writing) = self.room.begin(in_force)? else { return Ok((Published::Outdated, turnover)) };
        writing.put(&Head { form: FORM, codec: CODEC_VERSION, collections: names.len() as u32 })?;
        for name in &names {
            if self.write_collection(name, &mut writing)?.is_none() {
                return Ok((Published::Outdated, turnover));
            }
        }
        Ok((writing.publish()?, turnover))
    }

    /// `None` where it is out of date by now.
    fn write_collection(&self, name: &CollectionName, writing: &mut impl Sink) -> Result<Option<()>, StoreError> {
        let Some(moment) = self.look(name, |holding| Moment::of(holding, self.grain)) else { return Ok(None) };
        let stretches = moment.slots.div_ceil(self.grain.sheet_slots);
        let sheets = moment.sheets.len() as u32 * stretches;
        writing.put(&Part { spec: moment.spec.clone(), slots: moment.slots, sheets })?;
        let mut patients = Patients::default();
        for from in (0..moment.slots).step_by(moment.rows as usize) {
            let slots = from..moment.slots.min(from.saturating_add(moment.rows));
            if writing.is_outdated() {
                return Ok(None);
            }
            // together: codes are those of the writing that their row names
            let read = |holding: &Holding| {
                let rows = slots.clone().map(|slot| patients.row(holding, &moment, slot)).collect::<Vec<_>>();
                (rows, holding.index.block(slots.clone()))
            };
            let Some((rows, codes)) = self.look(name, read) else { return Ok(None) };
            writing.put(&self.rows(name, rows, codes, std::mem::take(&mut patients.fresh)))?;
        }
        for (sheet, stretch) in moment.sheets.iter().flat_map(|sheet| (0..stretches).map(move |n| (sheet, n))) {
            let within = self.within(&moment.live, stretch);
            if writing.is_outdated() {
                return Ok(None);
            }
            let Some(sheet) = self.look(name, |holding| holding.columns.sheet(sheet, &within)) else { return Ok(None) };
            writing.put(&sheet)?;
        }
        Ok(Some(()))
    }

    fn look<T>(&self, name: &CollectionName, at: impl FnOnce(&Holding) -> T) -> Option<T> {
        self.world.look(|world| world.holding(name).map(at))
    }

    /// A piece of rows, with their codes: named without the lock.
    fn rows(&self, name: &CollectionName, rows: Vec<Option<KeptRow>>, codes: Block, patients: Vec<EntityUid>) -> Rows {
        let named = |row: Option<KeptRow>| row.map(|row| KeptRow { name: (self.named)(name, &row.id), ..row });
        let Block { bytes, scales, bits } = codes;
        Rows {
            patients,
            rows: rows.into_iter().map(named).collect(),
            bytes: Bytes(bytes),
            scales: Bytes(scales),
            bits: Bytes(bits),
        }
    }

    /// Those of `live` in one stretch of slots.
    fn within(&self, live: &RoaringBitmap, stretch: u32) -> RoaringBitmap {
        let mut within = live.clone();
        within.remove_range(..stretch * self.grain.sheet_slots);
        within.remove_range(stretch.saturating_add(1).saturating_mul(self.grain.sheet_slots)..);
        within
    }
}

/// Patients by number, so that a row names its own in a few bytes.
#[derive(Default)]
struct Patients {
    numbers: HashMap<EntityUid, u32>,
    fresh: Vec<EntityUid>,
}

impl Patients {
    fn row(&mut self, holding: &Holding, moment: &Moment, slot: u32) -> Option<KeptRow> {
        let row = holding.row(Slot(slot)).filter(|_| moment.live.contains(slot))?;
        let patient = row.patient.as_ref().map(|uid| self.number(uid));
        let (id, document) = (row.id.clone(), row.document.clone());
        Some(KeptRow { name: StoredName::default(), stamp: row.stamp, id, document, patient })
    }

    fn number(&mut self, uid: &EntityUid) -> u32 {
        if let Some(number) = self.numbers.get(uid) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(uid.clone(), number);
        self.fresh.push(uid.clone());
        number
    }
}

/// A collection as it was read back: of its rows nothing is certain yet.
pub(super) struct Restored {
    pub(super) holding: Holding,
    /// Slot and writing of each row, by its record's name on disk.
    pub(super) rows: HashMap<StoredName, (u32, Stamp)>,
    /// What the rows refer to, with how many do.
    pub(super) references: Vec<(EntityUid, u64)>,
}

/// All collections as they were written; `None` where any piece is not whole, or of another form.
pub(super) fn read(reading: &mut impl Pieces, memory: Memory) -> Option<BTreeMap<CollectionName, Restored>> {
    let head: Head = reading.piece()?;
    if (head.form, head.codec) != (FORM, CODEC_VERSION) {
        return None;
    }
    let mut restored = BTreeMap::new();
    for _ in 0..head.collections {
        let one = read_collection(reading, memory)?;
        restored.insert(one.holding.spec.name.clone(), one);
    }
    reading.is_at_end().then_some(restored)
}

/// Pieces are read and opened on one thread and taken in on another.
fn read_collection(reading: &mut impl Pieces, memory: Memory) -> Option<Restored> {
    let Part { spec, slots, sheets } = reading.piece()?;
    let restored = Restored::empty(Holding::new(spec, memory), slots as usize);
    thread::scope(|scope| {
        let (pieces, inbox) = sync_channel(PIECES_WAITING);
        let taking = thread::Builder::new().name("kept-rows".into());
        let taking = taking.spawn_scoped(scope, move || restored.take_all(inbox)).ok()?;
        let read = read_pieces(reading, slots, sheets, &pieces);
        drop(pieces);
        let restored = taking.join().unwrap_or_else(|panic| resume_unwind(panic));
        read.and(restored)
    })
}

fn read_pieces(reading: &mut impl Pieces, slots: u32, sheets: u32, pieces: &SyncSender<Piece>) -> Option<()> {
    let mut read = 0;
    while read < slots {
        let rows: Rows = reading.piece()?;
        let count = u32::try_from(rows.rows.len()).ok().filter(|count| *count > 0)?;
        pieces.send(Piece::Rows(read, rows)).ok()?;
        read = read.checked_add(count)?;
    }
    for _ in 0..sheets {
        pieces.send(Piece::Sheet(reading.piece()?)).ok()?;
    }
    (read == slots).then_some(())
}

enum Piece {
    /// Rows from a slot on.
    Rows(u32, Rows),
    Sheet(Sheet),
}

impl Restored {
    /// With room for so many rows.
    fn empty(mut holding: Holding, rows: usize) -> Self {
        holding.reserve(rows);
        Self { holding, rows: HashMap::with_capacity(rows), references: Vec::new() }
    }

    fn take_all(mut self, inbox: Receiver<Piece>) -> Option<Self> {
        let mut patients = Vec::new();
        for piece in inbox {
            match piece {
                Piece::Rows(from, rows) => self.take_rows(rows, from, &mut patients)?,
                Piece::Sheet(sheet) => self.take_sheet(&sheet),
            }
        }
        Some(self)
    }

    fn take_sheet(&mut self, sheet: &Sheet) {
        self.holding.columns.restore_sheet(sheet);
        self.references.extend(sheet.references().map(|(uid, count)| (uid.clone(), count)));
    }

    fn take_rows(&mut self, piece: Rows, from: u32, patients: &mut Vec<EntityUid>) -> Option<()> {
        let Rows { patients: fresh, rows, bytes, scales, bits } = piece;
        patients.extend(fresh);
        let block = Block { bytes: bytes.0, scales: scales.0, bits: bits.0 };
        let there: Vec<bool> = rows.iter().map(Option::is_some).collect();
        self.holding.index.restore(&block, &there)?;
        for (slot, row) in (from..).zip(rows) {
            let Some(KeptRow { name, stamp, id, document, patient }) = row else { continue };
            let patient = match patient {
                Some(number) => Some(patients.get(number as usize)?.clone()),
                None => None,
            };
            self.rows.insert(name, (slot, stamp));
            self.holding.restore(Slot(slot), Row { id, document, patient, stamp });
        }
        Some(())
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
