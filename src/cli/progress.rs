//! Progress on a terminal, and nothing where there is none.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A counter of records, on standard error.
pub(super) fn counter(what: &'static str, total: Option<u64>) -> ProgressBar {
    let bar = match total {
        Some(total) => ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()),
        None => ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()),
    };
    let template = match total {
        Some(_) => "{msg} {bar:30} {human_pos}/{human_len} {per_sec} eta {eta}",
        None => "{msg} {spinner} {human_pos} {per_sec} {elapsed}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

/// Steps of a bar of parts.
pub(super) const PARTS: u64 = 1_000;

/// A bar of how much of the whole is done, on standard error.
pub(super) fn parts(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(PARTS), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent}% {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}
