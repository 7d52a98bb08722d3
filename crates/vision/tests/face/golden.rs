//! Golden values of each stage.
//!
//! They come from an independent implementation of `biometrics.md` F.1 to F.5 in Python (NumPy, OpenCV 5, ONNX Runtime
//! 1.32, alignment by singular value decomposition), so a mistake here is not its own proof.

use sallyport_domain::FaceTemplate;
use sallyport_vision::{FacePipeline, aligned_face};

use crate::common::{faces, picture, pipeline};

/// What one picture's largest face must give.
struct Golden {
    picture: &'static str,
    /// Left, top, right, bottom.
    face: [f32; 4],
    five_points: [[f32; 2]; 5],
    /// Mean blue, green and red of the aligned face.
    mean: [f32; 3],
    /// Yaw, pitch, roll.
    pose: [f32; 3],
    live: f32,
    sharpness: f32,
}

const GOLDEN: [Golden; 5] = [
    Golden {
        picture: "obama.jpg",
        face: [382.7, 90.2, 603.1, 404.7],
        five_points: [
            [441.4, 211.7],
            [548.2, 212.4],
            [496.1, 274.0],
            [442.3, 319.1],
            [550.2, 317.5],
        ],
        mean: [116.5, 136.5, 170.6],
        pose: [9.5, -5.1, -0.4],
        live: 1.0,
        sharpness: 1986.0,
    },
    Golden {
        picture: "obama2.jpg",
        face: [210.7, 192.7, 474.7, 638.3],
        five_points: [
            [251.0, 370.0],
            [374.2, 380.7],
            [283.4, 447.5],
            [251.4, 514.7],
            [351.9, 522.7],
        ],
        mean: [91.9, 100.7, 137.2],
        pose: [-18.2, -8.8, -2.2],
        live: 0.998,
        sharpness: 1508.0,
    },
    Golden {
        picture: "obama3.jpg",
        face: [652.7, 232.7, 905.5, 601.7],
        five_points: [
            [736.4, 384.9],
            [857.4, 397.7],
            [810.9, 429.7],
            [740.3, 506.6],
            [843.7, 517.9],
        ],
        mean: [111.3, 130.0, 166.3],
        pose: [-20.0, 12.4, 2.6],
        live: 0.999,
        sharpness: 726.0,
    },
    Golden {
        picture: "biden.jpg",
        face: [440.3, 191.3, 691.2, 560.4],
        five_points: [
            [534.9, 324.0],
            [649.8, 350.9],
            [595.6, 400.4],
            [522.4, 459.4],
            [617.7, 478.5],
        ],
        mean: [94.3, 107.9, 147.0],
        pose: [-14.2, -4.8, 11.6],
        live: 1.0,
        sharpness: 791.0,
    },
    Golden {
        picture: "astronaut.png",
        face: [179.0, 62.8, 269.3, 173.4],
        five_points: [
            [204.4, 100.5],
            [247.2, 103.2],
            [224.8, 126.9],
            [203.9, 139.7],
            [243.7, 141.9],
        ],
        mean: [108.3, 134.8, 159.7],
        pose: [5.8, -10.8, 1.9],
        live: 1.0,
        sharpness: 589.0,
    },
];

fn near(what: &str, actual: f32, golden: f32, tolerance: f32) {
    assert!(
        (actual - golden).abs() <= tolerance,
        "{what}: {actual}, golden {golden} +- {tolerance}"
    );
}

#[test]
fn every_stage_gives_its_golden_values() {
    let mut pipeline = pipeline();
    for golden in &GOLDEN {
        let frame = picture(golden.picture);
        let seen = faces(&mut pipeline, &frame);
        assert_eq!(seen.len(), 1, "{}", golden.picture);
        let face = &seen[0];
        // One per cent of the face's height, or one pixel.
        let slack = (face.face.height() * 0.01).max(1.0);
        let name = |stage: &str| format!("{} {stage}", golden.picture);
        let edges = [
            face.face.left,
            face.face.top,
            face.face.right,
            face.face.bottom,
        ];
        for (actual, golden) in edges.into_iter().zip(golden.face) {
            near(&name("box"), actual, golden, slack);
        }
        assert!(face.face.score > 0.99);
        assert_eq!(face.landmarks.points().len(), 68);
        let five_points = face.landmarks.five_points();
        for (actual, [x, y]) in five_points.iter().zip(golden.five_points) {
            near(&name("landmark"), actual.x, x, slack);
            near(&name("landmark"), actual.y, y, slack);
        }
        let pose = [face.pose.yaw_deg, face.pose.pitch_deg, face.pose.roll_deg];
        for (actual, golden) in pose.into_iter().zip(golden.pose) {
            near(&name("pose"), actual, golden, 1.5);
        }
        let aligned = aligned_face(&frame, &five_points)
            .and_then(|face| face.bgr())
            .expect("alignment works");
        assert_eq!(aligned.len(), 112 * 112 * 3);
        for (channel, golden) in golden.mean.into_iter().enumerate() {
            let sum: f32 = aligned
                .iter()
                .skip(channel)
                .step_by(3)
                .map(|value| f32::from(*value))
                .sum();
            near(&name("aligned mean"), sum / (112.0 * 112.0), golden, 1.5);
        }
        near(
            &name("sharpness"),
            face.quality.sharpness,
            golden.sharpness,
            golden.sharpness * 0.1,
        );
        let live = pipeline.liveness(&frame, face).expect("liveness works");
        near(
            &name("liveness"),
            live.live_probability(),
            golden.live,
            0.02,
        );
    }
}

#[test]
fn the_68_points_stand_where_a_face_has_them() {
    let mut pipeline = pipeline();
    let frame = picture("obama.jpg");
    let face = &faces(&mut pipeline, &frame)[0];
    let points = face.landmarks.points();
    let x = |index: usize| points[index].x;
    let y = |index: usize| points[index].y;
    assert!(
        (1..17).all(|index| x(index) > x(index - 1)),
        "the jaw runs from left to right"
    );
    assert!(
        (17..27).all(|index| y(index) < y(36).min(y(45))),
        "the brows are above the eyes"
    );
    assert!(
        (28..31).all(|index| y(index) > y(index - 1)),
        "the nose bridge runs down"
    );
    assert!(
        y(57) > y(51) && y(8) > y(57),
        "lower lip below upper lip, chin below both"
    );
    assert!(points.iter().all(|point| {
        point.x > face.face.left - 40.0
            && point.x < face.face.right + 40.0
            && point.y < face.face.bottom + 40.0
    }));
    assert!(face.landmarks.plausible());
    assert!(face.landmarks.eye_aspect_ratio() > 0.15);
}

fn template(pipeline: &mut FacePipeline, name: &str, from_left: usize) -> FaceTemplate {
    let frame = picture(name);
    let seen = faces(pipeline, &frame);
    pipeline
        .embed(&frame, seen.get(from_left).expect("enough faces"))
        .expect("embedding works")
}

#[test]
fn the_same_person_is_near_and_different_people_are_far() {
    let mut pipeline = pipeline();
    let same: Vec<_> = ["obama.jpg", "obama2.jpg", "obama3.jpg"]
        .map(|name| template(&mut pipeline, name, 0))
        .into();
    let others: Vec<_> = ["biden.jpg", "astronaut.png"]
        .map(|name| template(&mut pipeline, name, 0))
        .into();
    // Golden cosines of the independent implementation: 0.759, 0.822, 0.775.
    for (a, b, golden) in [(0, 1, 0.759), (0, 2, 0.822), (1, 2, 0.775)] {
        let cosine = same[a].similarity(&same[b]).value();
        near("mated cosine", cosine, golden, 0.02);
        assert!(cosine > 0.60);
    }
    for mated in &same {
        for other in &others {
            assert!(mated.similarity(other).value() < 0.335);
        }
    }
    assert!(others[0].similarity(&others[1]).value() < 0.335);
    near(
        "other cosine",
        others[0].similarity(&others[1]).value(),
        0.088,
        0.03,
    );
    let first = template(&mut pipeline, "sample1.jpg", 2);
    let second = template(&mut pipeline, "sample3.jpg", 1);
    near(
        "group picture cosine",
        first.similarity(&second).value(),
        0.70,
        0.03,
    );
}

#[test]
fn mirror_averaging_keeps_the_person_near() {
    let mut pipeline = pipeline();
    let frame = picture("obama.jpg");
    let face = faces(&mut pipeline, &frame).remove(0);
    let plain = pipeline.embed(&frame, &face).expect("embedding works");
    let reference = pipeline
        .embed_for_enrolment(&frame, &face)
        .expect("embedding works");
    assert!(reference.similarity(&plain).value() > 0.9);
    let mate = template(&mut pipeline, "obama3.jpg", 0);
    assert!(reference.similarity(&mate).value() > 0.60);
    assert_eq!(format!("{reference:?}"), "FaceTemplate([sealed])");
}

#[test]
fn all_22_people_of_the_group_pictures_are_found() {
    let mut pipeline = pipeline();
    let counts: Vec<_> = (1..=6)
        .map(|number| faces(&mut pipeline, &picture(&format!("sample{number}.jpg"))).len())
        .collect();
    assert_eq!(counts, [3, 3, 3, 4, 5, 4]);
}
