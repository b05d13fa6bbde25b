//! The Python programs of `interop/`.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::support::{broker::Vhost, services::aio_pika_python, within};

/// A running program, which is killed when it is dropped.
pub struct Python {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Python {
    /// Starts a program with the URL of the virtual host and further arguments, and waits for its first line. Returns
    /// `None` if the test is to be left out.
    pub async fn start(script: &str, vhost: &Vhost, arguments: &[&str]) -> Option<Self> {
        let interpreter = tokio::task::spawn_blocking(aio_pika_python).await.unwrap()?;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/patterns/interop").join(script);
        let mut child = Command::new(interpreter)
            .arg(path)
            .arg(vhost.url())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("{script} does not start: {e}"));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stdin = child.stdin.take();
        let mut python = Self { child, stdin, lines };
        let first = python.line().await;
        assert!(first == "ready" || first == "done", "{script}: {first}");
        Some(python)
    }

    pub async fn line(&mut self) -> String {
        within("a line of Python", 60, self.lines.next_line()).await.unwrap().expect("Python has not ended")
    }

    /// Returns the next line, as JSON.
    pub async fn json(&mut self) -> Value {
        serde_json::from_str(&self.line().await).unwrap()
    }

    pub async fn write(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.stdin.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();
    }

    /// Writes a line of JSON, and returns the next line.
    pub async fn ask(&mut self, question: Value) -> Value {
        self.write(&question.to_string()).await;
        self.json().await
    }

    /// Ends the program, and expects it to succeed.
    pub async fn end(mut self) {
        self.stdin = None;
        let status = within("the end of Python", 30, self.child.wait()).await.unwrap();
        assert!(status.success(), "{status}");
        assert_eq!(self.lines.next_line().await.unwrap(), None);
    }
}
