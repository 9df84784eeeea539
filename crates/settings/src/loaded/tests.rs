//! Which source wins, what is said of a bad value, and what is shown of secrets.

use std::time::Duration;

use super::*;
use crate::setting::Name;
use crate::{Secret, Table, Url, count, optional_count, seconds, secret, secret_url, settings, text};

settings! {
    /// What can be set about kettles.
    struct Kettle {
        /// How long it boils.
        setting boil: Duration = { Node "boil_seconds" seconds(90, 1..=600) }
        /// Cups.
        setting cups: u32 = { Limits "cups" count(4, 0..=10) }
        /// Its name.
        setting name: Option<String> = { Node "name" text() }
        /// Where water comes from.
        setting water: Option<Url> = { Stores "water_url" secret_url(); "WATER_URL" }
        /// What opens the lid.
        setting lid: Option<Secret> = { Tokens "lid_secret" secret() }
        /// Shelves.
        table shelves: Table<Shelf> = { "shelves" short }
        /// Drawers.
        table drawers: Table<Shelf> = { "kitchen.drawers" short }
        /// Serial number.
        plain serial: u32 = { 7 }
    }
}

settings! {
    /// A shelf.
    struct Shelf {
        /// Cups on it.
        setting cups: Option<u64> = { Limits "cups" optional_count(0..=10) }
        /// What opens its door.
        setting door: Option<Secret> = { Tokens "door_secret" secret() }
    }
}

fn short(name: &str) -> Result<(), String> {
    if name.len() < 9 { Ok(()) } else { Err(format!("{name:?} is too long")) }
}

fn gather(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded<Kettle>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kettle.toml");
    std::fs::write(&path, file).expect("a file");
    let names: Vec<Name> = Loaded::<Kettle>::default().catalogue().names().collect();
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    let flags = flags.iter().map(|(key, value)| {
        (names.iter().find(|name| name.key == *key).expect("a key").clone(), (*value).to_owned())
    });
    Loaded::gather(Some(&path), variables, flags).map_err(|error| error.to_string())
}

fn error(file: &str, variables: &[(&str, &str)]) -> String {
    gather(file, variables, &[]).map(|_| ()).expect_err("bad")
}

fn origin(loaded: &Loaded<Kettle>, key: &'static str) -> Option<Origin> {
    loaded.given(&Place::of(key)).map(|given| given.origin)
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let loaded = gather(
        "boil_seconds = 1\ncups = 2\nname = \"file\"",
        &[("STARLING_CUPS", "3"), ("STARLING_NAME", "variable"), ("WATER_URL", "sea://w")],
        &[("name", "flag")],
    )
    .expect("good");
    assert_eq!(loaded.settings.boil, Duration::from_secs(1));
    assert_eq!(loaded.settings.cups, 3);
    assert_eq!(loaded.settings.name.as_deref(), Some("flag"));
    assert_eq!(loaded.settings.water, Some(Url::new("sea://w")));
    assert_eq!((loaded.settings.lid.as_ref(), loaded.settings.serial), (None, 7));
    assert_eq!(origin(&loaded, "boil_seconds"), Some(Origin::File));
    assert_eq!(origin(&loaded, "cups"), Some(Origin::Variable));
    assert_eq!(origin(&loaded, "name"), Some(Origin::Flag));
    assert_eq!(origin(&loaded, "lid_secret"), None);
    let overridden = |key| loaded.overridden(&Place::of(key)).iter().map(Given::name).collect::<Vec<_>>();
    assert_eq!(overridden("name"), ["name", "STARLING_NAME"]);
    assert_eq!((overridden("cups"), overridden("water_url")), (vec!["cups"], vec![]));
}

#[test]
fn white_space_around_a_value_is_no_part_of_it_but_of_a_secret() {
    let variables = [("WATER_URL", "sea://w\r\n"), ("STARLING_CUPS", "2\n"), ("STARLING_LID_SECRET", "s \n")];
    let loaded = gather("name = ' n '", &variables, &[("boil_seconds", "\t5")]).expect("good").settings;
    assert_eq!((loaded.cups, loaded.boil), (2, Duration::from_secs(5)));
    assert_eq!((loaded.name.as_deref(), loaded.water), (Some("n"), Some(Url::new("sea://w"))));
    assert_eq!(loaded.lid, Some(Secret::new("s \n")));
}

#[test]
fn what_is_wrong_is_named() {
    assert!(error("coups = 1", &[]).contains("unknown key `coups`; did you mean `cups`?"));
    assert!(error("[shelfes.a]", &[]).contains("did you mean `shelves`?"));
    assert!(
        error("[shelves.a]\ncusp = 1", &[]).contains("shelves.a: unknown key `cusp`; did you mean `cups`?")
    );
    assert!(error("[shelves.a]\ncups = -1", &[]).contains("shelves.a.cups: `-1` is not a whole number"));
    assert!(error("[shelves]\na = 1", &[]).contains("shelves: a is not a table"));
    assert!(error("shelves = 1", &[]).contains("write [shelves.NAME]"));
    assert!(error("[shelves.aaaaaaaaa]", &[]).contains("shelves: \"aaaaaaaaa\" is too long"));
    assert!(error("kitchen = 1", &[]).contains("kitchen: is not a table; write [kitchen.drawers.NAME]"));
    assert!(
        error("[kitchen.drawer.a]", &[]).contains("kitchen: unknown key `drawer`; did you mean `drawers`?")
    );
    assert!(
        error("[kitchen.drawers.a]\ncusp = 1", &[])
            .contains("kitchen.drawers.a: unknown key `cusp`; did you mean `cups`?")
    );
    assert!(error("boil_seconds = 0", &[]).contains("boil_seconds: `0` is not a whole number from 1 to 600"));
    assert!(
        error("", &[("STARLING_CUPS", "many")])
            .contains("cups: `many` is not a whole number from 0 to 10 (set by STARLING_CUPS)")
    );
    assert!(error("cups = 1.5", &[]).contains("cups: is not a text, number"));
    assert!(!error("water_url = \"user:password@host\"", &[]).contains("password"));
    // Also where another value wins.
    assert!(error("cups = 11", &[("STARLING_CUPS", "1")]).starts_with("cups: "));
}

#[test]
fn a_section_is_there_also_if_nothing_stands_in_it() {
    let loaded =
        gather("[shelves.a]\n[kitchen.drawers.b]\ncups = 2\n[kitchen.drawers.c]", &[], &[]).expect("good");
    assert_eq!(loaded.settings.shelves.get("a").map(|shelf| shelf.cups), Some(None));
    let drawers: Vec<_> = loaded.settings.drawers.iter().map(|(name, drawer)| (name, drawer.cups)).collect();
    assert_eq!(drawers, [("b", Some(2)), ("c", None)]);
    assert_eq!(loaded.sections("kitchen.drawers"), ["b"]);
}

#[test]
fn what_is_no_toml_is_placed_and_not_repeated() {
    for (file, place) in [
        ("cups = 1\nlid_secret = \"hush\ncups = 2", "line 2, column 19: "),
        ("lid_secret = hush", "line 1, column 14: "),
        ("lid_secret = \"ä\" hush", "line 1, column 18: "),
        ("lid_secret = 'hush'\nlid_secret = 'hush'", "line 2, column 1: "),
    ] {
        let error = error(file, &[]);
        assert!(error.contains(&format!("kettle.toml: {place}")), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
}

#[test]
fn a_text_without_quotes_is_told_to_stand_in_quotes() {
    for line in ["listen = 0.0.0.0:8080", "log = debug", "water_url = postgres://ann:hush@db/x"] {
        let error = error(&format!("cups = 1\n{line}"), &[]);
        let key = line.split(' ').next().expect("a key");
        let wanted = format!("the value of `{key}` must stand in quotes: {key} = \"…\"");
        assert!(error.contains(&wanted) && error.contains("line 2") && !error.contains("hush"), "{error}");
    }
    assert!(!error("name = \"open", &[]).contains("must stand in quotes"));
}

#[test]
fn a_secret_may_stand_in_a_file_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let (lid, water, door) =
        (written("lid", "hush\n"), written("water", "sea://u:hush@w\n"), written("door", "open\n"));
    let file = format!("lid_secret_file = {lid:?}\n[shelves.top]\ndoor_secret_file = {door:?}");
    let loaded = gather(&file, &[("WATER_URL_FILE", &water)], &[]).expect("good");
    assert_eq!(loaded.settings.lid, Some(Secret::new("hush")));
    assert_eq!(loaded.settings.water, Some(Url::new("sea://u:hush@w")));
    let top = loaded.settings.shelves.get("top").expect("the shelf");
    assert_eq!((&top.door, top.cups), (&Some(Secret::new("open")), None));
    let given = loaded.given(&Place::of("water_url")).expect("given");
    assert_eq!((given.origin, given.path.clone()), (Origin::Variable, Some(water.into())));

    // A later source names another file; an empty path names none.
    let other = written("other", "second");
    let loaded = gather(&file, &[], &[("lid_secret_file", &other)]).expect("good");
    assert_eq!(loaded.settings.lid, Some(Secret::new("second")));
    assert_eq!(gather(&file, &[], &[("lid_secret_file", "")]).expect("good").settings.lid, None);
}

#[test]
fn a_file_without_a_usable_secret_is_named_with_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("empty"), "\n").expect("a file");
    std::fs::write(path("hush"), "hush").expect("a file");
    for (name, why) in [("missing", "No such file"), ("empty", "is empty"), ("", "directory")] {
        let path = path(name);
        let error = error("", &[("STARLING_LID_SECRET_FILE", &path)]);
        assert!(error.starts_with(&format!("lid_secret_file: {path}: ")), "{error}");
        assert!(error.contains(why) && error.ends_with("(set by STARLING_LID_SECRET_FILE)"), "{error}");
    }
    let error = error("", &[("WATER_URL_FILE", &path("hush"))]);
    assert!(error.starts_with("water_url_file: ") && error.contains("is not a URL"), "{error}");
    assert!(!error.replace(&path("hush"), "").contains("hush"), "{error}");
}

#[test]
fn a_secret_and_its_file_can_not_both_be_given() {
    let both = error("lid_secret = \"hush\"", &[("STARLING_LID_SECRET_FILE", "/none")]);
    assert_eq!(both, "STARLING_LID_SECRET_FILE: can't be set together with lid_secret; remove one");
    let both = error("", &[("WATER_URL", "sea://w"), ("STARLING_WATER_URL_FILE", "/none")]);
    assert_eq!(both, "STARLING_WATER_URL_FILE: can't be set together with WATER_URL; remove one");
}

#[test]
fn a_misspelt_variable_is_told_what_may_have_been_meant() {
    let loaded = gather("", &[("STARLING_CUSP", "1"), ("STARLING_PORT_8080_TCP", "tcp://10.0.0.1")], &[]);
    let loaded = loaded.expect("unknown variables are only noted");
    assert_eq!(loaded.unknown_variables, ["STARLING_CUSP", "STARLING_PORT_8080_TCP"]);
    assert_eq!(loaded.near_variable("STARLING_CUSP").as_deref(), Some("STARLING_CUPS"));
    assert_eq!(loaded.near_variable("STARLING_PORT_8080_TCP"), None);
}

#[test]
fn what_has_changed_is_named_by_its_key() {
    let before = gather("boil_seconds = 9\ncups = 4", &[], &[]).expect("good");
    let after = gather("lid_secret = \"x\"\n[shelves.a]\ncups = 1", &[], &[]).expect("good");
    assert_eq!(after.changes_from(&before), ["boil_seconds", "lid_secret", "shelves"]);
    assert!(before.changes_from(&before).is_empty());
}

#[test]
fn secrets_are_masked_where_settings_are_shown() {
    let loaded = gather("lid_secret = \"hush\"\nwater_url = \"sea://a:hush@w\"", &[], &[]).expect("good");
    let shown: Vec<_> = loaded
        .catalogue()
        .settings
        .iter()
        .filter_map(|setting| loaded.shown(setting, &Place::of(setting.key)))
        .collect();
    assert_eq!(shown, ["90", "\"sea://a:********@w\"", "\"********\"", "4"]);
    assert!(!format!("{:?}", loaded.settings).contains("hush"));
}
