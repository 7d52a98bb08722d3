//! Whatever file is handed in: a frame, or a sentence that says what to do; never a panic.

use opencv::core::{CV_8UC1, CV_16UC3, Mat, MatTraitConst, Scalar, Vector};
use opencv::imgcodecs;
use sallyport_vision::{DecodeError, Frame, MAX_FILE_BYTES};

use crate::common::{AT, cache, faces, picture, pipeline};

fn decode(file: &[u8]) -> Result<Frame, DecodeError> {
    Frame::decode("test", AT, file)
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(cache().join("fixtures").join(name)).expect("run deploy/setup")
}

fn encoded(ending: &str, pixels: &Mat) -> Vec<u8> {
    let mut file = Vector::<u8>::new();
    assert!(imgcodecs::imencode_def(ending, pixels, &mut file).expect("encoding works"));
    opencv::prelude::VectorToVec::to_vec(&file)
}

/// Mean blue, green and red of a small area.
fn colour(frame: &Frame, left: i32, top: i32) -> [i32; 3] {
    let bytes = frame
        .part(left, top, 4, 4)
        .and_then(|part| part.bgr())
        .expect("inside the frame");
    let count = i32::try_from(bytes.len() / 3).expect("a small area");
    std::array::from_fn(|channel| {
        bytes
            .iter()
            .skip(channel)
            .step_by(3)
            .map(|value| i32::from(*value))
            .sum::<i32>()
            / count
    })
}

#[test]
fn a_truncated_picture_is_refused_at_every_length() {
    for name in ["obama.jpg", "astronaut.png"] {
        let file = fixture(name);
        for tenth in 0..10 {
            let part = &file[..file.len() * tenth / 10];
            let refused = decode(part).expect_err("part of a picture is no picture");
            assert!(
                matches!(refused, DecodeError::Damaged | DecodeError::UnknownFormat),
                "{name} at {tenth}/10: {refused}"
            );
        }
        assert!(
            decode(&file[..file.len() - 40]).is_err(),
            "{name} without its last 40 bytes"
        );
        assert!(decode(&file).is_ok(), "{name} as a whole");
    }
}

#[test]
fn a_text_file_named_jpg_is_refused() {
    for text in [
        "",
        "P",
        "This is a letter, not a picture.\n",
        "\u{feff}<svg/>",
        "\0\0\0\0",
    ] {
        let refused = decode(text.as_bytes()).expect_err("text is no picture");
        assert!(matches!(refused, DecodeError::UnknownFormat), "{refused}");
        assert!(refused.to_string().contains("not a JPEG, PNG or BMP"));
    }
}

#[test]
fn a_giant_picture_is_refused_by_its_header_alone() {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend(60_000_u32.to_be_bytes());
    png.extend(60_000_u32.to_be_bytes());
    png.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
    let mut jpeg = vec![0xff, 0xd8, 0xff, 0xc0, 0, 17, 8];
    jpeg.extend(65_000_u16.to_be_bytes());
    jpeg.extend(65_000_u16.to_be_bytes());
    jpeg.extend([3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1]);
    let mut bmp = vec![0; 54];
    bmp[..2].copy_from_slice(b"BM");
    bmp[18..22].copy_from_slice(&50_000_u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&(-50_000_i32).to_le_bytes());
    for file in [png, jpeg, bmp] {
        let refused = decode(&file).expect_err("too large");
        assert!(
            matches!(refused, DecodeError::TooManyPixels { .. }),
            "{refused}"
        );
        assert!(refused.to_string().contains("scale it down"));
    }
    let refused = decode(&vec![0xff; MAX_FILE_BYTES + 1]).expect_err("too many bytes");
    assert!(matches!(refused, DecodeError::TooManyBytes(_)));
}

#[test]
fn no_damaged_byte_makes_it_panic() {
    let small = picture("biden.jpg").scaled(0.1).expect("scaling works");
    for file in [
        small.to_jpeg(80).expect("encoding works"),
        fixture("obama.jpg")[..3000].to_vec(),
    ] {
        for at in 0..file.len().min(1500) {
            for value in [0, 0xff, file[at] ^ 0x10] {
                let mut damaged = file.clone();
                damaged[at] = value;
                // A frame or a refusal, both are fine; what matters is that it returns.
                let _ = decode(&damaged);
            }
        }
    }
}

#[test]
fn grey_and_16_bit_pictures_become_8_bit_colour() {
    let grey =
        Mat::new_rows_cols_with_default(20, 30, CV_8UC1, Scalar::all(77.0)).expect("a picture");
    let deep = Mat::new_rows_cols_with_default(
        20,
        30,
        CV_16UC3,
        Scalar::new(0.0, 25_700.0, 65_535.0, 0.0),
    )
    .expect("a picture");
    assert_eq!(deep.depth(), opencv::core::CV_16U);
    let grey = decode(&encoded(".png", &grey)).expect("grey decodes");
    assert_eq!(
        (grey.width(), grey.height(), colour(&grey, 5, 5)),
        (30, 20, [77; 3])
    );
    let deep = decode(&encoded(".png", &deep)).expect("16 bits decode");
    assert_eq!(colour(&deep, 5, 5), [0, 100, 255]);
}

#[test]
fn a_cmyk_jpeg_keeps_its_colours() {
    // Left half CMYK (0, 100, 100, 0) is red, right half (100, 100, 0, 0) is blue.
    let frame = decode(include_bytes!("../data/cmyk.jpg")).expect("CMYK decodes");
    let [blue, green, red] = colour(&frame, 2, 6);
    assert!(
        red > 200 && green < 60 && blue < 60,
        "left is red, not {blue} {green} {red}"
    );
    let [blue, green, red] = colour(&frame, 26, 6);
    assert!(
        blue > 200 && green < 60 && red < 60,
        "right is blue, not {blue} {green} {red}"
    );
}

/// Adds an APP1 segment with one entry, the orientation, right after the start of the picture.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let length = u16::try_from(exif.len() + 2).expect("a short segment");
    let (start, rest) = jpeg.split_at(2);
    let mut file = start.to_vec();
    file.extend([0xff, 0xe1]);
    file.extend(length.to_be_bytes());
    file.extend(exif);
    file.extend(rest);
    file
}

#[test]
fn exif_rotation_is_applied_so_that_the_face_stands_upright() {
    let upright = picture("obama.jpg");
    let mut turned = Mat::default();
    let file = imgcodecs::imdecode(
        &Vector::from_slice(&fixture("obama.jpg")),
        imgcodecs::IMREAD_COLOR,
    )
    .expect("decoding works");
    // Orientation 6: the camera was turned so that the picture must be turned clockwise to stand upright.
    opencv::core::rotate(&file, &mut turned, opencv::core::ROTATE_90_COUNTERCLOCKWISE)
        .expect("turning works");
    let lying = encoded(".jpg", &turned);
    let mut pipeline = pipeline();
    let plain = decode(&lying).expect("decodes");
    assert_eq!(
        (plain.width(), plain.height()),
        (upright.height(), upright.width())
    );
    let corrected = decode(&with_orientation(&lying, 6)).expect("decodes");
    assert_eq!(
        (corrected.width(), corrected.height()),
        (upright.width(), upright.height())
    );
    let seen = faces(&mut pipeline, &corrected);
    assert_eq!(seen.len(), 1);
    assert!(seen[0].pose.roll_deg.abs() < 5.0);
}

#[test]
fn raw_frames_of_the_wrong_size_are_refused() {
    for (width, height, bytes) in [
        (4, 4, 47),
        (4, 4, 49),
        (0, 4, 0),
        (u32::MAX, u32::MAX, 16),
        (4, 0, 0),
    ] {
        assert!(Frame::from_bgr("test", AT, width, height, &vec![0; bytes]).is_err());
    }
    let frame = Frame::from_bgr("test", AT, 2, 1, &[1, 2, 3, 4, 5, 6]).expect("fits");
    assert_eq!(frame.bgr().expect("readable"), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn frames_without_faces_and_tiny_frames_are_analysed() {
    let mut pipeline = pipeline();
    for (width, height) in [(1, 1), (3, 2), (640, 480), (1, 2000)] {
        let bytes = vec![120; (width * height * 3) as usize];
        let frame = Frame::from_bgr("test", AT, width, height, &bytes).expect("fits");
        let analysis = pipeline.analyse(&frame).expect("analysis works");
        assert_eq!(
            (analysis.faces.len(), analysis.people_in_view),
            (0, 0),
            "{width} x {height}"
        );
    }
}

#[test]
fn debug_output_shows_no_pixels_and_no_path() {
    let frame = Frame::from_bgr("yard", AT, 2, 1, &[1, 2, 3, 4, 5, 6]).expect("fits");
    assert_eq!(format!("{frame:?}"), "Frame(yard, 2 x 1)");
}
