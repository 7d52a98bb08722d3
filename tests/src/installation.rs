//! An embedded installation made of the real programs, in a folder of its own.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

/// Where the programs, models and fixture pictures of this checkout are.
#[derive(Debug, Clone)]
pub struct Checkout {
    /// Folder of the built programs, such as `target/release`.
    pub programs: PathBuf,
    /// Repository root.
    pub root: PathBuf,
}

impl Checkout {
    /// Finds the programs beside the running one (tests run one folder deeper, in `deps`).
    ///
    /// # Errors
    /// The programs were not built.
    pub fn find() -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("the path of this program")?;
        let programs = own
            .ancestors()
            .skip(1)
            .find(|folder| folder.join("sallyport-server").is_file())
            .with_context(|| {
                format!(
                    "sallyport-server is not beside {}; build everything first: cargo build --workspace --bins",
                    own.display()
                )
            })?
            .to_owned();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the tests member lies in the repository")?
            .to_owned();
        Ok(Self { programs, root })
    }

    /// The set-up's cache of models, runtime library and pictures.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.root.join(".cache")
    }

    /// The repository.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A command for one of our programs, with models and runtime library set.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .env("SALLYPORT_MODELS", self.cache().join("models"))
            .env(
                "SALLYPORT_ONNXRUNTIME",
                self.cache().join("lib/libonnxruntime.so"),
            )
            .env("SALLYPORT_MANIFEST", self.root.join("models/manifest.toml"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a program to its end and returns its standard output.
    ///
    /// # Errors
    /// It could not be started or ended with a failure; the error carries what it printed.
    pub fn run<I, S>(&self, program: &str, arguments: I) -> anyhow::Result<String>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let output = self.output(program, arguments)?;
        if !output.status.success() {
            bail!(
                "{program} ended with {}:\n{}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a program to its end, whatever its exit status.
    ///
    /// # Errors
    /// It could not be started.
    pub fn output<I, S>(&self, program: &str, arguments: I) -> anyhow::Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.command(program)
            .args(arguments)
            .output()
            .with_context(|| format!("starting {}", self.programs.join(program).display()))
    }
}

/// A running program that is killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Its name, for messages.
    pub name: String,
    /// Where its output goes.
    pub log: PathBuf,
}

impl Running {
    /// Starts a program with its output in a file.
    ///
    /// # Errors
    /// The log file or the program could not be opened.
    pub fn start(mut command: Command, name: &str, log: &Path) -> anyhow::Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        let errors = file
            .try_clone()
            .context("a second handle of the log file")?;
        let child = command
            .stdout(file)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self {
            child,
            name: name.to_owned(),
            log: log.to_owned(),
        })
    }

    /// Waits until something listens at `address`.
    ///
    /// # Errors
    /// The program ended, or nothing listens after a minute.
    pub fn wait_until_listening(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        for _ in 0..1_200 {
            if let Some(status) = self
                .child
                .try_wait()
                .context("asking for the program's state")?
            {
                bail!("{} ended with {status}:\n{}", self.name, self.tail());
            }
            if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!(
            "{} does not listen at {address} after a minute:\n{}",
            self.name,
            self.tail()
        )
    }

    /// Waits until the program has written such a line, at most a minute.
    ///
    /// # Errors
    /// It has not.
    pub fn wait_until_said(&self, such: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        for _ in 0..1_200 {
            let said = std::fs::read_to_string(&self.log).unwrap_or_default();
            if said.lines().any(&such) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!(
            "{} did not say what was awaited within a minute:\n{}",
            self.name,
            self.tail()
        )
    }

    /// `kill -9`, without any chance to tidy up.
    ///
    /// # Errors
    /// The program could not be killed or waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child
            .kill()
            .with_context(|| format!("killing {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("waiting for {}", self.name))?;
        Ok(())
    }

    /// Asks the program to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// It could not be signalled, or ended with a failure.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let status = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .context("running kill")?;
        if !status.success() {
            bail!("{} could not be signalled", self.name);
        }
        let status = self
            .child
            .wait()
            .with_context(|| format!("waiting for {}", self.name))?;
        if !status.success() {
            bail!("{} ended with {status}:\n{}", self.name, self.tail());
        }
        Ok(())
    }

    /// Has it ended?
    ///
    /// # Errors
    /// Its state could not be read.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self
            .child
            .try_wait()
            .context("asking for the program's state")?
            .is_some())
    }

    /// The last lines of its output.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is fine; nothing else can be done here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free port on the loopback address. Somebody else could take it before it is used; the program
/// that finds it taken says so.
///
/// # Errors
/// No port is free.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a free port on 127.0.0.1")?;
    Ok(listener
        .local_addr()
        .context("the address of the free port")?
        .port())
}
