//! What a probe came to: counts, findings, figures and plots. Knows nothing of how it was asked or is shown.

/// One leak, in ids and kinds alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What leaked: `id`, `text`, `status` ….
    pub kind: String,
    /// To whom.
    pub caller: String,
    /// Where and how, without content.
    pub detail: String,
    /// What shows it again.
    pub reproduction: String,
}

/// A measured value with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The value in words.
    pub value: String,
}

/// A picture of a probe's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// What it shows, in a sentence.
    pub title: String,
    /// Name and unit of the value.
    pub unit: String,
    /// Rows, in order.
    pub rows: Vec<Series>,
    /// A value to hold the rows against.
    pub mark: Option<f64>,
}

/// One row: a value, and the interval it may lie in.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its label.
    pub label: String,
    /// The value.
    pub value: f64,
    /// Its interval.
    pub interval: Option<(f64, f64)>,
}

/// What a probe came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The probe.
    pub probe: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What it asks, for people.
    pub about: &'static str,
    /// Requests sent.
    pub asked: u64,
    /// Attempts to make it leak.
    pub trials: u64,
    /// Attempts that did.
    pub violations: u64,
    /// Whether any record came back at all: where none did, silence says nothing.
    pub seeing: Seeing,
    /// The first of these, by kind and caller.
    pub findings: Vec<Finding>,
    /// What was measured besides.
    pub figures: Vec<Figure>,
    /// The verdict in figures, where it is no rate.
    pub measured: Option<String>,
    /// Pictures.
    pub plots: Vec<Plot>,
    /// Parts left out, and why.
    pub skipped: Vec<String>,
    /// Why it could not be finished.
    pub broken: Option<String>,
    /// Seconds.
    pub took_s: f64,
}

/// Whether a probe saw anything that it could have seen: its positive control.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Seeing {
    /// No record in any answer.
    #[default]
    Nothing,
    /// Some record in some answer.
    Something,
}
