//! The presentation attack vote on scenes made of the fixture pictures.
//!
//! Simulated prints are not real ones: this shows that the vote works as designed, never how good it is.

use sallyport_domain::PadVerdict;
use sallyport_vision::{Frame, on_larger_canvas, picture_of_picture};

use crate::common::{picture, pipeline};
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
