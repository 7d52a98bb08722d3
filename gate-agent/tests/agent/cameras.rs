//! Cameras that are not there or say nothing.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sallyport_gate::camera::{CameraOpener as _, RtspOpener, V4l2Opener};
use sallyport_gate::event::AgentEvent;

use crate::gate::Gate;
use crate::support::{Behaviour, deps};

/// A network camera that accepts connections and then says nothing.
fn silent_camera() -> (TcpListener, RtspOpener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://user:hunter2@{}/x", listener.local_addr().unwrap());
    (
        listener,
        RtspOpener::new("network", &url, 500, deps().clock),
    )
}

#[test]
fn a_network_camera_that_says_nothing_is_given_up_and_its_password_not_shown() {
    let (_listener, opener) = silent_camera();
    let start = Instant::now();
    let error = opener.open().err().unwrap().to_string();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_usb_camera_that_is_not_there_says_so() {
    let opener = V4l2Opener::new("usb", 250, deps().clock);
    let error = opener.open().err().unwrap().to_string();
    assert!(error.contains("could not be opened"), "{error}");
}

#[test]
fn a_dead_preferred_camera_does_not_stop_the_gate() {
    let (_listener, opener) = silent_camera();
    let gate = Gate::start_behind(Behaviour::Grant, Some(Arc::new(opener)));
    gate.person(1);
    gate.until(|event| matches!(event, AgentEvent::Delivered { .. }));
    assert_eq!(gate.releases(), 1);
    let events = gate.until(|event| {
        matches!(event, AgentEvent::Camera { name, health } if name == "network" && health != "ok")
    });
    assert!(!format!("{events:?}").contains("hunter2"));
}
