//! Signals: those that end the node, the one that reloads its configuration, and those that it ignores.

use std::io::{IsTerminal, stderr, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use rustix::process::WaitOptions;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::output::warn;

/// Signals that mean nothing here, and whose default action would end the node without a drain.
const IGNORED: [(&str, i32); 8] = [
    ("SIGUSR1", libc::SIGUSR1),
    ("SIGUSR2", libc::SIGUSR2),
    ("SIGALRM", libc::SIGALRM),
    ("SIGVTALRM", libc::SIGVTALRM),
    ("SIGPROF", libc::SIGPROF),
    ("SIGIO", libc::SIGIO),
    ("SIGXCPU", libc::SIGXCPU),
    ("SIGXFSZ", libc::SIGXFSZ),
];

/// The id of the process that a container begins with.
const FIRST: u32 = 1;

/// What signals ask the node to do.
pub struct Signals {
    /// Becomes `true` when the node has to drain. A second such signal ends the process at once.
    pub drain: watch::Receiver<bool>,
    /// Notified when the configuration has to be read again.
    pub reload: Arc<Notify>,
}

impl Signals {
    /// Listens from now on. Call it inside the runtime, before anything that takes long.
    pub fn listen() -> Result<Signals, anyhow::Error> {
        let (drain, drained) = watch::channel(false);
        let drain = Arc::new(Drain { wanted: drain, asked: AtomicBool::new(false) });
        let endings = [
            ("SIGTERM", SignalKind::terminate()),
            ("SIGINT", SignalKind::interrupt()),
            ("SIGQUIT", SignalKind::quit()),
        ];
        for (name, kind) in endings {
            let drain = drain.clone();
            on_each(name, kind, move || drain.ask())?;
        }
        let (reload, terminal) = (Arc::new(Notify::new()), Terminal::look());
        let wanted = reload.clone();
        on_each("SIGHUP", SignalKind::hangup(), move || {
            if terminal.is_gone() {
                // The shell and the kernel may both send it, so a second one means no more than the first.
                drain.begin();
            } else {
                wanted.notify_one();
            }
        })?;
        for (name, number) in IGNORED {
            on_each(name, SignalKind::from_raw(number), move || {
                tracing::info!(signal = name, "ignored a signal that this program does not use");
            })?;
        }
        if std::process::id() == FIRST {
            on_each("SIGCHLD", SignalKind::child(), reap)?;
        }
        Ok(Signals { drain: drained, reload })
    }
}

/// Forgets the orphans that have ended. As the first process of a container, this program becomes the parent of processes that others
/// started in it, and they stay in the list of processes until their parent asks how they ended. It starts none itself.
fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

/// Calls `react` at each signal of this kind.
fn on_each(
    name: &'static str,
    kind: SignalKind,
    react: impl Fn() + Send + Sync + 'static,
) -> Result<(), anyhow::Error> {
    let mut signal: Signal = signal(kind).with_context(|| format!("can't listen for {name}"))?;
    tokio::spawn(async move {
        while signal.recv().await.is_some() {
            react();
        }
    });
    Ok(())
}

/// The wish for a drain, as signals state it.
struct Drain {
    wanted: watch::Sender<bool>,
    /// Whether a signal has asked for it already.
    asked: AtomicBool,
}

impl Drain {
    fn begin(&self) {
        // The receiver is gone only when the program is about to end.
        let _ = self.wanted.send(true);
    }

    fn ask(&self) {
        if self.asked.swap(true, Ordering::Relaxed) {
            warn("second signal received; ending at once");
            std::process::exit(1);
        }
        self.begin();
    }
}

/// The terminal that the program was started on, as far as its standard streams show.
struct Terminal {
    at_start: [bool; 3],
}

impl Terminal {
    fn look() -> Terminal {
        Terminal { at_start: Terminal::streams() }
    }

    fn streams() -> [bool; 3] {
        [stdin().is_terminal(), stdout().is_terminal(), stderr().is_terminal()]
    }

    /// Whether it was closed. A stream of a closed terminal no longer counts as a terminal.
    fn is_gone(&self) -> bool {
        self.at_start.iter().zip(Terminal::streams()).any(|(before, now)| *before && !now)
    }
}
