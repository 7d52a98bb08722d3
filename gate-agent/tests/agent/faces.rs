//! Real pictures through the real pipeline and a running agent. Needs the models and pictures that
//! `deploy/setup` puts into `.cache`.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sallyport_domain::{PadVerdict, QualityDefect, Timestamp};
use sallyport_gate::agent::{Agent, AgentParts};
use sallyport_gate::camera::{
    ReplayOpener, ReplaySettings, Stage, SupervisorPolicy, WatchdogPolicy,
};
use sallyport_gate::capture::CapturePolicy;
use sallyport_gate::clock::Stop;
use sallyport_gate::door::SimulatedDoor;
use sallyport_gate::event::{AgentEvent, EventSink};
use sallyport_gate::import::prepare_picture;
use sallyport_gate::life_safety::{LifeSafetyParts, OnFault};
use sallyport_gate::observe::FaceObserver;
use sallyport_gate::spool::FileDisk;
use sallyport_vision::{
    FacePipeline, Frame, ModelManifest, Provider, QualityPolicy, Runtime, blurred,
};

use crate::support::{Behaviour, FakeServer, Tls, deps};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn pipeline(policy: QualityPolicy) -> FacePipeline {
    let cache = root().join(".cache");
    let runtime = Runtime::load(&cache.join("lib/libonnxruntime.so"), Provider::Cpu, 1)
        .expect("run deploy/setup first: it fetches ONNX Runtime and the models");
    let manifest = ModelManifest::load(&root().join("models/manifest.toml")).unwrap();
    FacePipeline::new(&runtime, &manifest, &cache.join("models"), policy).unwrap()
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(root().join(".cache/fixtures").join(name)).expect("run deploy/setup first")
}

#[test]
fn replayed_people_become_requests_of_the_same_or_another_person() {
    let folder = tempfile::tempdir().unwrap();
    let scenes = folder.path().join("scenes");
    let add = |scene: &str, bytes: &[u8]| {
        let place = scenes.join(scene);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("1.jpg"), bytes).unwrap();
    };
    add("1-same", &fixture("obama.jpg"));
    add("2-same-again", &fixture("obama2.jpg"));
    add("3-other", &fixture("biden.jpg"));
    let sharp = Frame::decode("x", Timestamp::from_micros(0), &fixture("astronaut.png")).unwrap();
    add(
        "4-blurred",
        &blurred(&sharp, 6.0).unwrap().to_jpeg(95).unwrap(),
    );

    let server = FakeServer::start(Behaviour::Grant, Tls::Good);
    let (state, identity) = server.join(&folder.path().join("state"));
    let (stage, stop) = (Arc::new(Stage::default()), Stop::default());
    let settings = ReplaySettings {
        path: scenes,
        rate_fps: 50.0,
        repeat: false,
        hold_frames: 8,
        gap_frames: 5,
        until_answered: true,
        scene_limit_frames: 300,
    };
    let camera = ReplayOpener::new(
        "replay",
        settings,
        stage.clone(),
        deps().clock,
        stop.clone(),
    );
    let supervision = SupervisorPolicy {
        watchdog: WatchdogPolicy {
            stalled_after: Duration::from_secs(30),
            frozen_after: None,
        },
        ..SupervisorPolicy::default()
    };
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let door =
        || SimulatedDoor::new(identity.gate.clone(), &folder.path().join("door"), false).unwrap();
    let (door, doors) = (door(), door());
    let agent = Agent::start(AgentParts {
        identity,
        state,
        profile: None,
        disk: Arc::new(FileDisk),
        deps: deps(),
        policy: CapturePolicy {
            acquire_timeout: Duration::from_secs(4),
            show: Duration::from_millis(50),
            ..CapturePolicy::default()
        },
        cameras: vec![(Arc::new(camera), supervision)],
        observer: Box::new(FaceObserver::new(pipeline(QualityPolicy::gate()))),
        iris: None,
        door: Box::new(door),
        life_safety: LifeSafetyParts {
            input: None,
            on_fault: OnFault::Alarm,
            debounce: Duration::ZERO,
            doors: Box::new(doors),
        },
        stage,
        stop,
        events: EventSink::new(move |event| drop(sender.lock().unwrap().send(event))),
        heartbeat_every: Duration::from_secs(1),
        once: true,
    })
    .unwrap();
    let end = agent.join();
    let events: Vec<AgentEvent> = events.try_iter().collect();
    assert_eq!((end.troubles, end.undelivered), (0, 0), "{events:?}");
    // A heartbeat that was on its way may be told after it.
    let mut ended = events.iter().rev();
    let last = ended.find(|event| **event != AgentEvent::Heartbeat);
    assert_eq!(last, Some(&AgentEvent::Finished));
    let log = std::fs::read_to_string(folder.path().join("door/door.log")).unwrap();
    assert_eq!(log.lines().count(), 3);
    server.seen(|seen| {
        let [first, again, other] = &seen.requests[..] else {
            panic!("three requests, not {}", seen.requests.len());
        };
        let similarity = |a: &sallyport_protocol::PassageRequest,
                          b: &sallyport_protocol::PassageRequest| {
            let face = |request: &sallyport_protocol::PassageRequest| {
                request.probes[0].template.face().unwrap().clone()
            };
            face(a).similarity(&face(b)).value()
        };
        // biometrics.md F.9: these hold with room.
        assert!(similarity(first, again) > 0.60);
        assert!(similarity(first, other) < 0.335);
        for request in &seen.requests {
            assert_eq!(request.probes[0].samples, 5);
            assert_eq!(request.people_in_view, 1);
            assert!(!request.pad.votes.is_empty());
            assert_ne!(request.pad.verdict(), PadVerdict::AttackSuspected);
        }
        assert_eq!(seen.failures.len(), 1);
        assert!(seen.failures[0].defects.contains(&QualityDefect::Blurred));
    });
}

#[test]
fn pictures_for_enrolment_are_taken_or_refused_with_what_to_do() {
    let mut pipeline = pipeline(QualityPolicy::enrolment());
    let mut prepare = |bytes: &[u8]| {
        prepare_picture(&mut pipeline, Timestamp::from_micros(0), bytes)
            .unwrap()
            .map_err(|refusal| refusal.sentence())
    };
    let one = prepare(&fixture("obama.jpg")).unwrap_or_else(|refusal| panic!("{refusal}"));
    let two = prepare(&fixture("obama2.jpg")).unwrap_or_else(|refusal| panic!("{refusal}"));
    assert!(one.template.similarity(&two.template).value() > 0.60);
    assert!(one.jpeg.starts_with(&[0xff, 0xd8]) && one.jpeg.len() <= 1_000_000);
    let mut refused = |bytes: &[u8], expected: &str| {
        let sentence = prepare(bytes).err().unwrap();
        assert!(sentence.contains(expected), "{sentence}");
    };
    let sharp = Frame::decode("x", Timestamp::from_micros(0), &fixture("obama.jpg")).unwrap();
    let blurred = blurred(&sharp, 12.0).unwrap().to_jpeg(95).unwrap();
    refused(&blurred, QualityDefect::Blurred.cue());
    refused(&fixture("sample1.jpg"), QualityDefect::SeveralFaces.cue());
    refused(b"not a picture", "not a JPEG, PNG or BMP");
    let whole = fixture("obama.jpg");
    refused(&whole[..whole.len() / 2], "damaged");
}
