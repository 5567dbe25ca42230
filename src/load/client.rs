//! A client that speaks to one server over one connection, as a browser's tab or a program's worker does.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;

/// A request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no connection.
    #[error("{0} cannot be reached: {1}")]
    Connect(String, std::io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    /// The request cannot be written down.
    #[error("the request makes no sense: {0}")]
    Request(#[from] hyper::http::Error),
    /// Latencies cannot be counted.
    #[error("latencies cannot be counted: {0}")]
    Count(#[from] hdrhistogram::CreationError),
    /// The answer is not what was expected.
    #[error("{method} {path} answered {status}: {body}")]
    Unexpected {
        /// What was done.
        method: Method,
        /// With what.
        path: String,
        /// What came of it.
        status: StatusCode,
        /// In words.
        body: String,
    },
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// What came of it.
    pub status: StatusCode,
    /// The whole body.
    pub body: Bytes,
}

/// A connection that stays open.
pub struct Client {
    address: String,
    sender: Option<SendRequest<Full<Bytes>>>,
    token: Option<SecretString>,
}

impl Client {
    /// One to `host:port`; it is opened with the first request, and again if the server closed it.
    #[must_use]
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), sender: None, token: None }
    }

    /// Sends this token with every request from now on.
    pub fn act_with(&mut self, token: SecretString) {
        self.token = Some(token);
    }

    /// Sends one request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// [`CallError`], if there is no answer.
    pub async fn call(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, CallError> {
        let mut sender = match self.sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.address);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose_secret()));
        }
        let body = body.map(|body| Bytes::from(body.to_string()));
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body.unwrap_or_default()))?;
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        self.sender = Some(sender);
        Ok(Answer { status, body })
    }

    /// Sends one request that is to succeed, and reads its answer.
    ///
    /// # Errors
    /// [`CallError`], also for a status that is no success and a body of another form.
    pub async fn expect<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, CallError> {
        let Answer { status, body } = self.call(method.clone(), path, body).await?;
        let read = if status.is_success() { serde_json::from_slice(&body).ok() } else { None };
        read.ok_or_else(|| CallError::Unexpected {
            method,
            path: path.to_owned(),
            status,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, CallError> {
        let unreachable = |error| CallError::Connect(self.address.clone(), error);
        let stream = TcpStream::connect(&self.address).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Whoever sends next learns of it.
            let _ = connection.await;
        });
        Ok(sender)
    }
}
