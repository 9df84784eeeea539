//! Format of log lines, and a writer that never blocks its callers.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::registry::LookupSpan;

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `Human` if standard output is a terminal, otherwise `Json`.
    #[default]
    Auto,
    /// For people: one line per event, in colour on a terminal (unless `NO_COLOR` is set).
    Human,
    /// One JSON object per line, with the time, level, target, message, fields and the node's name.
    Json,
}

/// Format after looking at standard output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Human { colour: bool },
    Json,
}

impl LogFormat {
    pub(crate) fn style(self) -> Style {
        let terminal = io::stdout().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        match self {
            LogFormat::Json => Style::Json,
            LogFormat::Auto if !terminal => Style::Json,
            LogFormat::Auto | LogFormat::Human => Style::Human { colour },
        }
    }
}

/// Creates the layer that formats events as lines.
pub(crate) fn log_layer<S>(style: Style, writer: LogWriter) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match style {
        Style::Human { colour } => layer.with_ansi(colour).boxed(),
        Style::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
    }
}

/// Most lines that can wait. A node that logs at `info` writes a few lines a second.
const LINES_MAX: usize = 8_192;
/// Most bytes in waiting lines.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Passes lines to a thread that writes them. If the queue is full the line is dropped and counted, so that a shard never waits
/// for the process that reads the log.
#[derive(Clone)]
pub(crate) struct LogWriter {
    queue: SyncSender<Entry>,
    state: Arc<State>,
}

struct State {
    waiting_bytes: AtomicUsize,
    dropped: AtomicU64,
    /// Start of every JSON line, in place of its `{`: an open object that contains the node's name.
    opening: Option<Box<[u8]>>,
}

enum Entry {
    Line(Vec<u8>),
    /// Asks the thread to report once everything before this entry has been written.
    Flush(SyncSender<()>),
}

impl LogWriter {
    /// Starts the thread. It ends when the last clone of the writer is dropped.
    pub(crate) fn start(
        output: Box<dyn io::Write + Send>,
        style: Style,
        node: &str,
    ) -> Result<LogWriter, io::Error> {
        let opening = format!("{{\"node\":{},", serde_json::Value::from(node));
        let state = Arc::new(State {
            waiting_bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            opening: (style == Style::Json).then(|| opening.into_bytes().into()),
        });
        let (queue, lines) = sync_channel(LINES_MAX);
        let thread_state = Arc::clone(&state);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(output, &lines, &thread_state))?;
        Ok(LogWriter { queue, state })
    }

    /// Waits until all earlier lines are written, but no longer than `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let (done, written) = sync_channel(1);
        let mut entry = Entry::Flush(done);
        while let Err(error) = self.queue.try_send(entry) {
            let std::sync::mpsc::TrySendError::Full(back) = error else { return };
            if Instant::now() >= end {
                return;
            }
            entry = back;
            thread::yield_now();
        }
        // The caller does the same whether or not this was in time.
        let _ = written.recv_timeout(end.saturating_duration_since(Instant::now()));
    }

    fn send(&self, line: &[u8]) {
        let line = match &self.state.opening {
            Some(opening) => [opening, line.strip_prefix(b"{").unwrap_or(line)].concat(),
            None => line.to_vec(),
        };
        let length = line.len();
        let waiting = self.state.waiting_bytes.fetch_add(length, Ordering::Relaxed);
        if waiting + length > BYTES_MAX || self.queue.try_send(Entry::Line(line)).is_err() {
            self.state.waiting_bytes.fetch_sub(length, Ordering::Relaxed);
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_lines(mut output: Box<dyn io::Write + Send>, lines: &Receiver<Entry>, state: &State) {
    while let Ok(entry) = lines.recv() {
        match entry {
            Entry::Line(line) => {
                // There is nowhere to report a broken output; the node continues without a log.
                let _ = output.write_all(&line);
                state.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Entry::Flush(done) => {
                let _ = output.flush();
                // The caller may have stopped waiting.
                let _ = done.try_send(());
            }
        }
        let dropped = state.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            metrics::counter!("starling_log_lines_dropped_total").increment(dropped);
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter { writer: self }
    }
}

/// Writer for one line. The layer writes each line with a single call.
pub(crate) struct LineWriter<'a> {
    writer: &'a LogWriter,
}

impl io::Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.writer.send(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    /// Output that blocks until its gate opens.
    struct Stuck {
        gate: Arc<Barrier>,
        passed: bool,
        written: Arc<AtomicUsize>,
    }

    impl io::Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.passed {
                self.gate.wait();
                self.passed = true;
            }
            self.written.fetch_add(bytes.len(), Ordering::Relaxed);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_output_holds_nobody_up_and_the_queue_stays_bounded() {
        let gate = Arc::new(Barrier::new(2));
        let written = Arc::new(AtomicUsize::new(0));
        let output = Stuck { gate: Arc::clone(&gate), passed: false, written: Arc::clone(&written) };
        let writer = LogWriter::start(Box::new(output), Style::Human { colour: false }, "n").unwrap();
        for _ in 0..3 * LINES_MAX {
            writer.send(b"a line\n");
        }
        let dropped = writer.state.dropped.load(Ordering::Relaxed) as usize;
        assert!((2 * LINES_MAX - 1..=2 * LINES_MAX).contains(&dropped), "{dropped}");
        gate.wait();
        writer.flush(Duration::from_secs(10));
        assert_eq!(written.load(Ordering::Relaxed), (3 * LINES_MAX - dropped) * b"a line\n".len());
        assert_eq!(writer.state.waiting_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let gate = Arc::new(Barrier::new(2));
        let output = Stuck { gate: Arc::clone(&gate), passed: false, written: Arc::default() };
        let writer = LogWriter::start(Box::new(output), Style::Human { colour: false }, "n").unwrap();
        let line = vec![b'x'; 1024 * 1024];
        for _ in 0..20 {
            writer.send(&line);
        }
        assert!(writer.state.waiting_bytes.load(Ordering::Relaxed) <= BYTES_MAX);
        assert!(writer.state.dropped.load(Ordering::Relaxed) >= 11);
        gate.wait();
        writer.flush(Duration::from_secs(10));
    }

    #[test]
    fn flushing_ends_in_time_even_when_the_output_is_stuck() {
        let gate = Arc::new(Barrier::new(2));
        let output = Stuck { gate: Arc::clone(&gate), passed: false, written: Arc::default() };
        let writer = LogWriter::start(Box::new(output), Style::Human { colour: false }, "n").unwrap();
        for _ in 0..2 * LINES_MAX {
            writer.send(b"a line\n");
        }
        let start = Instant::now();
        writer.flush(Duration::from_millis(50));
        assert!(start.elapsed() < Duration::from_secs(5));
        gate.wait();
    }
}
