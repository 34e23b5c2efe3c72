//! Chooses between the scan and the walk, and between the passes of a scan, by what each would cost: the scan grows with
//! what is permitted, the walk with what must be passed to find it.

use crate::model::{Isolation, Metric};

/// Permitted rows below which a scan is cheaper than any walk.
pub const WALK_PERMITTED_MIN: u64 = 4_000;
/// Hits wanted at most: a walk keeps several times as many candidates, and loses to the scan beyond.
pub const WALK_WANTED_MAX: usize = 100;
/// Share of removed nodes up to which a graph is walked.
pub const WALK_DEAD_MAX: f64 = 0.25;
/// Admitted candidates kept by a walk, at least.
pub const BREADTH_MIN: usize = 128;
/// Admitted candidates kept for each hit wanted, at least.
pub const BREADTH_PER_HIT: usize = 4;
/// Nodes that a walk visits for each candidate it keeps, where all are permitted (measured: 11 to 13 with the hubs, over
/// 20,000 clustered rows). Where a share is, as many more as the share is smaller. A guess to begin with: rows without
/// clusters need many more, so a graph doubles it each time a walk runs out of its budget.
pub const VISITS_PER_CANDIDATE: u64 = 10;
/// Beyond this no walk is ever planned.
pub const VISITS_PER_CANDIDATE_MAX: u64 = 10_000;
/// Visits added, for each that is expected, as the share of removed nodes nears one: the ways round them.
pub const DETOURS: f64 = 5.0;
/// Rows that a scan scores in the time of one visit: a walk jumps about in memory, a scan runs along it.
pub const ROWS_PER_VISIT: u64 = 3;
/// The same where the scan reads codes of a bit a component.
pub const CODED_ROWS_PER_VISIT: u64 = 25;
/// Rows of a long scan that a row beside a walk costs as much as, up to [`BYTES_BESIDE_MAX`] rows, which are read by their bytes. Beyond, they
/// are read as a long scan reads them, and what turning the question takes first is as much as those cost.
pub const ROWS_PER_ROW_BESIDE: u64 = 5;
/// Times as many visits as were expected, after which a walk is given up: with the scan that follows it then cost about
/// three times the scan alone, at the very most.
pub const PATIENCE: u64 = 2;
/// How far an answer may lie from its question, as a multiple of how far its rows lie from rows that the graph links them with; further
/// away walks end where nothing around is nearer, and not at the nearest (measured: see `tests::walks`).
pub const FAR: f32 = 1.35;
/// Walks that are remembered, about, to tell how many are in vain. As many times that a scan was planned for it are worth one of these.
pub const WALKS_REMEMBERED: u64 = 16;
/// Live rows from which a graph is worth its memory.
pub const GRAPH_ROWS_MIN: u64 = 10_000;
/// A graph is built anew when the rows that it does not cover exceed this share of those it does ...
pub const TAIL_SHARE_MAX: f64 = 0.25;
/// ... or when this share of its nodes was removed.
pub const DEAD_SHARE_MAX: f64 = 0.15;

/// Why permitted rows were scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The collection is strict: answer and work may depend on permitted rows alone.
    Strict,
    /// The inner product of vectors of any length is not a metric: a row need not be near itself, so that
    /// neighbourhoods, and with them recall, cannot be relied on.
    NotAMetric,
    /// No graph is built yet.
    NoGraph,
    /// Too much of the graph was removed.
    Worn,
    /// Few rows are permitted.
    FewPermitted,
    /// So small a share is permitted that a walk would cost more.
    SmallShare,
    /// So many of the permitted rows came after the graph that what a walk spares of the others does not pay for it.
    LongTail,
    /// So many walks were in vain of late that the scans after them cost more than walks spare.
    VainWalks,
    /// Many hits are wanted.
    ManyWanted,
    /// The exact scan was asked for.
    Asked,
}

/// How to answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Plan {
    Scan(Why),
    Walk { breadth: usize, budget: u64 },
}

/// What is known before a search.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) isolation: Isolation,
    pub(super) metric: Metric,
    /// The share of dead nodes of the graph, if there is one.
    pub(super) dead_share: Option<f64>,
    /// What the graph has learned of its walks.
    pub(super) visits_per_candidate: u64,
    /// The share of walks that were in vain of late: all that is permitted was scanned after them.
    pub(super) vain_share: f64,
    pub(super) permitted: u64,
    /// Of these, what came after the graph and is scanned beside a walk.
    pub(super) permitted_later: u64,
    pub(super) live: u64,
    /// Of these, what came after the graph.
    pub(super) later: u64,
    /// There are codes of the rows.
    pub(super) coded: bool,
    pub(super) wanted: usize,
}

pub(super) fn plan(facts: Facts) -> Plan {
    if let Some(why) = never(facts.isolation, facts.metric) {
        return Plan::Scan(why);
    }
    let Some(dead_share) = facts.dead_share else { return Plan::Scan(Why::NoGraph) };
    if dead_share > WALK_DEAD_MAX {
        Plan::Scan(Why::Worn)
    } else if facts.permitted < WALK_PERMITTED_MIN {
        Plan::Scan(Why::FewPermitted)
    } else if facts.wanted > WALK_WANTED_MAX {
        Plan::Scan(Why::ManyWanted)
    } else {
        let breadth = BREADTH_MIN.max(facts.wanted.saturating_mul(BREADTH_PER_HIT));
        let all = (facts.visits_per_candidate * breadth as u64) as f64 * (1.0 + DETOURS * dead_share);
        let named = facts.live.saturating_sub(facts.later) as f64;
        let permitted = facts.permitted.saturating_sub(facts.permitted_later).max(1) as f64;
        let expected = (all * named / permitted) as u64;
        let walked = expected.saturating_mul(facts.rows_per_visit());
        if walked > facts.permitted {
            Plan::Scan(Why::SmallShare)
        } else if walked.saturating_add(facts.rows_beside()) > facts.permitted {
            Plan::Scan(Why::LongTail)
        } else if (walked + facts.rows_beside()) as f64 > facts.permitted as f64 * (1.0 - facts.vain_share) {
            Plan::Scan(Why::VainWalks)
        } else {
            Plan::Walk { breadth, budget: expected.saturating_mul(PATIENCE) }
        }
    }
}

impl Facts {
    fn rows_per_visit(&self) -> u64 {
        if self.coded { CODED_ROWS_PER_VISIT } else { ROWS_PER_VISIT }
    }

    /// Rows that a scan of all reads in the time that the scan beside a walk takes.
    fn rows_beside(&self) -> u64 {
        let dear = if self.coded { self.permitted_later.min(BYTES_BESIDE_MAX) } else { 0 };
        self.permitted_later + dear * (ROWS_PER_ROW_BESIDE - 1)
    }
}

/// Why such a collection never has a graph.
pub(super) fn never(isolation: Isolation, metric: Metric) -> Option<Why> {
    match (isolation, metric) {
        (Isolation::Strict, Metric::Cosine | Metric::Dot | Metric::Euclidean) => Some(Why::Strict),
        (Isolation::Fast, Metric::Dot) => Some(Why::NotAMetric),
        (Isolation::Fast, Metric::Cosine | Metric::Euclidean) => None,
    }
}

/// Permitted rows up to which bytes are read of all: below, turning the question costs more than its bits save.
pub const BYTES_PERMITTED_MAX: u64 = 1_500;
/// The same where it is known what an answer must score, so that bits need no candidates (measured, 384 components: 5.9 us for 300 rows by
/// bytes, 5.2 by bits; for 1,000 21 and 7).
pub const BYTES_BESIDE_MAX: u64 = 300;
/// Candidates that go from bits to bytes, whatever is wanted, and for each hit wanted. They only have to say how near the last of the
/// answer is, about: what may well be as near goes to bytes after them, and to find it costs a look at what the bits said. More of them
/// cost more than they spare (measured: from 60 to 300 for ten hits, a tenth to a third more time for every class of caller).
pub const CANDIDATES: (usize, usize) = (30, 3);
/// Finalists that go from codes to vectors, beyond those wanted: at least, and a share of what is wanted.
pub const FINALISTS: (usize, usize) = (6, 4);
/// Candidates for each permitted row up to which a pass over bits is worth it.
pub const CANDIDATE_SHARE: u64 = 4;

/// What the first pass of a scan reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Vectors.
    Exact,
    /// Codes of a byte a component.
    Bytes,
    /// Codes of a bit a component.
    Bits,
    /// The same, where it is known what an answer must score.
    BitsAbove,
}

/// How sure the answer of a scan must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// As sure as the errors of the codes, of which the scan keeps account, allow.
    Usual,
    /// Certain: as `Usual`, beginning with the given pass, but nothing is left out between passes. For tests.
    #[cfg(test)]
    Full(Pass),
}

impl Effort {
    /// The pass over so many rows; whether it is known what they must score to be wanted.
    pub(super) fn pass(self, permitted: u64, wanted: usize, bar_is_known: bool) -> Pass {
        let few = |most: usize, share: u64| permitted <= (most as u64).saturating_mul(share);
        match self {
            Self::Usual if few(self.finalists(wanted), 2) => Pass::Exact,
            Self::Usual if bar_is_known && permitted > BYTES_BESIDE_MAX => Pass::BitsAbove,
            Self::Usual if permitted <= BYTES_PERMITTED_MAX => Pass::Bytes,
            Self::Usual if few(self.candidates(wanted), CANDIDATE_SHARE) => Pass::Bytes,
            Self::Usual => Pass::Bits,
            #[cfg(test)]
            Self::Full(pass) => pass,
        }
    }

    pub(super) fn candidates(self, wanted: usize) -> usize {
        match self {
            Self::Usual => wanted.saturating_mul(CANDIDATES.1).saturating_add(CANDIDATES.0),
            #[cfg(test)]
            Self::Full(_) => usize::MAX,
        }
    }

    pub(super) fn finalists(self, wanted: usize) -> usize {
        match self {
            Self::Usual => wanted.saturating_add(FINALISTS.0.max(wanted / FINALISTS.1)),
            #[cfg(test)]
            Self::Full(_) => usize::MAX,
        }
    }
}
