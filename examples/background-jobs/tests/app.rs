//! The application as a process, and its HTTP.

use std::{
    io,
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{eventually, unique};

pub struct App {
    process: Child,
    pub address: String,
    url: String,
    folder: PathBuf,
}

impl App {
    /// Starts the application, and waits until it is ready.
    pub async fn start(url: &str) -> Self {
        let folder = std::env::temp_dir().join(unique("background-jobs"));
        std::fs::create_dir_all(&folder).unwrap();
        // Free at this moment.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let process = spawn(url, &address, &folder.join("jobs.db"));
        let app = Self { process, address, url: url.to_owned(), folder };
        app.ready().await;
        app
    }

    pub async fn ready(&self) {
        eventually("ready", 60, async || (self.status("/health/ready").await == 200).then_some(())).await;
    }

    /// Kills the process with SIGKILL, and starts it again with the same database.
    pub async fn kill9_and_start_again(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(&self.url, &self.address, &self.folder.join("jobs.db"));
        self.ready().await;
    }

    /// Sends SIGTERM, and waits for an end without an error.
    pub async fn terminate(mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let process = &mut self.process;
        let status =
            eventually("the end of the process", 40, move || std::future::ready(process.try_wait().unwrap()))
                .await;
        assert!(status.success(), "{status}");
    }

    /// Returns the status of a request; 0 if there is no answer.
    pub async fn status(&self, path: &str) -> u16 {
        request(&self.address, "GET", path, "").await.map_or(0, |(status, _)| status)
    }

    pub async fn database(&self) -> SqlitePool {
        let options = SqliteConnectOptions::new().filename(self.folder.join("jobs.db")).read_only(true);
        SqlitePool::connect_with(options).await.unwrap()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(url: &str, address: &str, database: &std::path::Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_background-jobs"))
        .env("AMQP_URL", url)
        .env("LISTEN", address)
        .env("DATABASE", database)
        .spawn()
        .unwrap()
}

/// Sends a request on a connection of its own, and returns status and body.
pub async fn request(address: &str, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
    let exchange = async {
        let mut socket = TcpStream::connect(address).await?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        socket.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("no status"))?;
        Ok((status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned())))
    };
    timeout(Duration::from_secs(10), exchange).await.map_err(io::Error::other)?
}

/// Counts rows.
pub async fn count(database: &SqlitePool, table: &str, of: &str) -> usize {
    let count = format!("select count(*) from {table} where {of}");
    sqlx::query_scalar::<_, i64>(&count).fetch_one(database).await.unwrap() as usize
}
