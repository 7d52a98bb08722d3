//! From camera frame to opened door and verified log, with the real programs on the fixture pictures.

use std::collections::HashSet;
use std::path::Path;

use sallyport_domain::{Eye, Timestamp};
use sallyport_tests::installation::Checkout;
use sallyport_tests::scenes::Expected;
use sallyport_tests::site::Site;
use sallyport_vision::read_iris_record;

fn bytes_below(folder: &Path, found: &mut Vec<(std::path::PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes_below(&path, found);
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
}

/// Pixels that make a place of a picture recognisable: noise makes as many alike nowhere else.
const ROW: usize = 24;

/// A stretch of every tenth row of drawn pictures that the gate saw, from where an eye is.
fn drawn_rows(expected: &Expected) -> HashSet<Vec<u8>> {
    let mut rows = HashSet::new();
    for passage in &expected.passage {
        for person in passage.eyes.iter() {
            let strip = sallyport_tests::eyes::strip(person, &passage.folder, 0);
            for row in strip
                .grey
                .chunks_exact(strip.width)
                .skip(200)
                .step_by(10)
                .take(8)
            {
                rows.insert(row[strip.width / 5..][..ROW].to_vec());
            }
        }
    }
    rows
}

#[test]
fn mates_pass_strangers_do_not_and_the_log_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let checkout = Checkout::find().unwrap();
    let scenes = folder.path().join("scenes");
    checkout
        .run(
            "sallyport-scenes",
            [checkout.cache().join("fixtures"), scenes.clone()],
        )
        .unwrap();
    let expected = Expected::load(&scenes).unwrap();
    sallyport_tests::eyes::draw_all(&scenes, &expected).unwrap();
    let mut site = Site::create(folder.path()).unwrap();
    let station = site.join("station", "entry").unwrap();
    let gate = site.join("front-in", "entry").unwrap();
    let enrol = scenes.join("enrol").display().to_string();
    let station = station.display().to_string();
    // Where the law forbids keeping pictures of eyes, they are not even read; the drawn people stand under no law.
    let batch = site.open_batch("station").unwrap();
    let import = [
        "import",
        &enrol,
        "--state",
        &station,
        "--enrolment",
        &batch.code,
        "--profile",
        "nsw-2014",
    ];
    let error = checkout.run("sallyport-gate", import).unwrap_err();
    assert!(format!("{error:#}").contains("clause 321"), "{error:#}");
    checkout
        .run(
            "sallyport-gate",
            import.into_iter().chain(["--development"]),
        )
        .unwrap();
    site.close_batch(batch.id).unwrap();
    site.approve_batch(batch.id).unwrap();

    let config = site
        .write_gate_config(&gate, &scenes.join("passages"), 1)
        .unwrap();
    let outcomes = site.replay(&config, |_| {}).unwrap();
    assert_eq!(outcomes.len(), expected.passage.len());
    for (passage, outcome) in expected.passage.iter().zip(&outcomes) {
        let verdict = if outcome.verdict == "failure_to_acquire" {
            "refuse"
        } else {
            &outcome.verdict
        };
        assert!(
            passage.verdicts.iter().any(|allowed| allowed == verdict),
            "{}: {outcome:?}",
            passage.folder
        );
        assert_eq!(
            outcome.door,
            verdict == "grant",
            "{}: {outcome:?}",
            passage.folder
        );
    }
    let reason = |folder: &str| {
        let at = expected
            .passage
            .iter()
            .position(|passage| passage.folder.contains(folder))
            .unwrap();
        outcomes[at].reason.clone()
    };
    assert_eq!(reason("blurred"), "blurred");
    assert_eq!(
        reason("picture-of-picture"),
        "presentation_attack_suspected"
    );
    assert_eq!(reason("two-people"), "several_people");

    assert_eq!(reason("eyes-of-another"), "modality_conflict");
    assert_eq!(reason("face-of-a-stranger"), "modality_mismatch");

    // The server comes back after a kill with everything that it answered, and the log verifies.
    site.server.kill().unwrap();
    site.restart_server().unwrap();
    let (export, said) = site.verified_log("export").unwrap();
    assert!(said.contains("VERIFIED"), "{said}");
    // The mates were recognised by the face and by both irises, each on its own.
    for (passage, outcome) in expected.passage.iter().zip(&outcomes) {
        if passage.subject.is_some() {
            assert_eq!(
                Site::findings(&export, outcome.log_index.unwrap()).unwrap(),
                [
                    "face:identifies",
                    "iris_left:identifies",
                    "iris_right:identifies"
                ],
                "{}",
                passage.folder
            );
        }
    }
    let table = checkout
        .run(
            "sallyport-audit",
            ["export-csv", &export.display().to_string()],
        )
        .unwrap();
    let passages = table
        .lines()
        .filter(|line| line.split(',').nth(2) == Some("passage"))
        .count();
    assert!(passages >= outcomes.len() - 1, "{table}");

    details_for_the_entitled(&site, &folder.path().join("given"));

    // The gate ran under nsw-2014: no picture of an eye lies anywhere, not whole, not in part, not as another file.
    let strips = drawn_rows(&expected);
    assert!(strips.len() > 40);
    let mut kept = Vec::new();
    for place in ["data", "front-in", "station", "export"] {
        bytes_below(&folder.path().join(place), &mut kept);
    }
    for name in ["server.log", "gate.log"] {
        let path = folder.path().join(name);
        kept.push((path.clone(), std::fs::read(path).unwrap()));
    }
    assert!(kept.len() > 10);
    for (path, bytes) in &kept {
        for magic in [
            &b"\x89PNG\r\n\x1a\n"[..],
            b"\xff\xd8\xff\xe0\0\x10JFIF",
            b"IIR\x00020\x00",
        ] {
            assert!(
                !bytes.windows(magic.len()).any(|window| window == magic),
                "a picture is in {}",
                path.display()
            );
        }
        assert!(
            !bytes.windows(ROW).any(|window| strips.contains(window)),
            "pixels of an eye are in {}",
            path.display()
        );
    }
    let strip = scenes
        .join("eyes")
        .join(&expected.passage[0].folder)
        .join("000.png");
    let kept = folder.path().join("kept");
    let probe = |rest: &[&str]| {
        let strip = strip.display().to_string();
        let arguments = [&["probe", "--iris", &strip], rest].concat();
        checkout.run("sallyport-gate", arguments)
    };
    let kept_text = kept.display().to_string();
    for keeps in ["--out", "--record"] {
        let error = probe(&["--profile", "nsw-2014", keeps, &kept_text]).unwrap_err();
        assert!(format!("{error:#}").contains("clause 321"), "{error:#}");
        assert!(!kept.exists());
    }
    // The gate heard of the server's profile, and obeys it where nobody names one.
    let known = std::fs::read_to_string(folder.path().join("front-in/profile.json")).unwrap();
    assert!(known.contains("\"nsw-2014\""), "{known}");
    let front_in = folder.path().join("front-in").display().to_string();
    for rules in [&["--state", &front_in][..], &[]] {
        let error = probe(&[rules, &["--record", &kept_text]].concat()).unwrap_err();
        assert!(format!("{error:#}").contains("clause 321"), "{error:#}");
        assert!(!kept.exists());
    }
    // Drawn eyes stand under no law: both go into a record that other systems read, and ours.
    probe(&["--development", "--record", &kept_text]).unwrap();
    let record = std::fs::read(&kept).unwrap();
    let images = read_iris_record("record", Timestamp::from_micros(0), &record).unwrap();
    let eyes: Vec<_> = images.iter().map(|image| image.eye).collect();
    assert_eq!(eyes, [Some(Eye::Left), Some(Eye::Right)]);

    // Display names stand nowhere in clear on the server's side, nor in any log of it.
    let mut files = Vec::new();
    bytes_below(&folder.path().join("data"), &mut files);
    bytes_below(&export, &mut files);
    files.push((
        "server.log".into(),
        std::fs::read(folder.path().join("server.log")).unwrap(),
    ));
    for (path, bytes) in files {
        assert!(
            !bytes.windows(8).any(|window| window == b"person-a"),
            "a name is in {}",
            path.display()
        );
    }
    site.server.stop().unwrap();
}

/// A changed database does not start, and an edited export does not verify.
#[test]
fn a_rolled_back_database_is_refused_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::create(folder.path()).unwrap();
    let data = folder.path().join("data");
    site.join("front-in", "entry").unwrap();
    site.verified_log("export-1").unwrap();
    site.server.kill().unwrap();
    let kept = folder.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, kept.join(path.file_name().unwrap())).unwrap();
        }
    }
    site.restart_server().unwrap();
    site.server_command(&["gate", "token", "front-in"]).unwrap();
    site.verified_log("export-2").unwrap();
    site.server.kill().unwrap();
    // The database of before, the checkpoint file of now.
    for name in ["sallyport.db", "sallyport.db-wal", "sallyport.db-shm"] {
        let _ = std::fs::remove_file(data.join(name));
        if kept.join(name).exists() {
            std::fs::copy(kept.join(name), data.join(name)).unwrap();
        }
    }
    let error = site.restart_server().unwrap_err().to_string();
    assert!(
        error.contains("does not continue the signed checkpoint"),
        "{error}"
    );
}

/// A tar with sealed details, made by the server's program and opened by the inspector's.
fn details_for_the_entitled(site: &Site, place: &Path) {
    let [key, tar] = ["key", "tar"].map(|end| place.with_extension(end).display().to_string());
    let checkout = &site.checkout;
    let public = checkout
        .run("sallyport-server", ["backup-key", &key])
        .unwrap();
    site.server_command(&[
        "audit",
        "export",
        "--tar",
        &tar,
        "--details-for",
        public.trim(),
        "--reason",
        "complaint 12",
    ])
    .unwrap();
    let said = checkout.run("sallyport-audit", ["fsck", &tar]).unwrap();
    assert!(said.contains("VERIFIED"), "{said}");
    let details = ["details", &tar, "--identity", &key];
    let said = checkout.run("sallyport-audit", details).unwrap();
    let first: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert!(first["detail"].is_string(), "{said}");
    let index = first["index"].to_string();
    let said = checkout
        .run(
            "sallyport-audit",
            ["show", &tar, &index, "--identity", &key],
        )
        .unwrap();
    assert!(said.contains("proved by the entry's detail_hash"), "{said}");
    std::fs::remove_file(tar).unwrap();
    std::fs::remove_file(key).unwrap();
}
