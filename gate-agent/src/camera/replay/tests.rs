use super::*;
use crate::clock::ManualClock;
use sallyport_domain::Timestamp;

/// A real picture file, made here: a grey BMP of 8 x 8 pixels.
fn picture(path: &Path, grey: u8) {
    let frame = Frame::from_bgr("x", Timestamp::from_micros(0), 8, 8, &[grey; 8 * 8 * 3]).unwrap();
    fs::write(path, frame.to_jpeg(95).unwrap()).unwrap();
}

struct Bench {
    _folder: tempfile::TempDir,
    stage: Arc<Stage>,
    clock: Arc<Running>,
    stop: Stop,
    settings: ReplaySettings,
}

/// A clock that runs by as much as is waited.
#[derive(Default)]
struct Running(ManualClock);

impl Clock for Running {
    fn wall(&self) -> Timestamp {
        self.0.wall()
    }
    fn mono(&self) -> crate::clock::Mono {
        self.0.mono()
    }
    fn wait(&self, stop: &Stop, duration: Duration) -> bool {
        self.0.advance(duration);
        !stop.is_set()
    }
}

fn bench(until_answered: bool) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    for (scene, pictures) in [("1-anna", 2), ("2-ben", 1)] {
        let place = folder.path().join(scene);
        fs::create_dir(&place).unwrap();
        for n in 0..pictures {
            picture(&place.join(format!("{n}.jpg")), 200);
        }
    }
    Bench {
        settings: ReplaySettings {
            path: folder.path().to_owned(),
            rate_fps: 10.0,
            repeat: false,
            hold_frames: 2,
            gap_frames: 3,
            until_answered,
            scene_limit_frames: 50,
        },
        _folder: folder,
        stage: Arc::default(),
        clock: Arc::default(),
        stop: Stop::default(),
    }
}

impl Bench {
    fn open(&self) -> Result<Box<dyn Camera>, CameraError> {
        ReplayOpener::new(
            "replay",
            self.settings.clone(),
            self.stage.clone(),
            self.clock.clone(),
            self.stop.clone(),
        )
        .open()
    }

    fn next(&self, camera: &mut Box<dyn Camera>) -> Option<bool> {
        self.stage.frame_analysed();
        camera.next_frame().unwrap().map(|frame| frame.width() == 8)
    }
}

#[test]
fn scenes_come_in_name_order_with_gaps_and_then_end() {
    let bench = bench(false);
    let mut camera = bench.open().unwrap();
    let mut seen = String::new();
    while let Some(person) = bench.next(&mut camera) {
        seen.push(if person { 'p' } else { '.' });
    }
    assert_eq!(seen, "pppp...pp...");
}

#[test]
fn a_person_stays_until_answered_and_the_next_waits_for_the_gate() {
    let bench = bench(true);
    let mut camera = bench.open().unwrap();
    for _ in 0..10 {
        assert_eq!(bench.next(&mut camera), Some(true));
    }
    bench.stage.set(Phase::Answering, false, 0);
    for _ in 0..100 {
        assert_eq!(bench.next(&mut camera), Some(true));
    }
    bench.stage.set(Phase::Shown, false, 1);
    for _ in 0..20 {
        assert_eq!(bench.next(&mut camera), Some(false));
    }
    bench.stage.set(Phase::Open, true, 1);
    assert_eq!(bench.next(&mut camera), Some(true));
    assert_eq!(bench.stage.trouble(), 0);
    // Nobody notices the second person: the scene ends by itself, and that is trouble.
    while bench.next(&mut camera) == Some(true) {}
    assert_eq!(bench.stage.trouble(), 1);
    while bench.next(&mut camera).is_some() {}
}

#[test]
fn unreadable_pictures_are_left_out_and_a_scene_of_them_is_trouble() {
    let mut bench = bench(true);
    let place = bench.settings.path.join("0-bad");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("a.jpg"), "not a picture").unwrap();
    let mut camera = bench.open().unwrap();
    bench.stage.set(Phase::Open, true, 0);
    assert_eq!(bench.next(&mut camera), Some(false));
    assert_eq!(bench.stage.trouble(), 1);
    bench.settings.path = place.join("nowhere");
    assert!(bench.open().is_err());
    let empty = place.join("empty");
    fs::create_dir(&empty).unwrap();
    bench.settings.path = empty;
    let error = bench.open().err().unwrap().to_string();
    assert!(error.contains("holds no pictures"), "{error}");
}

#[test]
fn stopping_ends_a_replay() {
    let bench = bench(true);
    let mut camera = bench.open().unwrap();
    bench.stop.set();
    assert_eq!(bench.next(&mut camera), None);
}
