//! Every fuzz target holds for its seeds, and for a fixed number of mutations of them.
//!
//! The mutations follow from the seed's name, so a run is the same each time and on every machine. `cargo xtask fuzz` looks further.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Mutated inputs for each seed.
const MUTATIONS: usize = 10_000;
/// Changes to a seed that make one input, at most.
const CHANGES_MAX: usize = 8;
/// The longest input, bytes.
const INPUT_BYTES_MAX: usize = 16 << 10;
/// Bytes and words that parsers treat specially.
const WORDS: [&[u8]; 24] = [
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"\xed\xa0\x80",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\n",
    b"=",
    b"%",
    b"-1",
    b"1e400",
    b"18446744073709551616",
    b"9223372036854775807",
    b"null",
    b"\xdf\xff\xff\xff\xff",
    b"\0\0\xff\xff",
];

/// A test for each target.
macro_rules! holds {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            holds(stringify!($name), starling_fuzz_targets::$name);
        }
    )*

        /// The names of the targets that have a test here.
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

holds! { config cron deflate hook_answer json jwks msgpack node_message query rabbitmq_message redis_answer ticket token upgrade websocket }

#[test]
fn every_target_has_a_test_a_program_and_a_seed() {
    let folder = fs::read_dir(fuzz().join("fuzz_targets")).unwrap().map(|entry| entry.unwrap().path());
    let mut there: Vec<String> =
        folder.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    there.sort();
    assert_eq!(there, TESTED);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let built: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""))
        .collect();
    assert_eq!(built, TESTED);
    for name in TESTED {
        // Nothing but this line is to be in there: `cargo xtask test` does not compile it.
        let program = fs::read_to_string(fuzz().join("fuzz_targets").join(name).with_extension("rs"));
        let call =
            format!("libfuzzer_sys::fuzz_target!(|bytes: &[u8]| starling_fuzz_targets::{name}(bytes));");
        assert_eq!(program.unwrap(), format!("#![no_main]\n{call}\n"));
        assert!(!seeds(name).is_empty(), "{name} has no seed");
    }
}

#[test]
fn mutations_differ_and_are_the_same_in_each_run() {
    let seeds = seeds("json");
    let inputs = |count| mutations("json", 0, &seeds).take(count).collect::<Vec<_>>();
    assert_eq!(inputs(50), inputs(50));
    let different: std::collections::HashSet<Vec<u8>> = inputs(1_000).into_iter().collect();
    assert!(different.len() > 900, "{} of 1,000 inputs differ", different.len());
}

fn holds(name: &str, target: fn(&[u8])) {
    let seeds = seeds(name);
    for (number, seed) in seeds.iter().enumerate() {
        run(name, target, seed);
        for input in mutations(name, number, &seeds).take(MUTATIONS) {
            run(name, target, &input);
        }
    }
}

/// Calls the target. Where it panics, the input is shown in a form that can be made a seed.
fn run(name: &str, target: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| target(input)) {
        eprintln!("{name} does not hold for: {}", input.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

/// Endless inputs made of a seed by a few changes each.
fn mutations<'a>(name: &str, number: usize, seeds: &'a [Vec<u8>]) -> impl Iterator<Item = Vec<u8>> + 'a {
    let start = name.bytes().fold(number as u64, |hash, byte| hash.wrapping_mul(31) + u64::from(byte));
    let mut rng = StdRng::seed_from_u64(start);
    std::iter::from_fn(move || {
        let mut input = seeds[number].clone();
        for _ in 0..rng.random_range(1..=CHANGES_MAX) {
            change(&mut input, seeds, &mut rng);
        }
        input.truncate(INPUT_BYTES_MAX);
        Some(input)
    })
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut StdRng) {
    let at = rng.random_range(0..=input.len());
    let end = rng.random_range(at..=input.len().min(at + 32));
    match rng.random_range(0..7) {
        0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
        1 if at < input.len() => input[at] = rng.random(),
        2 => drop(input.drain(at..end)),
        3 => {
            let copy = input[at..end].to_vec();
            input.splice(at..at, copy.repeat(rng.random_range(1..=4)));
        }
        4 => {
            // The end of another seed in place of this one's.
            let other = seeds.choose(rng).map_or(&[][..], Vec::as_slice);
            let from = rng.random_range(0..=other.len());
            input.splice(at.., other[from..].iter().copied());
        }
        5 => drop(input.splice(at..end, WORDS.choose(rng).copied().unwrap_or_default().iter().copied())),
        _ => drop(input.splice(at..at, WORDS.choose(rng).copied().unwrap_or_default().iter().copied())),
    }
}

/// The seeds of a target, in the order of their names.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(fuzz().join("seeds").join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}
