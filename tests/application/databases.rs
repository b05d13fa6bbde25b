//! Databases, one for each test.

#[cfg(feature = "sqlx-postgres")]
pub use postgres::Postgres;
#[cfg(feature = "sqlx")]
pub use sqlite::Sqlite;

#[cfg(feature = "sqlx")]
mod sqlite {
    use crate::support::unique;
    use sqlx::{
        SqlitePool,
        sqlite::{SqliteConnectOptions, SqliteJournalMode},
    };
    use std::{path::PathBuf, time::Duration};

    /// An SQLite database in a folder of its own, which is deleted when this is dropped.
    pub struct Sqlite(PathBuf);

    impl Sqlite {
        pub fn fresh() -> Self {
            let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(unique("sqlite"));
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        pub fn url(&self) -> String {
            format!("sqlite://{}", self.0.join("database").display())
        }

        pub async fn pool(&self) -> SqlitePool {
            Self::connect(&self.url()).await
        }

        /// Opens the database of this URL, also in another process.
        pub async fn connect(url: &str) -> SqlitePool {
            let options: SqliteConnectOptions = url.parse().unwrap();
            let options = options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
            SqlitePool::connect_with(options.busy_timeout(Duration::from_secs(20))).await.unwrap()
        }
    }

    impl Drop for Sqlite {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(feature = "sqlx-postgres")]
mod postgres {
    use crate::support::{services::postgres_url, unique};
    use sqlx::{Connection, Executor, PgConnection, PgPool};

    /// A database on the PostgreSQL of the tests, which is deleted when this is dropped.
    pub struct Postgres {
        server: &'static str,
        name: String,
    }

    impl Postgres {
        /// Returns `None` if there is no PostgreSQL here: the test is to be left out.
        pub async fn fresh() -> Option<Self> {
            let server = postgres_url()?;
            let name = unique("test").replace('-', "_");
            run(server, &format!("create database {name}")).await.unwrap();
            Some(Self { server, name })
        }

        pub fn url(&self) -> String {
            let mut url = url::Url::parse(self.server).unwrap();
            url.set_path(&self.name);
            url.into()
        }

        pub async fn pool(&self) -> PgPool {
            PgPool::connect(&self.url()).await.unwrap()
        }
    }

    async fn run(server: &str, statement: &str) -> sqlx::Result<()> {
        let mut connection = PgConnection::connect(server).await?;
        connection.execute(statement).await?;
        connection.close().await
    }

    impl Drop for Postgres {
        // Blocks. On a thread of its own, because the test may be in a runtime.
        fn drop(&mut self) {
            let (server, statement) = (self.server, format!("drop database {} with (force)", self.name));
            let thread = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(run(server, &statement))
            });
            let dropped = thread.join();
            if !std::thread::panicking() {
                dropped.expect("no panic").expect("the database is dropped");
            }
        }
    }
}

#[cfg(feature = "sqlx")]
#[actix::test]
async fn each_sqlite_database_is_another() {
    let (one, other) = (Sqlite::fresh(), Sqlite::fresh());
    let (one, other) = (one.pool().await, other.pool().await);
    sqlx::query("create table orders (id integer)").execute(&one).await.unwrap();
    sqlx::query("create table orders (id integer)").execute(&other).await.unwrap();
}

#[cfg(feature = "sqlx-postgres")]
#[actix::test]
async fn each_postgres_database_is_another() {
    let (Some(one), Some(other)) = (Postgres::fresh().await, Postgres::fresh().await) else { return };
    let (one, other) = (one.pool().await, other.pool().await);
    sqlx::query("create table orders (id integer)").execute(&one).await.unwrap();
    sqlx::query("create table orders (id integer)").execute(&other).await.unwrap();
}
