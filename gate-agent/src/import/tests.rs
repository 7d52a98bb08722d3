use super::*;
use crate::deps::OsRandom;
use base64::Engine as _;
use sallyport_domain::{ReferenceId, SubjectCategory, Timestamp};
use std::cell::RefCell;

const KEY: [u8; 32] = [9; 32];

fn sealing() -> SealingKey {
    SealingKey::from_base64(&base64::engine::general_purpose::STANDARD.encode(KEY)).unwrap()
}

fn eye_of(eye: Eye) -> PreparedEye {
    PreparedEye {
        template: IrisTemplate::new(
            ModelDigest::from_bytes([2; 32]),
            eye,
            70,
            400,
            [1; 64],
            [u128::MAX; 64],
        )
        .unwrap(),
        quality: 70.0,
        part: 0,
    }
}

struct Bench {
    folder: tempfile::TempDir,
    /// Subjects that reached the server, with their number of samples.
    sent: RefCell<Vec<(SubjectId, String, usize)>>,
    down: RefCell<bool>,
    analysed: usize,
    told: Vec<ImportEvent>,
    /// May photographs be kept?
    photographs: bool,
    /// Of each sample, whether it had one.
    sent_photographs: RefCell<Vec<bool>>,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    for (person, files) in [
        ("Anna", &[("1.jpg", "good 1"), ("2.jpg", "blurred")][..]),
        ("Ben", &[("1.jpg", "good 2")]),
        ("Carl", &[("1.jpg", "no face here")]),
    ] {
        let place = folder.path().join("people").join(person);
        fs::create_dir_all(&place).unwrap();
        for (name, text) in files {
            fs::write(place.join(name), text).unwrap();
        }
    }
    Bench {
        folder,
        sent: RefCell::default(),
        down: RefCell::new(false),
        analysed: 0,
        told: Vec::new(),
        photographs: true,
        sent_photographs: RefCell::default(),
    }
}

impl Bench {
    fn run(&mut self) -> Result<Summary, ImportError> {
        let people = read_input(&self.folder.path().join("people"), SubjectCategory::Visitor)?;
        let Self {
            sent,
            down,
            analysed,
            told,
            folder,
            photographs,
            sent_photographs,
        } = self;
        let mut prepare = |bytes: &[u8]| {
            *analysed += 1;
            let text = String::from_utf8_lossy(bytes);
            Ok(if text.starts_with("good") {
                let mut values = vec![0.0; 512];
                values[0] = 1.0;
                Ok(PreparedPicture {
                    template: FaceTemplate::new(values).unwrap(),
                    model: ModelDigest::from_bytes([1; 32]),
                    quality: 80.0,
                    jpeg: bytes.to_vec(),
                })
            } else if text == "blurred" {
                Err(PictureRefusal::Defects(vec![QualityDefect::Blurred]))
            } else {
                Err(PictureRefusal::Defects(vec![QualityDefect::NoFace]))
            })
        };
        let send = |submission: &EnrolmentSubmission| {
            if *down.borrow() && submission.display_name == "Ben" {
                return Err(UplinkError::Unreachable("gone".to_owned()));
            }
            sent_photographs.borrow_mut().extend(
                submission
                    .samples
                    .iter()
                    .map(|sample| sample.photograph.is_some()),
            );
            sent.borrow_mut().push((
                submission.subject,
                submission.display_name.clone(),
                submission.samples.len(),
            ));
            Ok(EnrolmentOutcome::Enrolled {
                subject: submission.subject,
                references: vec![ReferenceId::new(Timestamp::from_micros(0), [0; 10])],
                log_index: 1,
            })
        };
        Importer {
            station: "station".parse().unwrap(),
            enrolment: "code".to_owned(),
            sealing: sealing(),
            random: &OsRandom,
            prepare: &mut prepare,
            prepare_eyes: &mut |bytes| {
                let text = String::from_utf8_lossy(bytes);
                Ok(if text.starts_with("eyes") {
                    Ok([Eye::Left, Eye::Right].map(eye_of).to_vec())
                } else {
                    Err(PictureRefusal::Defects(vec![QualityDefect::NoEye]))
                })
            },
            photographs: &|category| {
                assert_eq!(category, SubjectCategory::Visitor);
                *photographs
            },
            send: &send,
            tell: &mut |event| told.push(event),
        }
        .run(&people, &folder.path().join("report.jsonl"))
    }
}

#[test]
fn refused_pictures_do_not_stop_the_batch_and_say_what_to_do() {
    let mut bench = bench();
    let summary = bench.run().unwrap();
    assert_eq!(
        summary,
        Summary {
            submitted: 2,
            doubtful: 0,
            done_before: 0,
            refused_people: 1,
            refused_pictures: 2
        }
    );
    assert!(bench.told.iter().any(|event| matches!(
        event,
        ImportEvent::PictureRefused { sentence, .. } if sentence.contains("hold still")
    )));
    let report = fs::read_to_string(bench.folder.path().join("report.jsonl")).unwrap();
    assert!(report.contains("\"blurred\"") && report.contains("no_face"));
}

#[test]
fn a_photograph_that_may_not_be_kept_is_not_sent() {
    for kept in [true, false] {
        let mut bench = bench();
        bench.photographs = kept;
        assert_eq!(bench.run().unwrap().submitted, 2);
        assert_eq!(*bench.sent_photographs.borrow(), [kept, kept]);
    }
}

#[test]
fn eyes_are_imported_beside_the_face_and_a_bad_picture_of_eyes_keeps_nobody_out() {
    let mut bench = bench();
    let people = bench.folder.path().join("people");
    for (person, files) in [
        ("Anna", vec![("1.png", "eyes 1"), ("2.png", "closed")]),
        ("Ben", (1..=7).map(|_| ("", "")).collect()),
    ] {
        fs::create_dir_all(people.join(person).join("eyes")).unwrap();
        for (number, (name, text)) in files.into_iter().enumerate() {
            let (name, text) = if name.is_empty() {
                (format!("{number}.png"), format!("eyes of Ben {number}"))
            } else {
                (name.to_owned(), text.to_owned())
            };
            fs::write(people.join(person).join("eyes").join(name), text).unwrap();
        }
    }
    // Only "eyes" means something; other folders of a person are left alone.
    fs::create_dir_all(people.join("Anna/old")).unwrap();
    fs::write(people.join("Anna/old/letter.txt"), "Dear Sir").unwrap();
    let summary = bench.run().unwrap();
    assert_eq!((summary.submitted, summary.refused_pictures), (2, 3));
    let sent = bench.sent.borrow().clone();
    // One face and two eyes; one face and the five best of each eye.
    assert_eq!(
        sent.iter().map(|s| (s.1.as_str(), s.2)).collect::<Vec<_>>(),
        [("Anna", 3), ("Ben", 11)]
    );
    assert!(bench.told.iter().any(|event| matches!(
        event,
        ImportEvent::PictureRefused { path, .. } if path.ends_with("Anna/eyes/2.png")
    )));
    let again = bench.run().unwrap();
    assert_eq!(again.done_before, 3);
}

#[test]
fn an_interrupted_import_goes_on_with_the_same_subjects() {
    let mut bench = bench();
    *bench.down.borrow_mut() = true;
    let error = bench.run().unwrap_err().to_string();
    assert!(error.contains("run the same command again"), "{error}");
    *bench.down.borrow_mut() = false;
    // The process died in the middle of a line.
    let report = bench.folder.path().join("report.jsonl");
    let text = fs::read_to_string(&report).unwrap();
    fs::write(&report, format!("{text}{{\"kind\":\"per")).unwrap();
    let summary = bench.run().unwrap();
    assert_eq!((summary.submitted, summary.done_before), (1, 1));
    assert_eq!(
        summary.refused_pictures, 2,
        "those of the first run count too"
    );
    let sent = bench.sent.borrow().clone();
    assert_eq!(
        sent.iter().map(|s| s.1.as_str()).collect::<Vec<_>>(),
        ["Anna", "Ben"]
    );
    assert_ne!(sent[0].0, sent[1].0);
    // A third run has nothing to do, and still says that somebody was refused.
    let analysed = bench.analysed;
    let summary = bench.run().unwrap();
    assert_eq!((summary.done_before, summary.refused_people), (3, 1));
    assert_eq!(bench.analysed, analysed);
    assert_eq!(bench.sent.borrow().len(), 2);
}

#[test]
fn the_same_batch_and_person_give_the_same_subject() {
    assert_eq!(subject_id(&[1; 32], "Anna"), subject_id(&[1; 32], "Anna"));
    assert_ne!(subject_id(&[1; 32], "Anna"), subject_id(&[2; 32], "Anna"));
    assert_ne!(subject_id(&[1; 32], "Anna"), subject_id(&[1; 32], "Ben"));
}

#[test]
fn lists_are_read_and_their_mistakes_named() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("people.csv");
    fs::write(
        &list,
        "path,person,category\na.jpg,Anna,staff\nb.jpg,Anna,staff\nc.jpg,Ben,\n",
    )
    .unwrap();
    let people = read_input(&list, SubjectCategory::Visitor).unwrap();
    assert_eq!(people.len(), 2);
    assert_eq!(people[0].pictures.len(), 2);
    assert_eq!(people[0].category, SubjectCategory::Staff);
    assert_eq!(people[1].category, SubjectCategory::Visitor);
    assert!(people[0].pictures[0].0.starts_with(folder.path()));
    fs::write(
        &list,
        "path,person,category,shows\na.jpg,Anna,staff,face\nb.png,Anna,staff,eyes\nc.jpg,Anna,staff,\n",
    )
    .unwrap();
    let people = read_input(&list, SubjectCategory::Visitor).unwrap();
    assert_eq!((people[0].pictures.len(), people[0].eyes.len()), (2, 1));
    for (text, expected) in [
        ("path,person,category,shows\na,Anna,staff,feet\n", "line 2"),
        ("path,person,category\na.jpg,Anna,king\n", "line 2"),
        ("path,person,category\na.jpg,,staff\n", "person is empty"),
        (
            "path,person,category\na,Anna,staff\nb,Anna,visitor\n",
            "two categories",
        ),
        ("path,name\na,b\n", "line 2"),
        ("path,person,category\n", "holds no people"),
    ] {
        fs::write(&list, text).unwrap();
        let error = read_input(&list, SubjectCategory::Visitor)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(read_input(&folder.path().join("none"), SubjectCategory::Visitor).is_err());
}

#[test]
fn another_file_is_not_overwritten_as_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter.txt");
    fs::write(&path, "Dear Sir\n").unwrap();
    assert!(matches!(
        Report::open(&path, &OsRandom),
        Err(ReportError::NotAReport(_))
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), "Dear Sir\n");
}
