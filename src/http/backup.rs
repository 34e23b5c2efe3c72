//! Backups into the directory that the configuration names or as a stream, and escrows.

use std::{
    io::{self, ErrorKind, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

use tokio::{
    runtime::Handle,
    sync::{
        mpsc::{Receiver, Sender, channel, error::TrySendError},
        watch,
    },
    task::JoinHandle,
};

use super::{
    App,
    problem::Problem,
    session::{Session, answer, run},
};
use crate::{
    engine::{Circumstances, ManageKeys, Refusal},
    model::limits,
};

/// Chunks of a stream on their way, each of at most so many bytes.
const CHUNKS: usize = 4;
const CHUNK_BYTES: usize = 256 << 10;
/// While nobody takes a chunk, whoever makes the stream is asked so often whether it may go on.
const PAUSE: Duration = Duration::from_millis(500);
/// How long streams that were told to end are waited for.
const ENDING: Duration = Duration::from_secs(10);

/// The streams under way, so that they can be ended before the store is closed.
pub(super) struct Streams {
    pub(super) ending: watch::Sender<bool>,
    /// How long a stream waits for whoever reads it.
    pub(super) stall: Duration,
}

impl Default for Streams {
    fn default() -> Self {
        Self { ending: watch::Sender::new(false), stall: Duration::from_millis(limits::BACKUP_STALL_MS) }
    }
}

impl Streams {
    /// Breaks off what is under way, and waits until the log says so.
    pub(super) async fn end(&self) {
        self.ending.send_replace(true);
        let _ = tokio::time::timeout(ENDING, self.ending.closed()).await;
    }
}

pub(super) async fn back_up(State(app): State<Arc<App>>, session: Session) -> Result<Response, Problem> {
    let dir = app.backups.clone();
    let taken = run(&app, move |engine| {
        let grant = engine.authorise::<ManageKeys>(&session.caller, &session.origin, Circumstances::default())?;
        Ok(dir.map(|dir| engine.back_up(&grant, &dir, &|_| ())))
    })
    .await?;
    let detail = "the server has no directory for backups: set `backup.directory` in its configuration";
    let taken = taken.ok_or_else(|| Problem::invalid("no_backup_directory", detail))?;
    Ok(answer(&taken?))
}

/// A whole backup as the answer. It is refused like any other request until its first byte; after that an error breaks the connection off,
/// and what was sent is told from a whole one by its end.
pub(super) async fn stream(State(app): State<Arc<App>>, session: Session) -> Result<Response, Problem> {
    let grant = run(&app, move |engine| {
        engine.authorise::<ManageKeys>(&session.caller, &session.origin, Circumstances::default())
    })
    .await?;
    let (sender, mut chunks) = channel(CHUNKS);
    let (engine, broken) = (Arc::clone(&app.engine), Arc::new(AtomicBool::new(false)));
    let (ending, stall) = (app.streams.ending.subscribe(), app.streams.stall);
    let told = Arc::clone(&broken);
    let making = tokio::task::spawn_blocking(move || {
        let mut pipe = Pipe { chunks: sender, runtime: Handle::current(), ending, stall, waiting: None };
        let mut permitted = engine.while_permitted(&grant, &mut pipe);
        let made = engine.stream_backup(&grant, &mut permitted, &|_| ()).map(drop);
        told.store(made.is_err(), Ordering::Release);
        made
    });
    match chunks.recv().await {
        Some(first) => {
            let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))];
            Ok((kind, Sending { next: Some(first), chunks, broken, making }.body()).into_response())
        }
        None => match making.await {
            Ok(Err(refusal)) => Err(refusal.into()),
            Ok(Ok(())) | Err(_) => Err(Refusal::Damaged.into()),
        },
    }
}

/// Hands bytes to the connection, and waits for it no longer than a bound.
struct Pipe {
    chunks: Sender<Bytes>,
    runtime: Handle,
    ending: watch::Receiver<bool>,
    stall: Duration,
    /// Since when nobody takes anything.
    waiting: Option<Instant>,
}

impl Write for Pipe {
    /// What is not taken at once is `Interrupted`, so that whoever writes can look around before it tries again.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..CHUNK_BYTES).unwrap_or(bytes);
        if *self.ending.borrow() {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        match self.chunks.try_reserve().map(|room| room.send(Bytes::copy_from_slice(piece))) {
            Ok(()) => {
                self.waiting = None;
                Ok(piece.len())
            }
            Err(TrySendError::Closed(())) => Err(ErrorKind::BrokenPipe.into()),
            Err(TrySendError::Full(())) => Err(self.pause()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pipe {
    /// Waits a while for room, or for the end.
    fn pause(&mut self) -> io::Error {
        let left = self.stall.saturating_sub(self.waiting.get_or_insert_with(Instant::now).elapsed());
        if left.is_zero() {
            return ErrorKind::TimedOut.into();
        }
        let (chunks, ending) = (&self.chunks, &mut self.ending);
        let something = async {
            tokio::select! {
                room = chunks.reserve() => drop(room),
                _ = ending.wait_for(|ending| *ending) => {}
            }
        };
        let _ = self.runtime.block_on(async { tokio::time::timeout(left.min(PAUSE), something).await });
        ErrorKind::Interrupted.into()
    }
}

/// A backup on its way out.
struct Sending {
    next: Option<Bytes>,
    chunks: Receiver<Bytes>,
    /// Whether it came to nothing: then what is still here of it does not leave.
    broken: Arc<AtomicBool>,
    making: JoinHandle<Result<(), Refusal>>,
}

impl Sending {
    fn body(self) -> Body {
        Body::from_stream(futures_util::stream::unfold(Some(self), |sending| async {
            let mut sending = sending?;
            match sending.next.take() {
                Some(chunk) => Some((Ok(chunk), Some(sending))),
                None => sending.further().await,
            }
        }))
    }

    /// The next chunk; where there is none, whether the backup is whole.
    async fn further(mut self) -> Option<(io::Result<Bytes>, Option<Self>)> {
        let chunk = self.chunks.recv().await.filter(|_| !self.broken.load(Ordering::Acquire));
        if let Some(chunk) = chunk {
            return Some((Ok(chunk), Some(self)));
        }
        match self.making.await {
            Ok(Ok(())) => None,
            Ok(Err(_)) | Err(_) => Some((Err(ErrorKind::BrokenPipe.into()), None)),
        }
    }
}

pub(super) async fn escrow(State(app): State<Arc<App>>, session: Session) -> Result<Response, Problem> {
    let escrow = run(&app, move |engine| {
        let grant = engine.authorise::<ManageKeys>(&session.caller, &session.origin, Circumstances::default())?;
        engine.escrow(&grant)
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))], escrow).into_response())
}
