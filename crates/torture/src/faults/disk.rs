//! A disk that can be filled up: a file system in memory of a fixed size.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Prefix of the mount points; the process id follows.
const PREFIX: &str = "starling-small-disk-";
const CHUNK: usize = 1 << 20;

/// A mounted file system, unmounted on drop. Only root may mount.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk of this size. Removes those that killed runs left behind.
    ///
    /// # Errors
    /// When it can't be mounted; only root may.
    pub fn mount(bytes: u64) -> Result<Self> {
        sweep();
        let path = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        let options = format!("size={bytes},mode=0755");
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "starling"]).arg(&path).output();
        let output = output.context("run mount")?;
        if !output.status.success() {
            // The empty folder from above.
            let _ = fs::remove_dir(&path);
        }
        ensure!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr).trim());
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(Self { path })
    }

    /// A folder on the disk.
    pub fn folder(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Fills the disk up.
    ///
    /// # Errors
    /// When a write fails for another reason than a full disk.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.filler()).context("create the filler")?;
        let mut piece = vec![0x55; CHUNK];
        while !piece.is_empty() {
            match file.write(&piece) {
                Ok(_) => {}
                // The remaining space may be smaller than a chunk.
                Err(error) if error.kind() == ErrorKind::StorageFull => piece.truncate(piece.len() / 2),
                Err(error) => return Err(error).context("fill the disk"),
            }
        }
        Ok(())
    }

    /// Frees the space again.
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

/// Removes the disks of processes that have ended.
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
    // Lazily: processes with open files on it are about to end. An error says that it is not mounted.
    let _ = Command::new("umount").arg("--lazy").arg(path).output();
    let _ = fs::remove_dir(path);
}
