//! Faults that are planted in the planner while a test says so: each must be caught. Only test builds have them.

use std::cell::Cell;

use super::{Counts, agree};

/// A fault, by what it gets wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Mutant {
    /// An error on the right of `&&`, `||` counts as false.
    ErrorOnTheRight,
    /// A policy that may hold or err counts as one that does neither.
    DoubtForgotten,
    /// `in` is false though an ancestor is not stored.
    AncestorNotStored,
    /// `5 < resource.x` is bound as `resource.x < 5`.
    OperandsNotExchanged,
    /// What was derived from an entity is not made anew when it changes.
    ChangeNotNoted,
    /// A plan is used again though the context is another.
    ContextForgotten,
    /// A decision forgets the policies that erred.
    ErrorsSkipped,
    /// `hasTag` on an entity that is not stored is false.
    MissingHasNoTags,
}

const ALL: [Mutant; 8] = [
    Mutant::ErrorOnTheRight,
    Mutant::DoubtForgotten,
    Mutant::AncestorNotStored,
    Mutant::OperandsNotExchanged,
    Mutant::ChangeNotNoted,
    Mutant::ContextForgotten,
    Mutant::ErrorsSkipped,
    Mutant::MissingHasNoTags,
];

thread_local! {
    static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Whether this fault is planted in this thread.
pub(in crate::policy) fn is_planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

/// What is right, or what is wrong if this fault is planted.
pub(in crate::policy) fn planted<T>(mutant: Mutant, right: T, wrong: impl FnOnce(T) -> T) -> T {
    if is_planted(mutant) { wrong(right) } else { right }
}

/// Bundles until a fault must be caught.
const PATIENCE: u64 = 400;

#[test]
fn every_planted_fault_is_caught() {
    let mut table = comfy_table::Table::new();
    table.set_header(["planted", "caught by seed", "after decisions", "as"]);
    let mut escaped = Vec::new();
    for mutant in ALL {
        PLANTED.set(Some(mutant));
        let mut counts = Counts::new();
        let caught = (1..=PATIENCE).find_map(|seed| Some((seed, agree(seed, &mut counts).err()?)));
        PLANTED.set(None);
        match caught {
            Some((seed, told)) => {
                assert_eq!(agree(seed, &mut Counts::new()), Ok(()), "without a fault");
                let told = told.split(": ").next().unwrap_or_default().to_owned();
                table.add_row([format!("{mutant:?}"), seed.to_string(), counts.decided.to_string(), told]);
            }
            None => escaped.push(mutant),
        }
    }
    println!("{table}");
    assert!(escaped.is_empty(), "not caught in {PATIENCE} bundles: {escaped:?}");
}
