//! Delivery of spooled reports and heartbeats.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sallyport_domain::Timestamp;
use sallyport_protocol::{DegradedCause, Heartbeat, HeartbeatAnswer, PROTOCOL_VERSION, paths};

use super::Shared;
use crate::event::AgentEvent;
use crate::renewal::{Attempts, Phase, Renewer};
use crate::state::StateFolder;
use crate::uplink::UplinkError;

/// Pause between looks at the spool.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Delivers reports in their order until stopped. A report that the server refuses for good stays
/// in the spool and does not hold up the others.
pub(super) fn deliver(shared: &Arc<Shared>) {
    let mut pause = LOOK_EVERY;
    let mut told: BTreeSet<u64> = BTreeSet::new();
    while shared.deps.clock.wait(&shared.stop, pause) {
        pause = match deliver_all(shared, &mut told) {
            Ok(()) => LOOK_EVERY,
            Err(()) => (pause * 2).min(LONGEST_PAUSE),
        };
    }
}

/// `Err` when the server or the disk failed, so that it is tried again later.
fn deliver_all(shared: &Shared, told: &mut BTreeSet<u64>) -> Result<(), ()> {
    let mut after = 0;
    let mut refused = false;
    loop {
        if shared.stop.is_set() {
            return Ok(());
        }
        let pending = match shared.spool.next_after(after) {
            Ok(Some(pending)) => pending,
            Ok(None) => return if refused { Err(()) } else { Ok(()) },
            Err(error) => {
                tracing::error!("{error}");
                return Err(());
            }
        };
        after = pending.number;
        let signed = (pending.path == paths::DOOR_REPORT)
            .then(|| shared.journal.signed_door_report(&pending.json))
            .flatten();
        let json = signed.as_deref().unwrap_or(&pending.json);
        match shared.uplink.report(pending.path, json) {
            Ok(()) => {
                if let Err(error) = shared.spool.delivered(pending.number) {
                    tracing::error!("{error}");
                    return Err(());
                }
                told.remove(&pending.number);
                shared.emit(AgentEvent::Delivered {
                    number: pending.number,
                });
            }
            Err(error) if error.is_passing() => {
                tracing::warn!(report.number = pending.number, "a report waits: {error}");
                return Err(());
            }
            Err(error) => {
                refused = true;
                if told.insert(pending.number) {
                    tracing::error!(
                        report.number = pending.number,
                        "the server does not take a report; it is kept: {error}"
                    );
                }
            }
        }
    }
}

/// Tells the server at once and then every so often how the gate is.
pub(super) fn heartbeats(shared: &Arc<Shared>, state: &StateFolder, every: Duration) {
    let mut failing = false;
    let mut written = None;
    let mut profile_trouble = None;
    loop {
        let cameras = shared.camera_texts();
        if written.as_ref() != Some(&cameras) {
            // For `status` only; a full disk must not stop the heartbeat.
            match state.keep_health(&cameras) {
                Ok(()) => written = Some(cameras.clone()),
                Err(error) => tracing::warn!("{error}"),
            }
        }
        if let Some(missing) = shared.no_camera() {
            shared.degraded(DegradedCause::Camera, missing);
        }
        let heartbeat = Heartbeat {
            version: PROTOCOL_VERSION,
            gate: shared.gate.clone(),
            now: shared.deps.clock.wall(),
            cameras: cameras.clone(),
            spooled: u64::try_from(shared.spool.waiting()).unwrap_or(u64::MAX),
            log: Some(shared.witness.seen()),
        };
        let mut at_once = false;
        match shared.uplink.heartbeat(&heartbeat) {
            Ok(answer) => {
                // Before everything else that an answer means.
                obey(shared, &answer);
                if failing {
                    tracing::info!("the server answers again");
                }
                failing = false;
                shared.degraded(DegradedCause::Network, false);
                shared.degraded(DegradedCause::Server, false);
                watch_clock(shared, answer.now);
                at_once = watch_log(shared, &answer);
                learn_profile(shared, &mut profile_trouble);
                shared.emit(AgentEvent::Heartbeat);
            }
            Err(error) => {
                if !failing {
                    tracing::warn!("{error}");
                }
                failing = true;
                if let Some(cause) = error.cause() {
                    shared.degraded(cause, true);
                }
                shared.emit(AgentEvent::HeartbeatFailed {
                    problem: error.to_string(),
                });
            }
        }
        // An alarm is told to the server with the next heartbeat: that one does not wait.
        if !at_once && !shared.deps.clock.wait(&shared.stop, every) {
            return;
        }
        if shared.stop.is_set() {
            return;
        }
    }
}

/// A supervisor's order to free the doors, or to end that.
fn obey(shared: &Shared, answer: &HeartbeatAnswer) {
    let Some(order) = &answer.release else {
        return;
    };
    match shared
        .release_orders
        .take(order, answer.now, &shared.ongoing)
    {
        Ok(true) => {
            tracing::error!("a supervisor's order about a release for life safety is obeyed")
        }
        Ok(false) => {}
        Err(error) => {
            tracing::error!("{error}");
            shared.emit(AgentEvent::Trouble {
                problem: error.to_string(),
            });
        }
    }
}

/// A gate's clock may differ from the server's by this much.
const SKEW_MS: i64 = 2_000;

/// Compares the clocks. Doors do not depend on the gate's: it is an entry of the log, and the server makes one, too.
fn watch_clock(shared: &Shared, theirs: Timestamp) {
    let ours = shared.deps.clock.wall();
    let range = shared
        .uplink
        .server_time()
        .and_then(|time| time.at(shared.deps.clock.mono()));
    let (earliest, latest) = range.unwrap_or((theirs, theirs));
    let wrong = ours < earliest.plus_millis(-SKEW_MS) || ours > latest.plus_millis(SKEW_MS);
    shared.degraded(DegradedCause::Clock, wrong);
}

/// Renews the gate's certificate at half its life, until stopped.
pub(super) fn renewals(shared: &Arc<Shared>, mut renewer: Renewer) {
    let mut attempts = Attempts::default();
    let mut told = Phase::Due;
    loop {
        // The later of the two clocks: asking too early does no harm.
        let now = shared.clock_for_certificates();
        let phase = renewer.life().phase(now);
        if phase > told {
            let problem = renewer.life().sentence(now);
            tracing::error!("{problem}");
            shared.emit(AgentEvent::Certificate {
                until: renewer.life().not_after,
                problem,
            });
        }
        told = phase.max(Phase::Due);
        let pause = if renewer.is_due(now) {
            match renewer.renew() {
                Ok(()) => {
                    let until = renewer.life().not_after;
                    tracing::info!(until = until.to_rfc3339(), "the gate has a new certificate");
                    shared.emit(AgentEvent::Certificate {
                        until,
                        problem: String::new(),
                    });
                    attempts.worked()
                }
                Err(error) => {
                    tracing::warn!("{error}");
                    attempts.failed(renewer.life(), now)
                }
            }
        } else {
            Attempts::nothing_due()
        };
        if !shared.deps.clock.wait(&shared.stop, pause) {
            return;
        }
    }
}

/// Asks for the jurisdiction profile and takes it. What is wrong with it is said once; what was known then stays.
fn learn_profile(shared: &Shared, told: &mut Option<String>) {
    // A log that betrayed this gate proves nothing.
    if shared.witness.alarm().is_some() {
        return;
    }
    let kept = shared.witness.kept();
    let query = shared
        .rules
        .query(kept.as_ref().map_or(0, |kept| kept.size));
    let problem = match shared.uplink.profile(&query) {
        Ok(None) => None,
        Ok(Some(word)) => match shared.rules.take(&word, kept.as_ref()) {
            Ok(true) => {
                tracing::info!("{}", shared.rules.sentence());
                None
            }
            Ok(false) => None,
            Err(error) => Some((error.to_string(), true)),
        },
        // A server of before does not tell it, and one that is away tells nothing.
        Err(error) => Some((
            error.to_string(),
            matches!(error, UplinkError::BadAnswer(_)),
        )),
    };
    let Some((problem, is_trouble)) = problem else {
        *told = None;
        return;
    };
    if told.as_ref() == Some(&problem) {
        return;
    }
    tracing::warn!("the jurisdiction profile: {problem}");
    if is_trouble {
        shared.emit(AgentEvent::Trouble {
            problem: problem.clone(),
        });
    }
    *told = Some(problem);
}

/// Judges what the server shows of the audit log; `true` when this raised an alarm.
fn watch_log(shared: &Shared, answer: &HeartbeatAnswer) -> bool {
    let before = shared.witness.alarm().is_some();
    let result = shared.witness.take(answer, shared.deps.clock.wall());
    if let Err(error) = result {
        tracing::error!("the gate's memory of the audit log: {error}");
    }
    let alarm = shared.witness.alarm();
    shared.degraded(DegradedCause::LogAlarm, alarm.is_some());
    match alarm {
        Some(alarm) if !before => {
            let problem = format!(
                "ALARM about the audit log: {}. This gate opens on no grant until people have looked into it; evidence is in its state folder, witness/alarm",
                alarm.what
            );
            tracing::error!("{problem}");
            shared.emit(AgentEvent::Trouble { problem });
            true
        }
        Some(_) | None => false,
    }
}
