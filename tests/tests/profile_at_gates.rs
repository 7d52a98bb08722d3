//! A real server tells a real gate the jurisdiction profile, and the gate believes the log that it watches.

use std::path::Path;
use std::time::{Duration, Instant};

use sallyport_tests::installation::{Checkout, Running};
use sallyport_tests::site::Site;

/// A picture of an empty room: 320 x 240 pixels of one grey, as BMP.
fn grey() -> Vec<u8> {
    let (width, height) = (320_u32, 240_u32);
    let size = width * height * 3;
    let mut bytes = b"BM".to_vec();
    for word in [54 + size, 0, 54, 40, width, height, (24 << 16) | 1, 0, size] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.resize(54, 0);
    bytes.resize(54 + size as usize, 128);
    bytes
}

/// A replay that shows an empty room without end: the gate runs and nobody comes.
fn config(site: &Site, state: &Path, empty: &Path, own: &str) -> std::path::PathBuf {
    let path = site.write_gate_config(state, empty, 1).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text
        .replace("profile = \"nsw-2014\"\n", own)
        .replace("heartbeat_s = 1\n", "heartbeat_s = 0.2\n")
        .replace("hold_frames = 1\n", "hold_frames = 1\nrepeat = true\n");
    std::fs::write(&path, text).unwrap();
    path
}

fn run(site: &Site, config: &Path) -> Running {
    let mut command = site.checkout.command("sallyport-gate");
    command.args(["run", "--config", &config.display().to_string()]);
    Running::start(command, "sallyport-gate", &site.root.join("gate.log")).unwrap()
}

/// Waits for the file in which the gate keeps what it knows to say this.
fn knows(state: &Path, part: &str) -> String {
    let began = Instant::now();
    loop {
        let text = std::fs::read_to_string(state.join("profile.json")).unwrap_or_default();
        if text.contains(part) {
            return text;
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{part} never came: {text}"
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_gate_obeys_the_profile_that_the_log_names_and_its_own_setting_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let checkout = Checkout::find().unwrap();
    let mut site = Site::create(folder.path()).unwrap();
    let state = site.join("front-in", "entry").unwrap();
    let state_text = state.display().to_string();
    let scene = folder.path().join("empty/nobody");
    std::fs::create_dir_all(&scene).unwrap();
    let picture = scene.join("000.bmp");
    std::fs::write(&picture, grey()).unwrap();
    let picture = picture.display().to_string();
    let kept = folder.path().join("kept");
    let kept_text = kept.display().to_string();
    let probe = |more: &[&str]| {
        let iris = ["probe", "--iris", &picture, "--out", &kept_text];
        checkout.run("sallyport-gate", [&iris[..], more].concat())
    };
    let refused = |more: &[&str], says: &str| {
        let error = format!("{:#}", probe(more).unwrap_err());
        assert!(
            error.contains("clause 321") && error.contains(says),
            "{error}"
        );
        assert!(!kept.exists());
    };
    // Nothing is known, neither without a gate nor of a gate that never heard.
    refused(&[], "nothing is known");
    refused(&["--state", &state_text], "nothing is known");

    let config_of_gate = config(&site, &state, &folder.path().join("empty"), "");
    let gate = run(&site, &config_of_gate);
    knows(&state, "\"nsw-2014\"");
    refused(&["--state", &state_text], "nsw-2014 version");

    // A profile of a site that may keep such pictures. The gate does not take the server's word for it: the log has to prove it.
    let text = checkout.root().join("profiles/nsw-2014.toml");
    let text = std::fs::read_to_string(text).unwrap().replacen(
        "keep = \"never\"",
        "keep = { until = { after = \"capture\", months = 1 } }",
        1,
    );
    let file = folder.path().join("trial.toml");
    std::fs::write(
        &file,
        text.replace("name = \"nsw-2014\"", "name = \"trial\""),
    )
    .unwrap();
    site.server_command(&["profile", "set", &file.display().to_string()])
        .unwrap();
    site.server.kill().unwrap();
    site.restart_server().unwrap();
    knows(&state, "\"by_log\": true");
    // Now the rules permit it; that this picture shows no eye is another matter.
    let said = match probe(&["--state", &state_text]) {
        Ok(said) => said,
        Err(error) => format!("{error:#}"),
    };
    assert!(!said.contains("clause 321"), "{said}");
    let _ = std::fs::remove_dir_all(&kept);
    // A stricter setting of the gate's own stays.
    refused(
        &["--state", &state_text, "--profile", "nsw-2014"],
        "trial version",
    );
    let status = checkout.run("sallyport-gate", ["status", "--state", &state_text]);
    let status = match status {
        Ok(said) => said,
        Err(error) => format!("{error:#}"),
    };
    assert!(
        status.contains("jurisdiction profile trial version"),
        "{status}"
    );

    // Back to the strict one, and then the server falls silent.
    site.server_command(&["profile", "set", "uk"]).unwrap();
    site.server.kill().unwrap();
    site.restart_server().unwrap();
    knows(&state, "\"uk\"");
    site.server.kill().unwrap();
    refused(&["--state", &state_text], "uk version");
    drop(gate);
    refused(&["--state", &state_text], "uk version");
}
