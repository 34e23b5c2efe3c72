//! Why a store that was opened offline did not do it, in words.

use crate::{
    cli::Failure,
    engine::{Fault, Refusal},
};

/// The words of a refusal.
pub(super) fn words(refusal: Refusal) -> Failure {
    let fault = |f: &Fault| format!("{}{}", f.line.map(|l| format!("line {l}: ")).unwrap_or_default(), f.detail);
    Failure::Failed(match refusal {
        Refusal::Invalid(faults) => faults.iter().map(fault).collect::<Vec<_>>().join("\n"),
        Refusal::Conflict { detail, .. } => detail,
        Refusal::Unavailable(why) => why.to_owned(),
        Refusal::Absent => "there is no such collection or record".to_owned(),
        Refusal::Forbidden | Refusal::Unauthenticated => "not permitted".to_owned(),
        Refusal::Outdated { .. } | Refusal::Damaged => "the store could not answer".to_owned(),
    })
}
