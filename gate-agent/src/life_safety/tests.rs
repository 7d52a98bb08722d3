use super::*;

fn at(ms: u64) -> Mono {
    Mono::from_origin(Duration::from_millis(ms))
}

#[test]
fn a_change_counts_only_after_it_has_held() {
    let mut line = Debounce::new(false, Duration::from_millis(50));
    assert!(!line.sample(true, at(0)));
    assert!(!line.sample(true, at(49)));
    assert!(
        !line.sample(false, at(50)),
        "a bounce starts the time again"
    );
    assert!(!line.sample(true, at(60)));
    assert!(!line.sample(true, at(109)));
    assert!(line.sample(true, at(110)));
    assert!(line.sample(false, at(120)));
    assert!(!line.sample(false, at(170)));
    let mut at_once = Debounce::new(false, Duration::ZERO);
    assert!(at_once.sample(true, at(0)));
}

#[test]
fn a_line_says_0_or_1_and_everything_else_is_a_fault_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("value");
    for (text, low, active) in [
        ("0\n", true, true),
        ("1\n", true, false),
        ("1", false, true),
        ("0", false, false),
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(FileInput::new(&path, low).active(), Ok(active), "{text:?}");
    }
    for text in ["", "2\n", "on", "10", "\u{0}"] {
        fs::write(&path, text).unwrap();
        let fault = FileInput::new(&path, true).active().unwrap_err();
        assert!(fault.to_string().contains("check the wiring"), "{fault}");
        assert!(fault.to_string().contains("value"), "{fault}");
    }
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(FileInput::new(&path, true).active().is_err());
    fs::remove_file(&path).unwrap();
    assert!(FileInput::new(&path, true).active().is_err());
}
