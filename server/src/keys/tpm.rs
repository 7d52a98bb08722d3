//! The key file's root sealed to this machine's TPM 2.0, on request only in the boot state in which it was sealed. Uses Debian's
//! tpm2-tools: the Rust bindings are an alpha, and a gate's or server's maintainer knows the tools.

use std::io::Write as _;
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::KeyError;
use crate::clock::random;
use crate::sealing::{Key, SealError};

/// What the key file remembers: nothing that another TPM could use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SealedRoot {
    /// How the tools reach the TPM (`device:/dev/tpmrm0`).
    tcti: String,
    /// Registers of the boot state, as the tools write them (`sha256:7,11`); empty for none.
    pcrs: String,
    public: Vec<u8>,
    private: Vec<u8>,
}

/// Files that the tools hand to each other, in a folder that only we can enter and that goes when we are done. None holds the root.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Self, KeyError> {
        let name: [u8; 16] = random().map_err(|_| SealError::Random)?;
        let path = std::env::temp_dir().join(format!("sallyport-tpm-{}", hex::encode(name)));
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).map_err(|source| KeyError::File {
            path: path.display().to_string(),
            source,
        })?;
        Ok(Self(path))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, KeyError> {
        std::fs::read(self.0.join(name)).map_err(|source| KeyError::File {
            path: self.0.join(name).display().to_string(),
            source,
        })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), KeyError> {
        std::fs::write(self.0.join(name), bytes).map_err(|source| KeyError::File {
            path: self.0.join(name).display().to_string(),
            source,
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn is_plain(text: &str, also: &str) -> bool {
    text.len() <= 200
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

impl SealedRoot {
    /// Seals `root`.
    pub(super) fn new(tcti: &str, pcrs: &str, root: &Key) -> Result<Self, KeyError> {
        if tcti.is_empty() || !is_plain(tcti, ":/=.,_-") || !is_plain(pcrs, ":,+") {
            return Err(KeyError::Tpm(
                "say where it is as the tools do, for example device:/dev/tpmrm0, and its registers as sha256:7,11".to_owned(),
            ));
        }
        let mut sealed = Self {
            tcti: tcti.to_owned(),
            pcrs: pcrs.to_owned(),
            public: Vec::new(),
            private: Vec::new(),
        };
        let scratch = Scratch::new()?;
        sealed.parent(&scratch)?;
        let mut arguments = vec![
            "-Q", "-C", "parent", "-i", "-", "-u", "public", "-r", "private", "-a",
        ];
        if sealed.pcrs.is_empty() {
            arguments.push("fixedtpm|fixedparent|noda|userwithauth");
        } else {
            sealed.tool(&scratch, "startauthsession", &["-Q", "-S", "session"], None)?;
            sealed.tool(
                &scratch,
                "policypcr",
                &["-Q", "-S", "session", "-l", &sealed.pcrs, "-L", "policy"],
                None,
            )?;
            sealed.tool(&scratch, "flushcontext", &["session"], None)?;
            arguments.extend(["fixedtpm|fixedparent|noda", "-L", "policy"]);
        }
        let text = Zeroizing::new(hex::encode(root.expose()));
        sealed.tool(&scratch, "create", &arguments, Some(text.as_bytes()))?;
        sealed.flush(&scratch);
        sealed.public = scratch.read("public")?;
        sealed.private = scratch.read("private")?;
        Ok(sealed)
    }

    /// Unseals the root.
    pub(super) fn open(&self) -> Result<Key, KeyError> {
        let scratch = Scratch::new()?;
        scratch.write("public", &self.public)?;
        scratch.write("private", &self.private)?;
        self.parent(&scratch)?;
        self.tool(
            &scratch,
            "load",
            &["-Q", "-C", "parent", "-u", "public", "-r", "private", "-c", "key"],
            None,
        )
        .map_err(|_| {
            KeyError::Tpm(
                "it did not seal these keys, or registry.key was changed; they open on the machine on which they were sealed, or with the recovery key".to_owned(),
            )
        })?;
        self.flush(&scratch);
        let bound = format!("pcr:{}", self.pcrs);
        let mut arguments = vec!["-Q", "-c", "key"];
        if !self.pcrs.is_empty() {
            arguments.extend(["-p", bound.as_str()]);
        }
        let said = self.tool(&scratch, "unseal", &arguments, None).map_err(|error| if self.pcrs.is_empty() { error } else { KeyError::Tpm(format!(
                "the machine was started in another state than when the keys were sealed (registers {}). If firmware or system were updated on purpose, seal them anew with the recovery key: sallyport-server registry protect-keys; otherwise find out who changed the machine",
                self.pcrs
            )) });
        self.flush(&scratch);
        let said = said?;
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(said.as_slice(), bytes.as_mut_slice())
            .map_err(|_| KeyError::Tpm("what it unsealed is no key".to_owned()))?;
        Ok(Key::from_bytes(*bytes))
    }

    fn parent(&self, scratch: &Scratch) -> Result<(), KeyError> {
        self.tool(
            scratch,
            "createprimary",
            &["-Q", "-C", "o", "-g", "sha256", "-G", "ecc", "-c", "parent"],
            None,
        )?;
        self.flush(scratch);
        Ok(())
    }

    /// A TPM without a resource manager has room for three objects; those that we saved to files can go.
    fn flush(&self, scratch: &Scratch) {
        drop(self.tool(scratch, "flushcontext", &["-t"], None));
    }

    fn tool(
        &self,
        scratch: &Scratch,
        name: &str,
        arguments: &[&str],
        input: Option<&[u8]>,
    ) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let missing = |error: &std::io::Error| {
            KeyError::Tpm(if error.kind() == std::io::ErrorKind::NotFound {
                format!("tpm2_{name} is missing; install Debian's package tpm2-tools")
            } else {
                error.to_string()
            })
        };
        let mut child = Command::new(format!("tpm2_{name}"))
            .args(arguments)
            .current_dir(&scratch.0)
            .env("TPM2TOOLS_TCTI", &self.tcti)
            .env("TSS2_LOG", "all+none")
            .stdin(if input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| missing(&error))?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // A tool that stopped early says why on stderr.
            drop(stdin.write_all(input));
        }
        let output = child.wait_with_output().map_err(|error| missing(&error))?;
        let (said, complaint) = (Zeroizing::new(output.stdout), output.stderr);
        if output.status.success() {
            return Ok(said);
        }
        let complaint = String::from_utf8_lossy(&complaint);
        let line = complaint
            .lines()
            .find_map(|line| line.strip_prefix("ERROR: "))
            .unwrap_or("it gave no reason");
        Err(KeyError::Tpm(format!(
            "tpm2_{name}: {}",
            line.chars().take(200).collect::<String>()
        )))
    }

    pub(super) fn line(&self) -> String {
        let pcrs = if self.pcrs.is_empty() {
            "-"
        } else {
            &self.pcrs
        };
        format!(
            "{} {pcrs} {} {}",
            self.tcti,
            hex::encode(&self.public),
            hex::encode(&self.private)
        )
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let (tcti, pcrs) = (fields.next()?, fields.next()?);
        let public = hex::decode(fields.next()?).ok()?;
        let private = hex::decode(fields.next()?).ok()?;
        let pcrs = if pcrs == "-" { "" } else { pcrs };
        (fields.next().is_none() && is_plain(tcti, ":/=.,_-") && is_plain(pcrs, ":,+")).then(|| {
            Self {
                tcti: tcti.to_owned(),
                pcrs: pcrs.to_owned(),
                public,
                private,
            }
        })
    }
}
