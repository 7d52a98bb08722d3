use super::*;
use crate::clock::{ManualClock, Mono};
use sallyport_domain::Timestamp;

/// Waits by moving itself.
struct Quick(ManualClock);

impl Clock for Quick {
    fn wall(&self) -> Timestamp {
        self.0.wall()
    }
    fn mono(&self) -> Mono {
        self.0.mono()
    }
    fn wait(&self, stop: &Stop, duration: Duration) -> bool {
        self.0.advance(duration);
        !stop.is_set()
    }
}

fn grey(value: u8) -> Vec<u8> {
    Frame::from_bgr(
        "t",
        Timestamp::from_micros(0),
        32,
        16,
        &[value; 32 * 16 * 3],
    )
    .unwrap()
    .to_jpeg(95)
    .unwrap()
}

#[test]
fn it_shows_the_eyes_of_the_face_cameras_scene_and_nothing_between() {
    let folder = tempfile::tempdir().unwrap();
    for (scene, value) in [("01-anna", 100), ("02-ben", 200)] {
        fs::create_dir(folder.path().join(scene)).unwrap();
        fs::write(folder.path().join(scene).join("1.jpg"), grey(value)).unwrap();
        fs::write(folder.path().join(scene).join("2.jpg"), grey(value + 20)).unwrap();
    }
    let stage = Arc::new(Stage::default());
    let clock = Arc::new(Quick(ManualClock::default()));
    let stop = Stop::default();
    let mut camera = FollowOpener::new(
        "iris",
        folder.path().to_owned(),
        10.0,
        stage.clone(),
        clock.clone(),
        stop.clone(),
    )
    .open()
    .unwrap();
    let mut brightness = || {
        let frame = camera.next_frame().unwrap();
        frame.map(|frame| frame.bgr().unwrap()[0])
    };
    assert_eq!(brightness(), Some(20));
    stage.show_scene(Some("02-ben"));
    let near = |value: Option<u8>, wanted: u8| value.is_some_and(|v| v.abs_diff(wanted) < 4);
    assert!(near(brightness(), 200));
    assert!(near(brightness(), 220));
    assert!(near(brightness(), 200));
    stage.show_scene(None);
    assert_eq!(brightness(), Some(20));
    stage.show_scene(Some("01-anna"));
    assert!(near(brightness(), 100));
    stage.show_scene(Some("03-without-eyes"));
    assert_eq!(brightness(), Some(20));
    assert_eq!(stage.trouble(), 0);
    stage.end_scenes();
    assert_eq!(brightness(), None);
}

#[test]
fn a_folder_that_is_not_there_says_what_it_must_hold() {
    let opener = FollowOpener::new(
        "iris",
        "/nonexistent/eyes".into(),
        10.0,
        Arc::default(),
        Arc::new(ManualClock::default()),
        Stop::default(),
    );
    let error = opener.open().err().unwrap().to_string();
    assert!(error.contains("one sub-folder"), "{error}");
}
