//! Child processes that end with their owner.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, kill_process, kill_process_group};
use tokio::sync::oneshot;

pub use rustix::process::Signal;

use crate::user::User;
use crate::wait;

/// How to start a process.
#[derive(Clone, Debug)]
pub struct Launch {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    removed_env: Vec<OsString>,
    folder: PathBuf,
    user: Option<User>,
    /// The signal that ends it on drop, and that the kernel sends when the owner dies.
    end: Signal,
    /// Whether it may use one processor only.
    one_processor: bool,
}

impl Launch {
    /// `program`, called `name` in messages, with `folder` as its working directory and the place of its log.
    pub fn new(name: &str, program: impl Into<PathBuf>, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            removed_env: Vec::new(),
            folder: folder.to_owned(),
            user: None,
            end: Signal::KILL,
            one_processor: false,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Removes a variable from its environment, even one that it would inherit. The variable may be set again.
    #[must_use]
    pub fn without_env(mut self, name: impl Into<OsString>) -> Self {
        let name = name.into();
        self.env.retain(|(known, _)| *known != name);
        self.removed_env.push(name);
        self
    }

    /// Runs it as another user; only root may.
    #[must_use]
    pub(crate) fn user(mut self, user: Option<&User>) -> Self {
        self.user = user.cloned();
        self
    }

    /// Ends it with this signal instead of SIGKILL, for programs that would leave something behind.
    #[must_use]
    pub fn end_by(mut self, signal: Signal) -> Self {
        self.end = signal;
        self
    }

    /// Lets it use one processor only, the first that this process may use.
    #[must_use]
    pub fn on_one_processor(mut self) -> Self {
        self.one_processor = true;
        self
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    /// `setpriv` asks the kernel to end the program with its parent, and `taskset` to keep it on a processor; each then becomes the
    /// program that follows, so that the process id is the program's own.
    fn command(&self) -> Result<Command> {
        let log = File::options().create(true).append(true).open(self.log()).context("open a log")?;
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig").arg(if self.end == Signal::QUIT { "QUIT" } else { "KILL" });
        if let Some(user) = &self.user {
            command.args(user.setpriv_args());
        }
        command.arg("--");
        if self.one_processor {
            command.args(["taskset", "--cpu-list", &first_processor()?]);
        }
        command.arg(&self.program).args(&self.args);
        for name in &self.removed_env {
            command.env_remove(name);
        }
        command.envs(self.env.iter().cloned());
        command.current_dir(&self.folder).process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }
}

/// The number of the first processor that this process may use.
fn first_processor() -> Result<String> {
    let status = fs::read_to_string("/proc/self/status").context("read the processors of this process")?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let first = allowed.context("no Cpus_allowed_list")?.trim().split([',', '-']).next();
    Ok(first.unwrap_or_default().to_owned())
}

/// A child process, in a process group of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    launch: Launch,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    child: Child,
    /// Once it is set, the process id may belong to another process and must not be signalled.
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts it. It may not be ready yet when this returns.
    ///
    /// # Errors
    /// When the program can't be run.
    pub async fn start(launch: Launch) -> Result<Self> {
        let child = spawn(&launch).await?;
        Ok(Self { launch, state: Mutex::new(State { child, status: None }) })
    }

    /// Starts it again, by the same command, after it has ended.
    ///
    /// # Errors
    /// When it is still running, or the program can't be run.
    pub async fn start_again(&self) -> Result<()> {
        if self.is_running() {
            bail!("{} is still running", self.launch.name);
        }
        let child = spawn(&self.launch).await?;
        *self.state() = State { child, status: None };
        Ok(())
    }

    /// The file that its standard output and error go to.
    pub fn log_path(&self) -> PathBuf {
        self.launch.log()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.state().child.id()
    }

    /// Whether it is running.
    pub fn is_running(&self) -> bool {
        self.exit_status().is_none()
    }

    /// The exit status, if it has ended.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.state().look()
    }

    /// Sends it a signal; to a process that has ended, none.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut state = self.state();
        if let Some(status) = state.look() {
            bail!("{} has ended already: {status}", self.launch.name);
        }
        kill_process(state.pid(), signal).with_context(|| format!("signal {}", self.launch.name))
    }

    /// Stops it (SIGSTOP), like a machine that hangs.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Resumes it after [`stop`](Self::stop) (SIGCONT).
    ///
    /// # Errors
    /// When it has ended already.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Kills it (SIGKILL), and returns when it is gone.
    ///
    /// # Errors
    /// When it does not vanish within ten seconds.
    pub async fn kill(&self) -> Result<()> {
        if self.is_running() {
            self.signal(Signal::KILL)?;
        }
        self.ended(Duration::from_secs(10)).await.map(drop)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended within `limit`.
    pub async fn ended(&self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.launch.name);
        wait::until(limit, &what, async || Ok(self.exit_status())).await
    }

    /// Waits until `condition` is true, as [`wait::until_true`], and stops waiting when the process ends before.
    ///
    /// # Errors
    /// When it has ended, or `limit` has passed; with the end of the log.
    pub async fn ready<F>(&self, limit: Duration, what: &str, mut condition: F) -> Result<()>
    where
        F: AsyncFnMut() -> Result<bool>,
    {
        let outcome = wait::until(limit, what, async || match self.exit_status() {
            Some(status) => Ok(Some(Err(anyhow!("it has ended: {status}")))),
            None => Ok(condition().await?.then_some(Ok(()))),
        });
        outcome.await.and_then(|inner| inner).with_context(|| {
            format!("{} did not become ready; the end of its log:\n{}", self.launch.name, self.log_tail())
        })
    }

    /// Its standard output and error, over all its starts.
    pub fn log(&self) -> String {
        fs::read(self.launch.log())
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// The last 40 lines of the log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn look(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            // A child that can't be waited for has gone.
            self.status = self.child.try_wait().unwrap_or_else(|_| Some(ExitStatus::from_raw(0)));
        }
        self.status
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let end = self.launch.end;
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.look().is_some() {
            return;
        }
        // An error says that it has gone.
        let _ = kill_process_group(state.pid(), end);
        let _ = kill_process_group(state.pid(), Signal::CONT);
        let deadline = Instant::now() + Duration::from_secs(10);
        while state.look().is_none() {
            if Instant::now() > deadline {
                let _ = kill_process_group(state.pid(), Signal::KILL);
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

/// The kernel ends a child with the *thread* that started it, and a test's thread ends before the process that shares a
/// server between tests. So all children are started by one thread that lives as long as the process.
async fn spawn(launch: &Launch) -> Result<Child> {
    type Order = (Command, oneshot::Sender<io::Result<Child>>);
    static ORDERS: OnceLock<SyncSender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (orders, inbox) = sync_channel::<Order>(64);
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                if let Err(Ok(mut unwanted)) = reply.send(command.spawn()) {
                    let _ = unwanted.kill();
                    let _ = unwanted.wait();
                }
            }
        });
        orders
    });
    let (reply, answer) = oneshot::channel();
    orders
        .send((launch.command()?, reply))
        .map_err(|_| anyhow!("the thread that starts processes is gone"))?;
    answer.await?.with_context(|| format!("start {} ({})", launch.name, launch.program.display()))
}

/// Whether a process with this id exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // `pid (name) state …`, where the name may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Folder;

    async fn sleeper(folder: &Folder) -> Process {
        let launch = Launch::new("sleeper", "sh", folder.path()).args(["-c", "echo begun; sleep 600 & wait"]);
        let process = Process::start(launch).await.unwrap();
        let begun = async || Ok(process.log().contains("begun"));
        process.ready(Duration::from_secs(10), "its first line", begun).await.unwrap();
        process
    }

    fn children(pid: u32) -> Vec<u32> {
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
    }

    #[tokio::test]
    async fn dropping_a_process_ends_it_and_its_children() {
        let folder = Folder::new("process").unwrap();
        let process = sleeper(&folder).await;
        let pid = process.pid();
        let child =
            wait::until(Duration::from_secs(10), "a child", async || Ok(children(pid).pop())).await.unwrap();
        assert!(is_alive(pid) && is_alive(child));
        drop(process);
        assert!(!is_alive(pid));
        wait::until_true(Duration::from_secs(10), "the child's end", async || Ok(!is_alive(child)))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_stopped_process_can_be_dropped() {
        let folder = Folder::new("process").unwrap();
        let process = sleeper(&folder).await;
        let pid = process.pid();
        process.stop().unwrap();
        drop(process);
        assert!(!is_alive(pid));
    }

    #[tokio::test]
    async fn a_killed_process_starts_again_under_another_id() {
        let folder = Folder::new("process").unwrap();
        let process = sleeper(&folder).await;
        let first = process.pid();
        process.kill().await.unwrap();
        assert!(process.signal(Signal::TERM).is_err(), "nobody else may get its signals");
        process.start_again().await.unwrap();
        assert!(process.is_running() && process.pid() != first);
    }

    #[tokio::test]
    async fn a_process_that_ends_early_is_not_waited_for() {
        let folder = Folder::new("process").unwrap();
        let launch = Launch::new("failing", "sh", folder.path()).args(["-c", "echo no such luck; exit 3"]);
        let process = Process::start(launch).await.unwrap();
        let begun = Instant::now();
        let error = process.ready(Duration::from_secs(60), "a wonder", async || Ok(false)).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(30));
        let text = format!("{error:#}");
        assert!(text.contains("no such luck") && text.contains("exit status: 3"), "{text}");
    }

    #[test]
    fn a_process_outlives_the_thread_that_asked_for_it() {
        let folder = Folder::new("process").unwrap();
        let path = folder.path().to_owned();
        let asks = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let launch = Launch::new("sleeper", "sleep", &path).args(["600"]);
            runtime.block_on(Process::start(launch)).unwrap()
        };
        let process = std::thread::spawn(asks).join().unwrap();
        std::thread::park_timeout(Duration::from_millis(200));
        assert!(process.is_running());
    }
}
