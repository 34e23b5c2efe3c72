//! The kit against a target that leaks on purpose, one flaw at a time, and against its honest twin: a kit that misses a flaw is broken.

mod leaky;

use std::{
    cell::Cell,
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value as Json, json};

use super::{
    Conclusion, Effort, Outcome, PROBES, Plan, Run,
    report::{self, Mark},
    run,
    target::{About, Answer, Caller, Request, Target, Trouble},
    world::{Record, World, hospital},
};
use leaky::{FLAWS, Flaw, Leaky};

/// Records of the hospital that is asked about: small, so that the judge within the leaky target keeps up.
const RECORDS: usize = 160;
const SEEDS: u64 = 20;

fn plan(seed: u64, only: &[&str]) -> Plan {
    Plan {
        seed,
        effort: Effort::Quick,
        only: only.iter().map(|p| (*p).to_owned()).collect(),
        restarts: Some(24),
        questions: None,
        live: false,
        command: format!("control --seed {seed}"),
        connections: 2,
        breadth: None,
        stop: Arc::default(),
    }
}

fn attack(world: &World, seed: u64, only: &[&str], flaw: Option<Flaw>) -> Run {
    let opened = Cell::new(seed);
    let open = || {
        opened.set(opened.get() + 1_000);
        Ok(Box::new(Leaky::new(flaw, opened.get())) as Box<dyn Target>)
    };
    run(&plan(seed, only), world, &open, &mut |_| {}).unwrap()
}

/// 20 seeds where `WARDKEEP_TESTS=full` is set, one otherwise.
fn seeds() -> std::ops::RangeInclusive<u64> {
    let full = std::env::var("WARDKEEP_TESTS").is_ok_and(|v| v == "full");
    1..=if full { SEEDS } else { 1 }
}

#[test]
fn every_planted_flaw_is_found_by_the_probe_made_for_it_and_by_every_seed() {
    assert!(FLAWS.len() >= 10);
    let cases: Vec<_> = seeds().flat_map(|seed| FLAWS.iter().map(move |(flaw, probe)| (seed, *flaw, *probe))).collect();
    let missed = on_all_cores(&cases, |(seed, flaw, probe)| {
        let run = attack(&hospital(RECORDS, 16, *seed), *seed, &[probe], Some(*flaw));
        let [outcome] = &run.outcomes[..] else { panic!("{probe} did not run") };
        let named = outcome.findings.first().is_some_and(|f| f.reproduction.contains(probe));
        let found = outcome.broken.is_none() && outcome.violations > 0 && named;
        (!found).then(|| format!("seed {seed}: {probe} does not find {flaw:?}: {outcome:?}"))
    });
    assert!(missed.is_empty(), "{} of {} are not found:\n{}", missed.len(), cases.len(), missed.join("\n"));
}

/// What `judge` says of each case, cases taken by whoever is free.
fn on_all_cores<C: Sync>(cases: &[C], judge: impl Fn(&C) -> Option<String> + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut said = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            said.extend(judge(case));
        }
        said
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn the_honest_twin_comes_out_clean_of_every_probe() {
    let cases: Vec<_> = seeds().flat_map(|seed| PROBES.iter().map(move |probe| (seed, probe.name))).collect();
    let wrong = on_all_cores(&cases, |(seed, probe)| {
        let run = attack(&hospital(RECORDS, 16, *seed), *seed, &[probe], None);
        let [outcome] = &run.outcomes[..] else { panic!("{probe} did not run") };
        let clean = outcome.broken.is_none() && outcome.violations == 0 && outcome.trials > 0;
        (!clean).then(|| format!("seed {seed}: {outcome:?}"))
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_finding_names_ids_and_kinds_and_no_text_of_a_record() {
    let world = hospital(RECORDS, 16, 7);
    let run = attack(&world, 7, &["cross-patient", "twin-worlds"], Some(Flaw::NoFilter));
    let told = [report::terminal(&run), report::json(&run).to_string(), report::junit(&run), report::html(&run)];
    for text in &told {
        assert!(text.contains("rec-"), "{text}");
        for record in &world.records {
            assert!(!text.contains(&record.text), "{text}");
        }
    }
}

#[test]
fn a_run_is_repeated_by_its_seed() {
    let world = hospital(RECORDS, 16, 3);
    let found = |seed| {
        let run = attack(&world, seed, &["cross-patient"], Some(Flaw::NoFilter));
        run.outcomes.iter().map(|o: &Outcome| (o.asked, o.violations, o.findings.clone())).collect::<Vec<_>>()
    };
    assert_eq!(found(3), found(3));
    assert_ne!(found(3), found(4));
}

#[test]
fn each_probe_has_a_name_of_its_own_and_words_for_people() {
    let names: BTreeSet<_> = PROBES.iter().map(|p| p.name).collect();
    assert_eq!(names.len(), PROBES.len());
    assert!(PROBES.iter().all(|p| !p.title.is_empty() && p.about.ends_with('.')));
    // a flaw for each, so that none is never seen to find anything
    let with_flaw: BTreeSet<_> = FLAWS.iter().map(|(_, probe)| *probe).collect();
    assert_eq!(names, with_flaw);
}

/// Every part of a page that a browser would have to fetch, or that would run.
const FOREIGN: [&str; 6] = ["<script", "http://", "https://", "src=", "@import", "url("];

#[test]
fn the_page_stands_alone_and_says_its_pictures_in_words() {
    let run = attack(&hospital(RECORDS, 16, 2), 2, &["cross-patient", "starvation", "timing"], Some(Flaw::NoFilter));
    let page = report::html(&run);
    for foreign in FOREIGN {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let count = |what: &str| page.matches(what).count();
    assert!(page.contains("<html lang=\"en\">") && count("<h1>") == 1 && count("<caption>") == count("<table>"));
    assert_eq!(count("role=\"img\" aria-label="), count("<svg "));
    for tag in ["section", "table", "figure", "svg", "div", "p", "tr", "td", "th", "ul", "li", "main", "body", "html"] {
        let opened = count(&format!("<{tag}>")) + count(&format!("<{tag} "));
        assert_eq!(opened, count(&format!("</{tag}>")), "{tag}");
    }
}

#[test]
fn what_a_caller_or_target_is_called_cannot_break_a_report() {
    let mut run = attack(&hospital(RECORDS, 16, 2), 2, &["cross-patient"], Some(Flaw::NoFilter));
    let nasty = "<script>alert(1)</script>&\"'\u{0}]]>";
    run.about.name = nasty.to_owned();
    run.world = nasty.to_owned();
    run.outcomes[0].findings[0].caller = nasty.to_owned();
    run.outcomes[0].skipped.push(nasty.to_owned());
    for text in [report::html(&run), report::junit(&run)] {
        assert!(!text.contains("<script>") && !text.contains('\u{0}') && !text.contains("]]>"), "{text}");
    }
    assert_eq!(report::json(&run)["target"]["name"], nasty);
}

/// In a real browser, where `WARDKEEP_BROWSER` names one (`chromium`): the page renders on a screen and on paper.
#[test]
fn a_browser_shows_the_page_and_prints_it() {
    let Ok(browser) = std::env::var("WARDKEEP_BROWSER") else { return };
    let run = attack(&hospital(RECORDS, 16, 2), 2, &["cross-patient", "starvation", "timing"], Some(Flaw::NoFilter));
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("report.html"), report::html(&run)).unwrap();
    let (screen, paper) = (path("screen.png"), path("paper.pdf"));
    let shot = [format!("--screenshot={}", screen.display()), "--window-size=1280,2000".to_owned()];
    for arguments in [shot.to_vec(), vec![format!("--print-to-pdf={}", paper.display())]] {
        let mut command = std::process::Command::new(&browser);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]).args(arguments);
        let url = format!("file://{}", path("report.html").display());
        let done = command.arg(format!("--user-data-dir={}", path("profile").display())).arg(url).output().unwrap();
        assert!(done.status.success());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!said.contains("Content Security Policy"), "the style was refused: {said}");
    }
    let (screen, paper) = (std::fs::read(screen).unwrap(), std::fs::read(paper).unwrap());
    let side = |at: usize| u32::from_be_bytes(screen[at..at + 4].try_into().unwrap());
    assert_eq!((&screen[1..4], side(16), side(20)), (&b"PNG"[..], 1280, 2000));
    // an empty page of this size packs into a tenth of that
    assert!(
        screen.len() > 60_000 && paper.starts_with(b"%PDF") && paper.len() > 20_000,
        "{} {}",
        screen.len(),
        paper.len()
    );
    if let Ok(kept) = std::env::var("WARDKEEP_SCREENSHOT") {
        std::fs::write(kept, screen).unwrap();
    }
}

/// A store that is not there: every request of a caller is answered alike.
struct Shut {
    status: u16,
    body: Json,
    /// Requests that an honest store answers first.
    open_for: usize,
    honest: Leaky,
}

impl Target for Shut {
    fn about(&self) -> About {
        self.honest.about()
    }

    fn reset(&mut self, world: &World) -> Result<(), Trouble> {
        self.honest.reset(world)
    }

    fn put(&mut self, records: &[Record]) -> Result<(), Trouble> {
        self.honest.put(records)
    }

    fn erase(&mut self, ids: &[String]) -> Result<(), Trouble> {
        self.honest.erase(ids)
    }

    fn answer(&mut self, caller: &Caller, request: &Request) -> Result<Answer, Trouble> {
        if self.open_for > 0 {
            self.open_for -= 1;
            return self.honest.answer(caller, request);
        }
        Ok(Answer { status: self.status, body: self.body.to_string().into_bytes(), ..Answer::default() })
    }
}

fn against_shut(world: &World, status: u16, body: &Json, open_for: usize) -> Result<Run, Trouble> {
    let open = || {
        let honest = Leaky::new(None, 1);
        Ok(Box::new(Shut { status, body: body.clone(), open_for, honest }) as Box<dyn Target>)
    };
    run(&plan(1, &["cross-patient", "starvation"]), world, &open, &mut |_| {})
}

#[test]
fn a_store_that_lets_nobody_in_is_not_tested_at_all() {
    let world = hospital(RECORDS, 16, 1);
    let cases = [
        (401, json!({"code": "unauthenticated"}), "the key of"),
        (403, json!({"code": "forbidden"}), "may not search"),
        (404, json!({"code": "not_found"}), "there is no collection"),
        (501, json!("Unsupported method"), "answered with 501"),
        (200, json!("<html>"), "no store"),
        (200, json!({"results": []}), "is shown nothing"),
        (200, json!({"results": [{"id": "of-another-store"}]}), "not among those"),
    ];
    for (status, body, why) in cases {
        let refused = against_shut(&world, status, &body, 0).unwrap_err();
        let Trouble::Broken(told) = refused else { panic!("{status} {body}") };
        assert!(told.starts_with("nothing was tested: ") && told.contains(why), "{status} {body}: {told}");
    }
}

#[test]
fn a_probe_that_is_shown_nothing_is_not_tested_and_the_whole_is_never_clean() {
    let world = hospital(RECORDS, 16, 1);
    let run = against_shut(&world, 401, &json!({"code": "unauthenticated"}), world.callers.len()).unwrap();
    assert_eq!(run.conclusion(), Conclusion::NotTested);
    for outcome in &run.outcomes {
        assert_eq!((Mark::of(outcome), outcome.trials > 0), (Mark::NotTested, true), "{outcome:?}");
    }
    let (page, xml) = (report::html(&run), report::junit(&run));
    assert!(page.contains("Nothing was tested") && !page.contains("verdict clean"), "{page}");
    assert!(xml.contains("errors=\"3\"") && xml.contains("anything tested"), "{xml}");
    assert_eq!(report::json(&run)["verdict"], "not tested");
    assert!(report::terminal(&run).contains("NOT TESTED cross-patient"));
}

#[test]
fn a_whole_is_clean_only_if_every_probe_that_was_asked_for_ran() {
    let world = hospital(RECORDS, 16, 1);
    let whole = attack(&world, 1, &["cross-patient", "starvation"], None);
    assert_eq!(whole.conclusion(), Conclusion::Clean);
    // somebody's own store has no twin
    let open = || {
        let mut target = Leaky::new(None, 1);
        target.reset(&world)?;
        target.put(&world.records)?;
        Ok(Box::new(target) as Box<dyn Target>)
    };
    let with = |only: &[&str]| run(&Plan { live: true, ..plan(1, only) }, &world, &open, &mut |_| {}).unwrap();
    let part = with(&["cross-patient", "twin-worlds"]);
    assert_eq!(part.conclusion(), Conclusion::Gaps);
    assert!(report::terminal(&part).contains("1 of 2 probes did not run or saw nothing: twin-worlds"));
    let nothing = with(&["twin-worlds", "timing"]);
    assert_eq!((nothing.conclusion(), nothing.asked()), (Conclusion::NotTested, 0));
    assert!(!report::html(&nothing).contains("No leak was found"));
}
