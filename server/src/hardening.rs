//! What the process asks of the operating system before it touches a key, and that it got it.

use anyhow::bail;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use sallyport_matching::{Gallery, Protection};

use crate::state::AppState;

/// From now on neither a crash nor another process of the same user gets this process' memory: no core file, no `ptrace`, and
/// `/proc/PID/mem` belongs to root.
///
/// # Errors
/// The operating system refuses; the program must not go on.
pub fn forbid_dumps() -> std::io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(setrlimit(Resource::Core, none)?)
}

/// Takes all the locked memory that the administrator lets us have. Whether it is enough is for `check_gallery` to say.
pub fn lock_all_we_may() {
    let maximum = getrlimit(Resource::Memlock).maximum;
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Memlock, all) {
        tracing::warn!(%error, "the limit of locked memory could not be raised to what the administrator allows");
    }
}

/// Does the loaded gallery lie in locked memory, and could one more person?
///
/// # Errors
/// No, and the configuration does not allow that.
pub(crate) fn check_gallery(state: &AppState) -> anyhow::Result<()> {
    let loaded = match state.gallery.read() {
        Ok(gallery) => gallery.protection(),
        Err(_) => bail!("the gallery in memory is not usable; start the server again"),
    };
    let bytes: usize = [loaded, Gallery::protection_of_growth()]
        .into_iter()
        .map(|protection| match protection {
            Protection::Locked => 0,
            Protection::NotLocked { bytes } => bytes,
        })
        .sum();
    if bytes == 0 {
        return Ok(());
    }
    if state.config.allow_unlocked_memory {
        tracing::warn!(
            bytes,
            "templates in memory are not locked and may reach a swap file, as allow_unlocked_memory in server.toml lets them"
        );
        return Ok(());
    }
    bail!(
        "the system lets this server lock {bytes} bytes less than its templates need, so they could reach a swap file. \
         Raise the limit (LimitMEMLOCK=infinity in the systemd unit, or ulimit -l unlimited), or, where nothing is ever swapped \
         to a disk in the clear, set allow_unlocked_memory = true in server.toml."
    );
}
