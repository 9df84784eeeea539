//! The command line of the load generator.

use std::io::{IsTerminal, Write, stdout};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use starling_loadtest::client::{Address, Identities, Sources};
use starling_loadtest::jobs::{self, JobPlan, JobReport, JobScenario};
use starling_loadtest::measure::{Observer, Source};
use starling_loadtest::report::{Report, page, text};
use starling_loadtest::run::{self, Plan, Target};
use starling_loadtest::scenario::{self, BUILT_IN, Load, Scenario};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long tokens live beyond the end of the run.
const TOKENS_BEYOND: Duration = Duration::from_secs(3600);

/// Puts load on Starling, and reports what clients see.
#[derive(Parser)]
#[command(name = "starling-loadtest", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the scenarios
    List,
    /// Prints a scenario, to change it
    Show {
        /// Its name
        scenario: String,
    },
    /// Runs a scenario. The exit status is 0 if it passed, 1 if it failed, 2 if it could not run
    Run(Box<RunArguments>),
}

#[derive(clap::Args)]
struct RunArguments {
    /// The name of a scenario, or the path of a file
    scenario: String,
    /// A node or load balancer, ws://HOST:PORT or wss://HOST; jobs speak HTTP with it. May be given several times: sessions take turns
    #[arg(long, value_name = "URL", required = true)]
    url: Vec<String>,
    /// The secret with which the nodes check tokens (`jwt_secret`)
    #[arg(long, env = "STARLING_JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    secret: Option<String>,
    /// A file that holds the secret
    #[arg(long, env = "STARLING_JWT_SECRET_FILE", value_name = "PATH", conflicts_with = "secret")]
    secret_file: Option<PathBuf>,
    /// A file with a token per line, one for each session, instead of the secret
    #[arg(long, value_name = "PATH", conflicts_with_all = ["secret", "secret_file"])]
    tokens: Option<PathBuf>,
    /// The tenant of the users
    #[arg(long)]
    tenant: Option<String>,
    /// Replaces a value of the scenario, such as sessions.per_room=50 or stages.1.seconds=60. May be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// An address of this machine to connect from. Several allow more than 28,000 sessions
    #[arg(long, value_name = "ADDRESS")]
    source: Vec<IpAddr>,
    /// A process of this machine to observe, such as node-1=4711 or postgres=815. Memory criteria apply to names with node
    #[arg(long, value_name = "NAME=PID")]
    process: Vec<String>,
    /// A node's metrics to observe, such as node-1=http://127.0.0.1:9090/metrics
    #[arg(long, value_name = "NAME=URL")]
    metrics: Vec<String>,
    /// Threads of the generator; by default one per processor
    #[arg(long, value_name = "COUNT")]
    threads: Option<usize>,
    /// Keeps the conversations that the run creates
    #[arg(long)]
    keep: bool,
    /// Writes report.html and report.json into this folder
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
    /// Prints the result as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::List => list(),
        Command::Show { scenario } => show(&scenario),
        Command::Run(arguments) => load(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn list() -> Result<bool> {
    for (name, text) in BUILT_IN {
        writeln!(stdout(), "{name:<10} {}", Load::parse(text, &[])?.about())?;
    }
    Ok(true)
}

fn show(name: &str) -> Result<bool> {
    write!(stdout(), "{}", find(name)?.1)?;
    Ok(true)
}

/// The name and text of a scenario that is built in or lies in a file.
fn find(scenario: &str) -> Result<(String, String)> {
    if let Some(text) = scenario::find(scenario) {
        return Ok((scenario.to_owned(), text.to_owned()));
    }
    let path = Path::new(scenario);
    if !path.exists() {
        let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        bail!("{scenario} is neither a file nor one of {}", names.join(", "));
    }
    let text = std::fs::read_to_string(path).with_context(|| scenario.to_owned())?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok((name, text))
}

/// Runs a scenario. Returns whether it passed.
fn load(arguments: &RunArguments) -> Result<bool> {
    let (name, text) = find(&arguments.scenario)?;
    let done = match Load::parse(&text, &arguments.set)? {
        Load::Sessions(scenario) => load_sessions(arguments, &name, *scenario)?,
        Load::Jobs(scenario) => load_jobs(arguments, &name, *scenario)?,
    };
    if let Some(folder) = &arguments.report {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        std::fs::write(folder.join("report.html"), done.page)?;
        std::fs::write(folder.join("report.json"), serde_json::to_vec_pretty(&done.json)?)?;
    }
    if arguments.json {
        writeln!(stdout(), "{}", done.json)?;
    } else {
        write!(stdout(), "{}", done.text)?;
        if let Some(folder) = &arguments.report {
            writeln!(stdout(), "\n  {}", folder.join("report.html").display())?;
        }
    }
    Ok(done.passed)
}

/// A run that has ended, in all its forms.
struct Done {
    passed: bool,
    text: String,
    json: serde_json::Value,
    page: String,
}

fn load_sessions(arguments: &RunArguments, name: &str, scenario: Scenario) -> Result<Done> {
    allow_files(scenario.sessions_max())?;
    let run_name = run_name();
    let target = target(arguments, &run_name, scenario.duration())?;
    let observer = Observer::new(sources(arguments)?);
    let plan = Plan::new(scenario, target, &run_name, threads(arguments)?, arguments.keep)?;
    end_on_interrupt(Arc::downgrade(&plan), |plan| plan.stop())?;
    let series = run::run(&plan, observer, !arguments.json)?;
    let report = Report::new(name, &plan, &series);
    let (passed, text) = (report.passed(), text(&report, is_coloured()));
    Ok(Done { passed, text, json: report.json(), page: page(&report) })
}

fn load_jobs(arguments: &RunArguments, name: &str, scenario: JobScenario) -> Result<Done> {
    let jobs = &scenario.jobs;
    // A worker has a connection for what it takes, and one for each job that it has.
    allow_files(jobs.workers * (1 + usize::from(jobs.take_max)) + jobs.adders)?;
    let run_name = run_name();
    let target = target(arguments, &run_name, scenario.duration())?;
    let observer = Observer::new(sources(arguments)?);
    let plan = JobPlan::new(scenario, target, &run_name, threads(arguments)?, arguments.keep)?;
    end_on_interrupt(Arc::downgrade(&plan), |plan| plan.stop())?;
    let series = jobs::run(&plan, observer)?;
    let report = JobReport::new(name, &plan, &series);
    let (passed, text) = (report.passed(), jobs::text(&report, is_coloured()));
    Ok(Done { passed, text, json: report.json(), page: jobs::page(&report) })
}

fn threads(arguments: &RunArguments) -> Result<usize> {
    Ok(match arguments.threads {
        Some(0) => bail!("--threads: must not be 0"),
        Some(threads) => threads,
        None => std::thread::available_parallelism()?.get(),
    })
}

fn is_coloured() -> bool {
    stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn target(arguments: &RunArguments, run_name: &str, duration: Duration) -> Result<Target> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut addresses = Vec::new();
    for url in &arguments.url {
        addresses.push(runtime.block_on(Address::resolve(url))?);
    }
    let identities = match (&arguments.tokens, secret(arguments)?) {
        (Some(file), _) => Identities::from_file(file)?,
        (None, Some(secret)) => {
            Identities::signed(&secret, run_name, arguments.tenant.clone(), duration + TOKENS_BEYOND)?
        }
        (None, None) => {
            bail!("name the nodes' secret (--secret, --secret-file) or a file of tokens (--tokens)")
        }
    };
    Target::new(addresses, Sources::new(arguments.source.clone()), identities)
}

fn secret(arguments: &RunArguments) -> Result<Option<String>> {
    if let Some(path) = &arguments.secret_file {
        let secret =
            std::fs::read_to_string(path).with_context(|| format!("--secret-file {}", path.display()))?;
        return Ok(Some(secret.trim_end_matches(['\n', '\r']).to_owned()));
    }
    Ok(arguments.secret.clone())
}

fn sources(arguments: &RunArguments) -> Result<Vec<Source>> {
    let processes = arguments.process.iter().map(|text| Source::process(text));
    processes.chain(arguments.metrics.iter().map(|text| Source::metrics(text))).collect()
}

/// Raises the limit on open files as far as the connections need it.
fn allow_files(connections: usize) -> Result<()> {
    let needed = connections as u64 + 100;
    let reached = rlimit::increase_nofile_limit(needed)?;
    ensure!(
        reached >= needed,
        "the scenario has {connections} connections, but this process may open only {reached} files: raise `ulimit -n`"
    );
    Ok(())
}

/// A name that no other run has, so that its users and conversations are its own.
fn run_name() -> String {
    format!("{:08x}", rand::random::<u32>())
}

/// Ends the run at Ctrl-C, so that it still reports. A second Ctrl-C ends the program.
fn end_on_interrupt<P: Send + Sync + 'static>(
    plan: Weak<P>,
    stop: impl Fn(&P) + Send + 'static,
) -> Result<()> {
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok()
                && let Some(plan) = plan.upgrade()
            {
                eprintln!("Ending early; Ctrl-C again ends at once.");
                stop(&plan);
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        });
    })?;
    Ok(())
}
