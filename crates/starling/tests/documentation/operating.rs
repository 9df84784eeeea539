//! `docs/operating.md` and its pages.

use std::process::Stdio;

use starling_testkit::node::program;

use crate::exchange::fenced;
use crate::pages::{page, pages};

/// Variables that tests look at, and the program does not.
const OF_TESTS: [&str; 4] = ["STARLING_FIRST_SEED", "STARLING_SCENARIO", "STARLING_SEED", "STARLING_SEEDS"];

#[tokio::test]
async fn every_variable_that_a_page_names_is_a_setting() {
    let program = tokio::task::spawn_blocking(program).await.unwrap().unwrap();
    let out = std::process::Command::new(program)
        .args(["config", "--markdown"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let reference = String::from_utf8(out.stdout).unwrap();
    assert!(reference.contains("| `listen` |"), "{reference}");
    for (path, text) in pages() {
        let words = text
            .split(|c: char| !c.is_ascii_uppercase() && c != '_')
            .filter(|word| word.starts_with("STARLING_"));
        for (word, key) in words
            .filter_map(|word| Some((word, word.strip_prefix("STARLING_")?)))
            .filter(|(word, key)| !key.is_empty() && !OF_TESTS.contains(word))
        {
            let key = key.to_lowercase();
            assert!(reference.contains(&format!("| `{key}` |")), "{}: {word}", path.display());
        }
    }
}

#[test]
fn users_are_called_what_the_page_on_tokens_says() {
    let text = page("docs/operating/tokens.md");
    let table = text.split("| id in the token | user |\n|---|---|\n").nth(1).expect("the table");
    let mut checked = 0;
    for row in table.lines().take_while(|line| line.starts_with('|')) {
        let cells: Vec<String> =
            row.split('`').skip(1).step_by(2).map(|cell| cell.replace("\\|", "|")).collect();
        let [id, user] = cells.as_slice() else { panic!("{row}") };
        assert_eq!(starling_auth::user_name(id).as_deref(), Some(user.as_str()), "{row}");
        checked += 1;
    }
    assert!(checked >= 8, "only {checked} rows were found");
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
            let out = std::process::Command::new(&program)
                .arg("config")
                .arg("--config")
                .arg(&file)
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success(), "{}, line {line}: {error}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 0);
}

#[test]
fn tickets_last_as_long_as_the_pages_say() {
    let days = starling_hub::TICKET_DAYS;
    for (path, sentence) in [
        ("docs/protocol.md", format!("A ticket is good for {days} days after it was made")),
        ("docs/operating/tokens.md", format!("{days} days later, no ticket of the old one is good any more")),
    ] {
        assert!(page(path).contains(&sentence), "{path} does not say: {sentence}");
    }
}

#[test]
fn the_first_page_links_every_page_of_its_folder() {
    let first = page("docs/operating.md");
    for (path, _) in pages()
        .into_iter()
        .filter(|(path, _)| path.parent().is_some_and(|folder| folder.ends_with("operating")))
    {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(first.contains(&format!("](operating/{name})")), "operating.md does not link {name}");
    }
}
