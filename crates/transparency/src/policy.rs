//! Trust policies (<https://c2sp.org/tlog-policy>): which logs are known, and which witnesses must have cosigned a checkpoint.
//!
//! Parsing and judging only; where the file lies and who may change it is the caller's matter.

use crate::{Checkpoint, CheckpointError, CosignerKey, Note, NoteError, VerifierKey};

/// Larger policy files are refused before parsing.
pub const MAX_POLICY_BYTES: usize = 64 * 1024;
/// Logs, witnesses and groups each; the specification asks for at least 32.
const MAX_DEFINITIONS: usize = 256;

/// Why a policy file is not accepted; lines count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The file is too large or defines too much.
    #[error(
        "the policy is too large: at most {MAX_POLICY_BYTES} bytes, and {MAX_DEFINITIONS} logs, witnesses and groups each"
    )]
    TooLarge,
    /// A control character, or a last line without its end.
    #[error("line {0} holds a control character, or the file does not end with a line end")]
    Characters(usize),
    /// The line is none of the four kinds, or has too few or too many words.
    #[error(
        "line {0} is none of: log VKEY [URL], witness NAME VKEY [URL], group NAME all|any|NUMBER MEMBER…, quorum NAME|none"
    )]
    Syntax(usize),
    /// The key is not of the right kind.
    #[error(
        "line {0}: the key is not an Ed25519 key of the kind needed there (0x01 for a log, 0x04 for a witness)"
    )]
    Key(usize),
    /// The name is taken, or is `none`.
    #[error("line {0}: the name is taken already, or is the reserved word none")]
    Name(usize),
    /// The key stands on another line already.
    #[error("line {0}: the key stands on another line already")]
    DuplicateKey(usize),
    /// The named witness or group is not defined above.
    #[error("line {0} names a witness or group that is not defined above it")]
    Undefined(usize),
    /// The member is in a group already.
    #[error("line {0}: a member is in a group already; each may be in one only")]
    DuplicateMember(usize),
    /// The number of members to be reached is impossible.
    #[error("line {0}: the number must be from 1 to the number of members")]
    Threshold(usize),
    /// No quorum line, or more than one.
    #[error("there must be exactly one quorum line")]
    Quorum,
}

/// Why a checkpoint does not satisfy a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// Note or checkpoint are not accepted, or no log of the policy signed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Too few witnesses.
    #[error(
        "too few witnesses cosigned the checkpoint for the policy: {}",
        if .0.is_empty() { "none of them did".to_owned() } else { format!("only {}", .0.join(", ")) }
    )]
    NoQuorum(Vec<String>),
}

impl From<NoteError> for QuorumError {
    fn from(error: NoteError) -> Self {
        Self::Checkpoint(error.into())
    }
}

/// A log of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its key; the key's name is the log's origin.
    pub key: VerifierKey,
    /// Where it is served, if the file says so.
    pub url: Option<String>,
}

/// A witness of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyWitness {
    /// Name within the policy.
    pub name: String,
    /// Its key.
    pub key: CosignerKey,
    /// Its submission prefix, if the file says so.
    pub url: Option<String>,
}

/// Witness or group by its place in the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: Vec<u8>,
    threshold: usize,
    members: Vec<Member>,
}

/// A parsed policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    /// A group names only what stands before it.
    groups: Vec<Group>,
    quorum: Option<Member>,
}

/// A checkpoint that satisfies a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Witnesses of the policy that cosigned it, with the time that each gave (seconds since 1970, UTC).
    pub cosigned: Vec<(String, u64)>,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > MAX_POLICY_BYTES {
            return Err(PolicyError::TooLarge);
        }
        let mut parser = Parser::default();
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        // Each line ends in a newline, so nothing follows the last one.
        let rest = lines.pop().unwrap_or_default();
        for (number, line) in (1..).zip(&lines) {
            if line
                .iter()
                .any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
            {
                return Err(PolicyError::Characters(number));
            }
            parser.line(number, line)?;
        }
        if !rest.is_empty() {
            return Err(PolicyError::Characters(lines.len() + 1));
        }
        parser.finish()
    }

    /// The known logs.
    #[must_use]
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The known witnesses.
    #[must_use]
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// Does the policy ask for any cosignature?
    #[must_use]
    pub fn asks_for_witnesses(&self) -> bool {
        self.quorum.is_some()
    }

    /// Opens a checkpoint that a log of the policy signed and that enough witnesses cosigned. Unknown signatures are ignored.
    ///
    /// # Errors
    /// Not such a checkpoint, a wrong signature by a known log or witness, or too few witnesses.
    pub fn open(&self, note: &[u8]) -> Result<Witnessed, QuorumError> {
        let parsed = Note::parse(note)?;
        let keys: Vec<VerifierKey> = self.logs.iter().map(|log| log.key.clone()).collect();
        let checkpoint =
            Checkpoint::from_text(parsed.verify(&keys).map_err(CheckpointError::from)?)?;
        // A log vouches only for the origin that is its key's name.
        let own: Vec<VerifierKey> = keys
            .into_iter()
            .filter(|key| key.name() == checkpoint.origin)
            .collect();
        if own.is_empty() || parsed.verify(&own) == Err(NoteError::NoKnownSignature) {
            return Err(CheckpointError::OtherLog.into());
        }
        let mut times = Vec::with_capacity(self.witnesses.len());
        for witness in &self.witnesses {
            times.push(witness.key.verify(&parsed)?);
        }
        let cosigned: Vec<(String, u64)> = self
            .witnesses
            .iter()
            .zip(&times)
            .filter_map(|(witness, time)| Some((witness.name.clone(), (*time)?)))
            .collect();
        if self.reached(&times) {
            Ok(Witnessed {
                checkpoint,
                cosigned,
            })
        } else {
            Err(QuorumError::NoQuorum(
                cosigned.into_iter().map(|(name, _)| name).collect(),
            ))
        }
    }

    /// Do these witnesses, in the policy's order, make the quorum?
    fn reached(&self, cosigned: &[Option<u64>]) -> bool {
        let witness = |at: usize| cosigned.get(at).is_some_and(Option::is_some);
        let mut groups: Vec<bool> = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            let count = group
                .members
                .iter()
                .filter(|member| match member {
                    Member::Witness(at) => witness(*at),
                    Member::Group(at) => groups.get(*at).copied().unwrap_or(false),
                })
                .count();
            groups.push(count >= group.threshold);
        }
        match self.quorum {
            None => true,
            Some(Member::Witness(at)) => witness(at),
            Some(Member::Group(at)) => groups.get(at).copied().unwrap_or(false),
        }
    }

    /// The policy as a file; names that are not UTF-8 are written with replacement characters.
    #[must_use]
    pub fn to_text(&self) -> String {
        let url = |url: &Option<String>| {
            url.as_ref()
                .map_or_else(String::new, |url| format!(" {url}"))
        };
        let mut text = String::new();
        for log in &self.logs {
            text.push_str(&format!("log {}{}\n", log.key, url(&log.url)));
        }
        for witness in &self.witnesses {
            text.push_str(&format!(
                "witness {} {}{}\n",
                witness.name,
                witness.key,
                url(&witness.url)
            ));
        }
        for group in &self.groups {
            text.push_str(&format!(
                "group {} {}",
                String::from_utf8_lossy(&group.name),
                group.threshold
            ));
            for member in &group.members {
                text.push(' ');
                text.push_str(&self.name(*member));
            }
            text.push('\n');
        }
        let quorum = self
            .quorum
            .map_or_else(|| "none".to_owned(), |member| self.name(member));
        text.push_str(&format!("quorum {quorum}\n"));
        text
    }

    fn name(&self, member: Member) -> String {
        match member {
            Member::Witness(at) => self.witnesses.get(at).map(|witness| witness.name.clone()),
            Member::Group(at) => self
                .groups
                .get(at)
                .map(|group| String::from_utf8_lossy(&group.name).into_owned()),
        }
        .unwrap_or_default()
    }
}

#[derive(Default)]
struct Parser {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    /// Names are octets, compared as such.
    names: std::collections::BTreeMap<Vec<u8>, Member>,
    /// Names that are members of a group.
    used: std::collections::BTreeSet<Vec<u8>>,
    quorum: Option<Option<Member>>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Parser {
    fn line(&mut self, number: usize, line: &[u8]) -> Result<(), PolicyError> {
        let words: Vec<&[u8]> = line
            .split(|byte| *byte == b' ' || *byte == b'\t')
            .filter(|word| !word.is_empty())
            .collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", key, url @ ..] if url.len() <= 1 => self.log(number, key, url.first()),
            [b"witness", name, key, url @ ..] if url.len() <= 1 => {
                self.witness(number, name, key, url.first())
            }
            [b"group", name, threshold, members @ ..] if !members.is_empty() => {
                self.group(number, name, threshold, members)
            }
            [b"quorum", name] => self.set_quorum(number, name),
            _ => Err(PolicyError::Syntax(number)),
        }
    }

    fn log(&mut self, number: usize, key: &[u8], url: Option<&&[u8]>) -> Result<(), PolicyError> {
        let key = std::str::from_utf8(key)
            .ok()
            .and_then(|key| VerifierKey::parse(key).ok())
            .filter(VerifierKey::is_log_key)
            .ok_or(PolicyError::Key(number))?;
        if self.logs.iter().any(|log| log.key.key() == key.key()) {
            return Err(PolicyError::DuplicateKey(number));
        }
        self.logs.push(PolicyLog {
            key,
            url: url.map(|url| text(url)),
        });
        limited(&self.logs)
    }

    fn witness(
        &mut self,
        number: usize,
        name: &[u8],
        key: &[u8],
        url: Option<&&[u8]>,
    ) -> Result<(), PolicyError> {
        let key = std::str::from_utf8(key)
            .ok()
            .and_then(|key| CosignerKey::parse(key).ok())
            .ok_or(PolicyError::Key(number))?;
        let same = |witness: &PolicyWitness| witness.key.public() == key.public();
        if self.witnesses.iter().any(same) {
            return Err(PolicyError::DuplicateKey(number));
        }
        self.define(number, name, Member::Witness(self.witnesses.len()))?;
        self.witnesses.push(PolicyWitness {
            name: text(name),
            key,
            url: url.map(|url| text(url)),
        });
        limited(&self.witnesses)
    }

    fn group(
        &mut self,
        number: usize,
        name: &[u8],
        threshold: &[u8],
        members: &[&[u8]],
    ) -> Result<(), PolicyError> {
        let mut found = Vec::new();
        for member in members {
            let defined = self.names.get(*member);
            found.push(*defined.ok_or(PolicyError::Undefined(number))?);
            if !self.used.insert(member.to_vec()) {
                return Err(PolicyError::DuplicateMember(number));
            }
        }
        let threshold = match threshold {
            b"all" => found.len(),
            b"any" => 1,
            digits => decimal(digits)
                .filter(|threshold| (1..=found.len()).contains(threshold))
                .ok_or(PolicyError::Threshold(number))?,
        };
        self.define(number, name, Member::Group(self.groups.len()))?;
        self.groups.push(Group {
            name: name.to_vec(),
            threshold,
            members: found,
        });
        limited(&self.groups)
    }

    fn set_quorum(&mut self, number: usize, name: &[u8]) -> Result<(), PolicyError> {
        if self.quorum.is_some() {
            return Err(PolicyError::Quorum);
        }
        self.quorum = Some(if name == b"none" {
            None
        } else {
            let defined = self.names.get(name);
            Some(*defined.ok_or(PolicyError::Undefined(number))?)
        });
        Ok(())
    }

    fn define(&mut self, number: usize, name: &[u8], member: Member) -> Result<(), PolicyError> {
        if name == b"none" || self.names.insert(name.to_vec(), member).is_some() {
            Err(PolicyError::Name(number))
        } else {
            Ok(())
        }
    }

    fn finish(self) -> Result<Policy, PolicyError> {
        Ok(Policy {
            logs: self.logs,
            witnesses: self.witnesses,
            groups: self.groups,
            quorum: self.quorum.ok_or(PolicyError::Quorum)?,
        })
    }
}

fn limited<T>(definitions: &[T]) -> Result<(), PolicyError> {
    if definitions.len() > MAX_DEFINITIONS {
        Err(PolicyError::TooLarge)
    } else {
        Ok(())
    }
}

fn decimal(digits: &[u8]) -> Option<usize> {
    if digits.iter().all(u8::is_ascii_digit) && !digits.starts_with(b"0") {
        std::str::from_utf8(digits).ok()?.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
#[path = "policy/tests.rs"]
mod tests;
