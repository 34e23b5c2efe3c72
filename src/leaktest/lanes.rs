//! Many requests to one target at once, over connections of their own; answers come back in the order of the requests. Knows nothing of what is asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::target::{Answer, Caller, Request, Target, Trouble};

/// What one is to ask.
pub(super) type Asked = (Caller, Request);

/// Asks over at most `most` connections; over the one that there is where the target cannot be asked from several sides.
pub(super) fn ask(target: &mut dyn Target, asked: &[Asked], most: usize) -> Vec<Result<Answer, Trouble>> {
    let lanes: Vec<_> = (0..most.min(asked.len())).map_while(|_| target.beside().ok()).collect();
    if lanes.len() < 2 {
        return asked.iter().map(|(caller, request)| target.answer(caller, request)).collect();
    }
    let next = AtomicUsize::new(0);
    let mut answers: Vec<(usize, Result<Answer, Trouble>)> = std::thread::scope(|scope| {
        let running: Vec<_> = lanes.into_iter().map(|lane| scope.spawn(|| along(lane, asked, &next))).collect();
        running.into_iter().flat_map(|lane| lane.join().unwrap_or_default()).collect()
    });
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// One connection: whatever is next, until nothing is.
fn along(mut lane: Box<dyn Target>, asked: &[Asked], next: &AtomicUsize) -> Vec<(usize, Result<Answer, Trouble>)> {
    let mut answers = Vec::new();
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some((caller, request)) = asked.get(at) else { return answers };
        answers.push((at, lane.answer(caller, request)));
    }
}
