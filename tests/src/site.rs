//! A whole site: server, one gate, one station, made with the programs' own commands.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::installation::{Checkout, Running, free_port};

/// An installation in a folder, with its server running.
#[derive(Debug)]
pub struct Site {
    /// Where the programs are.
    pub checkout: Checkout,
    /// The installation's folder.
    pub root: PathBuf,
    /// Where gates connect.
    pub gate_port: u16,
    /// Where browsers connect.
    pub console_port: u16,
    /// The server.
    pub server: Running,
}

/// How one passage ended at the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `grant`, `refuse`, `refer`, or `failure_to_acquire`.
    pub verdict: String,
    /// Reason code, or the defects.
    pub reason: String,
    /// Audit log entry, when the server decided.
    pub log_index: Option<u64>,
    /// Was the door released?
    pub door: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Line {
    event: String,
    #[serde(default)]
    transaction: String,
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    defects: Vec<String>,
    #[serde(default)]
    log_index: Option<u64>,
    #[serde(default)]
    problem: String,
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl Site {
    /// Initialises an installation below `root` and starts its server. Set-up by `root` alone; nothing else is touched.
    ///
    /// # Errors
    /// A program failed; the error carries what it printed.
    pub fn create(root: &Path) -> anyhow::Result<Self> {
        Self::create_with(root, &[])
    }

    /// The same with more arguments for `init`.
    ///
    /// # Errors
    /// A program failed; the error carries what it printed.
    pub fn create_with(root: &Path, more: &[&str]) -> anyhow::Result<Self> {
        let checkout = Checkout::find()?;
        std::fs::create_dir_all(root).with_context(|| format!("making {}", root.display()))?;
        let (gate_port, console_port) = (free_port()?, free_port()?);
        let (gate, console) = (
            format!("127.0.0.1:{gate_port}"),
            format!("127.0.0.1:{console_port}"),
        );
        let data = text(&root.join("data"));
        let mut arguments = vec![
            "init",
            "--data",
            &data,
            "--site",
            "demo",
            "--hostname",
            "localhost",
            "--gate-listen",
            &gate,
            "--console-listen",
            &console,
            "--cool-off-seconds",
            "0",
            // Containers often lock no more than 64 KiB.
            "--allow-unlocked-memory",
        ];
        arguments.extend_from_slice(more);
        checkout.run("sallyport-server", arguments)?;
        let server = Self::start_server(&checkout, root, gate_port)?;
        Ok(Self {
            checkout,
            root: root.to_owned(),
            gate_port,
            console_port,
            server,
        })
    }

    fn start_server(checkout: &Checkout, root: &Path, gate_port: u16) -> anyhow::Result<Running> {
        let mut command = checkout.command("sallyport-server");
        command.args(["serve", "--data", &text(&root.join("data"))]);
        let mut server = Running::start(command, "sallyport-server", &root.join("server.log"))?;
        server.wait_until_listening(SocketAddr::from((Ipv4Addr::LOCALHOST, gate_port)))?;
        Ok(server)
    }

    /// Starts the server again after it ended or was killed.
    ///
    /// # Errors
    /// It does not come up.
    pub fn restart_server(&mut self) -> anyhow::Result<()> {
        self.server = Self::start_server(&self.checkout, &self.root, self.gate_port)?;
        Ok(())
    }

    /// Runs a server command on this installation.
    ///
    /// # Errors
    /// It failed.
    pub fn server_command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let data = text(&self.root.join("data"));
        self.checkout.run(
            "sallyport-server",
            arguments.iter().copied().chain(["--data", data.as_str()]),
        )
    }

    /// Adds a gate and lets an agent join it; returns the agent's state folder.
    ///
    /// # Errors
    /// A program failed.
    pub fn join(&self, gate: &str, direction: &str) -> anyhow::Result<PathBuf> {
        self.server_command(&["gate", "add", gate, "--direction", direction])?;
        let token = self.server_command(&["gate", "token", gate])?;
        let token = token
            .lines()
            .last()
            .context("the command prints the token")?
            .trim()
            .to_owned();
        let state = self.root.join(gate);
        let server = format!("localhost:{}", self.gate_port);
        let joined = self.checkout.run(
            "sallyport-gate",
            [
                "join",
                "--server",
                &server,
                "--token",
                &token,
                "--state",
                &text(&state),
            ],
        )?;
        // What an administrator reads at the gate and compares.
        let fingerprint = joined
            .lines()
            .find_map(|line| line.strip_prefix("Fingerprint of its key: "))
            .context("the gate shows its fingerprint")?;
        self.server_command(&["gate", "approve", gate, fingerprint])?;
        Ok(state)
    }

    /// Writes a gate configuration that replays a folder of scenes, with the irises of `eyes` where that is a folder; a referred
    /// person waits `review_wait_s` seconds for an officer. The strictest profile holds: no picture of an eye may be kept.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write_gate_config(
        &self,
        state: &Path,
        scenes: &Path,
        review_wait_s: u32,
    ) -> anyhow::Result<PathBuf> {
        let path = state.with_extension("toml");
        let eyes = scenes.with_file_name("eyes");
        let iris_camera = if eyes.is_dir() {
            format!(
                "[iris_camera]\nname = \"iris\"\nkind = \"replay\"\npath = {:?}\nrate_fps = 10\n",
                text(&eyes)
            )
        } else {
            String::new()
        };
        let config = format!(
            "state = {state:?}\nprofile = \"nsw-2014\"\nheartbeat_s = 1\n[door]\nkind = \"simulated\"\nfolder = {door:?}\nbell = false\n\
             [[camera]]\nname = \"replay\"\nkind = \"replay\"\npath = {scenes:?}\nrate_fps = 10\nhold_frames = 1\n\
             [capture]\nshow_s = 0.3\nleave_after_s = 0.4\nacquire_timeout_s = 4\nreview_wait_s = {review_wait_s}\n{iris_camera}",
            state = text(state),
            door = text(&state.join("door")),
            scenes = text(scenes),
        );
        std::fs::write(&path, config).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Replays the scenes once; `each` hears of every outcome as it happens.
    ///
    /// # Errors
    /// The agent could not be run, or reports trouble.
    pub fn replay(
        &self,
        config: &Path,
        each: impl FnMut(&Outcome),
    ) -> anyhow::Result<Vec<Outcome>> {
        self.replay_with(config, &[], each)
    }

    /// The same with more arguments for `run`.
    ///
    /// # Errors
    /// The agent could not be run, or reports trouble.
    pub fn replay_with(
        &self,
        config: &Path,
        more: &[&str],
        mut each: impl FnMut(&Outcome),
    ) -> anyhow::Result<Vec<Outcome>> {
        let mut command: Command = self.checkout.command("sallyport-gate");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.root.join("gate.log"))
            .context("opening the gate's log")?;
        let mut child = command
            .args(["run", "--config", &text(config), "--once", "--json"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("starting sallyport-gate")?;
        let output = child.stdout.take().context("the agent's output")?;
        let mut outcomes: Vec<Outcome> = Vec::new();
        let mut open: Option<(String, Outcome)> = None;
        let mut troubles = Vec::new();
        for line in BufReader::new(output).lines() {
            let line = line.context("reading the agent's output")?;
            let Ok(line) = serde_json::from_str::<Line>(&line) else {
                continue;
            };
            match line.event.as_str() {
                "decided" => {
                    open = Some((
                        line.transaction,
                        Outcome {
                            verdict: line.verdict,
                            reason: line.reason,
                            log_index: line.log_index,
                            door: false,
                        },
                    ));
                }
                "failed_to_acquire" => {
                    let reason = line.defects.join(", ");
                    open = Some((
                        line.transaction,
                        Outcome {
                            verdict: "failure_to_acquire".to_owned(),
                            reason,
                            log_index: None,
                            door: false,
                        },
                    ));
                }
                "door_released" => {
                    if let Some((_, outcome)) =
                        open.as_mut().filter(|(id, _)| *id == line.transaction)
                    {
                        outcome.door = true;
                    } else {
                        troubles.push("a door opened without a decision".to_owned());
                    }
                }
                "undecided" | "door_not_released" | "trouble" => troubles.push(line.problem),
                "idle" | "finished" => {
                    if let Some((_, outcome)) = open.take() {
                        each(&outcome);
                        outcomes.push(outcome);
                    }
                }
                _ => {}
            }
        }
        let status = child.wait().context("waiting for sallyport-gate")?;
        if !status.success() || !troubles.is_empty() {
            let log = std::fs::read_to_string(self.root.join("gate.log")).unwrap_or_default();
            bail!(
                "the gate ended with {status}; {}\n{log}",
                troubles.join("; ")
            );
        }
        Ok(outcomes)
    }

    /// What each modality said in the decision of a log entry, out of a verified export's readable copy.
    ///
    /// # Errors
    /// The export has no such entry.
    pub fn findings(export: &Path, index: u64) -> anyhow::Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Row {
            index: u64,
            entry: Findings,
        }
        #[derive(Deserialize)]
        struct Findings {
            #[serde(default)]
            findings: Vec<String>,
        }
        let path = export.join("view/entries.jsonl");
        let rows = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        rows.lines()
            .filter_map(|line| serde_json::from_str::<Row>(line).ok())
            .find(|row| row.index == index)
            .map(|row| row.entry.findings)
            .with_context(|| format!("entry {index} is not in {}", path.display()))
    }

    /// Exports the audit log and verifies it with the inspector's program; returns what that said.
    ///
    /// # Errors
    /// Export or verification failed.
    pub fn verified_log(&self, name: &str) -> anyhow::Result<(PathBuf, String)> {
        let folder = self.root.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("removing {}", folder.display()))?;
        }
        self.server_command(&["audit", "export", &text(&folder)])?;
        let said = self
            .checkout
            .run("sallyport-audit", ["fsck", &text(&folder)])?;
        Ok((folder, said))
    }
}
