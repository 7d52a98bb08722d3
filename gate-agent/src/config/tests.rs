use super::*;

const GOOD: &str = r#"
state = "state"
[door]
kind = "simulated"
folder = "door"
[[camera]]
name = "front"
kind = "replay"
path = "scenes"
"#;

fn load(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(&path)
}

#[test]
fn the_example_file_is_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/gate.example.toml");
    let config = Config::load(&path).unwrap();
    assert_eq!(config.capture.policy(), CapturePolicy::default());
    assert!(config.cameras.len() >= 2 && config.iris_camera.is_some());
}

#[test]
fn relative_paths_start_at_the_files_folder() {
    let config = load(GOOD).unwrap();
    assert!(config.state.is_absolute() && config.state.ends_with("state"));
}

#[test]
fn the_examples_fire_input_is_good_and_what_a_broken_line_means_has_no_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/gate.example.toml");
    let example = std::fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = example
        .lines()
        .skip_while(|line| *line != "# [fire_input]")
        .map_while(|line| line.strip_prefix("# "))
        .collect();
    let config = load(&format!("{GOOD}{}", lines.join("\n"))).unwrap();
    let input = config.fire_input.unwrap();
    assert!(input.active_low());
    assert_eq!(input.on_fault, crate::life_safety::OnFault::Alarm);
    assert_eq!(input.debounce(), Duration::from_millis(50));
}

#[test]
fn mistakes_are_named() {
    for (text, expected) in [
        (GOOD.replace("state =", "stat ="), "stat"),
        (GOOD.replace("path =", "folder ="), "path"),
        (GOOD.replace("\"replay\"", "\"webcam\""), "webcam"),
        (format!("{GOOD}rate_fps = 0"), "rate_fps"),
        (
            format!("{GOOD}[capture]\nsamples_wanted = 6"),
            "samples_wanted",
        ),
        (format!("{GOOD}[capture]\nshow_s = nan"), "show_s"),
        (format!("{GOOD}[capture]\nshow = 3"), "show"),
        (
            GOOD.split("[[camera]]").next().unwrap().to_owned(),
            "[[camera]]",
        ),
        (
            format!("{GOOD}[[camera]]\nname = \"front\"\nkind = \"v4l2\"\ndevice = 0"),
            "names must differ",
        ),
        (
            format!("{GOOD}[fire_input]\npath = \"line\"\nalarm = \"low\""),
            "on_fault",
        ),
        (
            format!(
                "{GOOD}[fire_input]\npath = \"line\"\nalarm = \"low\"\non_fault = \"alarm\"\ndebounce_ms = 501"
            ),
            "debounce_ms",
        ),
        ("not toml".to_owned(), "gate.toml"),
    ] {
        let error = load(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_camera_password_is_not_shown() {
    let text = GOOD.replace(
        "kind = \"replay\"\npath = \"scenes\"",
        "kind = \"rtsp\"\nurl = \"rtsp://u:hunter2@h/\"",
    );
    let config = load(&text).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}
