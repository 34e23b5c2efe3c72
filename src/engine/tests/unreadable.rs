//! Records that cannot be read any more: what they hold back of retention and erasure, and what they do not.

use super::{erasing::id, *};
use crate::{
    audit::{Entry, Outcome, What},
    model::RecordId,
    store::{Store, StoreError, key_tests::Forensics},
};

/// Where in a stored record a byte is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoilt {
    /// It says that it lies under another key than it does.
    KeyName,
    /// What is sealed.
    Body,
}

impl Spoilt {
    fn at(self) -> usize {
        match self {
            Self::KeyName => 5,
            Self::Body => 60,
        }
    }
}

/// A bench on which records may have a day from which their time counts.
fn bench() -> Bench {
    let bench = Bench::with(Environment::default());
    let schema = SCHEMA.replace("patient?: Patient }", "patient?: Patient, written?: datetime }");
    let source = BundleSource { schema, policies: POLICIES.into(), ..crate::policy::starter() };
    let allow = Allow { widening: true, ..Allow::default() };
    bench.engine.put_policies(&bench.engine.operator_grant(&bench.engine.operator()), source, None, allow).unwrap();
    bench
}

/// Of long ago, or of a day to come.
fn dated(number: usize, patient: usize, day: &str) -> Line {
    let mut line = line(number, patient);
    if let Ok(draft) = &mut line.draft {
        draft.attributes["written"] = json!({"__extn": {"fn": "datetime", "arg": day}});
    }
    line
}

const OLD: &str = "2020-01-01";
const NEW: &str = "9999-01-01";

fn retain(bench: &Bench) {
    bench.engine.retain(vec![Retention { collection: notes(), attribute: "written".into(), days: 30 }]);
}

fn left(bench: &Bench) -> Vec<RecordId> {
    let world = bench.engine.world.read();
    let holding = world.holding(&notes()).unwrap();
    let all = (0..u32::try_from(holding.len() + 2_000).unwrap()).collect();
    let mut ids = holding.ids(&all);
    ids.sort();
    ids
}

fn entries_of(bench: &Bench, what: What) -> Vec<Entry> {
    let entries = bench.engine.audit(&bench.grant(), 0, 1_000, &Sieve::default()).unwrap().entries;
    entries.into_iter().map(|(_, entry)| entry).filter(|entry| entry.what == what).collect()
}

/// What is logged on this thread while `work` is done.
fn logged<T>(work: impl FnOnce() -> T) -> (T, String) {
    #[derive(Clone, Default)]
    struct Heard(Arc<Lock<Vec<u8>>>);
    impl std::io::Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let heard = Heard::default();
    let writer = heard.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let done = tracing::subscriber::with_default(subscriber, work);
    let text = String::from_utf8(heard.0.lock().clone()).unwrap();
    (done, text)
}

#[test]
fn one_record_that_cannot_be_read_keeps_none_of_a_thousand_others_from_expiring() {
    let bench = bench();
    let (all, spoilt) = (1_050, id(500));
    bench.ingest(&(0..all).map(|n| dated(n, n, OLD)).collect::<Vec<_>>());
    bench.engine.store.spoil(&notes(), &spoilt, Spoilt::Body.at());
    retain(&bench);
    assert_eq!(bench.engine.expire(), Err(Refusal::Damaged));
    assert_eq!(left(&bench), std::slice::from_ref(&spoilt));
    let expiry = bench.engine.expiry();
    assert_eq!((expiry.expired, expiry.unreadable, expiry.failed), (all as u64 - 1, 1, 1));
    bench.engine.store.spoil(&notes(), &spoilt, Spoilt::Body.at());
    assert_eq!(bench.engine.expire(), Ok(1), "once it can be read it goes");
    assert_eq!((left(&bench), bench.engine.expiry().unreadable), (Vec::new(), 0));
}

#[test]
fn what_shares_a_key_with_what_cannot_be_read_stays_with_it_and_is_told_of_until_it_goes_too() {
    for spoilt in [Spoilt::KeyName, Spoilt::Body] {
        let bench = bench();
        // of each patient two that are due and one that is not
        let of = |patient: usize| [OLD, OLD, NEW].map(|day| (patient, day));
        let lines = (0..4).flat_map(of).enumerate().map(|(n, (patient, day))| dated(n, patient, day));
        bench.ingest(&lines.collect::<Vec<_>>());
        // one that is due, and of another patient the one that is not
        let damaged = [id(3), id(8)];
        damaged.iter().for_each(|id| bench.engine.store.spoil(&notes(), id, spoilt.at()));
        retain(&bench);
        let (came, log) = logged(|| bench.engine.expire());
        assert_eq!(came, Err(Refusal::Damaged), "{spoilt:?}");
        assert_eq!(left(&bench), [2, 3, 4, 5, 6, 7, 8, 11].map(id), "{spoilt:?}: of the others what is due is gone");
        let expiry = bench.engine.expiry();
        assert_eq!((expiry.expired, expiry.unreadable, expiry.failed, expiry.last_whole), (4, 4, 1, 0));
        let lines: Vec<_> = log.lines().filter(|line| line.contains("outlived its time")).collect();
        assert!(lines.len() == 1 && lines[0].contains("ERROR") && lines[0].contains("unreadable=4"), "{log}");
        let content = ["r0000", "p1", "p2", "a text"];
        assert!(!content.iter().any(|content| log.contains(content)), "{log}");
        let told = entries_of(&bench, What::Expire).pop().unwrap();
        assert_eq!((told.outcome, told.detail.as_deref()), (Outcome::Failed, Some("unreadable")));
        assert_eq!(told.records, [3, 4, 6, 7].map(id));

        assert_eq!(bench.engine.expire(), Err(Refusal::Damaged), "it is tried again");
        assert_eq!((bench.engine.expiry().unreadable, bench.engine.expiry().failed), (4, 2));
        damaged.iter().for_each(|id| bench.engine.store.spoil(&notes(), id, spoilt.at()));
        assert_eq!(bench.engine.expire(), Ok(4));
        assert_eq!(left(&bench), [2, 5, 8, 11].map(id));
        let expiry = bench.engine.expiry();
        assert!(expiry.unreadable == 0 && expiry.last_whole > 0);
    }
}

#[test]
fn a_patient_is_erased_with_their_key_though_one_of_their_records_cannot_be_read() {
    for spoilt in [Spoilt::KeyName, Spoilt::Body] {
        let bench = bench();
        bench.ingest(&[line(0, 1), line(1, 1), line(2, 2), line(3, 3)]);
        let (gone, stays) = ([bench.stored(0), bench.stored(1)], bench.stored(2));
        let before = bench.copied();
        bench.engine.store.spoil(&notes(), &id(1), spoilt.at());
        assert!(bench.engine.store.record(&notes(), &id(1)).is_err());
        let erasure = Erasure::Patient("p1".into(), Own::Kept);
        let erased = bench.engine.erase_certified(&bench.grant(), &erasure).unwrap();
        assert_eq!((erased.erased, erased.certificate.is_some()), (2, true));
        let remains = Forensics::of(bench.engine.store.ring(), &[&before, &bench.dir()]);
        assert!(!gone.iter().any(|record| remains.reads_in(&notes(), record)), "{spoilt:?}");
        assert!(remains.reads_in(&notes(), &stays));
        assert_eq!(bench.erase(&Erasure::Patient("p3".into(), Own::Kept)).erased, 1, "others are erased as ever");
        assert_eq!(left(&bench), [id(2)]);
        // what was changed behind its back a store tells at its next start, whatever became of it
        let dir = bench.dir();
        let Bench { engine, _home, .. } = bench;
        engine.close();
        drop(engine);
        let passphrase = Passphrase::from_bytes(b"correct horse battery staple".to_vec()).unwrap();
        let refused = Store::open(&dir, &passphrase, &Default::default()).err();
        assert_eq!(refused, Some(StoreError::Lost(crate::store::Kind::Record)));
    }
}

#[test]
fn where_what_stays_of_a_patient_cannot_be_read_nothing_of_theirs_is_erased_but_all_of_it_together() {
    let bench = bench();
    bench.ingest(&(0..3).map(|n| line(n, 1)).chain([line(3, 2), line(4, 2)]).collect::<Vec<_>>());
    let gone: Vec<_> = (0..3).map(|n| bench.stored(n)).collect();
    let before = bench.copied();
    bench.engine.store.spoil(&notes(), &id(1), Spoilt::Body.at());
    let one = Erasure::Records(vec![id(0)]);
    assert_eq!(bench.engine.erase(&bench.grant(), &one), Err(Refusal::Damaged));
    assert_eq!(left(&bench).len(), 5, "nothing was erased");
    let told = entries_of(&bench, What::Erase).pop().unwrap();
    assert_eq!((told.outcome, told.counts.returned), (Outcome::Failed, None), "{:?}", told.detail);
    assert_eq!(bench.erase(&Erasure::Records(vec![id(3)])).resealed, Some(1), "nobody else is held back");
    // the one that cannot be read goes alone, and the others lie under a fresh key
    assert_eq!(bench.erase(&Erasure::Records(vec![id(1)])).erased, 1);
    let remains = Forensics::of(bench.engine.store.ring(), &[&before]);
    assert!(!gone.iter().any(|record| remains.reads_in(&notes(), record)), "the old key is gone");
    assert!((0..3).step_by(2).all(|n| bench.stored(n).record == gone[n].record));
    assert_eq!(bench.erase(&one).erased, 1);
}

#[test]
fn a_record_that_does_not_say_truly_which_key_it_lies_under_is_not_erased_from_among_others_of_its_patient() {
    let bench = bench();
    bench.ingest(&(0..3).map(|n| line(n, 1)).collect::<Vec<_>>());
    bench.engine.store.spoil(&notes(), &id(1), Spoilt::KeyName.at());
    assert_eq!(bench.engine.erase(&bench.grant(), &Erasure::Records(vec![id(1)])), Err(Refusal::Damaged));
    assert_eq!(left(&bench).len(), 3);
    assert_eq!(entries_of(&bench, What::Erase).pop().unwrap().outcome, Outcome::Failed);
    assert_eq!(bench.erase(&Erasure::Patient("p1".into(), Own::Kept)).erased, 3);
    assert!(left(&bench).is_empty());
}

#[test]
fn a_rotation_renews_every_key_but_that_of_a_record_that_cannot_be_read_and_ends_once_it_can() {
    for spoilt in [Spoilt::KeyName, Spoilt::Body] {
        let bench = bench();
        bench.ingest(&(0..20).map(|n| line(n, n)).collect::<Vec<_>>());
        let (before, stays) = (bench.copied(), bench.stored(19));
        bench.engine.store.spoil(&notes(), &id(7), spoilt.at());
        let keys = bench.engine.authorise_keys(&bench.caller(), &NOWHERE).unwrap();
        bench.engine.rotate_keys(&keys).unwrap();
        let wait_until = |done: &dyn Fn(&KeyStatus) -> bool| {
            let began = std::time::Instant::now();
            while !done(&bench.engine.key_status(&keys).unwrap()) {
                assert!(began.elapsed() < PATIENCE, "{spoilt:?}: {:?}", bench.engine.key_status(&keys));
                thread::yield_now();
            }
        };
        wait_until(&|status| status.renewed + 1 == status.data_keys);
        assert_ne!(bench.engine.key_status(&keys).unwrap().state, RotationState::Current);
        bench.erase(&Erasure::Patient("p3".into(), Own::Kept));
        bench.engine.store.spoil(&notes(), &id(7), spoilt.at());
        wait_until(&|status| status.state == RotationState::Current);
        assert!(!Forensics::of(bench.engine.store.ring(), &[&before]).reads_in(&notes(), &stays));
        assert!(bench.engine.store.verify().unwrap().is_sound());
    }
}
