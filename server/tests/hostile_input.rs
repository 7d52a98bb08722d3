//! Fuzz targets for what an operator writes for the server: its configuration, and the file of streams. See `fuzz/harness.rs`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test stops when something is wrong; the length of a run is asked of the environment"
)]

#[path = "../../fuzz/harness.rs"]
mod harness;

use harness::fuzz;
use sallyport_server::config::{Config, OfficerRules};
use sallyport_server::streams;

#[test]
fn configurations() {
    let plain = "site = \"demo\"\nhostnames = [\"localhost\"]\ngate_listen = \"127.0.0.1:1\"\nconsole_listen = \"127.0.0.1:2\"\n\
                 utc_offset_minutes = 600\ncool_off_seconds = 0\n";
    let full = format!(
        "{plain}database = \"postgres://sallyport@db/sallyport\"\nallow_unlocked_memory = true\nmonitor_listen = \"[::1]:8472\"\n\
         [officers]\npassword_memory_mib = 64\npassword_passes = 3\nconsultations_per_hour = 20\nconsultations_per_day = 60\n"
    );
    let samples = [plain.as_bytes().to_vec(), full.into_bytes()];
    fuzz("server_config", &samples, 5_000, |bytes| {
        let Some(config) = std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| Config::parse(text).ok())
        else {
            return false;
        };
        // However it was mutated: never below the floor.
        assert!(config.officers.password_memory_mib >= OfficerRules::FLOOR.password_memory_mib);
        assert!(config.officers.password_passes >= OfficerRules::FLOOR.password_passes);
        // A backup's copy of it is read again.
        let again = Config::parse(&config.text().unwrap()).unwrap();
        assert_eq!(again.text().unwrap(), config.text().unwrap());
        assert!(again.database.is_empty());
        true
    });
}

#[test]
fn streams_files() {
    let sample = b"[[stream]]\nname = \"siem\"\nsyslog = \"siem.example:6514\"\nformat = \"cef\"\nauthorities = \"/etc/ca.pem\"\n\n\
                   [[stream]]\nname = \"ministry\"\nwebhook = \"https://events.example/sallyport\"\n";
    fuzz("streams_file", &[sample.to_vec()], 5_000, |bytes| {
        let Some(text) = std::str::from_utf8(bytes).ok() else {
            return false;
        };
        match streams::written(text) {
            Ok(streams) => {
                let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
                assert!(streams.iter().all(|stream| stream.name.chars().all(good)));
                !streams.is_empty()
            }
            Err(said) => {
                assert!(!said.is_empty());
                false
            }
        }
    });
}
