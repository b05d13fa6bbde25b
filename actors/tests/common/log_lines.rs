//! What the log has of every crate in this process, at all levels.

use std::sync::{Mutex, OnceLock};

/// A logger that keeps every line: level, target and text.
pub struct LogLines(Mutex<Vec<String>>);

impl log::Log for LogLines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {} {}", record.level(), record.target(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

impl LogLines {
    /// Installs the logger at the first call.
    pub fn install() -> &'static Self {
        static LOG_LINES: OnceLock<&'static LogLines> = OnceLock::new();
        LOG_LINES.get_or_init(|| {
            let log_lines = Box::leak(Box::new(Self(Mutex::default())));
            log::set_logger(log_lines).unwrap();
            log::set_max_level(log::LevelFilter::Trace);
            log_lines
        })
    }

    /// Returns the lines so far.
    pub fn so_far(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}
