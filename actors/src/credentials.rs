//! Who logs in: credentials, and whoever knows them at the moment of a connect.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use crate::{
    error::{Error, Result},
    secret::Secret,
};

/// Holds a user and its password or token, and how long they are good for.
///
/// **Over a reconnect**: they are used again at each connect, as `connection.update-secret` last changed
/// them; a [`CredentialsProvider`] is asked anew instead.
///
/// Source: <https://www.rabbitmq.com/docs/access-control>, <https://www.rabbitmq.com/docs/oauth2>
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_pika_actors::Credentials;
///
/// let token = Credentials::new("", "eyJhbGciOi...").expires_in(Duration::from_secs(300));
/// assert!(!format!("{token:?}").contains("eyJ"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: Secret,
    expires_in: Option<Duration>,
}

impl Credentials {
    /// Names a user and its password; for OAuth 2 the token is the password, and the user is ignored by the broker.
    ///
    /// They are good for ever unless [`expires_in`](Self::expires_in) says otherwise. With the mechanism
    /// `PLAIN` neither may hold a NUL: the connect fails with kind `Limit`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Credentials;
    /// let login = Credentials::new("alice", "secret");
    /// assert_eq!((login.user(), login.lifetime()), ("alice", None));
    /// ```
    pub fn new(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { user: user.into(), password: password.into(), expires_in: None }
    }

    /// Says for how long from now on they are good.
    ///
    /// At 80 % of it the provider is asked again and the broker is told the new secret (`connection.update-secret`).
    ///
    /// It matters for what a [`CredentialsProvider`] returns: without one there is nobody to ask again.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Credentials;
    /// let token = Credentials::new("", "token").expires_in(Duration::from_secs(300));
    /// assert_eq!(token.lifetime(), Some(Duration::from_secs(300)));
    /// ```
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.expires_in = Some(lifetime);
        self
    }

    /// Tells the user.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Credentials;
    /// assert_eq!(Credentials::new("alice", "secret").user(), "alice");
    /// ```
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Hands out the password, which does not print.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Credentials;
    /// let login = Credentials::new("alice", "secret");
    /// assert_eq!(format!("{:?}", login.password()), "***");
    /// assert_eq!(login.password().expose(), "secret");
    /// ```
    pub fn password(&self) -> &Secret {
        &self.password
    }

    /// Tells for how long they are good from when they were made; `None` for ever.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Credentials;
    /// assert_eq!(Credentials::new("alice", "secret").lifetime(), None);
    /// ```
    pub fn lifetime(&self) -> Option<Duration> {
        self.expires_in
    }
}

/// Stands for what a [`CredentialsProvider`] returns.
///
/// It is made and polled in a task of its own, on the connection's thread.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Credentials, CredentialsFuture};
/// fn now(login: Credentials) -> CredentialsFuture {
///     Box::pin(async move { Ok(login) })
/// }
/// ```
pub type CredentialsFuture = Pin<Box<dyn Future<Output = Result<Credentials>> + Send>>;

/// Knows the credentials: asked at every connect, and again before they expire.
///
/// Closures that return a future are providers, and so are [`Credentials`] themselves. A provider that fails says so
/// with [`Error::credentials`]; one that panics or takes longer than the connect limit counts as failed.
///
/// **Over a reconnect**: it is asked anew at each attempt, so that a rotated password is used. What it returns may be
/// refused for a minute, while a broker restarts, before that ends the recovery.
///
/// Source: <https://www.rabbitmq.com/docs/oauth2>
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_pika_actors::{Credentials, CredentialsProvider, Error};
///
/// fn vault() -> impl CredentialsProvider {
///     || async {
///         let token = std::env::var("TOKEN").map_err(Error::credentials)?;
///         Ok(Credentials::new("", token).expires_in(Duration::from_secs(600)))
///     }
/// }
/// ```
pub trait CredentialsProvider: Send + Sync + 'static {
    /// Fetches the credentials that are good now.
    ///
    /// # Errors
    /// What it returns is the error of the connect; [`Error::credentials`] makes one of kind `Auth` that is
    /// worth another try. While the connection is open it is a
    /// [`RefreshFailed`](crate::ConnectionEvent::RefreshFailed), and the provider is asked again.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Credentials, CredentialsFuture, CredentialsProvider, Error};
    /// struct FromFile(&'static str);
    ///
    /// impl CredentialsProvider for FromFile {
    ///     fn credentials(&self) -> CredentialsFuture {
    ///         let path = self.0;
    ///         Box::pin(async move {
    ///             let password = std::fs::read_to_string(path).map_err(Error::credentials)?;
    ///             Ok(Credentials::new("orders", password.trim_end()))
    ///         })
    ///     }
    /// }
    /// ```
    fn credentials(&self) -> CredentialsFuture;

    /// The credentials, where they never change but by `connection.update-secret`.
    #[doc(hidden)]
    fn fixed(&self) -> Option<&Credentials> {
        None
    }
}

impl CredentialsProvider for Credentials {
    fn credentials(&self) -> CredentialsFuture {
        let credentials = self.clone();
        Box::pin(async move { Ok(credentials) })
    }

    fn fixed(&self) -> Option<&Credentials> {
        Some(self)
    }
}

impl<F, Fut> CredentialsProvider for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Credentials>> + Send + 'static,
{
    fn credentials(&self) -> CredentialsFuture {
        Box::pin(self())
    }
}

/// Shares a provider between the lives of a connection.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Credentials, SharedProvider};
/// let provider = SharedProvider::new(Credentials::new("alice", "secret"));
/// assert_eq!(format!("{provider:?}"), "***");
/// ```
#[derive(Clone)]
pub struct SharedProvider(Arc<dyn CredentialsProvider>);

impl SharedProvider {
    /// Takes the provider over.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Credentials, SharedProvider};
    /// let provider = SharedProvider::new(|| async { Ok(Credentials::new("alice", "secret")) });
    /// ```
    pub fn new(provider: impl CredentialsProvider) -> Self {
        Self(Arc::new(provider))
    }

    /// Asks it in a task of its own, so that its panic is an error and nothing else.
    pub(crate) async fn ask(&self, limit: Duration) -> Result<Credentials> {
        let provider = self.0.clone();
        // Dropped with this future, and the task with it.
        let mut task = JoinSet::new();
        task.spawn(async move { provider.credentials().await });
        match timeout(limit, task.join_next()).await {
            Ok(Some(Ok(answer))) => answer,
            Ok(Some(Err(_)) | None) => Err(Error::credentials("the provider panicked")),
            Err(_) => Err(Error::timeout(format!("asking for credentials: nothing within {limit:?}"))),
        }
    }
}

impl fmt::Debug for SharedProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn closures_and_credentials_are_providers() {
        let limit = Duration::from_secs(5);
        let fixed = Credentials::new("alice", "hunter2");
        assert_eq!(SharedProvider::new(fixed.clone()).ask(limit).await.unwrap(), fixed);
        let asked = SharedProvider::new(|| async { Ok(Credentials::new("bob", "swordfish")) });
        assert_eq!(asked.ask(limit).await.unwrap().user(), "bob");
        assert_eq!(format!("{asked:?}"), "***");
    }

    #[actix::test]
    async fn a_provider_that_panics_or_hangs_is_an_error() {
        async fn broken() -> Result<Credentials> {
            panic!("no vault")
        }
        let error = SharedProvider::new(broken).ask(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Auth);
        assert!(error.is_retryable());
        let hangs = SharedProvider::new(std::future::pending::<Result<Credentials>>);
        let error = hangs.ask(Duration::from_millis(10)).await.unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Timeout);
    }
}
