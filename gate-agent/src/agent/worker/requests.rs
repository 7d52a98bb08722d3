//! Requests to the server, each in a thread of its own, so that a slow server never stops the camera.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use sallyport_domain::{QualityDefect, TransactionId, Verdict};
use sallyport_protocol::{
    PROTOCOL_VERSION, PassageDecision, PassageRequest, Probe, SuccessorProbes, SuccessorsKept,
};

use super::{Note, Open, Shared, Worker};
use crate::door::Expected;
use crate::event::AgentEvent;
use crate::uplink::UplinkError;

impl Worker {
    pub(super) fn submit(
        &mut self,
        transaction: TransactionId,
        track: u64,
        people: u8,
        defects: Vec<QualityDefect>,
    ) -> Result<(), String> {
        let capture = self
            .observer
            .capture()
            .map_err(|error| error.to_string())?
            .ok_or("the person left before a sample was ready")?;
        let (_, nonce) = self
            .shared
            .deps
            .new_transaction(self.shared.deps.clock.wall())
            .map_err(|error| error.to_string())?;
        let attachment = self
            .sealing
            .seal_jpeg(
                &capture.best_frame_jpeg,
                &transaction.to_string(),
                &*self.shared.deps.random,
            )
            .map_err(|error| error.to_string())?;
        let mut probes = vec![
            Probe::new(
                self.observer.model(),
                capture.template,
                capture.quality,
                capture.samples,
            )
            .map_err(|error| error.to_string())?,
        ];
        let mut pad = capture.pad;
        let mut successors = Vec::new();
        if let Some(eyes) = &self.eyes {
            let eyes = eyes.capture(track);
            probes.extend(eyes.probes);
            successors = eyes.successors;
            pad.votes.extend(eyes.votes);
        }
        let request = PassageRequest {
            version: PROTOCOL_VERSION,
            transaction,
            gate: self.shared.gate.clone(),
            direction: self.shared.direction,
            captured_at: capture.captured_at,
            claim: None,
            probes,
            pad,
            people_in_view: people.max(1),
            defects,
            door_nonce: nonce.clone(),
            attachment: Some(attachment),
        };
        let first_sent = self.shared.deps.clock.mono();
        let deadline = first_sent.plus(self.policy.decide_timeout);
        self.open = Some(Open {
            expected: Expected {
                transaction,
                nonce,
                first_sent,
            },
            successors,
            by_models: true,
            cancel: Arc::new(AtomicBool::new(false)),
        });
        self.background("passage", transaction, false, move |shared| {
            Some(
                shared
                    .uplink
                    .passage_until(&request, deadline, &shared.stop),
            )
        })?;
        self.shared.came_during_release(transaction);
        self.shared.emit(AgentEvent::Submitted { transaction });
        Ok(())
    }

    /// While models change: after the door was released, what the next models make of the same samples. The person has passed by
    /// then, so nothing waits for it, and what fails here comes with the next passage.
    pub(super) fn send_successors(&mut self, transaction: TransactionId) {
        let mine = |open: &&mut Open| open.by_models && open.expected.transaction == transaction;
        let Some(open) = self.open.as_mut().filter(mine) else {
            return;
        };
        let mut probes = std::mem::take(&mut open.successors);
        match self.observer.successor() {
            Ok(face) => probes.extend(face),
            Err(error) => {
                tracing::warn!(transaction.id = %transaction, "the next face model failed: {error}");
            }
        }
        if probes.is_empty() {
            return;
        }
        let message = SuccessorProbes {
            version: PROTOCOL_VERSION,
            transaction,
            gate: self.shared.gate.clone(),
            probes,
        };
        let sent = self.background("successors", transaction, false, move |shared| {
            match shared.uplink.successors(&message) {
                Ok(SuccessorsKept { kept: 0 }) => {}
                Ok(SuccessorsKept { kept }) => shared.emit(AgentEvent::Successors {
                    transaction,
                    kept,
                }),
                Err(error) => {
                    tracing::warn!(transaction.id = %transaction, "new references were not taken: {error}");
                }
            }
            None
        });
        if let Err(problem) = sent {
            tracing::warn!("{problem}");
        }
    }

    pub(super) fn await_review(&mut self, transaction: TransactionId) {
        let Some(open) = &self.open else {
            return;
        };
        let cancel = open.cancel.clone();
        let started = self.background("review", transaction, true, move |shared| {
            while !cancel.load(Ordering::SeqCst) && !shared.stop.is_set() {
                match shared.uplink.review(transaction) {
                    // An answer that comes after the person left is passed on too, so that its
                    // order is reported as not obeyed.
                    Ok(Some(decision)) if decision.verdict != Verdict::Refer => {
                        return Some(Ok(decision));
                    }
                    Ok(_) => {
                        shared
                            .deps
                            .clock
                            .wait(&shared.stop, Duration::from_millis(200));
                    }
                    Err(error) if error.is_passing() => {
                        tracing::warn!(transaction.id = %transaction, "the review waits: {error}");
                        shared.deps.clock.wait(&shared.stop, Duration::from_secs(1));
                    }
                    Err(error) => return Some(Err(error)),
                }
            }
            None
        });
        if let Err(problem) = started {
            self.undecided(transaction, problem);
        }
    }

    /// Runs a request in a thread of its own and puts its answer into the inbox. Their number is
    /// bounded: one request at a time, and those of people who left end by their own time-out.
    fn background(
        &self,
        name: &str,
        transaction: TransactionId,
        reviewed: bool,
        ask: impl FnOnce(&Shared) -> Option<Result<PassageDecision, UplinkError>> + Send + 'static,
    ) -> Result<(), String> {
        let shared = self.shared.clone();
        // A review is not counted: while one is awaited the gate is not idle anyway, and a cancelled
        // one must not hold up the end of `run --once` by its long poll.
        let counted = usize::from(!reviewed);
        shared.in_flight.fetch_add(counted, Ordering::SeqCst);
        let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Some(result) = ask(&shared) {
                shared.inbox.put_note(Note::Decision {
                    transaction,
                    result,
                    reviewed,
                });
            }
            shared.in_flight.fetch_sub(counted, Ordering::SeqCst);
        });
        started.map(drop).map_err(|error| {
            self.shared.in_flight.fetch_sub(counted, Ordering::SeqCst);
            format!("a thread could not be started: {error}")
        })
    }
}
