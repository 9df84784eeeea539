//! Temporary folders that are removed, even those of a test process that was killed.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// A folder of a server: a temporary one, removed on drop, or one that is kept.
#[derive(Debug)]
pub struct Folder {
    place: Place,
}

#[derive(Debug)]
enum Place {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Folder {
    /// A new folder whose name begins with `name`.
    ///
    /// # Errors
    /// When the system's temporary folder can't be written.
    pub fn new(name: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(own_run()?)
            .with_context(|| format!("make a temporary folder for {name}"))?;
        Ok(Self { place: Place::Temporary(dir) })
    }

    /// A folder that is kept. Creates it unless it exists.
    ///
    /// # Errors
    /// When it can't be created.
    pub fn kept(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).context("the folder to keep")?;
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        Ok(Self { place: Place::Kept(path) })
    }

    /// Gives the folder to another user of this machine, for servers that refuse to be root.
    pub(crate) fn give_to(&self, uid: u32, gid: u32) -> Result<()> {
        chown(self.path(), Some(uid), Some(gid)).context("hand a folder to another user")
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        match &self.place {
            Place::Temporary(dir) => dir.path(),
            Place::Kept(path) => path,
        }
    }

    /// The path of a file in the folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file inside it, readable by every user, and returns its path.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
        Ok(path)
    }
}

/// The folder that all test processes of this user share.
pub(crate) fn base() -> Result<PathBuf> {
    let uid = fs::metadata("/proc/self").context("read /proc")?.uid();
    let base = std::env::temp_dir().join(format!("starling-tests-{uid}"));
    make_passable(&base)?;
    Ok(base)
}

/// Removes what test processes that have ended left behind.
///
/// # Errors
/// When the system's temporary folder can't be written.
pub fn sweep_leftovers() -> Result<()> {
    let base = base()?;
    let _door = lock(&base)?;
    sweep(&base);
    Ok(())
}

/// Removes this process's folder and everything in it, at the end of a program: no [`Folder`] may be used or created afterwards.
/// Otherwise, the next process that creates a [`Folder`] removes it.
///
/// # Errors
/// When it can't be removed.
pub fn remove_own() -> Result<()> {
    let Some(run) = RUN.get() else { return Ok(()) };
    fs::remove_dir_all(&run.path).with_context(|| format!("remove {}", run.path.display()))
}

/// This process's folder.
struct Run {
    path: PathBuf,
    /// Held as long as the process lives.
    _lock: File,
}

static RUN: OnceLock<Run> = OnceLock::new();

/// This process's folder inside [`base`]. A lock, which the kernel releases at the end of the process, tells whether its owner is
/// alive. The first call removes the folders of processes that have ended.
fn own_run() -> Result<&'static Path> {
    if let Some(run) = RUN.get() {
        return Ok(&run.path);
    }
    let base = base()?;
    let _door = lock(&base)?;
    // Two threads may both get here. The second folder stays unused, and a later process removes it.
    sweep(&base);
    let path = tempfile::Builder::new().prefix("run-").tempdir_in(&base)?.keep();
    make_passable(&path)?;
    let lock = File::create(path.join(OWNER_LOCK))?;
    lock.lock()?;
    Ok(&RUN.get_or_init(|| Run { path, _lock: lock }).path)
}

/// Prevents other processes from sweeping before a new folder is locked.
fn lock(base: &Path) -> Result<File> {
    let door = File::create(base.join("runs.lock")).context("open the lock of the temporary folders")?;
    door.lock().context("lock the temporary folders")?;
    Ok(door)
}

const OWNER_LOCK: &str = "owner.lock";

fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with("run-") {
            continue;
        }
        let ownerless = match File::open(entry.path().join(OWNER_LOCK)) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(_) => true,
        };
        if ownerless {
            // What can't be removed now, the next process removes.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Lets servers that run as another user reach their own folders.
fn make_passable(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(0o711))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_gone_when_dropped() {
        let folder = Folder::new("gone").unwrap();
        let path = folder.path().to_owned();
        folder.write("file", "text").unwrap();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn folders_whose_owner_is_dead_are_swept_and_others_stay() {
        let base = TempDir::new().unwrap();
        let dead = base.path().join("run-dead");
        let alive = base.path().join("run-alive");
        for run in [&dead, &alive] {
            fs::create_dir(run).unwrap();
            File::create(run.join(OWNER_LOCK)).unwrap();
        }
        let lock = File::open(alive.join(OWNER_LOCK)).unwrap();
        lock.lock().unwrap();
        sweep(base.path());
        assert!(!dead.exists() && alive.exists());
    }
}
