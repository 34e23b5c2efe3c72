//! Every byte of a backup read and every seal opened, without a store: whether it could be restored. Knows nothing of what is in a row.

use std::{collections::HashMap, path::Path, sync::Arc};

use serde::Serialize;

use super::{
    BackupError, Item,
    room::{self, WHOLE},
    stream::Header,
};
use crate::{
    clock::Instant,
    crypto::KeyRing,
    model::Sealer,
    store::{Kind, ledger::Account},
};

/// What one file of a backup is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspected {
    /// Its number.
    pub number: u32,
    /// Whether it can be restored: itself, what it follows, and the count of what they hold.
    pub sound: bool,
    /// Whether it stands alone.
    pub whole: bool,
    /// The moment that it is of, in milliseconds since 1970.
    pub at: Option<Instant>,
    /// Objects in the store then.
    pub objects: u64,
    /// Entries in the audit log then.
    pub entries: u64,
}

/// Looks at every file of the backup in `dir` (or at the whole one that it is), also those that later ones do not need any more.
///
/// # Errors
/// There is none, it is another store's, or the directory cannot be read.
pub fn inspect(dir: &Path, ring: &KeyRing) -> Result<Vec<Inspected>, BackupError> {
    let files = if dir.is_file() { room::set(dir, None)? } else { room::files(dir)? };
    let last = files.last().map(|(number, _)| *number).ok_or(BackupError::Missing)?;
    let first = if dir.is_file() { last } else { 0 };
    let paths: HashMap<_, _> = files.into_iter().collect();
    let mut chain = Chain { ring, sealer: ring.sealer("backup"), before: None, rows: HashMap::new() };
    (first..=last).map(|number| chain.inspect(number, paths.get(&number).map(AsRef::as_ref))).collect()
}

/// What the files so far come to; `before` is none where the last of them is of no use.
struct Chain<'a> {
    ring: &'a KeyRing,
    sealer: Arc<dyn Sealer>,
    before: Option<(Header, [u8; 32])>,
    rows: HashMap<Vec<u8>, [u8; 32]>,
}

impl Chain<'_> {
    fn inspect(&mut self, number: u32, path: Option<&Path>) -> Result<Inspected, BackupError> {
        let mut found = Inspected { number, sound: false, whole: false, at: None, objects: 0, entries: 0 };
        match path.ok_or(BackupError::Damaged(number)).and_then(|path| self.read(number, path, &mut found)) {
            Ok(()) => found.sound = true,
            Err(
                BackupError::Damaged(_) | BackupError::Unfinished(_) | BackupError::DoesNotAddUp | BackupError::Io(_),
            ) => self.before = None,
            Err(other) => return Err(other),
        }
        Ok(found)
    }

    fn read(&mut self, number: u32, path: &Path, found: &mut Inspected) -> Result<(), BackupError> {
        let inlet = room::open(number, path, &self.sealer)?;
        let header = inlet.header;
        found.whole = header.link == WHOLE;
        if found.whole {
            self.rows.clear();
        }
        let (before, link) = match (found.whole, self.before.take()) {
            (true, _) => (None, WHOLE),
            (false, Some((before, link))) => (Some(before), link),
            (false, None) => return Err(BackupError::Damaged(number)),
        };
        header.follows(self.ring.store_id(), link, before)?;
        let mut account = None;
        let link = inlet.read(&mut |item| {
            match item {
                Item::Put { key, value } => {
                    let term = self.ring.row(&key.0, &value.0);
                    self.rows.insert(key.0.to_vec(), term);
                }
                Item::Gone { key } => drop(self.rows.remove(&*key.0)),
                Item::Account { sealed, at } => (account, found.at) = (Some(sealed), Some(at)),
                Item::Head { size, .. } => found.entries = size,
                Item::Log { .. } | Item::LogEnd { .. } | Item::Index(_) | Item::Engine(_) | Item::Ledger(_) => {}
            }
            Ok(())
        })?;
        let account = Account::open(self.ring, &account.ok_or(BackupError::DoesNotAddUp)?.0)?;
        found.objects = self.rows.len() as u64;
        self.add_up(&account)?;
        self.before = Some((header, link));
        Ok(())
    }

    fn add_up(&self, account: &Account) -> Result<(), BackupError> {
        let mut counted = Account::default();
        for (key, term) in &self.rows {
            counted.tally(Kind::of(key).ok_or(BackupError::DoesNotAddUp)?).add(*term);
        }
        account.matches_but_keys(&counted)
    }
}

impl Account {
    /// Whether the rows counted are those of the account, but for wraps of keys, which are in no backup.
    pub(super) fn matches_but_keys(&self, counted: &Self) -> Result<(), BackupError> {
        let copied = |kind: Kind| match kind {
            Kind::DataKey | Kind::KeyBucket => false,
            Kind::Collection
            | Kind::Record
            | Kind::Entity
            | Kind::Bundle
            | Kind::ApiKey
            | Kind::Hold
            | Kind::Outbox => true,
        };
        match self.differences(counted).iter().any(|(kind, _, _)| copied(*kind)) {
            true => Err(BackupError::DoesNotAddUp),
            false => Ok(()),
        }
    }
}
