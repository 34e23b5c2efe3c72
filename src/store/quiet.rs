//! Calls into a storage engine that may panic on damaged files: caught, said as damage, and nothing of them printed.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use super::EngineError;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs a call into an engine. Messages of its panics could print whole pages, so none is printed; on sled's own threads neither.
pub(super) fn quietly<T, E: Into<EngineError>>(call: impl FnOnce() -> Result<T, E>) -> Result<T, EngineError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let sleds_own = std::thread::current().name().is_some_and(|name| name.starts_with("sled"));
            if !sleds_own && !QUIET.get() {
                usual(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(call));
    QUIET.set(before);
    outcome.map_or(Err(EngineError::Corrupt), |done| done.map_err(Into::into))
}
