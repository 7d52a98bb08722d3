//! The iris camera beside the colour camera: irises travel with the face, and nothing that happens
//! to that camera blocks a person, opens a door, or leaves a picture of an eye behind.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use base64::Engine as _;
use sallyport_domain::{Modality, QualityDefect};
use sallyport_gate::event::AgentEvent;
use sallyport_gate::state::StateFolder;

use crate::gate::{CANARY, Gate, IrisCamera, policy};
use crate::support::{Behaviour, FakeServer, Tls};

fn gate(behaviour: Behaviour, iris: IrisCamera) -> Gate {
    let server = FakeServer::start(behaviour, Tls::Good);
    let folder = tempfile::tempdir().unwrap();
    server.join(&folder.path().join("state"));
    let mut gate = Gate::before(server, folder);
    gate.iris = Some(iris);
    gate.restart(policy());
    gate
}

/// Modalities of the first passage.
fn passed(gate: &Gate) -> Vec<Modality> {
    gate.person(3);
    gate.until(|event| matches!(event, AgentEvent::DoorReleased { .. }));
    gate.server.seen(|seen| {
        seen.requests[0]
            .probes
            .iter()
            .map(|probe| probe.modality)
            .collect()
    })
}

#[test]
fn both_irises_travel_with_the_face() {
    let gate = gate(Behaviour::Grant, IrisCamera::new());
    assert_eq!(
        passed(&gate),
        [Modality::Face, Modality::IrisLeft, Modality::IrisRight]
    );
    gate.server.seen(|seen| {
        for probe in &seen.requests[0].probes[1..] {
            assert_eq!(probe.samples, 5);
            assert_eq!(probe.quality, 70.0);
        }
    });
}

#[test]
fn a_dead_iris_camera_blocks_nobody_and_is_seen() {
    let iris = IrisCamera::new();
    iris.unplugged.store(true, Ordering::SeqCst);
    let gate = gate(Behaviour::Grant, iris);
    assert_eq!(passed(&gate), [Modality::Face]);
    let beat = gate.server.seen(|seen| seen.heartbeat.take());
    let beat = beat.unwrap_or_else(|| {
        gate.until(|event| matches!(event, AgentEvent::Heartbeat));
        gate.server.seen(|seen| seen.heartbeat.take()).unwrap()
    });
    let (_, health) = beat
        .cameras
        .iter()
        .find(|(name, _)| name == "iris")
        .unwrap();
    assert_ne!(health, "ok");
}

#[test]
fn frames_out_of_step_are_not_used_and_raise_an_alarm() {
    let iris = IrisCamera {
        late_ms: 60_000,
        ..IrisCamera::new()
    };
    let read = iris.read.clone();
    let gate = gate(Behaviour::Grant, iris);
    // A person who stands there with a blurred face gives the pairing time to be found wrong.
    gate.person(100);
    let state = StateFolder::existing(&gate.folder.path().join("state"));
    let told = || {
        state
            .health()
            .iter()
            .any(|(name, health)| name == "iris" && health.contains("pair_within_ms"))
    };
    while !told() {
        gate.until(|event| matches!(event, AgentEvent::Heartbeat));
    }
    gate.person(0);
    gate.until(|event| matches!(event, AgentEvent::Idle));
    assert_eq!(passed(&gate), [Modality::Face]);
    assert_eq!(read.load(Ordering::SeqCst), 0);
}

#[test]
fn closed_or_covered_eyes_are_told_and_the_face_goes_alone() {
    let iris = IrisCamera {
        defect: Some(QualityDefect::EyesClosed),
        ..IrisCamera::new()
    };
    let gate = gate(Behaviour::Grant, iris);
    gate.person(3);
    let seen = gate.until(|event| matches!(event, AgentEvent::DoorReleased { .. }));
    assert!(seen.iter().any(|event| matches!(
        event,
        AgentEvent::Cue {
            defect: QualityDefect::EyesClosed
        }
    )));
    gate.server.seen(|seen| {
        assert_eq!(seen.requests[0].probes.len(), 1);
        assert!(
            seen.requests[0]
                .defects
                .contains(&QualityDefect::EyesClosed)
        );
    });
}

pub(crate) fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn no_picture_of_an_eye_is_written_or_sent() {
    let iris = IrisCamera::new();
    let mut gate = gate(Behaviour::Grant, iris);
    passed(&gate);
    gate.person(0);
    gate.until(|event| matches!(event, AgentEvent::Idle));
    // A failure to acquire writes a record with a sealed picture into the spool.
    gate.server.seen(|seen| seen.reports_fail = true);
    gate.person(101);
    gate.until(|event| matches!(event, AgentEvent::FailedToAcquire { .. }));
    gate.end();

    let mut all = Vec::new();
    files(gate.folder.path(), &mut all);
    assert!(all.iter().any(|path| path.ends_with("join.json")));
    assert!(
        all.iter()
            .any(|path| path.extension() == Some("failed".as_ref()))
    );
    let mut contents: Vec<(String, Vec<u8>)> = all
        .iter()
        .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
        .collect();
    gate.server.seen(|seen| {
        for request in &seen.requests {
            contents.push(("request".to_owned(), serde_json::to_vec(request).unwrap()));
        }
    });
    for (name, bytes) in contents {
        // As it is, and as base64 at each of the three offsets.
        let mut forms = vec![CANARY.to_vec()];
        for offset in 0..3 {
            let text = base64::engine::general_purpose::STANDARD.encode(&CANARY[offset..]);
            forms.push(text.as_bytes()[..8].to_vec());
        }
        for form in forms {
            assert!(
                !bytes.windows(form.len()).any(|window| window == form),
                "{name} holds pixels of an eye"
            );
        }
    }
}

/// The part of the agent that sees eyes has no way to make a picture file: what makes one is named
/// only where pictures of faces are sealed, and in `probe`, which is given its picture by hand.
#[test]
fn no_code_that_makes_pictures_knows_eyes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    files(&root, &mut sources);
    let mut makers: Vec<String> = sources
        .iter()
        .filter(|path| !path.to_string_lossy().contains("tests"))
        .filter(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            [
                "to_jpeg(",
                "to_png(",
                "annotate(",
                "annotate_iris(",
                "strip_picture(",
                "write_iris_record(",
                "imencode",
                "imwrite",
            ]
            .iter()
            .any(|maker| text.contains(maker))
        })
        .map(|path| path.strip_prefix(&root).unwrap().display().to_string())
        .collect();
    makers.sort();
    assert_eq!(
        makers,
        [
            "cli/probe.rs",
            "cli/probe/iris.rs",
            "import/prepare.rs",
            "observe.rs"
        ]
    );
    for face in ["observe.rs", "import/prepare.rs"] {
        let text = std::fs::read_to_string(root.join(face)).unwrap();
        let words = ["iris", "Iris", "find_eyes", "infrared"];
        assert!(!words.iter().any(|word| text.contains(word)), "{face}");
    }
}
