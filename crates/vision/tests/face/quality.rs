//! Quality gates, calibrated on the fixture pictures: sharp faces pass, each defect is named.

use sallyport_domain::QualityDefect;
use sallyport_vision::{FacePipeline, Frame, QualityPolicy, blurred};

use crate::common::{faces, picture, pipeline, pipeline_with};

const PORTRAITS: [&str; 5] = [
    "obama.jpg",
    "obama2.jpg",
    "obama3.jpg",
    "biden.jpg",
    "astronaut.png",
];

fn defects(pipeline: &mut FacePipeline, frame: &Frame) -> Vec<QualityDefect> {
    let seen = faces(pipeline, frame);
    assert_eq!(seen.len(), 1, "one face");
    seen.into_iter().next().expect("one face").defects
}

#[test]
fn sharp_portraits_pass_at_the_gate() {
    let mut pipeline = pipeline();
    for name in PORTRAITS {
        assert_eq!(defects(&mut pipeline, &picture(name)), [], "{name}");
    }
}

#[test]
fn enrolment_is_stricter_than_the_gate() {
    let (gate, enrolment) = (QualityPolicy::gate(), QualityPolicy::enrolment());
    assert!(enrolment.min_eye_distance_px > gate.min_eye_distance_px);
    assert!(enrolment.min_sharpness > gate.min_sharpness);
    assert!(enrolment.max_yaw_deg < gate.max_yaw_deg && enrolment.max_roll_deg < gate.max_roll_deg);
    let mut pipeline = pipeline_with(enrolment);
    for name in ["obama.jpg", "obama2.jpg", "biden.jpg"] {
        assert_eq!(defects(&mut pipeline, &picture(name)), [], "{name}");
    }
    // The eyes are 43 pixels apart: enough at a gate, not for a reference.
    assert_eq!(
        defects(&mut pipeline, &picture("astronaut.png")),
        [QualityDefect::TooSmall]
    );
}

#[test]
fn blur_is_named_from_one_and_a_half_pixels_of_the_aligned_face_on() {
    let mut pipeline = pipeline();
    for name in PORTRAITS {
        let frame = picture(name);
        let eyes = faces(&mut pipeline, &frame)[0].quality.eye_distance_px;
        // The aligned face has its eyes 35.2 pixels apart.
        let scale = f64::from(eyes) / 35.2;
        for sigma in [1.5, 3.0, 4.0] {
            let soft = blurred(&frame, sigma * scale).expect("blurring works");
            // Not finding a face in the blur is as good: there is no sample then.
            for face in faces(&mut pipeline, &soft) {
                let found = face.defects;
                assert!(
                    found.contains(&QualityDefect::Blurred),
                    "{name} at sigma {sigma}: {found:?}"
                );
            }
        }
    }
}

#[test]
fn a_face_far_away_is_too_small_and_one_at_the_edge_too_close() {
    let mut pipeline = pipeline();
    let far = picture("obama.jpg").scaled(0.3).expect("scaling works");
    assert!(defects(&mut pipeline, &far).contains(&QualityDefect::TooSmall));
    // The frame ends in the middle of the forehead and of the chin.
    let near = picture("obama.jpg")
        .part(360, 160, 260, 200)
        .expect("inside the frame");
    let seen = faces(&mut pipeline, &near);
    assert!(
        seen.is_empty() || seen[0].defects.contains(&QualityDefect::TooClose),
        "cut off, yet usable: {:?}",
        seen.first().map(|face| &face.defects)
    );
}

#[test]
fn dark_bright_and_flat_faces_are_named() {
    let mut pipeline = pipeline();
    let frame = picture("obama.jpg");
    for (gain, offset, defect) in [
        (0.22, 0.0, QualityDefect::TooDark),
        (0.6, 150.0, QualityDefect::TooBright),
        (0.25, 90.0, QualityDefect::LowContrast),
    ] {
        let relit = frame.relit(gain, offset).expect("relighting works");
        let found = defects(&mut pipeline, &relit);
        assert!(
            found.contains(&defect),
            "{defect:?} expected, found {found:?}"
        );
    }
}

#[test]
fn profile_and_leaning_heads_are_named() {
    let mut pipeline = pipeline();
    // From left to right: a profile; in the other picture the second head leans by about 37 degrees.
    let profile = &faces(&mut pipeline, &picture("sample2.jpg"))[0];
    assert!(
        profile.defects.contains(&QualityDefect::TurnedAway),
        "{:?}",
        profile.defects
    );
    let leaning = &faces(&mut pipeline, &picture("sample1.jpg"))[1];
    assert!(
        leaning.defects.contains(&QualityDefect::Rolled),
        "{:?}",
        leaning.defects
    );
}

#[test]
fn every_defect_has_a_cue_for_the_person() {
    let mut pipeline = pipeline();
    let soft = blurred(&picture("biden.jpg"), 12.0).expect("blurring works");
    for defect in defects(&mut pipeline, &soft) {
        assert!(
            defect.cue().starts_with("Please") || defect.cue().contains("lease"),
            "{defect:?}"
        );
    }
}
