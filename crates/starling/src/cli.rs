//! The command line.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Arg, ArgAction, ArgMatches, Command};

use starling_settings::{BadConfig, Name, Setting};

use crate::capacity::{CapacityRequest, NUMBERS};
use crate::check::CheckRequest;
use crate::config::Values;
use crate::doctor::DoctorRequest;
use crate::token::TokenRequest;

/// The subcommand of a command line, with its own arguments.
pub enum Subcommand {
    /// Serves. Also what a command line without a subcommand asks for.
    Serve,
    /// Prints a token.
    Token(TokenRequest),
    /// Brings the schema up to date. `restored`: the database was restored to an earlier state.
    Migrate { restored: bool },
    /// Asks the running node how it is; `ready`: whether clients should be sent to it.
    Healthcheck { ready: bool },
    /// Goes the way of a client.
    Check(CheckRequest),
    /// Examines the configuration and what the node depends on.
    Doctor(DoctorRequest),
    /// Plans for a demand.
    Capacity(CapacityRequest),
    /// Prints the effective configuration, or the reference of all settings.
    ShowConfig { markdown: bool },
}

/// The scope of a token for which none is given.
pub const SCOPE: &str = "conversations:create subscribe:* publish:*";

/// Reads the command line. Errors, `--help` and `--version` are clap's.
pub fn parse(
    arguments: impl Iterator<Item = std::ffi::OsString>,
) -> Result<(Subcommand, ArgMatches), clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    let text =
        |matches: &ArgMatches, name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let subcommand = match matches.subcommand() {
        Some(("token", token)) => Subcommand::Token(TokenRequest {
            user: text(token, "user"),
            tenant: text(token, "tenant"),
            scope: text(token, "scope"),
            ttl_seconds: token.get_one::<u64>("ttl").copied().unwrap_or(3_600),
        }),
        Some(("migrate", migrate)) => Subcommand::Migrate { restored: migrate.get_flag("restored") },
        Some(("healthcheck", healthcheck)) => {
            Subcommand::Healthcheck { ready: healthcheck.get_flag("ready") }
        }
        Some(("check", check)) => Subcommand::Check(CheckRequest {
            url: check.get_one::<String>("url").cloned(),
            token: check.get_one::<String>("token").cloned(),
            token_file: check.get_one::<PathBuf>("token_file").cloned(),
            tenant: text(check, "tenant"),
        }),
        Some(("doctor", doctor)) => Subcommand::Doctor(DoctorRequest {
            json: doctor.get_flag("json"),
            file: matches.get_one::<PathBuf>("config").cloned(),
        }),
        Some(("capacity", capacity)) => Subcommand::Capacity(CapacityRequest {
            numbers: NUMBERS
                .iter()
                .filter_map(|number| Some((number.flag, *capacity.get_one::<f64>(number.flag)?)))
                .collect(),
            prices: capacity.get_one::<PathBuf>("prices").cloned(),
            print_prices: capacity.get_flag("print_prices"),
            json: capacity.get_flag("json"),
        }),
        Some(("config", config)) => Subcommand::ShowConfig { markdown: config.get_flag("markdown") },
        _ => Subcommand::Serve,
    };
    Ok((subcommand, matches))
}

/// Reads the configuration: the file, the variables and the flags. A flag may stand before or after the subcommand; the one after it
/// wins.
pub fn values(matches: &ArgMatches) -> Result<Values, BadConfig> {
    let file = matches.get_one::<PathBuf>("config").map(PathBuf::as_path);
    let after = matches.subcommand().map(|(_, matches)| matches);
    let names: Vec<Name> = Values::default().catalogue().names().collect();
    let flags = names.into_iter().filter_map(|name| {
        let flag = |matches: &ArgMatches| matches.get_one::<String>(&name.key).cloned();
        let text = after.and_then(flag).or_else(|| flag(matches))?;
        Some((name, text))
    });
    Values::gather(file, std::env::vars_os(), flags)
}

/// The grammar of the command line.
pub fn command() -> Command {
    let styles = Styles::styled()
        .header(AnsiColor::Green.on_default().bold())
        .usage(AnsiColor::Green.on_default().bold())
        .literal(AnsiColor::Cyan.on_default())
        .placeholder(AnsiColor::Cyan.on_default());
    let about_settings = "Accepts every setting of `starling --help` as well.";
    let others = [token(), doctor(), check(), healthcheck(), migrate(), config()];
    let others = others.map(|command| with_settings(command.after_help(about_settings), Shown::Nowhere));
    let serve = Command::new("serve").about("Serve (what plain `starling` does)");
    let command = Command::new("starling")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Conversations that do not break: a WebSocket gateway for people and agents.")
        .after_help(
            "Every setting is a flag, a key of the file (--config) and a variable: --resume-window-seconds, \
             resume_window_seconds, STARLING_RESUME_WINDOW_SECONDS. Flags win over variables over the file.\n\n\
             Plain `starling` serves on http://127.0.0.1:8080 with nothing beside it, and prints a link to open.",
        )
        .styles(styles)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .global(true)
                .help("TOML file with settings"),
        )
        .subcommand(with_settings(serve, Shown::InLongHelp))
        .subcommands(others)
        .subcommand(capacity());
    with_settings(command, Shown::InLongHelp)
}

/// Where a command's help lists the settings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// In `--help`; `-h` shows only those for a first start.
    InLongHelp,
    /// Nowhere, although they are accepted.
    Nowhere,
}

/// Settings that `-h` shows: those for the first start of a node.
const IN_SHORT_HELP: [&str; 4] = ["listen", "redis_url", "database_url", "jwt_secret"];

fn with_settings(mut command: Command, shown: Shown) -> Command {
    for setting in &Values::default().catalogue().settings {
        for name in setting.names() {
            let argument = Arg::new(name.key.clone())
                .long(name.flag())
                .value_name(if name.is_path { "FILE" } else { setting.shape.placeholder })
                .hide(shown == Shown::Nowhere)
                .hide_short_help(!IN_SHORT_HELP.contains(&name.key.as_str()))
                .help_heading(setting.heading.title())
                .help(help(setting, &name));
            command = command.arg(argument);
        }
    }
    command
}

fn help(setting: &Setting, name: &Name) -> String {
    if name.is_path {
        return format!("File that holds {}.", setting.key);
    }
    let help = setting.help().replace('`', "");
    match &setting.shape.default {
        None => help,
        Some(default) => format!("{help} [default: {default}]"),
    }
}

fn migrate() -> Command {
    Command::new("migrate").about("Bring the schema of the database up to date").arg(
        Arg::new("restored")
            .long("restored")
            .action(ArgAction::SetTrue)
            .help("The database was restored to an earlier state: make clients drop what it lacks"),
    )
}

fn doctor() -> Command {
    Command::new("doctor")
        .about("Examine configuration, database, Redis and limits, and say what to do")
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the findings as JSON"))
}

fn capacity() -> Command {
    let numbers = NUMBERS.iter().map(|number| {
        let argument = Arg::new(number.flag)
            .long(number.flag)
            .value_name("NUMBER")
            .value_parser(clap::value_parser!(f64))
            .help(number.help);
        match number.default {
            Some(default) => argument.default_value(default.to_string()),
            None => argument.required_unless_present("print_prices"),
        }
    });
    Command::new("capacity")
        .about("Estimate nodes, Redis, PostgreSQL, bandwidth and money for a number of users")
        .args(numbers)
        .arg(
            Arg::new("prices")
                .long("prices")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("TOML file with prices of your own [default: examples]"),
        )
        .arg(
            Arg::new("print_prices")
                .long("print-prices")
                .action(ArgAction::SetTrue)
                .help("Print the examples of prices instead, to change them"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print JSON, with the constants that the estimate is made of"),
        )
}

fn healthcheck() -> Command {
    Command::new("healthcheck")
        .about("Ask the running node of this configuration how it is, for probes of containers")
        .after_long_help("Exits with 0 if the node answers, and with 1 otherwise.")
        .arg(
            Arg::new("ready")
                .long("ready")
                .action(ArgAction::SetTrue)
                .help("Ask whether clients should be sent to it, instead of whether it works"),
        )
}

fn check() -> Command {
    Command::new("check")
        .about("Connect as a client does, send a message and read it, and delete what was made")
        .arg(
            Arg::new("url")
                .long("url")
                .value_name("URL")
                .help("ws://HOST:PORT or wss://HOST of a load balancer or node [default: the node of this configuration]"),
        )
        .arg(
            Arg::new("token")
                .long("token")
                .value_name("TOKEN")
                .conflicts_with("token_file")
                .help("Token to connect with, which others on this machine can see; --token-file hides it"),
        )
        .arg(
            Arg::new("token_file")
                .long("token-file")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("File that holds the token [default: a token that the secret of this configuration signs]"),
        )
        .arg(
            Arg::new("tenant")
                .long("tenant")
                .value_name("TEXT")
                .default_value("default")
                .help("Tenant of a token that is signed here"),
        )
}

fn config() -> Command {
    Command::new("config").about("Print the effective configuration, secrets masked").arg(
        Arg::new("markdown")
            .long("markdown")
            .action(ArgAction::SetTrue)
            .help("Print the reference of all settings instead"),
    )
}

fn token() -> Command {
    let text = |name: &'static str| Arg::new(name).long(name).value_name("TEXT");
    Command::new("token")
        .about("Print a token, signed with the secret that a node with the same configuration uses")
        .arg(text("user").required(true).help("The user that the token is for"))
        .arg(text("tenant").default_value("default").help("The user's tenant"))
        .arg(text("scope").default_value(SCOPE).help("What the token allows, space-separated"))
        .arg(
            Arg::new("ttl")
                .long("ttl")
                .value_name("SECONDS")
                .value_parser(clap::value_parser!(u64).range(1..=315_360_000))
                .default_value("3600")
                .help("How long the token is valid"),
        )
}
