//! The slip that a person takes along: an independent reader of QR codes reads it, and it stands for one entry of the log.

use std::collections::BTreeSet;

use sallyport_domain::Verdict;
use sallyport_transparency::{Entry, Receipt};

use crate::browser::{Browser, csrf};
use crate::common::{Rig, mate, template};

/// What a telephone reads: the path's squares drawn as pixels, and an independent reader of QR codes.
pub(crate) fn scanned(svg: &str) -> String {
    let path = svg.split("<path d=\"").nth(1).unwrap();
    let path = path.split('"').next().unwrap();
    let mut dark = BTreeSet::new();
    for square in path.split('M').skip(1) {
        let (x, rest) = square.split_once(' ').unwrap();
        let y = rest.strip_suffix("h1v1h-1z").unwrap();
        let place: (usize, usize) = (x.parse().unwrap(), y.parse().unwrap());
        dark.insert(place);
    }
    let width = dark.iter().map(|(x, _)| x + 5).max().unwrap();
    let scale = 4;
    let mut image =
        rqrr::PreparedImage::prepare_from_greyscale(width * scale, width * scale, |x, y| {
            if dark.contains(&(x / scale, y / scale)) {
                0
            } else {
                255
            }
        });
    let grids = image.detect_grids();
    assert_eq!(grids.len(), 1);
    grids[0].decode().unwrap().1
}

/// The entry that the slip stands for.
async fn promised(rig: &Rig, svg: &str) -> Entry {
    let receipt = Receipt::open(scanned(svg).as_bytes(), rig.state.keys.log.verifier()).unwrap();
    let stored = rig.state.store.log_entries(receipt.index, 2).await.unwrap();
    assert!(receipt.is_for(stored[0].0, &stored[0].1));
    assert!(!receipt.is_for(stored[1].0, &stored[1].1));
    assert!(svg.contains(&format!("Entry {} of the audit log", receipt.index)));
    Entry::from_bytes(&stored[0].1).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slip_holds_the_log_to_the_decision_and_says_nothing_about_the_person() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let person = gate.enrol(1).await;
    let browser = Browser::signed_in(&rig).await;
    let known = gate.request(rig.transaction(1), mate(1, 5));
    assert_eq!(gate.pass(&known).await.verdict, Verdict::Grant);
    let slip = browser
        .get(&format!("/passages/{}/slip", known.transaction))
        .await;
    let entry = promised(&rig, &slip).await;
    assert_eq!(entry.kind, "passage");
    assert_eq!(entry.about.unwrap(), known.transaction.to_string());
    assert!(slip.contains(">Granted<") && slip.contains(">front-in<"));
    assert!(!slip.contains(&person.to_string()) && !scanned(&slip).contains(&person.to_string()));

    // Of an unknown person: the machine's word first, then the officer's.
    let unknown = gate.request(rig.transaction(2), template(77));
    assert_eq!(gate.pass(&unknown).await.verdict, Verdict::Refer);
    let passage = format!("/passages/{}", unknown.transaction);
    let slip = browser.get(&format!("{passage}/slip")).await;
    assert_eq!(promised(&rig, &slip).await.kind, "passage");
    assert!(slip.contains(">Referred<"));
    let csrf = csrf(&browser.get(&passage).await);
    let form = format!("csrf={csrf}&verdict=refuse&preset=other&words=unknown&sure=yes");
    let review = format!("{passage}/review");
    assert_eq!(browser.post(&review, &form).await.0, 303);
    let slip = browser.get(&format!("{passage}/slip")).await;
    let entry = promised(&rig, &slip).await;
    assert_eq!(entry.kind, "review");
    assert_eq!(entry.about.unwrap(), unknown.transaction.to_string());
    assert!(slip.contains(">Refused<"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_passage_and_one_that_never_was_have_no_slip_and_a_forged_one_promises_nothing() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let browser = Browser::signed_in(&rig).await;
    let request = gate.request(rig.transaction(1), mate(1, 5));
    gate.pass(&request).await;
    let path = format!("/passages/{}/slip", request.transaction);
    let slip = browser.get(&path).await;
    let text = scanned(&slip);
    let key = rig.state.keys.log.verifier();
    for at in 0..text.len() {
        let mut forged = text.clone().into_bytes();
        forged[at] ^= 1;
        let same = Receipt::open(text.as_bytes(), key).unwrap();
        match Receipt::open(&forged, key) {
            Err(_) => {}
            Ok(read) => assert_eq!(read, same, "byte {at} changes what is promised"),
        }
    }
    let origin = "https://localhost:0";
    let size = rig.state.store.log_size().await.unwrap();
    for nowhere in [
        format!("/passages/{}/slip", rig.transaction(9)),
        "/passages/1/slip".to_owned(),
    ] {
        assert_eq!(browser.ask("GET", &nowhere, "", origin).await.0, 404);
    }
    // In two steps: a session ends where nothing was asked for as long as a passage is fresh.
    rig.clock.advance_millis(10 * 60_000);
    browser.get("/gates").await;
    rig.clock.advance_millis(5 * 60_000 + 1);
    let (status, said) = browser.ask("GET", &path, "", origin).await;
    assert_eq!(status, 403, "{said}");
    assert!(said.contains("sallyport-server audit receipt"), "{said}");
    // None was made: the log has the refusal at most.
    let rows = rig.state.store.log_entries(size, 10).await.unwrap();
    let made = rows
        .iter()
        .map(|(_, bytes)| Entry::from_bytes(bytes).unwrap())
        .any(|entry| entry.kind == "receipt");
    assert!(!made);
}
