//! One person over frames: fusion, several people, people who leave, and the whole of a capture.

use sallyport_domain::QualityDefect;
use sallyport_vision::{FacePipeline, Frame, Track, Tracker, blurred, jittered, side_by_side};

use crate::common::{faces, picture, pipeline};

pub(crate) fn follow(pipeline: &mut FacePipeline, frames: &[Frame]) -> Option<Track> {
    let mut tracker = Tracker::new();
    for frame in frames {
        let analysis = pipeline.analyse(frame).expect("analysis works");
        tracker
            .update(pipeline, frame, &analysis)
            .expect("tracking works");
    }
    tracker.take()
}

pub(crate) fn standing(frame: &Frame, frames: u32) -> Vec<Frame> {
    (0..frames)
        .map(|step| jittered(frame, step).expect("jitter works"))
        .collect()
}

/// A portrait at the size of a gate's camera.
fn small(name: &str) -> Frame {
    let frame = picture(name);
    frame
        .scaled(720.0 / f64::from(frame.height()))
        .expect("scaling works")
}

#[test]
fn a_standing_person_becomes_one_capture_of_fused_samples() {
    let mut pipeline = pipeline();
    let portrait = small("obama.jpg");
    let track = follow(&mut pipeline, &standing(&portrait, 8)).expect("somebody is followed");
    assert_eq!(
        (track.frames(), track.pad_frames(), track.usable_samples()),
        (8, 8, 5)
    );
    let capture = track.capture().expect("capture works").expect("usable");
    assert_eq!((capture.samples, capture.people_in_view), (5, 1));
    assert!(capture.quality > 0.0 && capture.quality <= 100.0);
    assert_eq!(&capture.best_frame_jpeg[..3], [0xff, 0xd8, 0xff]);
    let mate = picture("obama3.jpg");
    let face = faces(&mut pipeline, &mate).remove(0);
    let reference = pipeline
        .embed_for_enrolment(&mate, &face)
        .expect("embedding works");
    assert!(capture.template.similarity(&reference).value() > 0.60);
    let shown = format!("{capture:?} {track:?}");
    assert!(
        !shown.contains("0."),
        "no score and no template in Debug: {shown}"
    );
}

#[test]
fn only_defective_frames_give_no_capture_but_a_reason() {
    let mut pipeline = pipeline();
    let soft = blurred(&small("obama3.jpg"), 9.0).expect("blurring works");
    let track = follow(&mut pipeline, &standing(&soft, 6)).expect("somebody is followed");
    assert!(track.capture().expect("capture works").is_none());
    assert!(
        track.defects().contains(&QualityDefect::Blurred),
        "{:?}",
        track.defects()
    );
}

#[test]
fn two_people_in_view_are_counted() {
    let mut pipeline = pipeline();
    let both = side_by_side(&small("obama.jpg"), &small("biden.jpg")).expect("joining works");
    let track = follow(&mut pipeline, &standing(&both, 6)).expect("somebody is followed");
    let capture = track.capture().expect("capture works").expect("usable");
    assert_eq!(capture.people_in_view, 2);
}

#[test]
fn the_track_ends_when_the_person_leaves_and_never_moves_to_another() {
    let mut pipeline = pipeline();
    let (first, second) = (small("obama.jpg"), small("biden.jpg"));
    let empty =
        Frame::from_bgr("test", crate::common::AT, 64, 48, &[90; 64 * 48 * 3]).expect("fits");
    let mut tracker = Tracker::new();
    let mut step = |tracker: &mut Tracker, frame: &Frame| {
        let analysis = pipeline.analyse(frame).expect("analysis works");
        tracker
            .update(&mut pipeline, frame, &analysis)
            .expect("tracking works")
    };
    assert!(!step(&mut tracker, &empty), "nobody yet");
    assert!(step(&mut tracker, &first));
    assert!(
        step(&mut tracker, &empty) && step(&mut tracker, &empty),
        "two missed frames are forgiven"
    );
    assert!(!step(&mut tracker, &empty), "the third ends the track");
    assert!(step(&mut tracker, &first));
    // The other person stands elsewhere in the frame: not the same track.
    let shifted = side_by_side(
        &Frame::from_bgr(
            "test",
            crate::common::AT,
            600,
            720,
            &vec![90; 600 * 720 * 3],
        )
        .expect("fits"),
        &second,
    )
    .expect("joining works");
    step(&mut tracker, &shifted);
    assert_eq!(tracker.track().map(Track::frames), Some(1));
}
