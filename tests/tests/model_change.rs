//! A change of models with the real programs: photographs are encoded again, irises follow at the next passage, nobody is lost.
//!
//! The next models are the present ones in files with other bytes (a description is appended, which ONNX allows), so they have another
//! identity and the same accuracy. What is shown is the way of the change, not what another model would gain.

use std::path::{Path, PathBuf};

use sallyport_tests::installation::Checkout;
use sallyport_tests::scenes::Expected;
use sallyport_tests::site::Site;
use sha2::{Digest as _, Sha256};

/// SHA-256 of a model and of the one that follows it.
struct Pair {
    from: String,
    to: String,
}

/// A folder with the next recognition model, the next iris encoder, and their manifest.
fn next_models(checkout: &Checkout, folder: &Path) -> (PathBuf, Pair, Pair) {
    std::fs::create_dir_all(folder).unwrap();
    let text = std::fs::read_to_string(checkout.root().join("models/manifest.toml")).unwrap();
    let mut manifest: toml::Table = toml::from_str(&text).unwrap();
    let mut pairs = Vec::new();
    for model in manifest["model"].as_array_mut().unwrap() {
        let model = model.as_table_mut().unwrap();
        let role = model["role"].as_str().unwrap().to_owned();
        let committed = model
            .get("committed")
            .and_then(toml::Value::as_bool)
            .unwrap_or(false);
        if !["recognition", "iris_encoder"].contains(&role.as_str()) {
            continue;
        }
        let file = model["file"].as_str().unwrap().to_owned();
        let source = if committed {
            checkout.root().join("models").join(&file)
        } else {
            checkout.cache().join("models").join(&file)
        };
        let mut bytes = std::fs::read(source).unwrap();
        // Field 6 of ModelProto, doc_string: length-delimited.
        bytes.extend_from_slice(b"\x32\x0ethe next model");
        std::fs::write(folder.join(&file), &bytes).unwrap();
        let digest: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let from = model["sha256"].as_str().unwrap().to_owned();
        model.insert("sha256".to_owned(), digest.clone().into());
        model.insert("committed".to_owned(), true.into());
        pairs.push((role, Pair { from, to: digest }));
    }
    // The models that do not change stay where they are.
    for model in manifest["model"].as_array_mut().unwrap() {
        let model = model.as_table_mut().unwrap();
        let role = model["role"].as_str().unwrap();
        if role.starts_with("iris_segment") {
            let file = model["file"].as_str().unwrap();
            let source = checkout.root().join("models").join(file);
            std::fs::copy(source, folder.join(file)).unwrap();
        }
    }
    let path = folder.join("manifest.toml");
    std::fs::write(&path, toml::to_string(&manifest).unwrap()).unwrap();
    let mut take = |role: &str| {
        let at = pairs.iter().position(|(of, _)| of == role).unwrap();
        pairs.remove(at).1
    };
    let (face, iris) = (take("recognition"), take("iris_encoder"));
    (path, face, iris)
}

fn begin(site: &Site, pair: &Pair, more: &[&str]) -> String {
    let mut arguments = vec![
        "model-change",
        "begin",
        "--from",
        &pair.from,
        "--to",
        &pair.to,
        "--reason",
        "a trial",
    ];
    arguments.extend_from_slice(more);
    let said = site.server_command(&arguments).unwrap();
    said.split_whitespace().nth(1).unwrap().to_owned()
}

/// Lines of the report about one change.
fn report(site: &Site, change: &str) -> String {
    let said = site.server_command(&["model-change", "report"]).unwrap();
    let begin = said.find(&format!("change {change}")).unwrap();
    let rest = &said[begin + 1..];
    rest[..rest.find("\nchange ").unwrap_or(rest.len())].to_owned()
}

#[test]
fn photographs_and_passages_bring_everybody_over_to_the_next_models() {
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
    // The two mates only.
    let mates = scenes.join("passages");
    for passage in expected.passage.iter().filter(|p| p.subject.is_none()) {
        std::fs::remove_dir_all(mates.join(&passage.folder)).unwrap();
    }
    let mates_count = std::fs::read_dir(&mates).unwrap().count();
    assert_eq!(mates_count, 2);
    let (manifest, face, iris) = next_models(&checkout, &folder.path().join("next"));
    let manifest = manifest.display().to_string();

    let site = Site::create(folder.path()).unwrap();
    let station = site.join("station", "entry").unwrap();
    let gate = site.join("front-in", "entry").unwrap();
    let enrol = scenes.join("enrol").display().to_string();
    let station = station.display().to_string();
    let batch = site.open_batch("station").unwrap();
    let import = [
        "import",
        &enrol,
        "--state",
        &station,
        "--enrolment",
        &batch.code,
        "--development",
    ];
    checkout.run("sallyport-gate", import).unwrap();
    site.close_batch(batch.id).unwrap();
    let people = site.approve_batch(batch.id).unwrap();
    assert!(people > 2);

    // Without a change there is nothing to encode, and a station with the present models only says what is missing.
    let reencode = ["reencode", "--state", &station];
    let error = checkout.run("sallyport-gate", reencode).unwrap_err();
    assert!(format!("{error:#}").contains("--successor"), "{error:#}");
    let reencode = ["reencode", "--state", &station, "--successor", &manifest];
    let error = checkout.run("sallyport-gate", reencode).unwrap_err();
    assert!(
        format!("{error:#}").contains("no change of models goes on"),
        "{error:#}"
    );
    let of_faces = begin(&site, &face, &["--station", "station"]);
    let of_irises = begin(&site, &iris, &[]);
    assert_eq!(report(&site, &of_faces).matches("left:").count(), people);
    let said = checkout.run("sallyport-gate", reencode).unwrap();
    assert!(said.contains("0 gave nothing"), "{said}");
    let faces = report(&site, &of_faces);
    assert!(
        faces.contains(&format!("{people} of {people} people have new references")),
        "{faces}"
    );

    // The gate runs both; who passes gets the new references of the eyes.
    let config = site.write_gate_config(&gate, &mates, 1).unwrap();
    let plain = std::fs::read_to_string(&config).unwrap();
    let both = format!("{plain}\n[vision]\nsuccessor = {manifest:?}\n");
    std::fs::write(&config, both).unwrap();
    let outcomes = site.replay(&config, |_| {}).unwrap();
    assert_eq!(outcomes.len(), mates_count);
    assert!(outcomes.iter().all(|outcome| outcome.door), "{outcomes:?}");
    let irises = report(&site, &of_irises);
    let left = people - mates_count;
    assert_eq!(irises.matches("left:").count(), left, "{irises}");

    // The end, with those named who are left behind; then the gate knows the next models only.
    site.server_command(&["model-change", "end", &of_faces])
        .unwrap();
    let forgotten = site.server_command(&["model-change", "end", &of_irises]);
    let error = format!("{:#}", forgotten.unwrap_err());
    assert!(error.contains(&format!("--leave {left}")), "{error}");
    let leave = left.to_string();
    site.server_command(&["model-change", "end", &of_irises, "--leave", &leave])
        .unwrap();
    std::fs::write(&config, plain).unwrap();
    let alone = ["--manifest", &manifest];
    let outcomes = site.replay_with(&config, &alone, |_| {}).unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.door), "{outcomes:?}");
    let (export, said) = site.verified_log("export").unwrap();
    assert!(said.contains("VERIFIED"), "{said}");
    for outcome in outcomes {
        assert_eq!(
            Site::findings(&export, outcome.log_index.unwrap()).unwrap(),
            [
                "face:identifies",
                "iris_left:identifies",
                "iris_right:identifies"
            ]
        );
    }
}
