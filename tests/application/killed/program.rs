//! The program that is killed: this test binary, which runs only [`the_program`].

use super::shop::{Point, Shop};
use actix_pika::{Connector, Recovery, tasks::Task};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

const DATABASE: &str = "KILLED_PROGRAM_DATABASE";
const BROKER: &str = "KILLED_PROGRAM_BROKER";
const ROLES: &str = "KILLED_PROGRAM_ROLES";
/// Orders from 0 up to this number are placed.
const ORDERS: &str = "KILLED_PROGRAM_ORDERS";
/// A point, and which time it is reached.
const KILL_AT: &str = "KILLED_PROGRAM_KILLS_ITSELF_AT";

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// It places orders: it writes each with its message in one transaction.
    Shop,
    /// It relays the outbox.
    Relay,
    /// It bills orders: it writes a bill with the id of its message in one transaction.
    Billing,
}

/// How to start a process.
pub struct Start<'a> {
    pub database: &'a str,
    pub broker: &'a str,
    pub roles: &'a [Role],
    pub orders: i64,
    pub kill_at: Option<(Point, u32)>,
}

impl Start<'_> {
    pub fn start(self) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "killed::program::the_program", "--ignored", "--nocapture"]);
        command.env(DATABASE, self.database).env(BROKER, self.broker);
        command.env(ROLES, format!("{:?}", self.roles)).env(ORDERS, self.orders.to_string());
        command.env(KILL_AT, self.kill_at.map(|(point, hit)| format!("{point:?} {hit}")).unwrap_or_default());
        Process(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }
}

/// A process that is killed when it is dropped.
pub struct Process(Child);

impl Process {
    /// Sends SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Stops it: it does nothing, and notices nothing.
    pub fn pause(&self) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), Signal::SIGSTOP).unwrap();
    }

    pub fn resume(&self) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), Signal::SIGCONT).unwrap();
    }

    /// Returns whether it was killed; panics if it has ended in another way.
    pub fn is_killed(&mut self) -> bool {
        match self.0.try_wait().unwrap() {
            None => false,
            Some(status) => {
                assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{status}");
                true
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills this process when a point is reached for the nth time.
fn killer() -> impl Fn(Point) + Clone {
    let at = std::env::var(KILL_AT).unwrap_or_default();
    let reached = Arc::new(AtomicU32::new(0));
    move |point| {
        let Some((name, hit)) = at.split_once(' ') else { return };
        if name == format!("{point:?}")
            && reached.fetch_add(1, Ordering::SeqCst) + 1 == hit.parse::<u32>().unwrap()
        {
            kill(Pid::this(), Signal::SIGKILL).unwrap();
            // The signal ends all threads, but perhaps not before the next instruction of this one.
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

#[test]
#[ignore = "the other tests of this folder run it as a process of its own"]
fn the_program() {
    let Ok(database) = std::env::var(DATABASE) else { return };
    let (broker, roles) = (std::env::var(BROKER).unwrap(), std::env::var(ROLES).unwrap());
    let orders: i64 = std::env::var(ORDERS).unwrap().parse().unwrap();
    let does = |role: Role| roles.contains(&format!("{role:?}"));
    actix::System::new().block_on(async move {
        let shop = Rc::new(Shop::open(&database).await);
        let at = killer();
        let connector = Connector::new(&broker).unwrap().recovery(Recovery::default());
        let connection = connector.connect().await.unwrap();
        let _relay = match does(Role::Relay) {
            true => Some(shop.relay(&connection).await),
            false => None,
        };
        let _billing = match does(Role::Billing) {
            true => {
                let (shop, at) = (shop.clone(), at.clone());
                let bill = move |order: Task<i64>| {
                    let (shop, at) = (shop.clone(), at.clone());
                    async move { shop.bill(&order, &at).await }
                };
                let channel = connection.channel().await.unwrap();
                Some(channel.queue("orders").tasks::<i64>().at_once(4).for_each(bill).await.unwrap())
            }
            false => None,
        };
        if does(Role::Shop) {
            for n in 0..orders {
                shop.place(n..n + 1, &at).await;
            }
        }
        std::future::pending::<()>().await;
    });
}
