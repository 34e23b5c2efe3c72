//! Listening, and ending well: what was acknowledged is finished before the process goes.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use axum::middleware::from_fn_with_state;
use tokio::net::TcpListener;

use super::{
    App, Timetable, router, timetable,
    wire::{Listening, Patience, Peer},
};

/// How often summed failures of sign-in are looked at.
const TICK: Duration = Duration::from_secs(5);
/// How long requests under way are waited for at the end.
const GRACE: Duration = Duration::from_secs(30);

/// A server that listens.
pub struct Running {
    listener: TcpListener,
    app: Arc<App>,
    grace: Duration,
    timetable: Option<Arc<Timetable>>,
}

/// Binds; port 0 takes any free one.
pub async fn serve(app: Arc<App>, listen: SocketAddr) -> std::io::Result<Running> {
    Ok(Running { listener: TcpListener::bind(listen).await?, app, grace: GRACE, timetable: None })
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The same, waiting so long at the end for requests under way.
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// The same, whose answers leave on time.
    pub fn leaving_by(self, timetable: Timetable) -> Self {
        Self { timetable: Some(Arc::new(timetable)), ..self }
    }

    /// Serves until `stop` is done, finishes the requests under way, and closes the store.
    pub async fn until(self, stop: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
        let ticking = tokio::spawn(tick(Arc::clone(&self.app)));
        let expiring = tokio::spawn(expire(Arc::clone(&self.app)));
        let routes = match self.timetable {
            Some(table) => router(Arc::clone(&self.app)).layer(from_fn_with_state(table, timetable::keep)),
            None => router(Arc::clone(&self.app)),
        };
        let service = routes.into_make_service_with_connect_info::<Peer>();
        let (ending, ended) = tokio::sync::oneshot::channel::<()>();
        let stop = async move {
            stop.await;
            let _ = ending.send(());
        };
        let serving =
            axum::serve(Listening::new(self.listener, Patience::default()), service).with_graceful_shutdown(stop);
        let grace = self.grace;
        // A client that never finishes must not keep the store from being closed.
        let served = tokio::select! {
            served = serving => served,
            () = async { let _ = ended.await; tokio::time::sleep(grace).await } => Ok(()),
        };
        ticking.abort();
        expiring.abort();
        self.app.streams.end().await;
        let engine = Arc::clone(&self.app.engine);
        let closed = tokio::task::spawn_blocking(move || engine.close()).await;
        served.and(closed.map_err(std::io::Error::other))
    }
}

async fn expire(app: Arc<App>) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let engine = Arc::clone(&app.engine);
        let _ = tokio::task::spawn_blocking(move || engine.expire_due()).await;
    }
}

async fn tick(app: Arc<App>) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let engine = Arc::clone(&app.engine);
        let _ = tokio::task::spawn_blocking(move || engine.write_failures(false)).await;
    }
}
