//! Secrets in files of their own, as container platforms mount them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The most bytes of a secret's file: more is no secret, but a wrong path.
const BYTES_MAX: u64 = 64 * 1024;

/// Reads a secret from a file, without the line end behind it.
///
/// # Errors
/// Says what is wrong with the file, and never what is in it.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("is longer than {BYTES_MAX} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    let text = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(&text);
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_bytes(bytes: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        std::fs::write(&path, bytes).expect("a file");
        read(&path)
    }

    #[test]
    fn one_line_end_is_no_part_of_a_secret() {
        for (bytes, secret) in [
            (&b"hush"[..], "hush"),
            (b"hush\n", "hush"),
            (b"hush\r\n", "hush"),
            (b" hush \n\n", " hush \n"),
            (b"hush\r", "hush\r"),
        ] {
            assert_eq!(read_bytes(bytes).as_deref(), Ok(secret));
        }
    }

    #[test]
    fn a_file_without_a_secret_is_refused() {
        for (bytes, why) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"\xff", "is not UTF-8"),
            (&[b'x'; 65_537], "is longer than 65536 bytes"),
        ] {
            assert_eq!(read_bytes(bytes), Err(why.to_owned()));
        }
        assert!(read(Path::new("/not/there")).is_err());
        assert!(read(Path::new("/")).is_err());
    }
}
