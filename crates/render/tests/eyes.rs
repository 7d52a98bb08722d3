//! The renderer keeps its promises: same seed, same bytes; labels agree with outlines; hostile sizes are refused.
#![expect(clippy::unwrap_used, reason = "tests")]

use rand::{Rng as _, SeedableRng as _};
use sallyport_render::{
    ChaCha8Rng, Identity, Look, Part, RenderedEye, StripLook, Style, printed, render, render_strip,
    screen, with_lens,
};

const SIZE: (usize, usize) = (320, 240);

fn eye(seed: u64, style: Style) -> (Look, RenderedEye) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let identity = Identity::from_seed(rng.random());
    let look = Look::draw(&identity, style, SIZE, false, &mut rng);
    let eye = render(&identity, &look, SIZE, rng.random());
    (look, eye)
}

fn count(eye: &RenderedEye, part: Part) -> usize {
    eye.parts
        .iter()
        .filter(|found| **found == part as u8)
        .count()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let normal = Style::Gate { spread: 1.0 };
    let (_, one) = eye(7, normal);
    let (_, again) = eye(7, normal);
    let (_, other) = eye(8, normal);
    assert!(one.grey == again.grey && one.parts == again.parts && one.truth == again.truth);
    assert!(one.grey != other.grey);
}

#[test]
fn labels_agree_with_the_outlines() {
    for seed in 0..12 {
        let (_, eye) = eye(seed, Style::Gate { spread: 1.0 });
        let truth = eye.truth.unwrap();
        let (mut inside, mut wrong) = (0, 0);
        for (at, part) in eye.parts.iter().enumerate() {
            let (x, y) = ((at % SIZE.0) as f32 + 0.5, (at / SIZE.0) as f32 + 0.5);
            let (dx, dy) = (x - truth.pupil.x, y - truth.pupil.y);
            let along = (dx * truth.axis.cos() + dy * truth.axis.sin()) / truth.foreshortening;
            let across = dy * truth.axis.cos() - dx * truth.axis.sin();
            let r = along.hypot(across);
            if r < truth.pupil.radius - 2.0 {
                inside += 1;
                wrong += usize::from(*part == Part::Iris as u8 || *part == Part::Sclera as u8);
            } else if r > truth.pupil.radius + 2.0 {
                wrong += usize::from(*part == Part::Pupil as u8);
            }
        }
        assert!(inside > 500, "seed {seed}: the pupil has {inside} pixels");
        assert_eq!(wrong, 0, "seed {seed}");
        assert!(
            (0.3..=1.0).contains(&truth.visible_share),
            "seed {seed}: {}",
            truth.visible_share
        );
    }
}

#[test]
fn training_pictures_vary_and_some_have_no_eye() {
    let (mut without, mut narrow, mut sharp) = (0, 0, 0);
    for seed in 0..120 {
        let (look, eye) = eye(seed, Style::Training);
        assert_eq!(eye.truth.is_some(), look.has_eye);
        if !look.has_eye {
            without += 1;
            assert_eq!(
                count(&eye, Part::Iris) + count(&eye, Part::Pupil) + count(&eye, Part::Sclera),
                0
            );
        } else if eye.truth.unwrap().visible_share < 0.3 {
            narrow += 1;
        }
        sharp += usize::from(eye.grey.iter().max() > Some(&200));
    }
    assert!(
        (1..20).contains(&without),
        "{without} of 120 without an eye"
    );
    assert!(narrow > 5 && sharp > 20, "{narrow} narrow, {sharp} bright");
}

#[test]
fn closed_eyes_and_dark_glasses_show_no_iris() {
    let identity = Identity::from_seed(3);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let look = Look::draw(
        &identity,
        Style::Gate { spread: 1.0 },
        SIZE,
        false,
        &mut rng,
    );
    let open = count(&render(&identity, &look, SIZE, 1), Part::Iris);
    let half = count(
        &render(&identity, &look.clone().half_closed(), SIZE, 1),
        Part::Iris,
    );
    let closed = count(
        &render(&identity, &look.clone().closed(), SIZE, 1),
        Part::Iris,
    );
    let dark = count(
        &render(&identity, &look.behind_dark_glasses(), SIZE, 1),
        Part::Iris,
    );
    assert!(half < open * 7 / 10 && half > 0, "{half} of {open}");
    assert!(
        closed < open / 20 && dark == 0,
        "{closed} and {dark} of {open}"
    );
}

#[test]
fn a_strip_has_both_eyes_at_the_stated_distance_and_is_mirrored_on_request() {
    let (left, right) = (Identity::from_seed(1), Identity::from_seed(2));
    let look = StripLook::new(5);
    let strip = render_strip(&left, &right, &look, |look| look);
    let (l, r) = (strip.left.unwrap().limbus, strip.right.unwrap().limbus);
    assert!(
        l.x > r.x,
        "the subject's left eye is on the right of an unmirrored picture"
    );
    let distance = (l.x - r.x).hypot(l.y - r.y);
    assert!((distance - look.eye_distance_px).abs() < 8.0, "{distance}");
    let mirrored = render_strip(
        &left,
        &right,
        &StripLook {
            mirrored: true,
            ..look
        },
        |look| look,
    );
    let row = |grey: &[u8]| grey[240 * strip.width..241 * strip.width].to_vec();
    let reversed: Vec<u8> = row(&mirrored.grey).into_iter().rev().collect();
    assert_eq!(row(&strip.grey), reversed);
}

#[test]
fn attacks_change_the_picture_as_they_should() {
    let (_, eye) = eye(4, Style::Gate { spread: 1.0 });
    let mean = |grey: &[u8]| grey.iter().map(|v| f64::from(*v)).sum::<f64>() / grey.len() as f64;
    assert!(mean(&screen(&eye, 1).grey) < 30.0);
    let print = printed(&eye, 4.0, 1);
    assert!(print.grey != eye.grey && *print.grey.iter().max().unwrap() < 230);
    let identity = Identity::from_seed(9);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let look = Look::draw(
        &identity,
        Style::Gate { spread: 1.0 },
        SIZE,
        false,
        &mut rng,
    );
    assert!(
        render(&with_lens(&identity, 1), &look, SIZE, 2).grey
            != render(&identity, &look, SIZE, 2).grey
    );
}

fn program(arguments: &[&str]) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_sallyport-render"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn dark_eyes_are_dark_repeat_and_leave_the_other_styles_alone() {
    let draw = |seed: u64| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let identity = Identity::dark_for_training(sallyport_render::texture(seed), &mut rng);
        let look = Look::draw(&identity, Style::DarkEyes, SIZE, false, &mut rng);
        render(&identity, &look, SIZE, rng.random())
    };
    assert!(draw(5).grey == draw(5).grey);
    let mean = |eyes: &[RenderedEye]| {
        let (mut sum, mut pixels) = (0_usize, 0_usize);
        for eye in eyes {
            for (grey, part) in eye.grey.iter().zip(&eye.parts) {
                if *part == Part::Iris as u8 {
                    sum += usize::from(*grey);
                    pixels += 1;
                }
            }
        }
        sum / pixels
    };
    let dark: Vec<_> = (0..30).map(draw).collect();
    let usual: Vec<_> = (0..30).map(|seed| eye(seed, Style::Training).1).collect();
    let (dark, usual) = (mean(&dark), mean(&usual));
    assert!(dark < 75 && usual > dark + 15, "{dark} and {usual}");
}

#[test]
fn pictures_labels_and_truth_can_be_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let run = program(&["eyes", "--out", out, "--count", "2", "--size", "200x160"]);
    assert!(run.status.success());
    let truth = std::fs::read_to_string(folder.path().join("truth.jsonl")).unwrap();
    assert_eq!(truth.lines().count(), 2);
    for line in truth.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let open = |field: &str| {
            image::open(folder.path().join(line[field].as_str().unwrap()))
                .unwrap()
                .to_luma8()
        };
        let (grey, labels) = (open("picture"), open("labels"));
        assert_eq!(grey.dimensions(), (200, 160));
        assert_eq!(labels.dimensions(), (200, 160));
        let pupil = labels
            .pixels()
            .filter(|pixel| pixel.0[0] == Part::Pupil as u8)
            .count();
        assert!(pupil > 200, "{pupil} pixels of pupil");
        assert!(
            labels
                .pixels()
                .all(|pixel| usize::from(pixel.0[0]) < Part::COUNT)
        );
        let shown = line["truth"]["pupil"]["radius"].as_f64().unwrap();
        let stated = line["truth"]["limbus"]["radius"].as_f64().unwrap()
            * line["dilation"].as_f64().unwrap();
        assert!((shown - stated).abs() < 0.01, "{shown} and {stated}");
    }
    for (arguments, wanted) in [
        (["eyes", "--out", out, "--count", "0"], "1..="),
        (["people", "--out", out, "--kind", "dark"], "--kind normal"),
    ] {
        let refused = program(&arguments);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains(wanted), "{text}");
    }
}

#[test]
fn the_program_writes_whole_files_and_refuses_nonsense() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("set.raw");
    let twice = folder.path().join("again.raw");
    for out in [&raw, &twice] {
        let out = out.to_str().unwrap();
        assert!(
            program(&["training", "--out", out, "--count", "3", "--seed", "4"])
                .status
                .success()
        );
    }
    let bytes = std::fs::read(&raw).unwrap();
    assert_eq!(bytes.len(), 3 * 2 * 320 * 240);
    assert_eq!(bytes, std::fs::read(&twice).unwrap());
    assert!(
        bytes[320 * 240..2 * 320 * 240]
            .iter()
            .all(|class| *class < 4)
    );
    let refused = program(&["eyes", "--out", "/dev/null/x", "--count", "1"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && text.contains("/dev/null/x"),
        "{text}"
    );
    let refused = program(&["eyes", "--out", "/tmp/x", "--size", "9999999x3"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && text.contains("320x240"),
        "{text}"
    );
}
