//! Makes the demo's scenes out of the fixture pictures: people to enrol, and people who come to the gate.
//!
//! `sallyport-scenes FIXTURES OUT` writes `OUT/enrol/<person>/*.jpg`, `OUT/passages/NN-<label>/frame-NNN.jpg` and
//! `OUT/expected.toml`. The pictures stand for fictional subjects; nobody's name is written. What is written depends only
//! on the fixtures, never on what the pipeline says about the result. Irises are drawn by others for whom `eyes` names.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sallyport_domain::Timestamp;
use sallyport_vision::{
    BoundingBox, FacePipeline, Frame, ModelManifest, Provider, QualityPolicy, Runtime, alone,
    blurred, jittered, picture_of_picture, side_by_side, turned,
};

/// Frames of one passage.
const FRAMES: u32 = 10;
/// Size of the gate camera's frames.
const CAMERA: (i32, i32) = (960, 720);
/// Height of a face at the gate, pixels.
const FACE_PX: f32 = 200.0;
/// Height of a face in an enrolment picture, pixels.
const ENROLMENT_FACE_PX: f32 = 240.0;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [fixtures, out] = arguments.as_slice() else {
        eprintln!(
            "usage: sallyport-scenes FIXTURES OUT (FIXTURES is .cache/fixtures after deploy/setup)"
        );
        return ExitCode::from(2);
    };
    match make(fixtures, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sallyport-scenes: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One passage of the demo.
struct Passage {
    label: &'static str,
    subject: Option<&'static str>,
    verdicts: &'static [&'static str],
    why: &'static str,
    scene: Frame,
    /// Whose irises the near-infrared camera sees; none for a print, which is dark there, and for two people at once.
    eyes: Option<&'static str>,
}

const DENIED: &[&str] = &["refuse", "refer"];

fn make(fixtures: &Path, out: &Path) -> Result<(), Failure> {
    let mut studio = Studio::open(fixtures)?;
    enrolment_pictures(&mut studio, &out.join("enrol"))?;
    let mut expected = String::from(
        "# What must come out of each passage. `verdicts` lists every acceptable one.\n",
    );
    for (number, passage) in passages(&mut studio)?.into_iter().enumerate() {
        let name = format!("{:02}-{}", number + 1, passage.label);
        let folder = out.join("passages").join(&name);
        fs::create_dir_all(&folder)?;
        for step in 0..FRAMES {
            let frame = jittered(&passage.scene, step)?;
            fs::write(
                folder.join(format!("frame-{step:03}.jpg")),
                frame.to_jpeg(92)?,
            )?;
        }
        write!(expected, "\n[[passage]]\nfolder = \"{name}\"\n")?;
        if let Some(subject) = passage.subject {
            writeln!(expected, "subject = \"{subject}\"")?;
        }
        if let Some(eyes) = passage.eyes {
            writeln!(expected, "eyes = \"{eyes}\"")?;
        }
        writeln!(
            expected,
            "verdicts = {:?}\nwhy = \"{}\"",
            passage.verdicts, passage.why
        )?;
    }
    fs::write(out.join("expected.toml"), expected)?;
    Ok(())
}

fn enrolment_pictures(studio: &mut Studio, folder: &Path) -> Result<(), Failure> {
    let whole = [
        ("person-a", "picture-1.jpg", "obama.jpg"),
        ("person-a", "picture-2.jpg", "obama2.jpg"),
        ("person-b", "picture-1.jpg", "biden.jpg"),
    ];
    for (person, name, source) in whole {
        fs::create_dir_all(folder.join(person))?;
        fs::copy(studio.fixtures.join(source), folder.join(person).join(name))?;
    }
    // Both are parts of larger pictures; the second is a portrait whose eyes are 43 pixels apart, enlarged a little.
    for (person, source, from_left) in [
        ("person-c", "astronaut.png", 0),
        ("person-d", "sample3.jpg", 1),
    ] {
        fs::create_dir_all(folder.join(person))?;
        let portrait = studio.portrait(source, from_left, ENROLMENT_FACE_PX)?;
        fs::write(
            folder.join(person).join("picture-1.jpg"),
            portrait.to_jpeg(95)?,
        )?;
    }
    Ok(())
}

fn passages(studio: &mut Studio) -> Result<Vec<Passage>, Failure> {
    let mate = studio.person("obama3.jpg", 0)?;
    let head = mate.part(240, 0, 480, 720)?;
    let stranger = studio.person("sample3.jpg", 0)?;
    let passage = |label, eyes, verdicts, why, scene| Passage {
        label,
        subject: None,
        verdicts,
        why,
        scene,
        eyes,
    };
    let enrolled = |label, subject, why, scene| Passage {
        subject: Some(subject),
        ..passage(label, Some(subject), &["grant"], why, scene)
    };
    const ANOTHER: &str = "another picture of an enrolled person";
    const NOBODY: &str = "nobody like this is enrolled";
    Ok(vec![
        enrolled("mate-of-a", "person-a", ANOTHER, mate.clone()),
        passage(
            "stranger-one",
            Some("stranger-one"),
            DENIED,
            NOBODY,
            stranger.clone(),
        ),
        // The head leans by 45 degrees in the photograph; most of that is turned back.
        enrolled(
            "mate-of-d",
            "person-d",
            ANOTHER,
            turned(&studio.person("sample1.jpg", 2)?, 36.0)?,
        ),
        passage(
            "stranger-two",
            Some("stranger-two"),
            DENIED,
            NOBODY,
            studio.person("sample3.jpg", 2)?,
        ),
        passage(
            "blurred",
            None,
            DENIED,
            "too blurred to compare",
            blurred(&mate, 10.0)?,
        ),
        passage(
            "picture-of-picture",
            None,
            DENIED,
            "a print of an enrolled person held into the camera",
            picture_of_picture(&head, 1280, 960)?,
        ),
        passage(
            "two-people",
            None,
            DENIED,
            "an enrolled person and a stranger at once",
            side_by_side(&head, &stranger.part(240, 0, 480, 720)?)?,
        ),
        passage(
            "stranger-three",
            Some("stranger-three"),
            DENIED,
            NOBODY,
            studio.person("sample5.jpg", 2)?,
        ),
        passage(
            "eyes-of-another",
            Some("person-b"),
            DENIED,
            "the face of one enrolled person with the irises of another",
            mate,
        ),
        passage(
            "face-of-a-stranger",
            Some("person-c"),
            DENIED,
            "a stranger's face with the irises of an enrolled person",
            studio.person("sample5.jpg", 2)?,
        ),
    ])
}

/// The fixtures and the detector that finds the people in them.
struct Studio {
    fixtures: PathBuf,
    pipeline: FacePipeline,
}

impl Studio {
    fn open(fixtures: &Path) -> Result<Self, Failure> {
        let cache = fixtures
            .parent()
            .ok_or("FIXTURES lies in the cache that deploy/setup makes")?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let runtime = Runtime::load(&cache.join("lib/libonnxruntime.so"), Provider::Cpu, 1)?;
        let manifest = ModelManifest::load(&root.join("models/manifest.toml"))?;
        let pipeline = FacePipeline::new(
            &runtime,
            &manifest,
            &cache.join("models"),
            QualityPolicy::gate(),
        )?;
        Ok(Self {
            fixtures: fixtures.to_owned(),
            pipeline,
        })
    }

    /// One person of a picture, counted from the left, alone before the gate's camera.
    fn person(&mut self, picture: &str, from_left: usize) -> Result<Frame, Failure> {
        self.portrait(picture, from_left, FACE_PX)
    }

    fn portrait(
        &mut self,
        picture: &str,
        from_left: usize,
        face_px: f32,
    ) -> Result<Frame, Failure> {
        let path = self.fixtures.join(picture);
        let file = fs::read(&path)
            .map_err(|error| format!("{}: {error}; run deploy/setup", path.display()))?;
        let frame = Frame::decode("fixture", Timestamp::from_micros(0), &file)?;
        let mut faces: Vec<BoundingBox> = self
            .pipeline
            .analyse(&frame)?
            .faces
            .into_iter()
            .map(|seen| seen.face)
            .collect();
        faces.sort_by(|a, b| a.left.total_cmp(&b.left));
        Ok(alone(&frame, &faces, from_left, CAMERA, face_px)?)
    }
}
