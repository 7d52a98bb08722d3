//! `serve`: opens the installation, loads the gallery, listens, and keeps the log's checkpoints fresh.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::config::Config;
use crate::state::AppState;
use crate::{
    audit, break_glass, console, enrolments, gate_api, hardening, installation, log_codes, monitor,
    officers, outside, presence, profiles, promises, refusals, registry, release_orders, replicas,
    retention, rights, streams, tls, witness,
};

/// Enrolments are looked after this often.
const ENROLMENTS_EVERY: Duration = Duration::from_secs(30);
/// The registry is compared with the log this often.
const COMPARE_EVERY: Duration = Duration::from_secs(300);
/// Whether a day has passed since the last retention is looked at this often.
const RETENTION_EVERY: Duration = Duration::from_secs(600);
/// A checkpoint follows an entry within this.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// Runs the server until SIGTERM or Ctrl-C. `secret` is what the key file needs.
///
/// # Errors
/// It cannot start; the sentence says what to do.
pub async fn run(
    data: &Path,
    clock: Arc<dyn Clock>,
    secret: Option<Zeroizing<String>>,
) -> anyhow::Result<()> {
    Config::load(data)?;
    let _alone = installation::lock(data)?;
    let state = installation::open_with(data, clock, secret.as_ref()).await?;
    drop(secret);
    #[cfg(feature = "oidc")]
    if let Some(oidc) = &state.config.oidc {
        crate::oidc::check_files(data, oidc).context("[oidc] in server.toml")?;
    }
    let entries = audit::check(&state).await?;
    let loaded = registry::load(&state)
        .await
        .context("loading the gallery")?;
    hardening::check_gallery(&state)?;
    tracing::info!(
        references = loaded.references,
        failed = loaded.failed,
        entries,
        "gallery loaded, log checked"
    );
    // Emergency access is used at `localhost`; no browser shall warn of the name then.
    let mut names = state.config.hostnames.clone();
    if !names.iter().any(|name| name == "localhost") {
        names.push("localhost".to_owned());
    }
    let identity = state.authority.server_identity(&names, state.clock.now())?;
    let gate_listener = listen(state.config.gate_listen).await?;
    let console_listener = listen(state.config.console_listen).await?;
    let monitor_listener = match state.config.monitor_listen {
        Some(address) => Some((listen(address).await?, tls::console_config(&identity)?)),
        None => None,
    };
    let gate_tls = tls::gate_config(&identity, state.authority.der())?;
    let console_tls = tls::console_config(&identity)?;
    let (stop, stopped) = watch::channel(false);
    let mut started = audit::entry("server_started", state.clock.now())?;
    started.about = state
        .config
        .monitor_listen
        .map(|address| format!("log served to monitors at {address}"));
    audit::record(&state, started)
        .await
        .context("writing to the audit log")?;
    profiles::first_start(&state)
        .await
        .context("setting the jurisdiction profile chosen with init")?;
    invite_the_first(&state).await?;
    let mut servers = vec![
        tokio::spawn(tls::serve_gates(
            gate_listener,
            gate_tls,
            gate_api::router(state.clone()),
            stopped.clone(),
            state.clone(),
        )),
        tokio::spawn(tls::serve(
            console_listener,
            console_tls,
            console::router(state.clone()),
            stopped.clone(),
        )),
    ];
    if let Some((listener, tls)) = monitor_listener {
        servers.push(tokio::spawn(tls::serve_few(
            listener,
            tls,
            monitor::router(state.clone()),
            stopped.clone(),
        )));
    }
    let following = tokio::spawn(replicas::follow(state.clone(), stopped.clone()));
    let watching = tokio::spawn(witness::watch_over(state.clone(), stopped.clone()));
    let asking = tokio::spawn(outside::ask_always(state.clone(), stopped.clone()));
    let streaming = tokio::spawn(streams::run(state.clone(), stopped.clone()));
    let chores = tokio::spawn(chores(state.clone(), stopped));
    // Before anybody is told that the server runs: from now on it ends in good order.
    let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("listening for SIGTERM")?;
    tracing::info!(gates = %state.config.gate_listen, console = %state.config.console_listen, "listening");
    signalled(terminate).await?;
    tracing::info!("stopping");
    let _ = stop.send(true);
    for server in servers {
        server.await.context("a listener ended badly")?;
    }
    following.await.context("the change feed ended badly")?;
    chores.await.context("the background work ended badly")?;
    streaming.await.context("the streams ended badly")?;
    asking
        .await
        .context("asking outside witnesses ended badly")?;
    watching.await.context("the check of the log ended badly")?;
    let ended = audit::entry("server_stopped", state.clock.now())?;
    audit::record(&state, ended)
        .await
        .context("writing to the audit log")?;
    audit::publish(&state)
        .await
        .context("signing the last checkpoint")?;
    state.store.close().await;
    Ok(())
}

/// While nobody has an account: a link for the first administrator, on standard output only, never in the operator's log.
async fn invite_the_first(state: &AppState) -> anyhow::Result<()> {
    let link = officers::first_link(state)
        .await
        .context("looking for officers' accounts")?;
    if let Some(link) = link {
        let mut out = std::io::stdout().lock();
        let printed = writeln!(
            out,
            "Nobody has an account yet. The first administrator opens this link within 15 minutes; it works once:\n{link}"
        );
        if let Err(error) = printed.and_then(|()| out.flush()) {
            tracing::warn!(error = %error, "the link for the first administrator could not be printed; make one: sallyport-server officer setup-link --role administrator");
        }
    }
    Ok(())
}

async fn listen(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen at {address}; is another server running there? Change the address in server.toml")
    })
}

async fn signalled(mut terminate: tokio::signal::unix::Signal) -> anyhow::Result<()> {
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        pressed = tokio::signal::ctrl_c() => pressed.context("listening for Ctrl-C"),
    }
}

/// Checkpoints, until the server stops. Failures are tried again at the next turn.
async fn chores(state: AppState, mut stop: watch::Receiver<bool>) {
    let mut checkpoint = tokio::time::interval(CHECKPOINT_EVERY);
    let mut housekeeping = tokio::time::interval(ENROLMENTS_EVERY);
    let mut compare = tokio::time::interval(COMPARE_EVERY);
    // Not at the very start, when people want to pass.
    let first = tokio::time::Instant::now() + RETENTION_EVERY;
    let mut retention = tokio::time::interval_at(first, RETENTION_EVERY);
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            _ = housekeeping.tick() => {
                if let Err(error) = enrolments::house(&state).await {
                    tracing::error!(%error, "enrolments could not be looked after");
                }
            }
            _ = retention.tick() => {
                if let Err(error) = retention::nightly(&state).await {
                    tracing::error!(%error, "data whose time is over could not be deleted");
                }
            }
            _ = compare.tick() => {
                if let Err(error) = profiles::follow(&state).await {
                    tracing::error!(%error, "the jurisdiction profile could not be followed");
                }
                if let Err(error) = enrolments::ledger::compare(&state).await {
                    tracing::error!(%error, "the registry could not be compared with the log");
                }
                if let Err(error) = rights::compare(&state).await {
                    tracing::error!(%error, "accounts and gates could not be compared with the log");
                }
            }
            _ = checkpoint.tick() => {
                if let Err(error) = witness::publish(&state).await {
                    tracing::error!(error = %error, "no checkpoint could be signed and stored");
                }
                release_orders::catch_up(&state).await;
                let watched = async {
                    refusals::flush(&state).await?;
                    // What other processes logged, such as requests for a second person, is shown soon.
                    enrolments::ledger::catch_up(&state).await?;
                    log_codes::tell(&state).await?;
                    presence::look(&state).await?;
                    promises::look(&state).await?;
                    break_glass::look(&state).await
                };
                if let Err(error) = watched.await {
                    tracing::error!(error = %error, "refusals, silent gates, missed promises and late reviews could not be logged");
                }
            }
        }
    }
}
