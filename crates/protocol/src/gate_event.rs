//! What a gate went through by itself: releases for life safety, times without a server, officers' acts on the spot. Signed, numbered
//! and chained, so that a missing or exchanged one shows.

use serde::{Deserialize, Serialize};

use sallyport_domain::{GateId, Timestamp, TransactionId};

/// One event of a gate. It travels as the exact JSON line that was signed, in [`SignedGateEvent`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateEvent {
    /// Always [`GateEvent::PURPOSE`], so that no other signed text can be taken for an event.
    pub purpose: String,
    /// Which gate.
    pub gate: GateId,
    /// Number of the agent's start; `mono_us` compares within one only.
    pub epoch: u64,
    /// 1 for the first event under this key, then one more each, across restarts.
    pub sequence: u64,
    /// SHA-256 of the event before, hexadecimal; empty for the first.
    pub previous: String,
    /// Microseconds since the agent's start, by a clock that never steps.
    pub mono_us: u64,
    /// By the gate's wall clock.
    pub at: Timestamp,
    /// What happened.
    pub body: GateEventBody,
}

impl GateEvent {
    /// The fixed value of `purpose`.
    pub const PURPOSE: &'static str = "sallyport/gate-event/1";

    /// Name of the key that signs a gate's events.
    #[must_use]
    pub fn key_name(gate: &GateId) -> String {
        format!("sallyport/gate-events/{gate}")
    }
}

/// What happened at the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum GateEventBody {
    /// Doors are free for life safety; no grant was needed.
    LifeSafetyBegan {
        /// Names this release.
        release: TransactionId,
        /// What asked for it.
        source: LifeSafetySource,
        /// Which doors.
        doors: Vec<String>,
        /// The officer, as he named himself; empty for the fire input.
        officer: String,
        /// The officer's reason; empty for the fire input.
        reason: String,
        /// Found at the agent's start: the door was released and the agent ended before it could say so.
        found: bool,
    },
    /// Doors obey grants again.
    LifeSafetyEnded {
        /// Which release.
        release: TransactionId,
        /// Found at the agent's start; it ended some time before.
        found: bool,
    },
    /// Somebody came to the gate while its doors were free. Whatever the decision says, the door did not hold this person back.
    LifeSafetyPassage {
        /// Which release.
        release: TransactionId,
        /// Which passage or failed acquisition.
        transaction: TransactionId,
    },
    /// From now on something is missing that decisions need: doors stay shut, people are sent to an officer.
    DegradedBegan {
        /// What.
        cause: DegradedCause,
    },
    /// It is there again.
    DegradedEnded {
        /// What.
        cause: DegradedCause,
        /// When it began, by the gate's wall clock.
        began_at: Timestamp,
        /// People for whom there was no decision meanwhile.
        undecided: u64,
        /// The agent ended meanwhile; this was found at its next start.
        found: bool,
    },
    /// Somebody stood at the gate and no decision could be had; the door stayed shut.
    Undecided {
        /// Which passage.
        transaction: TransactionId,
    },
    /// An officer decided on the spot, without the system, and wrote it down at the gate.
    OfficerDecided {
        /// The passage that could not be decided, where one is meant.
        transaction: Option<TransactionId>,
        /// What was decided.
        decision: SpotDecision,
        /// The officer, as he named himself.
        officer: String,
        /// Why.
        reason: String,
    },
}

/// What asked for a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LifeSafetySource {
    /// The input from the fire alarm system.
    FireInput,
    /// The input is broken, and the gate is set up to release then.
    InputFault,
    /// An officer at the gate machine.
    Officer,
    /// A supervisor through the console.
    Console,
}

impl LifeSafetySource {
    /// The stable name used in files and the audit log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::FireInput => "fire_input",
            Self::InputFault => "fire_input_fault",
            Self::Officer => "officer",
            Self::Console => "console",
        }
    }
}

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DegradedCause {
    /// The server cannot be reached.
    Network,
    /// The server answers with errors.
    Server,
    /// The server cannot write its audit log.
    LogNotWritable,
    /// The gate found the audit log changed.
    LogAlarm,
    /// The gate's clock and the server's differ.
    Clock,
    /// No camera for faces works.
    Camera,
    /// Pictures cannot be analysed.
    Model,
    /// The fire input cannot be read.
    FireInput,
}

impl DegradedCause {
    /// The stable name used in files and the audit log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Server => "server",
            Self::LogNotWritable => "log_not_writable",
            Self::LogAlarm => "log_alarm",
            Self::Clock => "clock",
            Self::Camera => "camera",
            Self::Model => "model",
            Self::FireInput => "fire_input",
        }
    }
}

/// What an officer decided on the spot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpotDecision {
    /// Let through, by key or by hand.
    Admitted,
    /// Turned away.
    TurnedAway,
}

impl SpotDecision {
    /// The stable name used in files and the audit log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::TurnedAway => "turned_away",
        }
    }
}

/// An event with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedGateEvent {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u16,
    /// Which gate.
    pub gate: GateId,
    /// The key, as in signed notes.
    pub key: String,
    /// Signed note: one line of JSON, a [`GateEvent`].
    pub note: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_and_unknown_fields_are_refused() {
        let at = Timestamp::from_micros(5);
        let event = GateEvent {
            purpose: GateEvent::PURPOSE.to_owned(),
            gate: "front-in".parse().unwrap(),
            epoch: 1,
            sequence: 2,
            previous: "00".repeat(32),
            mono_us: 3,
            at,
            body: GateEventBody::DegradedEnded {
                cause: DegradedCause::Network,
                began_at: at,
                undecided: 1,
                found: false,
            },
        };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<GateEvent>(&text).unwrap(), event);
        let more = text.replacen('{', "{\"more\":1,", 1);
        assert!(serde_json::from_str::<GateEvent>(&more).is_err());
        let inner = text.replace("\"cause\"", "\"more\":1,\"cause\"");
        assert!(serde_json::from_str::<GateEvent>(&inner).is_err());
        assert_eq!(
            GateEvent::key_name(&event.gate),
            "sallyport/gate-events/front-in"
        );
    }
}
