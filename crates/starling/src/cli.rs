//! The command line.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::{BadConfig, Values};
use crate::settings;

/// What a person wants.
pub enum Wish {
    /// Serve.
    Serve,
    /// Make a token.
    Token { user: String, tenant: String, scope: String, ttl_seconds: u64 },
    /// Bring the schema up to date.
    Migrate,
    /// Show the configuration that holds.
    ShowConfig { markdown: bool },
}

/// The scope of a token that is made without saying which.
pub const SCOPE: &str = "conversations:create subscribe:* publish:*";

/// Reads the command line. Errors, `--help` and `--version` are clap's.
pub fn parse(arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<(Wish, ArgMatches), clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    let text =
        |matches: &ArgMatches, name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let wish = match matches.subcommand() {
        Some(("token", token)) => Wish::Token {
            user: text(token, "user"),
            tenant: text(token, "tenant"),
            scope: text(token, "scope"),
            ttl_seconds: token.get_one::<u64>("ttl").copied().unwrap_or(3_600),
        },
        Some(("migrate", _)) => Wish::Migrate,
        Some(("config", config)) => Wish::ShowConfig { markdown: config.get_flag("markdown") },
        _ => Wish::Serve,
    };
    Ok((wish, matches))
}

/// What is configured, of file, variables and flags.
pub fn values(matches: &ArgMatches) -> Result<Values, BadConfig> {
    let file = matches.get_one::<PathBuf>("config").map(PathBuf::as_path);
    let flags = settings::all()
        .filter_map(|setting| matches.get_one::<String>(setting.key).map(|value| (setting, value.clone())));
    Values::gather(file, std::env::vars_os(), flags)
}

/// The command line's grammar.
pub fn command() -> Command {
    let styles = Styles::styled()
        .header(AnsiColor::Green.on_default().bold())
        .usage(AnsiColor::Green.on_default().bold())
        .literal(AnsiColor::Cyan.on_default())
        .placeholder(AnsiColor::Cyan.on_default());
    let mut command = Command::new("starling")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Conversations that do not break: a WebSocket gateway for people and agents.")
        .after_help(
            "Every setting is a flag, a key of the file (--config) and a variable: --resume-window-seconds, \
             resume_window_seconds, STARLING_RESUME_WINDOW_SECONDS. Flags win over variables over the file.\n\n\
             Plain `starling` serves on http://127.0.0.1:8080 with nothing beside it, and prints a link to open.",
        )
        .styles(styles)
        .disable_help_subcommand(true)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .global(true)
                .help("TOML file with settings"),
        )
        .subcommand(Command::new("serve").about("Serve (what plain `starling` does)"))
        .subcommand(token())
        .subcommand(Command::new("migrate").about("Bring the database's schema up to date, and end"))
        .subcommand(
            Command::new("config").about("Print the configuration that holds, secrets masked").arg(
                Arg::new("markdown")
                    .long("markdown")
                    .action(ArgAction::SetTrue)
                    .help("Print the reference of all settings instead"),
            ),
        );
    for (section, of_section) in settings::SECTIONS {
        for setting in *of_section {
            let mut help = setting.help.replace('`', "");
            if !setting.default.is_empty() {
                help = format!("{help} [default: {}]", setting.default);
            }
            command = command.arg(
                Arg::new(setting.key)
                    .long(setting.flag())
                    .value_name("VALUE")
                    .global(true)
                    .help_heading(*section)
                    .help(help),
            );
        }
    }
    command
}

fn token() -> Command {
    let text = |name: &'static str| Arg::new(name).long(name).value_name("TEXT");
    Command::new("token")
        .about("Print a token, signed with the secret that a node of this configuration accepts")
        .arg(text("user").required(true).help("Whose"))
        .arg(text("tenant").default_value("default").help("Whose tenant"))
        .arg(text("scope").default_value(SCOPE).help("What it allows, space-separated"))
        .arg(
            Arg::new("ttl")
                .long("ttl")
                .value_name("SECONDS")
                .value_parser(clap::value_parser!(u64).range(1..=315_360_000))
                .default_value("3600")
                .help("For how long it is valid"),
        )
}
