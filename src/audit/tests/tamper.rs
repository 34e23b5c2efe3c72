//! Tampering, by those without the keys: the first broken entry is named, or the log is refused.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::{TempDir, tempdir};

use crate::{
    audit::{frame, testing::*, *},
    model::Signer as _,
};

/// A log of 40 entries in groups of 1 to 4 and files of two or three groups, and where its records lie.
struct Sample {
    dir: TempDir,
    head: Head,
    /// File, first and last byte, and the number: of the entry, or of the one that the head follows.
    records: Vec<(PathBuf, std::ops::Range<usize>, u64, bool)>,
}

fn sample() -> Sample {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path()).with_segment_bytes(7_000);
    let mut next = 1;
    for size in [1, 2, 3, 4].into_iter().cycle().take(16) {
        append(&mut log, next..=next + size - 1);
        next += size;
    }
    let head = log.head();
    let records = files(dir.path()).iter().flat_map(|path| records(path)).collect();
    Sample { dir, head, records }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn records(path: &Path) -> Vec<(PathBuf, std::ops::Range<usize>, u64, bool)> {
    let bytes = fs::read(path).unwrap();
    let mut at = frame::HEADER_BYTES as usize;
    let mut found = Vec::new();
    while at < bytes.len() {
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let range = at..at + 4 + length;
        let (number, entry) = match frame::decode(&bytes[at + 4..range.end]).unwrap() {
            frame::Record::Entry(entry) => (entry.sequence, true),
            frame::Record::Head(head) => (head.size, false),
        };
        at = range.end;
        found.push((path.to_owned(), range, number, entry));
    }
    found
}

impl Sample {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Without seals and without an expected head: what any outsider with the public key can tell.
    fn outsider(&self) -> Option<Break> {
        verify(self.path(), ORIGIN, None, signer().public_key(), None).broken
    }

    fn keeper(&self) -> Option<Break> {
        let sealer = sealer();
        verify(self.path(), ORIGIN, Some(sealer.as_ref()), signer().public_key(), Some(self.head)).broken
    }

    fn opens(&self) -> bool {
        open(self.path(), self.head, Frames::new()).is_ok()
    }
}

#[test]
fn an_untouched_log_is_sound() {
    let sample = sample();
    assert!(files(sample.path()).len() > 3);
    let report = verify(sample.path(), ORIGIN, Some(sealer().as_ref()), signer().public_key(), Some(sample.head));
    let expected = Report { head: sample.head, opened: true, unfinished_bytes: 0, broken: None };
    assert_eq!(report, expected);
    assert!(sample.outsider().is_none() && sample.opens());
}

#[test]
fn a_flipped_bit_names_its_own_entry() {
    let sample = sample();
    let mut tried = 0;
    for (n, (path, range, number, entry)) in sample.records.iter().enumerate() {
        let good = fs::read(path).unwrap();
        for position in range.clone().skip(n % 13).step_by(13) {
            let mut bad = good.clone();
            bad[position] ^= 1 << (position % 8);
            fs::write(path, &bad).unwrap();
            for broken in [sample.outsider(), sample.keeper()] {
                let broken = broken.unwrap_or_else(|| panic!("byte {position} of {path:?}"));
                // A head is named by the entry it follows; with its length, kind or size gone, by the entry after that.
                let after = !entry && position < range.start + 21 && broken.sequence == number + 1;
                assert!(broken.sequence == *number || after, "{broken} {number}");
                assert_eq!(broken.file, path.file_name().unwrap().to_str().unwrap());
                assert_eq!(broken.offset, range.start as u64);
            }
            tried += 1;
        }
        let mut bad = good.clone();
        bad[range.start + range.len() / 2] ^= 0x80;
        fs::write(path, &bad).unwrap();
        assert!(!sample.opens());
        assert_eq!(fs::read(path).unwrap(), bad, "a refused log is left alone");
        fs::write(path, &good).unwrap();
    }
    assert!(tried > 1_000);
    assert!(sample.opens());
}

#[test]
fn a_flipped_bit_in_a_header_names_the_first_entry_of_the_file() {
    let sample = sample();
    for path in files(sample.path()) {
        let first = u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
        let good = fs::read(&path).unwrap();
        for position in 0..frame::HEADER_BYTES as usize {
            let mut bad = good.clone();
            bad[position] ^= 4;
            fs::write(&path, &bad).unwrap();
            let broken = sample.outsider().unwrap();
            assert_eq!((broken.sequence, broken.fault), (first, Fault::Header));
            assert!(!sample.opens());
        }
        fs::write(&path, &good).unwrap();
    }
}

#[test]
fn a_file_cut_at_any_sampled_byte_is_found() {
    let sample = sample();
    let all = files(sample.path());
    for path in &all {
        let good = fs::read(path).unwrap();
        for length in (0..good.len()).step_by(37) {
            fs::write(path, &good[..length]).unwrap();
            let broken = sample.keeper().unwrap_or_else(|| panic!("{length} of {path:?}"));
            let whole = sample.records.iter().take_while(|(file, range, ..)| file != path || range.end <= length);
            let last = whole.filter(|(.., entry)| *entry).last().map_or(0, |(_, _, number, _)| *number);
            assert_eq!(broken.sequence, last + 1, "{length} of {path:?}");
            assert!(!sample.opens());
            assert_eq!(fs::read(path).unwrap().len(), length);
        }
        fs::write(path, &good).unwrap();
    }
    assert!(sample.opens());
}

#[test]
fn a_log_cut_back_to_an_earlier_head_needs_an_expected_head_to_be_found() {
    let sample = sample();
    let last = files(sample.path()).pop().unwrap();
    let (_, range, ..) = sample.records.iter().rev().filter(|(.., entry)| !entry).nth(1).unwrap();
    let good = fs::read(&last).unwrap();
    fs::write(&last, &good[..range.end]).unwrap();
    assert_eq!(sample.outsider(), None);
    let broken = sample.keeper().unwrap();
    assert_eq!((broken.sequence, broken.fault), (37, Fault::CutBack));
    assert!(!sample.opens());
}

#[test]
fn records_dropped_swapped_doubled_or_moved_are_found_at_the_first_place() {
    let sample = sample();
    for pair in sample.records.windows(2) {
        let [(path, one, number, entry), (other, two, ..)] = pair else { continue };
        if path != other {
            continue;
        }
        let good = fs::read(path).unwrap();
        let (before, after) = (&good[..one.start], &good[two.end..]);
        let (first, second) = (&good[one.clone()], &good[two.clone()]);
        let tampered = [
            [before, second, after].concat(),
            [before, second, first, after].concat(),
            [before, first, first, second, after].concat(),
        ];
        for (way, bad) in tampered.into_iter().enumerate() {
            fs::write(path, &bad).unwrap();
            let broken = sample.outsider().unwrap_or_else(|| panic!("way {way} at {number}"));
            let last = if way == 2 { number + 1 } else { number + u64::from(!entry) };
            assert!((*number..=last).contains(&broken.sequence), "way {way} at {number}: {broken}");
            assert!(!sample.opens());
        }
        fs::write(path, &good).unwrap();
    }
    assert!(sample.opens());
}

#[test]
fn files_dropped_swapped_renamed_or_added_are_found() {
    let sample = sample();
    let all = files(sample.path());
    let first_of = |path: &Path| u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
    for (n, path) in all.iter().enumerate() {
        let good = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        let broken = sample.keeper().unwrap();
        assert_eq!(broken.sequence, first_of(path), "dropped");
        assert!(!sample.opens());
        let other = &all[(n + 1) % all.len()];
        let theirs = fs::read(other).unwrap();
        fs::write(path, &theirs).unwrap();
        fs::write(other, &good).unwrap();
        assert_eq!(sample.outsider().unwrap().sequence, first_of(path).min(first_of(other)), "swapped");
        assert!(!sample.opens());
        fs::write(path, &good).unwrap();
        fs::write(other, &theirs).unwrap();
    }
    let extra = sample.path().join("0000000000000005.log");
    fs::write(&extra, fs::read(&all[1]).unwrap()).unwrap();
    assert!(sample.outsider().is_some() && !sample.opens());
    fs::remove_file(&extra).unwrap();
    for name in ["5.log", "000000000000002A.log", "x.log"] {
        fs::write(sample.path().join(name), b"").unwrap();
        assert_eq!(sample.outsider().unwrap().fault, Fault::Stranger);
        assert!(!sample.opens());
        fs::remove_file(sample.path().join(name)).unwrap();
    }
    fs::create_dir(sample.path().join("lost+found")).unwrap();
    assert!(sample.opens());
}

#[test]
fn one_who_has_every_key_but_the_signing_one_is_found_at_the_first_group_they_rewrote() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path()).with_segment_bytes(7_000);
    for group in 0..4 {
        append(&mut log, group * 5 + 1..=group * 5 + 5);
    }
    let head = log.head();
    let forger = Arc::new(TestSigner::new(66));
    let mut forged = Log::open(dir.path(), ORIGIN, sealer(), forger, Arc::new(RealDisk), head, Frames::new()).unwrap();
    for group in 5..8 {
        append(&mut forged, group * 5 + 1..=group * 5 + 5);
    }
    for opener in [None, Some(sealer())] {
        let broken = verify(dir.path(), ORIGIN, opener.as_deref(), signer().public_key(), None).broken.unwrap();
        assert_eq!((broken.sequence, broken.fault), (21, Fault::Signature));
    }
    let log = open(dir.path(), head, Frames::new()).unwrap();
    assert_eq!(log.head(), head, "what is not signed by our key is no group of ours");
}

#[test]
fn the_wrong_public_key_fits_no_entry() {
    let sample = sample();
    let broken = verify(sample.path(), ORIGIN, None, TestSigner::new(2).public_key(), None).broken.unwrap();
    assert_eq!((broken.sequence, broken.fault), (1, Fault::Signature));
}

#[test]
fn a_seal_that_does_not_open_names_its_entry() {
    let sample = sample();
    let other = TestSealer::new(2);
    let broken = verify(sample.path(), ORIGIN, Some(&other), signer().public_key(), None).broken.unwrap();
    assert_eq!((broken.sequence, broken.fault), (1, Fault::Seal));
}
