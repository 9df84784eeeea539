//! `docs/operating.md` and its pages.

use std::process::Stdio;

use starling_testkit::node::program;

use crate::exchange::fenced;
use crate::pages::{page, pages};

#[tokio::test]
async fn every_variable_that_a_page_names_is_a_setting() {
    let program = tokio::task::spawn_blocking(program).await.unwrap().unwrap();
    let out = std::process::Command::new(program).args(["config", "--markdown"]).stdin(Stdio::null()).output().unwrap();
    let reference = String::from_utf8(out.stdout).unwrap();
    assert!(reference.contains("STARLING_LISTEN"), "{reference}");
    for (path, text) in pages() {
        let words = text.split(|c: char| !c.is_ascii_uppercase() && c != '_').filter(|word| word.starts_with("STARLING_"));
        for word in words.filter(|word| word.len() > "STARLING_".len()) {
            assert!(reference.contains(word), "{}: {word}", path.display());
        }
    }
}

#[tokio::test]
async fn every_configuration_file_that_is_shown_is_a_good_one() {
    let program = tokio::task::spawn_blocking(program).await.unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for (path, text) in pages() {
        for (line, _, inside) in fenced(&text, "toml starling") {
            let file = folder.path().join("starling.toml");
            std::fs::write(&file, inside.join("\n")).unwrap();
            let out = std::process::Command::new(&program).arg("config").arg("--config").arg(&file).output().unwrap();
            let error = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success(), "{}, line {line}: {error}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 0);
}

#[test]
fn the_first_page_links_every_page_of_its_folder() {
    let first = page("docs/operating.md");
    for (path, _) in pages().into_iter().filter(|(path, _)| path.parent().is_some_and(|folder| folder.ends_with("operating"))) {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(first.contains(&format!("](operating/{name})")), "operating.md does not link {name}");
    }
}
