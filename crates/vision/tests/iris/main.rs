//! The iris pipeline on drawn eyes: who is who, and every bad picture a named defect or a clear error, never a template.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use rand::SeedableRng as _;
use sallyport_domain::iris::compare;
use sallyport_domain::{Eye, IrisRotation, IrisTemplate, QualityDefect, Timestamp};
use sallyport_render::{
    ChaCha8Rng, Identity, Look, RenderedEye, StripLook, Style, render, render_strip,
};
use sallyport_vision::{
    EyeObservation, EyePrior, Frame, IrisPipeline, IrisQualityPolicy, IrisSegmenter, ModelManifest,
    Provider, RadiusRange, Runtime, find_eyes,
};

const SIZE: (usize, usize) = (320, 240);
const AT: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn pipeline() -> IrisPipeline {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let runtime = Runtime::load(&root.join(".cache/lib/libonnxruntime.so"), Provider::Cpu, 1)
        .expect("ONNX Runtime loads; run deploy/setup");
    let manifest = ModelManifest::load(&root.join("models/manifest.toml")).unwrap();
    IrisPipeline::new(
        &runtime,
        &manifest,
        &root.join(".cache/models"),
        IrisQualityPolicy::default(),
    )
    .unwrap()
}

fn prior() -> EyePrior {
    EyePrior::with_radius(Eye::Left, RadiusRange::new(60.0, 120.0))
}

fn drawn(person: u64, capture: u64, change: impl Fn(Look) -> Look) -> RenderedEye {
    let identity = Identity::from_seed(person);
    let mut rng = ChaCha8Rng::seed_from_u64(person * 1_000 + capture);
    let look = Look::draw(
        &identity,
        Style::Gate { spread: 1.0 },
        SIZE,
        false,
        &mut rng,
    );
    render(&identity, &change(look), SIZE, capture)
}

fn frame(eye: &RenderedEye) -> Frame {
    grey_frame(eye.width, eye.height, &eye.grey)
}

fn grey_frame(width: usize, height: usize, grey: &[u8]) -> Frame {
    let bgr: Vec<u8> = grey.iter().flat_map(|value| [*value; 3]).collect();
    Frame::from_bgr("test", AT, width as u32, height as u32, &bgr).unwrap()
}

fn look(pipeline: &mut IrisPipeline, frame: &Frame) -> (EyeObservation, Option<IrisTemplate>) {
    let seen = pipeline.analyse(frame, &prior()).unwrap();
    let template = pipeline.encode(&[&seen]).unwrap().remove(0);
    (seen, template)
}

fn score(one: &IrisTemplate, other: &IrisTemplate) -> f32 {
    compare(one, other, IrisRotation::default())
        .unwrap()
        .dissimilarity()
        .unwrap()
        .value()
}

/// Nothing may come of the picture but a named defect.
fn refused(pipeline: &mut IrisPipeline, what: &str, frame: &Frame, among: &[QualityDefect]) {
    let (seen, template) = look(pipeline, frame);
    assert!(template.is_none(), "{what}: a template was made");
    assert!(
        seen.defects.iter().any(|defect| among.contains(defect)),
        "{what}: {:?}",
        seen.defects
    );
}

#[test]
fn an_eye_that_looks_aside_is_still_near_and_far_aside_is_named() {
    let mut pipeline = pipeline();
    let towards = |person, capture, gaze| {
        frame(&drawn(person, capture, |mut look| {
            look.gaze = gaze;
            look
        }))
    };
    let (mut scores, mut named) = (Vec::new(), 0);
    for person in 21..=32 {
        let straight = look(&mut pipeline, &towards(person, 0, 0.0));
        let straight = straight.1.unwrap();
        // 25 degrees.
        let aside = look(&mut pipeline, &towards(person, 1, 0.44_f32));
        assert!(!aside.0.defects.contains(&QualityDefect::GazeAverted));
        scores.extend(aside.1.map(|aside| score(&straight, &aside)));
        // 45 degrees: most are named by their gaze, the others by what it makes of the outline; none gives a template.
        let far = look(&mut pipeline, &towards(person, 2, 0.785_f32));
        named += usize::from(far.0.defects.contains(&QualityDefect::GazeAverted));
        assert!(far.1.is_none(), "{:?}", far.0.quality);
    }
    let mean = scores.iter().sum::<f32>() / scores.len() as f32;
    let worst = scores.iter().copied().fold(0.0_f32, f32::max);
    println!(
        "{} eyes at 25 degrees: mean {mean:.3}, worst {worst:.3}; {named} of 12 named at 45",
        scores.len()
    );
    assert!(scores.len() >= 10 && worst < 0.32 && named >= 6);
}

#[test]
fn the_same_eye_is_near_and_others_are_far() {
    let mut pipeline = pipeline();
    let mut templates: Vec<(u64, IrisTemplate)> = Vec::new();
    let mut left_out = 0;
    for person in 1..=12 {
        for capture in 0..4 {
            match look(&mut pipeline, &frame(&drawn(person, capture, |look| look))).1 {
                Some(template) => templates.push((person, template)),
                None => left_out += 1,
            }
        }
    }
    assert!(left_out <= 6, "{left_out} of 48 pictures were refused");
    let (mut mated, mut strangers) = (Vec::new(), Vec::new());
    for (at, (person, template)) in templates.iter().enumerate() {
        for (other, against) in templates.iter().skip(at + 1) {
            let score = score(template, against);
            if person == other {
                &mut mated
            } else {
                &mut strangers
            }
            .push(score);
        }
    }
    mated.sort_by(f32::total_cmp);
    strangers.sort_by(f32::total_cmp);
    // Drawn eyes set no thresholds; they must be told apart all the same.
    assert!(mated.len() >= 40 && strangers.len() >= 600);
    assert!(
        mated[mated.len() * 95 / 100] < 0.32 && strangers[0] > 0.30,
        "mated up to {:?}, others from {:?}",
        mated.last(),
        strangers.first()
    );
}

#[test]
fn outlines_lie_where_they_were_drawn() {
    let mut pipeline = pipeline();
    for segmenter in [IrisSegmenter::Checked, IrisSegmenter::Classical] {
        pipeline = pipeline.with_segmenter(segmenter);
        let (mut pupil, mut limbus) = (Vec::new(), Vec::new());
        for person in 101..=120 {
            let eye = drawn(person, 1, |look| look);
            let truth = eye.truth.unwrap();
            let seen = pipeline.analyse(&frame(&eye), &prior()).unwrap();
            let found = seen.segmentation.unwrap();
            // Pixel centres lie at halves in the drawing and at whole numbers in the picture.
            let apart = |found: &sallyport_vision::Circle, drawn: sallyport_render::Circle| {
                (found.x + 0.5 - drawn.x).hypot(found.y + 0.5 - drawn.y)
                    + (found.radius - drawn.radius).abs()
            };
            pupil.push(apart(&found.pupil, truth.pupil));
            limbus.push(apart(&found.limbus, truth.limbus));
        }
        pupil.sort_by(f32::total_cmp);
        limbus.sort_by(f32::total_cmp);
        assert!(
            pupil[10] < 2.0 && limbus[10] < 4.0,
            "{segmenter:?}: {} and {}",
            pupil[10],
            limbus[10]
        );
    }
}

#[test]
fn pictures_without_a_usable_iris_give_a_named_defect() {
    use QualityDefect as D;
    let mut pipeline = pipeline();
    let no_iris = [
        D::NoEye,
        D::IrisOccluded,
        D::UnsteadyBoundary,
        D::SegmentersDisagree,
        D::EyeCutOff,
        D::IrisTooSmall,
        D::PupilTooWide,
        D::PupilTooNarrow,
        D::IrisSaturated,
    ];
    for person in 1..=6 {
        let closed = frame(&drawn(person, 0, Look::closed));
        refused(&mut pipeline, "a closed eye", &closed, &no_iris);
        let dark = frame(&drawn(person, 0, Look::behind_dark_glasses));
        refused(&mut pipeline, "dark glasses", &dark, &no_iris);
        let mut half = drawn(person, 0, |look| look);
        half.truth = None;
        // The frame ends in the middle of the iris.
        let width = SIZE.0 / 2;
        let cut: Vec<u8> = half
            .grey
            .chunks_exact(SIZE.0)
            .flat_map(|row| row.iter().take(width).copied())
            .collect();
        refused(
            &mut pipeline,
            "half an eye",
            &grey_frame(width, SIZE.1, &cut),
            &no_iris,
        );
    }
    for (what, value) in [("all black", 0), ("all white", 255), ("all grey", 128)] {
        let flat = grey_frame(SIZE.0, SIZE.1, &vec![value; SIZE.0 * SIZE.1]);
        refused(&mut pipeline, what, &flat, &no_iris);
    }
    let mut state = 1_u32;
    let noise: Vec<u8> = (0..SIZE.0 * SIZE.1)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    refused(
        &mut pipeline,
        "noise",
        &grey_frame(SIZE.0, SIZE.1, &noise),
        &no_iris,
    );
    for side in [1, 2, 9, 16] {
        let tiny = grey_frame(side, side, &vec![90; side * side]);
        refused(&mut pipeline, "a tiny picture", &tiny, &no_iris);
    }
}

#[test]
fn an_iris_of_four_pixels_is_too_small_or_not_found() {
    let mut pipeline = pipeline();
    let identity = Identity::from_seed(3);
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut look = Look::draw(
        &identity,
        Style::Gate { spread: 1.0 },
        SIZE,
        false,
        &mut rng,
    );
    look.radius_px = 4.0;
    let small = frame(&render(&identity, &look, SIZE, 1));
    for prior in [prior(), EyePrior::unknown(Eye::Left)] {
        let seen = pipeline.analyse(&small, &prior).unwrap();
        assert!(!seen.defects.is_empty());
        assert!(pipeline.encode(&[&seen]).unwrap().remove(0).is_none());
    }
}

#[test]
fn a_coloured_picture_is_no_near_infrared_picture() {
    let mut pipeline = pipeline();
    let eye = drawn(2, 0, |look| look);
    let skin: Vec<u8> = eye
        .grey
        .iter()
        .flat_map(|value| [*value / 2, *value / 4 * 3, *value])
        .collect();
    let coloured = Frame::from_bgr("test", AT, SIZE.0 as u32, SIZE.1 as u32, &skin).unwrap();
    let (seen, template) = look_at(&mut pipeline, &coloured);
    assert_eq!(seen.defects, [QualityDefect::NotInfrared]);
    assert!(template.is_none() && seen.strip.is_none());
    // A grey picture with the colour noise of JPEG is taken.
    let file = frame(&eye).to_jpeg(60).unwrap();
    let jpeg = Frame::decode("test", AT, &file).unwrap();
    let (seen, _) = look_at(&mut pipeline, &jpeg);
    assert!(!seen.defects.contains(&QualityDefect::NotInfrared));
}

fn look_at(pipeline: &mut IrisPipeline, frame: &Frame) -> (EyeObservation, Option<IrisTemplate>) {
    look(pipeline, frame)
}

#[test]
fn both_eyes_of_a_strip_are_found_and_named_also_mirrored() {
    let mut pipeline = pipeline();
    let (left, right) = (Identity::from_seed(41), Identity::from_seed(42));
    let mut of_eye = |mirrored: bool, seed: u64| -> [IrisTemplate; 2] {
        let look = StripLook {
            mirrored,
            ..StripLook::new(seed)
        };
        let strip = render_strip(&left, &right, &look, |look| look);
        let frame = grey_frame(strip.width, strip.height, &strip.grey);
        let regions = find_eyes(&frame, mirrored).unwrap();
        assert_eq!(
            regions.iter().map(|region| region.eye).collect::<Vec<_>>(),
            [Eye::Left, Eye::Right]
        );
        let seen: Vec<_> = regions
            .iter()
            .map(|region| pipeline.analyse(&region.frame, &region.prior).unwrap())
            .collect();
        let seen: Vec<_> = seen.iter().collect();
        let templates = pipeline.encode_ungated(&seen).unwrap();
        let mut templates = templates.into_iter().map(Option::unwrap);
        [templates.next().unwrap(), templates.next().unwrap()]
    };
    let (one, again) = (of_eye(false, 5), of_eye(false, 6));
    for (one, again) in one.iter().zip(&again) {
        assert!(score(one, again) < 0.33);
    }
    // Eyes with different names are never compared, whatever they show.
    assert!(compare(&one[0], &one[1], IrisRotation::default()).is_err());
    let mirrored = of_eye(true, 7);
    assert_eq!(mirrored[0].eye(), Eye::Left);
}
