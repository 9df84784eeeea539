//! Temporary folders that vanish, even those of a test process that was killed.

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

    /// A folder that stays, made if it is not there.
    ///
    /// # Errors
    /// When it can't be made.
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

    /// Where it is.
    pub fn path(&self) -> &Path {
        match &self.place {
            Place::Temporary(dir) => dir.path(),
            Place::Kept(path) => path,
        }
    }

    /// A path inside it.
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

/// Removes this process's own folder with whatever is left in there. For a program that ends in good order: no [`Folder`] may be in
/// use, or be made, any more. Without this, the next process that makes a [`Folder`] does it.
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

/// This process's folder inside [`base`]. A lock that the kernel frees with the process tells whether its owner lives;
/// the first call removes the folders of those who don't: what a killed process, or a `static` in it, left behind.
fn own_run() -> Result<&'static Path> {
    if let Some(run) = RUN.get() {
        return Ok(&run.path);
    }
    let base = base()?;
    let _door = lock(&base)?;
    // Two threads may both get this far; the second one's folder is then dropped unused, and swept another day.
    sweep(&base);
    let path = tempfile::Builder::new().prefix("run-").tempdir_in(&base)?.keep();
    make_passable(&path)?;
    let lock = File::create(path.join(OWNER_LOCK))?;
    lock.lock()?;
    Ok(&RUN.get_or_init(|| Run { path, _lock: lock }).path)
}

/// Keeps others from sweeping while a folder is made and not yet locked.
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

/// Servers under another user must be able to pass through on the way to their own folder.
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
