//! Video sources: files end, broken ones are refused, a network camera that says nothing is given up.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use opencv::core::{CV_8UC3, Mat, Scalar, Size};
use opencv::videoio::{VideoWriter, VideoWriterTrait};
use sallyport_vision::{VideoError, VideoSource};

use crate::common::AT;

#[test]
fn a_video_file_gives_its_frames_and_then_ends() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("yard.avi");
    let path = path.to_str().expect("a readable path");
    let code = VideoWriter::fourcc('M', 'J', 'P', 'G').expect("a code");
    let mut writer =
        VideoWriter::new_def(path, code, 10.0, Size::new(64, 48)).expect("a video file");
    for grey in [40.0, 80.0, 120.0] {
        let pixels =
            Mat::new_rows_cols_with_default(48, 64, CV_8UC3, Scalar::all(grey)).expect("a picture");
        writer.write(&pixels).expect("written");
    }
    writer.release().expect("closed");
    let mut source = VideoSource::open_file("yard", path).expect("opens");
    for _ in 0..3 {
        let frame = source.read(AT).expect("readable").expect("a frame");
        assert_eq!(
            (frame.width(), frame.height(), frame.captured_at),
            (64, 48, AT)
        );
    }
    assert!(source.read(AT).expect("the end is no error").is_none());
}

#[test]
fn files_and_devices_that_are_no_cameras_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = folder.path().join("letter.avi");
    std::fs::write(&text, "This is a letter, not a video.\n").expect("writable");
    for path in [
        text,
        folder.path().join("absent.avi"),
        folder.path().to_owned(),
    ] {
        let refused = VideoSource::open_file("yard", path.to_str().expect("a readable path"))
            .expect_err("no video");
        assert!(matches!(refused, VideoError::Open), "{refused}");
    }
    let refused = VideoSource::open_device("yard", 250).expect_err("no such device");
    assert!(
        refused.to_string().contains("could not be opened"),
        "{refused}"
    );
}

#[test]
fn a_network_camera_that_stalls_is_given_up_and_its_address_is_not_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    // Connections are accepted by the system, but nobody ever answers.
    let clock = Instant::now();
    let url = format!("rtsp://user:hunter2@127.0.0.1:{port}/yard");
    let refused = VideoSource::open_url("yard", &url, 700).expect_err("nobody answers");
    assert!(
        clock.elapsed() < Duration::from_secs(15),
        "took {:?}",
        clock.elapsed()
    );
    assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    drop(listener);
}
