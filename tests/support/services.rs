//! Software that tests talk to besides RabbitMQ. `scripts/services.sh` installs and starts it.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

/// Returns the python that has aio-pika, installed on the first call.
///
/// Returns `None` if it cannot be installed here, and says why; the test is to be left out then. Panics instead if
/// `CI=true`.
pub fn aio_pika_python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Result<String, String>> = OnceLock::new();
    unless_left_out(PYTHON.get_or_init(|| service("aio-pika"))).map(Path::new)
}

/// Returns the URL of a PostgreSQL, installed and started on the first call, whose user may create databases.
///
/// Returns `None` if it cannot be installed here, as [`aio_pika_python`].
pub fn postgres_url() -> Option<&'static str> {
    static URL: OnceLock<Result<String, String>> = OnceLock::new();
    unless_left_out(URL.get_or_init(|| service("postgres")))
}

fn unless_left_out(service: &'static Result<String, String>) -> Option<&'static str> {
    match service {
        Ok(found) => Some(found),
        Err(why) => {
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!ci, "no test is left out if CI=true: {why}");
            // Not by a macro, whose output only failed tests show.
            writeln!(std::io::stderr(), "left out: {why}").expect("stderr is open");
            None
        }
    }
}

/// Makes a service ready and returns its path or URL, or why that cannot be done here.
fn service(name: &str) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services.sh");
    let output = Command::new(script)
        .arg(name)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("scripts/services.sh does not start: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match output.status.code() {
        Some(0) => Ok(text(&output.stdout)),
        Some(3) => Err(text(&output.stderr).lines().next_back().unwrap_or_default().to_owned()),
        _ => panic!("scripts/services.sh {name}: {}, {}", output.status, text(&output.stderr)),
    }
}
