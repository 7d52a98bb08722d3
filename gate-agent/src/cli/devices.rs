//! `devices`: which cameras are there, and whether the configured ones work.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::{run, say};
use crate::camera::Stage;
use crate::clock::Stop;
use crate::config::Config;
use crate::deps::Deps;

#[derive(Debug, Args)]
pub(super) struct DevicesArgs {
    /// Check the cameras of this configuration.
    #[arg(long)]
    config: Option<PathBuf>,
}

pub(super) fn devices(args: &DevicesArgs, deps: &Deps) -> anyhow::Result<ExitCode> {
    let Some(path) = &args.config else {
        return list();
    };
    let config = Config::load(path)?;
    let mut working = true;
    let (stage, stop) = (Arc::new(Stage::default()), Stop::default());
    let mut openers = run::openers(&config, deps, &stage, &stop);
    if let Some(iris) = &config.iris_camera {
        openers.push(run::iris_opener(iris, deps, &stage, &stop));
    }
    for (opener, _) in openers {
        let said = match opener.open().and_then(|mut camera| camera.next_frame()) {
            Ok(Some(frame)) => format!("{} x {} pixels, ok", frame.width(), frame.height()),
            Ok(None) => {
                working = false;
                "gives no frame".to_owned()
            }
            Err(error) => {
                working = false;
                error.to_string()
            }
        };
        say(&format!("{}: {said}", opener.name()))?;
    }
    Ok(if working {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

fn list() -> anyhow::Result<ExitCode> {
    let mut found: Vec<(String, String)> = Vec::new();
    // Video4Linux publishes each device's name here (Linux, Documentation/ABI).
    if let Ok(entries) = std::fs::read_dir("/sys/class/video4linux") {
        for entry in entries.flatten() {
            let device = entry.file_name().to_string_lossy().into_owned();
            let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            found.push((device, name.trim().to_owned()));
        }
    }
    found.sort();
    if found.is_empty() {
        say("No USB camera is connected. Network cameras and replays are named in gate.toml.")?;
    }
    for (device, name) in found {
        say(&format!("/dev/{device}: {name}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
