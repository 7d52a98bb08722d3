//! The jurisdiction profile, as a gate hears of it: whatever the server says or does not say, no picture is written that was forbidden.

use sallyport_gate::config::Profile;
use sallyport_gate::event::AgentEvent;
use sallyport_gate::rules::Rules;
use sallyport_gate::state::StateFolder;

use crate::gate::{Gate, policy};
use crate::support::{Behaviour, FakeServer, Tls, profile_word};

const NSW: &str = include_str!("../../../profiles/nsw-2014.toml");

/// Forbids visitors' photographs.
fn strict() -> String {
    let rule = "kinds = [\"photograph\"]\ncategories = [\"visitor\"]\n";
    let (before, after) = NSW.split_once(rule).unwrap();
    let (_, after) = after.split_once('\n').unwrap();
    format!("{before}{rule}keep = \"never\"\n{after}").replace("\"nsw-2014\"", "\"strict\"")
}

/// A gate whose server answers this.
fn gate(answer: Option<String>) -> Gate {
    let server = FakeServer::start(Behaviour::Grant, Tls::Good);
    let folder = tempfile::tempdir().unwrap();
    server.join(&folder.path().join("state"));
    server.seen(|seen| seen.profile = answer);
    let mut gate = Gate::before(server, folder);
    gate.restart(policy());
    gate
}

/// Lets the gate hear the server twice, so that it has asked and obeyed.
fn heard(gate: &Gate) {
    for _ in 0..2 {
        gate.until(|event| matches!(event, AgentEvent::Heartbeat));
    }
}

/// Is there a picture in the report of somebody who could not be acquired?
fn picture_is_kept(gate: &Gate) -> bool {
    let before = gate.server.seen(|seen| seen.failures.len());
    gate.person(101);
    gate.until(|event| matches!(event, AgentEvent::FailedToAcquire { .. }));
    gate.person(0);
    gate.until(|event| matches!(event, AgentEvent::Idle));
    while gate.server.seen(|seen| seen.failures.len()) == before {
        gate.until(|event| matches!(event, AgentEvent::Delivered { .. }));
    }
    gate.server
        .seen(|seen| seen.failures.last().unwrap().attachment.is_some())
}

fn kept(gate: &Gate) -> Rules {
    let state = StateFolder::existing(&gate.folder.path().join("state"));
    Rules::open(Some(&state), None)
}

#[test]
fn a_server_that_tells_no_profile_gets_no_picture_and_one_that_does_gets_them() {
    let gate = gate(None);
    heard(&gate);
    assert!(!picture_is_kept(&gate), "nothing is known");
    assert!(kept(&gate).sentence().contains("nothing is known"));
    gate.server
        .seen(|seen| seen.profile = Some(profile_word(NSW, None)));
    heard(&gate);
    assert!(picture_is_kept(&gate));
    assert!(kept(&gate).sentence().contains("nsw-2014 version"));
    let query = gate.server.seen(|seen| seen.profile_query.clone());
    assert!(query.starts_with("size=0&sha256="), "{query}");
}

#[test]
fn a_stricter_profile_is_obeyed_and_stays_over_silence_nonsense_and_a_restart() {
    let mut gate = gate(Some(profile_word(NSW, None)));
    heard(&gate);
    assert!(picture_is_kept(&gate));
    gate.server
        .seen(|seen| seen.profile = Some(profile_word(&strict(), None)));
    heard(&gate);
    // Whoever stands there may be a visitor.
    assert!(!picture_is_kept(&gate));
    for answer in [
        None,
        Some(String::new()),
        Some("{\"text\":\"\"}".to_owned()),
        Some(format!("{{\"text\":{NSW:?},\"more\":1}}")),
        Some(profile_word("name = \"x\"", None)),
        // Looser, and not proved by any log.
        Some(profile_word(NSW, None)),
    ] {
        gate.server.seen(|seen| seen.profile = answer.clone());
        heard(&gate);
        assert!(!picture_is_kept(&gate), "{answer:?}");
    }
    gate.end();
    gate.server.seen(|seen| seen.profile = None);
    gate.restart(policy());
    assert!(!picture_is_kept(&gate));
    assert!(kept(&gate).sentence().contains("strict version"));
}

#[test]
fn the_own_setting_stays_and_no_file_of_the_gate_is_a_picture() {
    let mut gate = gate(Some(profile_word(NSW, None)));
    gate.end();
    gate.profile = Some(Profile::Nsw2014);
    gate.restart(policy());
    heard(&gate);
    // Reports stay in the spool.
    gate.server.seen(|seen| seen.reports_fail = true);
    gate.person(101);
    gate.until(|event| matches!(event, AgentEvent::FailedToAcquire { .. }));
    gate.end();
    let mut all = Vec::new();
    crate::eyes::files(gate.folder.path(), &mut all);
    let spooled = |path: &std::path::PathBuf| path.extension() == Some("failed".as_ref());
    assert!(all.iter().any(spooled));
    assert!(all.iter().any(|path| path.ends_with("profile.json")));
    for path in all {
        let bytes = std::fs::read(&path).unwrap();
        for magic in [
            &b"\xff\xd8\xff"[..],
            b"\x89PNG",
            b"IIR\0",
            b"BM\x36",
            b"/9j/",
            b"iVBORw0KGgo",
        ] {
            assert!(
                !bytes.windows(magic.len()).any(|window| window == magic),
                "a picture is in {}",
                path.display()
            );
        }
    }
}
