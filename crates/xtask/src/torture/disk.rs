//! A disk that can be filled: a file system in memory, of a fixed size.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What the mount points of all runs begin with; the process id follows.
const PREFIX: &str = "starling-small-disk-";
const CHUNK: usize = 1 << 20;

/// A mounted file system, unmounted on drop. Only root may mount.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of this size, after removing those that killed runs have left.
    ///
    /// # Errors
    /// When it can't be mounted, as by anybody but root.
    pub fn mount(bytes: u64) -> Result<Self> {
        sweep();
        let path = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        let options = format!("size={bytes},mode=0755");
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "starling"]).arg(&path).output();
        let output = output.context("run mount")?;
        if !output.status.success() {
            // An empty folder, made above.
            let _ = fs::remove_dir(&path);
        }
        ensure!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr).trim());
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(Self { path })
    }

    /// A folder on it, for what is to run out of room.
    pub fn folder(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Writes until nothing fits any more.
    ///
    /// # Errors
    /// When something else than the disk's end prevents it.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.filler()).context("create the filler")?;
        let mut piece = vec![0x55; CHUNK];
        while !piece.is_empty() {
            match file.write(&piece) {
                Ok(_) => {}
                // What is left may be smaller than a piece.
                Err(error) if error.kind() == ErrorKind::StorageFull => piece.truncate(piece.len() / 2),
                Err(error) => return Err(error).context("fill the disk"),
            }
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("remove the filler")
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.path);
    }
}

/// Removes the disks of processes that are no more.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            unmount(&entry.path());
        }
    }
}

fn unmount(path: &Path) {
    // Lazily: whatever still has a file open there is about to end. What is not mounted needs no unmounting.
    let _ = Command::new("umount").arg("--lazy").arg(path).output();
    let _ = fs::remove_dir(path);
}
