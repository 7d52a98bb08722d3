//! Exports in one tar, and sealed details for somebody entitled to them.

use std::collections::BTreeMap;
use std::io::Read as _;

use age::x25519::Identity;
use sallyport_server::clock::Clock as _;
use sallyport_server::export::{self, Target, Wanted};
use sallyport_server::{audit, registry};
use sallyport_transparency::{DetailLine, Entry, MemoryFiles, detail_bound, verify_export};

use crate::common::{Rig, mate};

fn unpacked(path: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(name, bytes);
    }
    files
}

async fn details(rig: &Rig, name: &str, identity: &Identity) -> (Vec<DetailLine>, MemoryFiles) {
    let path = rig.folder.path().join(name);
    let entry = Entry {
        actor: Some("test".to_owned()),
        reason: Some("ombudsman's case 7".to_owned()),
        ..audit::entry("export", rig.state.clock.now()).unwrap()
    };
    export::write_with_details(
        &rig.state,
        &Target::Tar(path.clone()),
        &Wanted::default(),
        false,
        (&identity.to_public(), entry),
        |_, _| {},
    )
    .await
    .unwrap();
    let mut files = unpacked(&path);
    let sealed = files.remove("details.jsonl.age").unwrap();
    let mut text = String::new();
    age::Decryptor::new(sealed.as_slice())
        .unwrap()
        .decrypt(std::iter::once(identity as &dyn age::Identity))
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    let lines = text.lines().map(|line| DetailLine::parse(line).unwrap());
    (lines.collect(), MemoryFiles(files))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tar_is_the_same_each_time_and_holds_what_the_folder_holds() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    for number in 0..300 {
        audit::record(
            &rig.state,
            audit::entry("trial", rig.clock.now().plus_millis(number)).unwrap(),
        )
        .await
        .unwrap();
    }
    let write = async |target: Target, wanted: &Wanted| {
        export::write(&rig.state, &target, wanted, false, |_, _| {})
            .await
            .map(|done| done.entries)
    };
    let path = |name: &str| rig.folder.path().join(name);
    let all = Wanted::default();
    let some = Wanted {
        gate: Some("front-in".to_owned()),
        ..Wanted::default()
    };
    for (name, wanted) in [("all", &all), ("some", &some)] {
        let [a, b, folder] = ["a.tar", "b.tar", "folder"].map(|end| path(&format!("{name}.{end}")));
        let entries = write(Target::Tar(a.clone()), wanted).await.unwrap();
        assert!(entries > 0);
        write(Target::Tar(b.clone()), wanted).await.unwrap();
        write(Target::Folder(folder.clone()), wanted).await.unwrap();
        assert!(std::fs::read(&a).unwrap() == std::fs::read(&b).unwrap());
        let files = unpacked(&a);
        for (name, bytes) in &files {
            assert!(
                &std::fs::read(folder.join(name)).unwrap() == bytes,
                "{name}"
            );
        }
        assert_eq!(files.contains_key("selection.jsonl"), name == "some");
        if name == "all" {
            let mut seen = 0;
            let key = rig.state.keys.log.verifier();
            verify_export(&mut MemoryFiles(files), key, |_, _| seen += 1).unwrap();
            assert_eq!(seen, entries);
        }
        // Never over a file that is there, and nothing unfinished is left.
        assert!(write(Target::Tar(a), wanted).await.is_err());
    }
    let left: Vec<_> = std::fs::read_dir(rig.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".tar."))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entitled_get_every_detail_with_its_own_key_and_the_erased_are_not_in_it() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let (erased, stays) = (gate.enrol(1).await, gate.enrol(2).await);
    for seed in [1, 2] {
        gate.pass(&gate.request(rig.transaction(seed), mate(seed, seed)))
            .await;
    }
    let identity = Identity::generate();
    let (before, _) = details(&rig, "before.tar", &identity).await;
    registry::remove(&rig.state, erased, "test").await.unwrap();
    let (lines, mut files) = details(&rig, "after.tar", &identity).await;
    let mut entries = BTreeMap::new();
    verify_export(&mut files, rig.state.keys.log.verifier(), |index, bytes| {
        entries.insert(index, Entry::from_bytes(bytes).unwrap());
    })
    .unwrap();
    let sealed: Vec<u64> = entries
        .iter()
        .filter(|(_, entry)| entry.detail_hash.is_some())
        .map(|(index, _)| *index)
        .collect();
    let about: Vec<u64> = lines.iter().map(DetailLine::index).collect();
    assert_eq!(about, sealed, "each sealed detail has its line, in order");
    let (mut given, mut gone) = (Vec::new(), 0_u64);
    for line in &lines {
        let entry = &entries[&line.index()];
        let person = entry.subject.as_deref();
        match line {
            DetailLine::Given {
                index,
                salt,
                sealed,
                key,
            } => {
                assert_ne!(person, Some(erased.to_string().as_str()));
                let hash = entry.detail_hash.as_deref().unwrap();
                detail_bound(hash, salt, sealed, key).unwrap();
                // The server can open it; that the key given opens it, the audit tool's tests and `whole_path` show.
                assert!(audit::detail(&rig.state, *index).await.unwrap().is_some());
                assert!(!given.contains(key), "every detail has a key of its own");
                given.push(*key);
            }
            DetailLine::Withheld { index, why } => {
                assert_eq!(why, "erased");
                assert_eq!(person, Some(erased.to_string().as_str()), "entry {index}");
                gone += 1;
            }
        }
    }
    let of = |person: &str| {
        let mine = |index: &&u64| entries[*index].subject.as_deref() == Some(person);
        sealed.iter().filter(mine).count()
    };
    assert!(of(&stays.to_string()) > 0 && of(&erased.to_string()) > 0);
    assert!(
        before
            .iter()
            .all(|line| matches!(line, DetailLine::Given { .. }))
    );

    // Who, why, what, how many and for which key.
    let rows = rig.state.store.log_entries(0, 10_000).await.unwrap();
    let entry = Entry::from_bytes(&rows.last().unwrap().1).unwrap();
    assert_eq!(
        (entry.kind.as_str(), entry.decision.as_deref()),
        ("export", Some("with_details"))
    );
    assert_eq!(entry.reason.as_deref(), Some("ombudsman's case 7"));
    assert_eq!(
        entry.about,
        Some(format!(
            "details={} withheld={gone} recipient={} since=- until=- officer=- entries_below={}",
            given.len(),
            export::fingerprint(&identity.to_public()),
            rows.len() - 1,
        ))
    );
}
