//! The program for the image: linked without any library beside it, from what cargo has compiled for the other tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use starling_deployment::repository;

/// Links the program, unless that has been done. Linking takes seconds; compiling everything for it would take minutes. The release is
/// made by `cargo xtask dist`, with the same flag.
pub fn linked_statically() -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program")?;
    let compiled = own.parent().context("the folder of this program")?;
    let library = newest(compiled, "libstarling-", ".rlib")?;
    let folder = compiled.join("../static");
    fs::create_dir_all(&folder).context("make the folder of the static program")?;
    // Tests run at the same time.
    let lock = File::create(folder.join("lock")).context("open the lock of the static program")?;
    lock.lock().context("lock the static program")?;
    let program = folder.join("starling");
    if fs::metadata(&program).and_then(|meta| meta.modified()).is_ok_and(|at| at > library.changed) {
        return Ok(program);
    }
    let unfinished = folder.join("unfinished");
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--edition", "2024", "--crate-name", "starling_static"])
        .arg(repository("crates/starling/src/main.rs"));
    rustc.arg("--extern").arg(format!("starling={}", library.path.display()));
    rustc.arg("-L").arg(format!("dependency={}", compiled.display()));
    rustc.args(["-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"]).arg(&unfinished);
    let output = rustc.current_dir(repository("")).output().context("run rustc")?;
    ensure!(output.status.success(), "rustc: {}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&unfinished, &program).context("keep the static program")?;
    Ok(program)
}

/// A compiled library.
struct Library {
    path: PathBuf,
    changed: SystemTime,
}

/// The newest file whose name begins and ends like this: cargo keeps older ones.
fn newest(folder: &Path, begin: &str, end: &str) -> Result<Library> {
    let files = fs::read_dir(folder).context("read the folder of libraries")?.flatten();
    let named = files.filter(|file| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        name.starts_with(begin) && name.ends_with(end)
    });
    let changed = |file: fs::DirEntry| {
        Some(Library { path: file.path(), changed: file.metadata().ok()?.modified().ok()? })
    };
    let newest = named.filter_map(changed).max_by_key(|library| library.changed);
    newest.with_context(|| {
        format!("there is no {begin}…{end}; `cargo build --workspace --all-targets` makes it")
    })
}
