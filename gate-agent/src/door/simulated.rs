//! A door for demonstrations and tests: a bell, a line in `door.log`, and a state file.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use sallyport_domain::{GateId, Timestamp, TransactionId};

use super::{Door, DoorFault, ReleasePermit};
use crate::durable;
use crate::life_safety::LifeSafetyDoor;

/// There while the door is free for life safety.
const LIFE_SAFETY: &str = "life-safety";
/// One JSON object for each time that the door was freed or restored.
const LIFE_SAFETY_LOG: &str = "life-safety.log";

/// Writes what a relay would do. `door.log` holds one JSON object a line, `door.state` the newest.
pub struct SimulatedDoor {
    gate: GateId,
    folder: PathBuf,
    bell: bool,
}

impl SimulatedDoor {
    /// A door that writes into `folder`; `bell` also rings the terminal's bell.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(gate: GateId, folder: &Path, bell: bool) -> Result<Self, DoorFault> {
        fs::create_dir_all(folder)
            .map_err(|error| DoorFault(format!("cannot create {}: {error}", folder.display())))?;
        Ok(Self {
            gate,
            folder: folder.to_owned(),
            bell,
        })
    }
}

impl Door for SimulatedDoor {
    fn release(&mut self, permit: ReleasePermit, at: Timestamp) -> Result<(), DoorFault> {
        let line = serde_json::json!({
            "at": at.to_rfc3339(),
            "gate": self.gate,
            "transaction": permit.transaction(),
            "door": "released",
        })
        .to_string();
        let fault = |error: std::io::Error| DoorFault(error.to_string());
        let mut log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.folder.join("door.log"))
            .map_err(fault)?;
        log.write_all(format!("{line}\n").as_bytes())
            .map_err(fault)?;
        durable::replace(
            &self.folder.join("door.state"),
            format!("{line}\n").as_bytes(),
            0o644,
        )
        .map_err(fault)?;
        if self.bell {
            let mut terminal = std::io::stderr();
            // The bell is a courtesy: a closed terminal is no door fault.
            let _ = terminal.write_all(b"\x07").and_then(|()| terminal.flush());
        }
        Ok(())
    }
}

/// Frees the door of this gate; `life-safety` in the folder says so until it ends.
impl LifeSafetyDoor for SimulatedDoor {
    fn names(&self) -> Vec<String> {
        vec![self.gate.to_string()]
    }

    fn free(&mut self, release: TransactionId, at: Timestamp) -> Result<(), DoorFault> {
        self.life_safety(release, at, "free")?;
        let text = format!("{release} {}\n", at.as_micros());
        durable::replace(&self.folder.join(LIFE_SAFETY), text.as_bytes(), 0o644)
            .map_err(|error| DoorFault(error.to_string()))
    }

    fn restore(&mut self, release: TransactionId, at: Timestamp) -> Result<(), DoorFault> {
        self.life_safety(release, at, "restored")?;
        let removed = fs::remove_file(self.folder.join(LIFE_SAFETY))
            .and_then(|()| durable::sync_folder(&self.folder));
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(DoorFault(error.to_string()))
            }
            _ => Ok(()),
        }
    }

    fn standing(&self) -> Option<(TransactionId, Timestamp)> {
        let text = fs::read_to_string(self.folder.join(LIFE_SAFETY)).ok()?;
        let (release, at) = text.trim_end().split_once(' ')?;
        Some((
            release.parse().ok()?,
            Timestamp::from_micros(at.parse().ok()?),
        ))
    }
}

impl SimulatedDoor {
    fn life_safety(
        &self,
        release: TransactionId,
        at: Timestamp,
        door: &str,
    ) -> Result<(), DoorFault> {
        let line = serde_json::json!({
            "at": at.to_rfc3339(),
            "gate": self.gate,
            "life_safety": release,
            "door": door,
        })
        .to_string();
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.folder.join(LIFE_SAFETY_LOG))
            .and_then(|mut log| log.write_all(format!("{line}\n").as_bytes()))
            .map_err(|error| DoorFault(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_written_and_a_missing_folder_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("door");
        let mut door = SimulatedDoor::new("front-in".parse().unwrap(), &place, false).unwrap();
        let at = Timestamp::from_micros(0);
        let transaction = TransactionId::new(at, [1; 10]);
        door.release(ReleasePermit::for_test(transaction), at)
            .unwrap();
        let log = fs::read_to_string(place.join("door.log")).unwrap();
        assert_eq!(log.lines().count(), 1);
        assert!(log.contains(&transaction.to_string()));
        assert_eq!(fs::read_to_string(place.join("door.state")).unwrap(), log);
        fs::remove_dir_all(&place).unwrap();
        assert!(
            door.release(ReleasePermit::for_test(transaction), at)
                .is_err()
        );
    }
}
