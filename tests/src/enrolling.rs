//! Enrolment as it happens at a site: one officer opens a batch, the station imports, another officer looks at everybody drawn and
//! approves. The two officers are fictional; what they do goes through the server's own functions and rules.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use sallyport_domain::{EnrolmentId, OfficerId};
use sallyport_server::clock::SystemClock;
use sallyport_server::enrolments::{self, Order, OrderDetail};
use sallyport_server::installation;
use sallyport_server::state::AppState;

use crate::site::Site;

fn officer(number: u8) -> anyhow::Result<OfficerId> {
    format!("0192a000-0000-7000-8000-0000000000{number:02}")
        .parse()
        .context("an officer's identifier")
}

/// Opens the installation beside its running server, as the commands of the program do. On a thread of its own, since the caller
/// may be in a runtime.
fn with<T, F>(data: &Path, what: impl FnOnce(AppState) -> F + Send) -> anyhow::Result<T>
where
    T: Send,
    F: Future<Output = anyhow::Result<T>>,
{
    let done = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .context("starting a runtime")?;
                runtime.block_on(async {
                    let state = installation::open(data, Arc::new(SystemClock)).await?;
                    let done = what(state.clone()).await;
                    state.store.close().await;
                    done
                })
            })
            .join()
    });
    done.map_err(|_| anyhow::anyhow!("the officers' thread ended badly"))?
}

impl Site {
    /// The first officer opens a batch for a station.
    ///
    /// # Errors
    /// The server's functions refuse.
    pub fn open_batch(&self, station: &str) -> anyhow::Result<Order> {
        let station = station.parse().context("the station's name")?;
        with(&self.root.join("data"), |state| async move {
            let detail = OrderDetail {
                reason: "people of the demonstration".to_owned(),
                document: "drawn and stock pictures".to_owned(),
            };
            Ok(enrolments::open(&state, officer(1)?, &station, true, detail, None).await?)
        })
    }

    /// The first officer ends submission.
    ///
    /// # Errors
    /// The server's functions refuse.
    pub fn close_batch(&self, batch: EnrolmentId) -> anyhow::Result<()> {
        with(&self.root.join("data"), |state| async move {
            Ok(enrolments::close(&state, batch, &officer(1)?.to_string()).await?)
        })
    }

    /// The second officer looks at everybody drawn and approves; returns how many were enrolled, after the running server has
    /// taken them up.
    ///
    /// # Errors
    /// The server's functions refuse, somebody is doubtful, or the server does not take them up within a minute.
    pub fn approve_batch(&self, batch: EnrolmentId) -> anyhow::Result<usize> {
        let (enrolled, seq) = with(&self.root.join("data"), |state| async move {
            let second = officer(2)?;
            let found = enrolments::batch(&state, batch, second).await?;
            ensure!(
                found.doubtful.is_empty(),
                "{} people look like others",
                found.doubtful.len()
            );
            for id in &found.unseen {
                enrolments::review(&state, *id, second).await?;
            }
            let content = &found.content_sha256;
            let enrolled =
                enrolments::decide_batch(&state, batch, second, true, content, "").await?;
            Ok((enrolled, state.store.registry_seq().await?))
        })?;
        self.server.wait_until_said(|line| {
            line.split_once("followed=")
                .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next())
                .and_then(|number| number.parse::<i64>().ok())
                .is_some_and(|followed| followed >= seq)
        })?;
        Ok(enrolled)
    }
}
