//! The page `docs/capacity.md` against the program.

use super::*;

const PAGE: &str = include_str!("../../../../docs/capacity.md");
/// What begins an example on the page, and what ends it.
const EXAMPLE: (&str, &str) = ("```console\n$ ", "```");
const CONSTANTS: (&str, &str) = ("<!-- begin constants -->", "<!-- end constants -->");

/// What the program prints for the arguments of a command line.
fn printed(line: &str) -> String {
    let words = line.split_whitespace().map(std::ffi::OsString::from);
    let Ok((subcommand, _)) = crate::cli::parse(words) else { panic!("{line} is refused") };
    let crate::cli::Subcommand::Capacity(request) = subcommand else { panic!("{line} is no capacity") };
    capacity(&request).unwrap_or_else(|failure| panic!("{line}: {}", failure.message))
}

/// The page with what the program prints today. Returns also how many examples it has.
fn filled() -> (String, usize) {
    let (mut page, mut rest, mut examples) = (String::new(), PAGE, 0);
    while let Some((before, block)) = rest.split_once(EXAMPLE.0) {
        let (block, after) = block.split_once(EXAMPLE.1).expect("the end of an example");
        let (line, _) = block.split_once('\n').expect("a command and its output");
        page += &format!("{before}{}{line}\n{}{}", EXAMPLE.0, printed(line), EXAMPLE.1);
        rest = after;
        examples += 1;
    }
    page += rest;
    let (before, table) = page.split_once(CONSTANTS.0).expect("the table of constants");
    let (_, after) = table.split_once(CONSTANTS.1).expect("its end");
    let row = |constant: &constants::Constant| {
        let constants::Constant { name, value, unit, what, source } = constant;
        format!("| `{name}` | {value} | {unit} | {what} | {} |\n", source.text())
    };
    let rows: String = constants::ALL.iter().map(row).collect();
    let head = "| constant | value | unit | of what | source |\n|---|---:|---|---|---|\n";
    let table = format!("Measured on {}.\n\n{head}{rows}", constants::MACHINE);
    (format!("{before}{}\n\n{table}\n{}{after}", CONSTANTS.0, CONSTANTS.1), examples)
}

#[test]
fn the_page_shows_what_the_program_prints_and_every_constant() {
    let (page, examples) = filled();
    assert_eq!(examples, 3, "10 thousand, 1 million and 100 million users");
    if std::env::var_os("UPDATE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/capacity.md");
        std::fs::write(path, page).unwrap();
    } else {
        assert!(page == PAGE, "docs/capacity.md is old: UPDATE=1 cargo test --workspace --lib capacity");
    }
}

#[test]
fn numbers_that_are_missing_or_out_of_range_are_named() {
    let parse = |line: &str| crate::cli::parse(line.split_whitespace().map(std::ffi::OsString::from));
    assert!(parse("starling capacity --users 5").is_err(), "conversations and messages must be given");
    let line = "starling capacity --users 5 --conversations 5 --messages 1 --online 1.5";
    let Ok((crate::cli::Subcommand::Capacity(request), _)) = parse(line) else { panic!("{line}") };
    let BadConfig(why) = demand(&request).unwrap_err();
    assert!(why.contains("--online"), "{why}");
}

#[test]
fn the_json_has_the_plan_the_money_and_the_constants() {
    let line = "starling capacity --users 1000000 --conversations 100000 --messages 500 --json";
    let all: serde_json::Value = serde_json::from_str(&printed(line)).unwrap();
    assert_eq!(all["demand"]["users"], 1e6);
    assert!(all["plan"]["nodes"]["count"].as_f64() >= Some(3.0));
    let parts: f64 =
        all["money_per_month"]["parts"].as_object().unwrap().values().filter_map(|part| part.as_f64()).sum();
    assert!((all["money_per_month"]["total"].as_f64().unwrap() - parts).abs() < 1e-6);
    assert_eq!(all["constants"].as_array().unwrap().len(), constants::ALL.len());
}

#[test]
fn a_list_of_prices_of_ones_own_replaces_the_examples() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let doubled = printed("starling capacity --print-prices").replace("node_core = 25.0", "node_core = 50");
    std::fs::write(file.path(), doubled).unwrap();
    let line = "starling capacity --users 10000 --conversations 100 --messages 10 --json";
    let nodes = |line: &str| {
        let all: serde_json::Value = serde_json::from_str(&printed(line)).unwrap();
        all["money_per_month"]["parts"]["nodes"].as_f64().unwrap()
    };
    let own = nodes(&format!("{line} --prices {}", file.path().display()));
    assert!(own > nodes(line) * 1.5, "{own}");
}
