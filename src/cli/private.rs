//! What the operating system is told about this process's memory: keys and records lie in it.

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
};

/// Warns where keys and records may get onto a swap disk.
pub(super) fn warn_of_swap() {
    let swaps = std::fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1);
    if swaps && !may_lock() {
        tracing::warn!(
            "memory is not locked (RLIMIT_MEMLOCK has a limit) and this machine swaps: keys and records may get onto its swap disk; set LimitMEMLOCK=infinity, or encrypt the swap or turn it off"
        );
    }
}

/// No core dumps, no reading of it by others of its user, and none of it on a swap disk where the limits allow.
pub(super) fn keep_memory_private() -> std::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let limit = getrlimit(Resource::Memlock);
    if limit.maximum.is_none() && limit.current.is_some() {
        setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None })?;
    }
    if may_lock() {
        let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
    }
    Ok(())
}

/// With a limit, locking would make later allocations fail: then nothing is locked, and swap should be encrypted or off.
fn may_lock() -> bool {
    getrlimit(Resource::Memlock).current.is_none()
}
