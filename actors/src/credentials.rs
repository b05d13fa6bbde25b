//! Credentials for the login, and providers that return them at each connect.

use std::{any::Any, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use crate::{
    error::{Error, Result},
    secret::Secret,
};

/// Holds a user, its password or token, and how long they are valid.
///
/// **Over a reconnect**: the same credentials are used at each connect, with the secret of the last
/// `connection.update-secret`. A [`CredentialsProvider`] is called again instead.
///
/// Source: <https://www.rabbitmq.com/docs/access-control>; <https://www.rabbitmq.com/docs/oauth2>
///
/// # Examples
/// ```
/// use std::time::Duration;
/// # use actix_pika_actors::Credentials;
///
/// let token = Credentials::new("", "eyJhbGciOi...").expires_in(Duration::from_secs(300));
/// assert!(!format!("{token:?}").contains("eyJ"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "credentials do nothing until they are passed to a connector"]
pub struct Credentials {
    user: String,
    password: Secret,
    expires_in: Option<Duration>,
}

impl Credentials {
    /// Creates credentials of a user and its password. For OAuth 2 the token is the password, and the broker
    /// ignores the user.
    ///
    /// They do not expire unless [`expires_in`](Self::expires_in) is set. With the mechanism `PLAIN` neither
    /// may contain a NUL; the connect then fails with kind `Limit`.
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

    /// Sets for how long the credentials are valid, from now on.
    ///
    /// At 80 % of it the provider is called again, and the new secret is sent to the broker
    /// (`connection.update-secret`). This applies to what a [`CredentialsProvider`] returns; fixed
    /// credentials are not renewed.
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

    /// Returns the user.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Credentials;
    /// assert_eq!(Credentials::new("alice", "secret").user(), "alice");
    /// ```
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns the password, whose `Debug` output is `***`.
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

    /// Returns for how long the credentials are valid from their creation on; `None` if they do not expire.
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

/// The future that a [`CredentialsProvider`] returns.
///
/// It is created and polled in a task of its own, on the connection's thread.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Credentials, CredentialsFuture};
/// fn now(login: Credentials) -> CredentialsFuture {
///     Box::pin(async move { Ok(login) })
/// }
/// ```
pub type CredentialsFuture = Pin<Box<dyn Future<Output = Result<Credentials>> + Send>>;

/// Returns credentials at every connect, and again before they expire.
///
/// Closures that return a future implement it, and so do [`Credentials`]. A provider reports a failure with
/// [`Error::credentials`]. A provider that panics, or takes longer than the connect timeout, counts as
/// failed.
///
/// **Over a reconnect**: the provider is called at each attempt, so that a rotated password is used. The
/// broker may refuse the credentials at every address for up to one minute, for example while it restarts,
/// before recovery ends.
///
/// Source: <https://www.rabbitmq.com/docs/oauth2>
///
/// # Examples
/// ```
/// use std::time::Duration;
/// # use actix_pika_actors::{Credentials, CredentialsProvider, Error};
///
/// fn vault() -> impl CredentialsProvider {
///     || async {
///         let token = std::env::var("TOKEN").map_err(Error::credentials)?;
///         Ok(Credentials::new("", token).expires_in(Duration::from_secs(600)))
///     }
/// }
/// ```
pub trait CredentialsProvider: Send + Sync + 'static {
    /// Returns the credentials that are valid now.
    ///
    /// # Errors
    /// The connect fails with the returned error. [`Error::credentials`] creates a retryable error of kind
    /// `Auth`. While the connection is open, the error is reported as
    /// [`RefreshFailed`](crate::ConnectionEvent::RefreshFailed), and the provider is called again later.
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
}

impl CredentialsProvider for Credentials {
    fn credentials(&self) -> CredentialsFuture {
        let credentials = self.clone();
        Box::pin(async move { Ok(credentials) })
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

/// Holds the login of a connection: fixed [`Credentials`], or a [`CredentialsProvider`]. Clones share the
/// provider.
///
/// The default is user `guest` with password `guest`.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Credentials, SharedProvider};
/// let provider = SharedProvider::new(Credentials::new("alice", "secret"));
/// assert_eq!(format!("{provider:?}"), "***");
/// ```
#[derive(Clone)]
pub struct SharedProvider(Source);

#[derive(Clone)]
enum Source {
    /// Only `connection.update-secret` changes them.
    Fixed(Credentials),
    Provider(Arc<dyn CredentialsProvider>),
}

impl SharedProvider {
    /// Wraps credentials or a provider.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Credentials, SharedProvider};
    /// let provider = SharedProvider::new(|| async { Ok(Credentials::new("alice", "secret")) });
    /// ```
    pub fn new(provider: impl CredentialsProvider) -> Self {
        match (&provider as &dyn Any).downcast_ref::<Credentials>() {
            Some(fixed) => Self(Source::Fixed(fixed.clone())),
            None => Self(Source::Provider(Arc::new(provider))),
        }
    }

    /// Returns whether only `connection.update-secret` changes the credentials.
    pub(crate) fn is_fixed(&self) -> bool {
        matches!(self.0, Source::Fixed(_))
    }

    /// Returns the credentials for a connect: those of the provider, or the fixed ones with the secret that
    /// the broker accepted last.
    pub(crate) async fn log_in(&self, updated: Option<Secret>, limit: Duration) -> Result<Credentials> {
        match (&self.0, updated) {
            (Source::Fixed(fixed), Some(secret)) => Ok(Credentials::new(fixed.user.clone(), secret)),
            _ => self.ask(limit).await,
        }
    }

    /// Asks the provider in a separate task, so that a panic in it becomes an error.
    pub(crate) async fn ask(&self, limit: Duration) -> Result<Credentials> {
        let provider = match &self.0 {
            Source::Fixed(fixed) => return Ok(fixed.clone()),
            Source::Provider(provider) => provider.clone(),
        };
        // Dropped with this future, and the task with it.
        let mut task = JoinSet::new();
        task.spawn(async move { provider.credentials().await });
        match timeout(limit, task.join_next()).await {
            Ok(Some(Ok(answer))) => answer,
            Ok(Some(Err(_)) | None) => Err(Error::credentials("the provider panicked")),
            Err(_) => {
                Err(Error::timeout(format!("the credentials provider did not answer within {limit:?}")))
            }
        }
    }
}

impl Default for SharedProvider {
    fn default() -> Self {
        Self(Source::Fixed(Credentials::new("guest", "guest")))
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
    async fn provider_that_panics_or_hangs_fails() {
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
