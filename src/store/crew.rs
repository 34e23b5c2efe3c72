//! Reads rows on one thread and works on them on every core. Knows neither what they are nor what is done with them.

use std::{
    num::NonZero,
    panic::resume_unwind,
    sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel},
    thread,
};

use parking_lot::Mutex;

use super::{Engine, StoreError};

/// Rows that go from hand to hand at a time.
const BATCH_ROWS: usize = 128;
/// Batches that may wait; then the thread that reads works on one itself.
const WAITING: usize = 8;

type Batch = Vec<(Vec<u8>, Vec<u8>)>;

/// Calls `work` with every row, in no order; gives what each thread has gathered.
pub(super) fn each_row<W: Send>(
    engine: &dyn Engine,
    fresh: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, &[u8], &[u8]) + Sync,
) -> Result<Vec<W>, StoreError> {
    let (batches, inbox) = sync_channel(WAITING);
    let inbox = Mutex::new(inbox);
    let all = |gathered: &mut W, batch: Batch| batch.iter().for_each(|(key, value)| work(gathered, key, value));
    let helpers = thread::available_parallelism().map_or(1, NonZero::get).saturating_sub(1);
    thread::scope(|scope| {
        let help = || {
            let mut gathered = fresh();
            while let Some(batch) = next(&inbox) {
                all(&mut gathered, batch);
            }
            gathered
        };
        // where a thread cannot be had, there is one fewer
        let helping: Vec<_> = (0..helpers)
            .filter_map(|_| thread::Builder::new().name("rows".into()).spawn_scoped(scope, help).ok())
            .collect();
        let mut gathered = fresh();
        let read = read(engine, &batches, &mut |batch| all(&mut gathered, batch));
        drop(batches);
        loop {
            let waiting = inbox.lock().try_recv();
            match waiting {
                Ok(batch) => all(&mut gathered, batch),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        let joined = helping.into_iter().map(|helper| helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        let mut everybodys: Vec<W> = joined.collect();
        everybodys.push(gathered);
        read.map(|()| everybodys)
    })
}

fn next(inbox: &Mutex<Receiver<Batch>>) -> Option<Batch> {
    inbox.lock().recv().ok()
}

/// Reads all rows in batches; what nobody is free to take goes to `own`.
fn read(engine: &dyn Engine, batches: &SyncSender<Batch>, own: &mut dyn FnMut(Batch)) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    let mut hand_on = |batch: Batch| match batches.try_send(batch) {
        Ok(()) => {}
        Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => own(batch),
    };
    engine.scan(b"", &mut |key, value| {
        batch.push((key.to_vec(), value.to_vec()));
        if batch.len() == BATCH_ROWS {
            hand_on(std::mem::take(&mut batch));
        }
        Ok(())
    })?;
    hand_on(batch);
    Ok(())
}
