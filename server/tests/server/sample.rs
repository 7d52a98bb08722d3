//! The weekly sample of consultations: a planted look-up is found, nobody chooses what is in it, and who has the log draws the same.

use sallyport_domain::Verdict;
use sallyport_server::audit;
use sallyport_server::clock::Clock as _;
use sallyport_server::reports::sample::{WeeklySampleError, weekly};
use sallyport_transparency::{SampleError, SampleReader, Week};

use crate::browser::{Browser, csrf};
use crate::common::{Rig, mate};

/// The week of the rig's clock.
fn week(rig: &Rig) -> Week {
    let now = rig.clock.now().as_micros();
    (2020..2100)
        .flat_map(|year| (1..=53).map(move |number| format!("{year}-W{number:02}")))
        .filter_map(|text| text.parse::<Week>().ok())
        .find(|week| {
            let (begin, end) = week.limits_us();
            (begin..end).contains(&now)
        })
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_look_up_is_listed_and_the_log_alone_draws_the_same() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let person = gate.enrol(1).await;
    let mut paths = Vec::new();
    for number in 1..=12 {
        let request = gate.request(rig.transaction(number), mate(1, number));
        assert_eq!(gate.pass(&request).await.verdict, Verdict::Grant);
        paths.push(format!("/passages/{}", request.transaction));
    }
    // Looked at on the Wednesday of the next week.
    let (begin, _) = week(&rig).limits_us();
    let wednesday = begin / 1_000 + 9 * 24 * 3_600_000;
    rig.clock
        .advance_millis(wednesday - rig.clock.now().as_micros() / 1_000);
    let this_week = week(&rig);
    let browser = Browser::signed_in(&rig).await;
    let mut planted = Vec::new();
    for (at, path) in paths.iter().enumerate() {
        let form = match at {
            0 => "reason=emergency&words=she+is+in+danger".to_owned(),
            _ => format!("reason=incident&case=2026-{at}"),
        };
        let csrf = csrf(&browser.get("/account").await);
        let first = rig.state.store.log_size().await.unwrap();
        let (status, _) = browser.post(path, &format!("csrf={csrf}&{form}")).await;
        assert_eq!(status, 200, "{form}");
        planted.push(first);
    }
    let goes_on = weekly(&rig.state, this_week, 5, "").await;
    assert!(matches!(
        goes_on,
        Err(WeeklySampleError::Sample(SampleError::NotOver(_)))
    ));
    rig.clock.advance_millis(7 * 24 * 3_600_000);
    let entry = audit::entry("trial", rig.clock.now()).unwrap();
    audit::record(&rig.state, entry).await.unwrap();

    let sample = weekly(&rig.state, this_week, 1_000, "").await.unwrap();
    let csv = sample.to_csv();
    for index in &planted {
        let row = csv
            .lines()
            .find(|line| line.starts_with(&format!("{index},")))
            .unwrap();
        assert!(row.contains(&person.to_string()), "{row}");
        assert!(row.ends_with(','), "an empty column for the finding: {row}");
    }
    assert!(csv.contains(",incident,2026-3,"));
    // The emergency is always in it.
    let none = weekly(&rig.state, this_week, 0, "").await.unwrap();
    let kinds: Vec<&str> = none
        .rows
        .iter()
        .map(|row| row.entry.kind.as_str())
        .collect();
    assert_eq!(kinds, ["break_the_glass"]);

    // The same by the log's rows alone, and another by the auditor's word.
    let rows = rig.state.store.log_entries(0, 10_000).await.unwrap();
    let drawn = |word: &str| {
        let mut reader = SampleReader::new(this_week);
        for (index, bytes) in &rows {
            reader.take(*index, bytes);
        }
        let origin = rig.state.config.log_origin();
        reader.draw(&origin, 4, word).unwrap().to_csv()
    };
    let site = weekly(&rig.state, this_week, 4, "").await.unwrap().to_csv();
    assert_eq!(site, drawn(""));
    let others: Vec<String> = ["a", "b", "c"].map(drawn).to_vec();
    let of = |csv: &str| csv.lines().skip(2).map(str::to_owned).collect::<Vec<_>>();
    assert!(others.iter().any(|other| of(other) != of(&site)));
}
