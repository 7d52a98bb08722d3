//! The presentation attack vote on scenes made of the fixture pictures.
//!
//! Simulated prints are not real ones: this shows that the vote works as designed, never how good it is.

use sallyport_domain::PadVerdict;
use sallyport_vision::{Frame, blurred, on_larger_canvas, picture_of_picture, turned};

use crate::common::{faces, picture, pipeline};
use crate::tracking::{follow, standing};

fn verdict(frame: &Frame) -> PadVerdict {
    let track = follow(&mut pipeline(), &standing(frame, 8)).expect("somebody is followed");
    track.pad().verdict()
}

#[test]
fn portraits_are_bona_fide_or_too_tight_to_tell() {
    for name in [
        "obama.jpg",
        "obama2.jpg",
        "obama3.jpg",
        "biden.jpg",
        "astronaut.png",
    ] {
        let frame = picture(name);
        let scaled = frame
            .scaled(960.0 / f64::from(frame.height()))
            .expect("scaling works");
        let seen = verdict(&scaled);
        println!("{name}: {seen:?}");
        assert_ne!(seen, PadVerdict::AttackSuspected, "{name}");
    }
}

#[test]
fn a_picture_of_a_picture_is_suspected() {
    for name in [
        "obama.jpg",
        "obama2.jpg",
        "obama3.jpg",
        "biden.jpg",
        "astronaut.png",
    ] {
        let scene = picture_of_picture(&picture(name), 1280, 960).expect("the scene is made");
        let seen = verdict(&scene);
        println!("{name}: {seen:?}");
        assert_eq!(seen, PadVerdict::AttackSuspected, "{name}");
    }
}

#[test]
fn a_tight_portrait_on_a_larger_canvas_is_not_suspected() {
    for name in ["obama.jpg", "obama2.jpg", "biden.jpg"] {
        let scene = on_larger_canvas(&picture(name), 1280, 960, 0.8).expect("the scene is made");
        let seen = verdict(&scene);
        println!("{name}: {seen:?}");
        assert_ne!(seen, PadVerdict::AttackSuspected, "{name}");
    }
}

/// All fixture pictures: 27 faces.
const PICTURES: [&str; 11] = [
    "obama.jpg",
    "obama2.jpg",
    "obama3.jpg",
    "biden.jpg",
    "astronaut.png",
    "sample1.jpg",
    "sample2.jpg",
    "sample3.jpg",
    "sample4.jpg",
    "sample5.jpg",
    "sample6.jpg",
];

/// Single frames: faces, faces with a border, faces whose texture would pass.
fn counted(scenes: impl Iterator<Item = Frame>) -> (usize, usize, usize) {
    let mut pipeline = pipeline();
    let (mut all, mut bordered, mut passing) = (0, 0, 0);
    for scene in scenes {
        for face in faces(&mut pipeline, &scene) {
            let sample = pipeline.liveness(&scene, &face).expect("liveness works");
            all += 1;
            bordered += usize::from(sample.border_seen);
            passing += usize::from(sample.live_probability() >= 0.8);
        }
    }
    (all, bordered, passing)
}

fn prints() -> impl Iterator<Item = Frame> {
    PICTURES
        .iter()
        .map(|name| picture_of_picture(&picture(name), 1280, 960).expect("the scene is made"))
}

#[test]
fn the_border_is_seen_around_prints_and_never_around_people() {
    let people = counted(PICTURES.iter().map(|name| picture(name)));
    let plain = counted(prints());
    let slanted = counted(prints().map(|scene| turned(&scene, 8.0).expect("turning works")));
    let soft = counted(prints().map(|scene| blurred(&scene, 2.0).expect("blurring works")));
    let dim = counted(prints().map(|scene| scene.relit(0.35, 0.0).expect("relighting works")));
    println!("(faces, border seen, texture would pass) people {people:?}");
    println!("prints {plain:?} slanted {slanted:?} soft {soft:?} dim {dim:?}");
    assert_eq!((people.0, people.1), (27, 0));
    for (all, bordered, _) in [plain, slanted, soft, dim] {
        assert!(all >= 15 && bordered * 10 >= all * 9, "{bordered} of {all}");
    }
}
