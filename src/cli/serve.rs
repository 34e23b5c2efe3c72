//! `serve`: the server.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use clap::Args;

use super::{Outcome, config::Config, offline, passphrase::PassphraseArgument, private};
use crate::{
    engine::{ClockBehind, Environment},
    http::{App, Timetable, serve},
    store::LedgerDoubt,
};

/// Address space for each thread's stack: enough for Cedar's evaluator at the bounds of a bundle, so that none has to be mapped for each
/// decision. Memory is taken only as it is touched.
const THREAD_STACK: usize = 64 << 20;

#[derive(Args)]
pub(super) struct Serve {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Address to listen on [default: 127.0.0.1:8470]; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "WARDKEEP_CONFIG")]
    config: Option<PathBuf>,
    /// Start although the clock is behind the last entry of the audit log: it had been ahead, and is right now
    #[arg(long)]
    accept_clock: bool,
    /// Start although the ledger of erasures and revocations is missing or older than the rest, and its copy too: a restore from an escrow of
    /// before will not know what was erased since
    #[arg(long)]
    accept_missing_ledger: bool,
    #[command(flatten)]
    passphrase: PassphraseArgument,
}

impl Serve {
    pub(super) fn run(self) -> Outcome {
        log_to_stderr();
        private::warn_of_swap();
        let config = Config::load(self.config.as_deref())?;
        let clock_behind = if self.accept_clock { ClockBehind::Accept } else { ClockBehind::Refuse };
        let ledger = if self.accept_missing_ledger { LedgerDoubt::Accept } else { LedgerDoubt::Refuse };
        let environment = Environment { anchor: config.anchor(), clock_behind, ledger, ..Environment::default() };
        let access = self.passphrase.read_with(config.keys())?;
        let engine = offline::open_with(environment, &self.data, &access, config.settings())?;
        engine.retain(config.retention()?);
        let listen = self.listen.unwrap_or_else(|| config.listen());
        let app = App::backing_up_to(config.backups(), Arc::new(engine), config.trusted_proxies());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(THREAD_STACK).build()?;
        runtime.block_on(async {
            let mut running = serve(app, listen).await?;
            if let Some(span) = config.answers_every() {
                running = running.leaving_by(Timetable::every(span)?);
            }
            println!("wardkeep listening on http://{}", running.address()?);
            running.until(stop_signal()).await
        })?;
        Ok(())
    }
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WARDKEEP_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // plain, and nothing but what is traced, whatever else is compiled into the subscriber
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).finish();
    let _ = tracing::subscriber::set_global_default(log);
}

/// Ends on SIGINT or SIGTERM; where signals cannot be had, never.
pub(super) async fn stop_signal() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(signal) => signal,
        Err(_) => return std::future::pending().await,
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
