//! Software that tests talk to besides RabbitMQ. `scripts/services.sh` installs it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// Returns the python that has aio-pika, installed on the first call.
///
/// Returns `None` if it cannot be installed here, and says why; the test is to be left out then. Panics instead if
/// `CI=true`.
pub fn aio_pika_python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    unless_left_out(PYTHON.get_or_init(|| install("aio-pika")))
}

fn unless_left_out(service: &'static Result<PathBuf, String>) -> Option<&'static Path> {
    match service {
        Ok(path) => Some(path),
        Err(why) => {
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!ci, "no test is left out if CI=true: {why}");
            // Not by a macro, whose output only failed tests show.
            writeln!(std::io::stderr(), "left out: {why}").expect("stderr is open");
            None
        }
    }
}

/// Installs a service and returns its path, or why that cannot be done here.
fn install(service: &str) -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services.sh");
    let output = Command::new(script)
        .arg(service)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("scripts/services.sh does not start: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match output.status.code() {
        Some(0) => Ok(text(&output.stdout).into()),
        Some(3) => Err(text(&output.stderr).lines().next_back().unwrap_or_default().to_owned()),
        _ => panic!("scripts/services.sh {service}: {}, {}", output.status, text(&output.stderr)),
    }
}
