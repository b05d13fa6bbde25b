//! A pool of channels or connections.
//!
//! Tasks that publish or declare side by side may share one [`Channel`]: its clones are the same channel. A [`Pool`] is
//! for what wants a channel of its own for a while, such as a [`Transaction`](crate::Transaction), or calls whose
//! refusal closes the channel, without opening one each time.
//!
//! | | what happens |
//! |---|---|
//! | [`get`](Pool::get) | returns the item that has been idle for the longest time, makes one while there are fewer than `max`, or waits for its turn |
//! | the guard is dropped | the item returns to the pool, and the first that waits gets one |
//! | an item is closed | it is not handed out: it leaves the pool, and another one is made when one is wanted |
//! | a factory fails | the user that waits for it gets the error, and the next one tries |
//! | [`close`](Pool::close) | closes every item, those that users hold too; users that wait get an error |
//!
//! An item returns as its user leaves it: a prefetch stays set, a consumer goes on. A user that leaves a channel in
//! another state closes it, or takes it out of the pool with [`Pooled::detach`].
//!
//! # Examples
//! ```no_run
//! use actix_pika::pool::Pool;
//!
//! # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
//! let pool = Pool::channels(&connection, 8);
//! {
//!     let channel = pool.get().await?;
//!     let transaction = channel.transaction().await?;
//!     channel.default_exchange().publish("resize 7.png", "jobs").await?;
//!     transaction.commit().await?;
//! } // the channel returns to the pool
//! pool.close().await
//! # }
//! ```

use std::{
    fmt,
    future::Future,
    ops::Deref,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix_pika_actors::facade;
use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::shelf::{Shelf, Taken};
use crate::{Channel, Connection, Result};

mod shelf;

/// What a [`Pool`] can hold. Clones are handles of the same item.
///
/// # Examples
/// ```
/// use actix_pika::{Channel, Result, pool::PoolItem};
///
/// /// A channel with an exchange of its own.
/// #[derive(Clone)]
/// struct Outlet(Channel);
///
/// impl PoolItem for Outlet {
///     fn is_closed(&self) -> bool {
///         self.0.is_closed()
///     }
///
///     async fn close(&self) -> Result<()> {
///         self.0.close().await
///     }
/// }
/// ```
pub trait PoolItem: Clone + Send + 'static {
    /// Returns whether the item cannot be used any more. Such an item is not handed out.
    fn is_closed(&self) -> bool;

    /// Closes the item.
    ///
    /// # Errors
    /// Those of the item.
    fn close(&self) -> impl Future<Output = Result<()>> + Send;
}

impl PoolItem for Channel {
    fn is_closed(&self) -> bool {
        self.is_closed()
    }

    async fn close(&self) -> Result<()> {
        self.close().await
    }
}

impl PoolItem for Connection {
    fn is_closed(&self) -> bool {
        self.is_closed()
    }

    async fn close(&self) -> Result<()> {
        self.close().await
    }
}

type Factory<T> = dyn Fn() -> Pin<Box<dyn Future<Output = Result<T>> + Send>> + Send + Sync;

/// At most `max` channels, connections or other items, which users hold one at a time. Clones are the same pool.
///
/// **Over a reconnect**: channels of a robust connection stay valid, and stay in the pool. Those of a plain connection
/// are closed with it, and are replaced once the factory succeeds again.
///
/// # Examples
/// Connections, each with its own socket:
/// ```no_run
/// use actix_pika::{connect_robust, pool::Pool};
///
/// # async fn run() -> actix_pika::Result<()> {
/// let pool = Pool::new(4, || connect_robust("amqp://guest:guest@localhost/"));
/// let channel = pool.get().await?.channel().await?;
/// # Ok(())
/// # }
/// ```
pub struct Pool<T: PoolItem> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    /// A permit for each user that may hold an item. Users wait for it in line.
    users: Arc<Semaphore>,
    shelf: Mutex<Shelf<T>>,
    factory: Box<Factory<T>>,
}

impl Pool<Channel> {
    /// Creates a pool of at most `max` channels of a connection. They are opened when they are first wanted.
    ///
    /// [`new`](Self::new) takes channels with options: `Pool::new(8, move || async move { .. })`.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// use actix_pika::pool::Pool;
    ///
    /// let pool = Pool::channels(&connection, 8);
    /// pool.get().await?.default_exchange().publish("resize 7.png", "jobs").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn channels(connection: &Connection, max: usize) -> Self {
        let connection = connection.clone();
        Self::new(max, move || {
            let connection = connection.clone();
            async move { connection.channel().await }
        })
    }
}

impl<T: PoolItem> Pool<T> {
    /// Creates a pool of at most `max` items, which `factory` makes when they are wanted. A `max` of 0 is 1;
    /// `usize::MAX` is no limit.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) {
    /// use actix_pika::{OpenChannel, pool::Pool};
    ///
    /// let without_confirms = Pool::new(8, move || {
    ///     let connection = connection.clone();
    ///     async move { connection.channel_with(OpenChannel::new().confirms(false)).await }
    /// });
    /// # }
    /// ```
    pub fn new<F, Fut>(max: usize, factory: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        let users = Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)));
        let factory = Box::new(move || Box::pin(factory()) as Pin<Box<_>>);
        Self { inner: Arc::new(Inner { users, shelf: Mutex::new(Shelf::new()), factory }) }
    }

    /// Returns an item, once there is one. Users are served in the order in which they began to wait.
    ///
    /// Dropping the future leaves the line; an item that was being made is made by the next user.
    ///
    /// # Errors
    /// Those of the factory; for [`channels`](Pool::channels), those of [`Connection::channel`]. `Refused` without a
    /// code if the pool is closed. It waits without a limit; `tokio::time::timeout` sets one.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::{Channel, Result, pool::Pool};
    /// async fn purge(pool: &Pool<Channel>, queue: &str) -> Result<u32> {
    ///     pool.get().await?.queue(queue).purge().await
    /// }
    /// ```
    pub async fn get(&self) -> Result<Pooled<T>> {
        let permit = self.inner.users.clone().acquire_owned().await.map_err(|_| closed())?;
        let mut dead = Vec::new();
        let taken = self.inner.shelf().take(T::is_closed, &mut dead);
        drop(dead);
        match taken {
            Taken::Item(user, item) => Ok(Pooled::new(item, self.place(user, permit))),
            Taken::Make(user) => {
                let place = self.place(user, permit);
                let item = (self.inner.factory)().await?;
                if self.inner.shelf().made(user, item.clone()) {
                    return Ok(Pooled::new(item, place));
                }
                // Closed meanwhile. Whether this item closes well is nobody's result.
                let _ = item.close().await;
                Err(closed())
            }
            Taken::Closed => Err(closed()),
        }
    }

    fn place(&self, user: u64, permit: OwnedSemaphorePermit) -> Place<T> {
        Place { inner: self.inner.clone(), user, _permit: permit }
    }

    /// Closes the pool and its items, those that users hold too: their next call fails. A channel is closed once its
    /// publishes are confirmed.
    ///
    /// Users that wait get an error. Closing it again does nothing.
    ///
    /// # Errors
    /// The first error of an item that could not be closed. The others are closed nevertheless.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(pool: actix_pika::pool::Pool<actix_pika::Channel>) -> actix_pika::Result<()> {
    /// pool.close().await?;
    /// assert!(pool.is_closed());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(&self) -> Result<()> {
        self.inner.users.close();
        let items = self.inner.shelf().close();
        join_all(items.iter().filter(|item| !item.is_closed()).map(T::close)).await.into_iter().collect()
    }

    /// Returns whether the pool was closed.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(pool: actix_pika::pool::Pool<actix_pika::Channel>) {
    /// assert!(!pool.is_closed());
    /// # }
    /// ```
    pub fn is_closed(&self) -> bool {
        self.inner.users.is_closed()
    }

    /// Returns how many items nobody uses at the moment, closed ones too.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(pool: actix_pika::pool::Pool<actix_pika::Channel>) {
    /// println!("{} channels are idle", pool.idle());
    /// # }
    /// ```
    pub fn idle(&self) -> usize {
        self.inner.shelf().counts().0
    }

    /// Returns how many items users hold, or are being made for them.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(pool: actix_pika::pool::Pool<actix_pika::Channel>) {
    /// println!("{} channels are in use", pool.used());
    /// # }
    /// ```
    pub fn used(&self) -> usize {
        self.inner.shelf().counts().1
    }
}

impl<T> Inner<T> {
    fn shelf(&self) -> MutexGuard<'_, Shelf<T>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> crate::Error {
    facade::refused("the pool is closed")
}

/// An item of a [`Pool`], which it dereferences to. Dropping it returns the item to the pool.
///
/// # Examples
/// ```no_run
/// # use actix_pika::{Channel, Result, pool::{Pool, Pooled}};
/// async fn publish(pool: &Pool<Channel>) -> Result<()> {
///     let channel: Pooled<Channel> = pool.get().await?;
///     channel.default_exchange().publish("resize 7.png", "jobs").await?;
///     Ok(())
/// }
/// ```
#[must_use = "dropping it returns the item to the pool"]
pub struct Pooled<T: PoolItem> {
    item: T,
    returns: bool,
    place: Place<T>,
}

/// The place of a user among those of the pool. Dropping it lets the next one in.
struct Place<T: PoolItem> {
    inner: Arc<Inner<T>>,
    user: u64,
    _permit: OwnedSemaphorePermit,
}

impl<T: PoolItem> Pooled<T> {
    fn new(item: T, place: Place<T>) -> Self {
        Self { item, returns: true, place }
    }

    /// Takes the item out of the pool. It counts no longer, and the pool does not close it.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::{Channel, Result, pool::{Pool, Pooled}};
    /// async fn consumer_channel(pool: &Pool<Channel>) -> Result<Channel> {
    ///     let channel = pool.get().await?;
    ///     channel.set_qos(10).await?;
    ///     Ok(Pooled::detach(channel))
    /// }
    /// ```
    pub fn detach(mut this: Self) -> T {
        this.returns = false;
        this.item.clone()
    }
}

impl<T: PoolItem> Deref for Pooled<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T: PoolItem> Drop for Pooled<T> {
    fn drop(&mut self) {
        if self.returns {
            let item = self.item.clone();
            let gone = self.place.inner.shelf().give_back(self.place.user, item, T::is_closed);
            // Not under the lock: the last handle may be dropped here.
            drop(gone);
        }
    }
}

impl<T: PoolItem> Drop for Place<T> {
    fn drop(&mut self) {
        let gone = self.inner.shelf().forget(self.user);
        drop(gone);
    }
}

impl<T: PoolItem> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T: PoolItem> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (idle, used) = self.inner.shelf().counts();
        f.debug_struct("Pool")
            .field("idle", &idle)
            .field("used", &used)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl<T: PoolItem + fmt::Debug> fmt::Debug for Pooled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pooled").field(&self.item).finish()
    }
}
