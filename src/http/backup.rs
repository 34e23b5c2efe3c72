//! Backups into the directory that the configuration names or as a stream, and escrows.

use std::{
    io::{self, ErrorKind, Write},
    sync::Arc,
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

use tokio::{
    runtime::Handle,
    sync::mpsc::{Receiver, Sender, channel},
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
const STALL: Duration = Duration::from_millis(limits::BACKUP_STALL_MS);

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
    let engine = Arc::clone(&app.engine);
    let making = tokio::task::spawn_blocking(move || {
        let mut pipe = Pipe { chunks: sender, runtime: Handle::current() };
        let mut permitted = engine.while_permitted(&grant, &mut pipe);
        engine.stream_backup(&grant, &mut permitted, &|_| ()).map(drop)
    });
    match chunks.recv().await {
        Some(first) => {
            let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))];
            Ok((kind, Sending { next: Some(first), chunks, making }.body()).into_response())
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
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..CHUNK_BYTES).unwrap_or(bytes);
        let sent = self.runtime.block_on(tokio::time::timeout(STALL, self.chunks.send(Bytes::copy_from_slice(piece))));
        match sent {
            Ok(Ok(())) => Ok(piece.len()),
            Ok(Err(_)) => Err(ErrorKind::BrokenPipe.into()),
            Err(_) => Err(ErrorKind::TimedOut.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A backup on its way out.
struct Sending {
    next: Option<Bytes>,
    chunks: Receiver<Bytes>,
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
        if let Some(chunk) = self.chunks.recv().await {
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
