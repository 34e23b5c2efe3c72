//! Walks a log on disk from its first byte, trusting nothing: opening and verifying are both this walk.

use std::{
    fs::{File, read_dir},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{
    cursor::Cursor,
    fault::{Break, Fault},
    frame::{self, EntryRecord, HeadRecord, Record},
};

/// An entry in so many has its place remembered.
pub(super) const MARK_EVERY: u64 = 64;

/// One file of the log.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) path: PathBuf,
    /// Its length up to its last whole group.
    pub(super) bytes: u64,
    /// Where its entries `first`, `first + MARK_EVERY` … begin.
    pub(super) marks: Vec<u64>,
}

impl Segment {
    pub(super) fn new(dir: &Path, first: u64) -> Self {
        Self { first, path: dir.join(file_name(first)), bytes: 0, marks: Vec::new() }
    }

    /// Remembers where an entry begins, if it is one of those that are remembered.
    pub(super) fn mark(&mut self, sequence: u64, offset: u64) {
        if sequence.saturating_sub(self.first).is_multiple_of(MARK_EVERY) {
            self.marks.push(offset);
        }
    }

    /// Forgets all beyond entry `last` and byte `bytes`.
    fn cut(&mut self, last: u64, bytes: u64) {
        let kept = last.saturating_add(1).saturating_sub(self.first).div_ceil(MARK_EVERY);
        self.marks.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        self.bytes = bytes;
    }
}

/// Looks at each record that fits those before it.
pub(super) trait Visitor {
    /// An entry.
    fn entry(&mut self, entry: &EntryRecord<'_>) -> Result<(), Fault>;
    /// A head; `before` is the point that it was signed at.
    fn head(&mut self, head: &HeadRecord<'_>, before: &Cursor) -> Result<(), Fault>;
}

/// What a walk found.
pub(super) struct Walk {
    /// The files, each up to its last whole group; without those that have none.
    pub(super) segments: Vec<Segment>,
    /// The point after the last whole group.
    pub(super) good: Cursor,
    /// What is wrong, if anything is.
    pub(super) broken: Option<Break>,
    /// The file after the good ones, if the break lies in it; in the last good one if empty.
    pub(super) beyond: Option<Segment>,
    /// Bytes of the last file beyond what is good.
    pub(super) excess: u64,
    /// Whether the break lies in the last file there is.
    pub(super) at_end: bool,
}

/// Walks the log in `dir`.
pub(super) fn walk(dir: &Path, origin: &str, visitor: &mut dyn Visitor) -> Walk {
    let mut walk = Walk {
        segments: Vec::new(),
        good: Cursor::start(origin),
        broken: None,
        beyond: None,
        excess: 0,
        at_end: false,
    };
    let files = match list(dir) {
        Ok(files) => files,
        Err(broken) => {
            walk.broken = Some(broken);
            return walk;
        }
    };
    for (n, first) in files.iter().enumerate() {
        let segment = Segment::new(dir, *first);
        if *first != walk.good.due() {
            walk.broken = Some(missing(walk.good.due()));
            return walk;
        }
        if let Err(stop) = walk.pass(segment, visitor) {
            walk.broken = Some(stop);
            walk.at_end = n.saturating_add(1) == files.len();
            return walk;
        }
    }
    if files.is_empty() {
        walk.broken = Some(missing(1));
    }
    walk
}

impl Walk {
    /// Goes through one file, and keeps it up to its last whole group.
    fn pass(&mut self, mut segment: Segment, visitor: &mut dyn Visitor) -> Result<(), Break> {
        let mut good = self.good.clone();
        let mut bytes = 0;
        let result = pass_records(&mut segment, &mut good, &mut bytes, visitor);
        let length = segment.path.metadata().map_or(0, |data| data.len());
        self.excess = length.saturating_sub(bytes);
        segment.cut(good.size(), bytes);
        self.good = good;
        if bytes == 0 {
            self.beyond = Some(segment);
        } else {
            self.segments.push(segment);
        }
        result
    }
}

/// Moves `good` and `bytes` to the end of each whole group.
fn pass_records(
    segment: &mut Segment,
    good: &mut Cursor,
    bytes: &mut u64,
    visitor: &mut dyn Visitor,
) -> Result<(), Break> {
    let file = file_name(segment.first);
    let at = |sequence: u64, offset: u64, fault: Fault| Break { sequence, file: file.clone(), offset, fault };
    let mut records = Records::open(&segment.path).map_err(|fault| at(good.due(), 0, fault))?;
    records.header(&frame::header(segment.first, good.link())).map_err(|fault| at(good.due(), 0, fault))?;
    let mut cursor = good.clone();
    loop {
        let offset = records.offset;
        let due = cursor.due();
        let Some(body) = records.next().map_err(|fault| at(due, offset, fault))? else { break };
        match frame::decode(body).ok_or_else(|| at(due, offset, Fault::Form))? {
            Record::Entry(entry) => {
                cursor.pass_entry(&entry).and_then(|()| visitor.entry(&entry)).map_err(|f| at(due, offset, f))?;
                segment.mark(entry.sequence, offset);
            }
            Record::Head(head) => {
                let before = cursor.clone();
                let checked = cursor.pass_head(&head).and_then(|()| visitor.head(&head, &before));
                checked.map_err(|fault| at(blamed(fault, good, &cursor), offset, fault))?;
                *good = cursor.clone();
                *bytes = records.offset;
            }
        }
    }
    let whole = *bytes == records.offset;
    if whole { Ok(()) } else { Err(at(cursor.due(), records.offset, Fault::Unfinished)) }
}

/// The entry to name for a head that does not fit: the first of its group if the fault is theirs, else the one it follows.
fn blamed(fault: Fault, good: &Cursor, cursor: &Cursor) -> u64 {
    match fault {
        Fault::Root | Fault::Signature | Fault::OtherHead => good.due(),
        Fault::Dropped => cursor.due(),
        Fault::Head
        | Fault::Unreadable(_)
        | Fault::Missing
        | Fault::Stranger
        | Fault::Header
        | Fault::Unfinished
        | Fault::Form
        | Fault::Sequence
        | Fault::Chain
        | Fault::Seal
        | Fault::Content
        | Fault::CutBack
        | Fault::Ahead => cursor.size(),
    }
}

/// The records of one file, in order.
pub(super) struct Records {
    input: BufReader<File>,
    body: Vec<u8>,
    /// Where the next record begins.
    pub(super) offset: u64,
}

impl Records {
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let input = File::open(path).map_err(|error| unreadable(&error))?;
        Ok(Self { input: BufReader::with_capacity(1 << 16, input), body: Vec::new(), offset: 0 })
    }

    /// Goes to a record that begins at `offset`.
    pub(super) fn seek(&mut self, offset: u64) -> Result<(), Fault> {
        self.input.seek(SeekFrom::Start(offset)).map_err(|error| unreadable(&error))?;
        self.offset = offset;
        Ok(())
    }

    /// Goes past the header, if it is this one.
    fn header(&mut self, header: &[u8]) -> Result<(), Fault> {
        if self.take(frame::HEADER_BYTES)? { Ok(()) } else { Err(Fault::Unfinished) }?;
        if self.body == header { Ok(()) } else { Err(Fault::Header) }
    }

    /// The body of the next record; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Fault> {
        let whole = self.take(4)?;
        if self.body.is_empty() {
            return Ok(None);
        }
        let length = self.body.as_array::<4>().filter(|_| whole).ok_or(Fault::Unfinished)?;
        let length = u32::from_be_bytes(*length);
        if length == 0 || usize::try_from(length).is_ok_and(|length| length > frame::BODY_BYTES) {
            return Err(Fault::Form);
        }
        if self.take(u64::from(length))? { Ok(Some(&self.body)) } else { Err(Fault::Unfinished) }
    }

    /// Reads so many bytes into `body`; false if the file ends before.
    fn take(&mut self, bytes: u64) -> Result<bool, Fault> {
        self.body.clear();
        let read = (&mut self.input).take(bytes).read_to_end(&mut self.body).map_err(|error| unreadable(&error))?;
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        self.offset = self.offset.saturating_add(read);
        Ok(read == bytes)
    }
}

/// The name of the file whose first entry is this.
pub(super) fn file_name(first: u64) -> String {
    format!("{first:016x}.log")
}

/// The first entries of the files in `dir`, in order. What does not end in `.log` (a volume's `lost+found`) is not the log's.
fn list(dir: &Path) -> Result<Vec<u64>, Break> {
    let broken = |file: String, fault| Break { sequence: 1, file, offset: 0, fault };
    let failed = |error: io::Error| broken(String::from("."), unreadable(&error));
    let mut found = Vec::new();
    for entry in read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".log") else { continue };
        match u64::from_str_radix(stem, 16) {
            Ok(first) if file_name(first) == name => found.push(first),
            Ok(_) | Err(_) => return Err(broken(name, Fault::Stranger)),
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn missing(due: u64) -> Break {
    Break { sequence: due, file: file_name(due), offset: 0, fault: Fault::Missing }
}

pub(super) fn unreadable(error: &io::Error) -> Fault {
    Fault::Unreadable(error.kind())
}
