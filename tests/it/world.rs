//! The world of a test: a server on a database of its own, businesses in it, and the people who use it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use devhub::access::secrets::MasterKey;
use devhub::api::limits::RateLimits;
use devhub::api::{self, App};
use devhub::clock::Clock;
use devhub::event_store::{self, Database};
use devhub::founding;
use http_body_util::BodyExt;
use secrecy::SecretString;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::cluster::fresh_database;
use crate::promised::{Asked, assert_promised};

/// A password that passes.
pub const PASSWORD: &str = "correct horse battery staple";
/// The founder's address.
pub const FOUNDER: &str = "founder@devhub.test";

/// A running server on a fresh database.
pub struct World {
    pub app: App,
    pub router: Router,
    pub clock: Clock,
    pub url: String,
    master: MasterKey,
}

/// A client: nobody, a person, or a program.
#[derive(Clone)]
pub struct Client {
    router: Router,
    pub token: Option<String>,
    pub refresh_token: Option<String>,
    pub user: Value,
    pub tenant: Option<String>,
    people: std::sync::Arc<AtomicU32>,
}

/// An answer.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl World {
    /// A server with its founder and nothing else.
    pub async fn start() -> Self {
        Self::start_with(RateLimits {
            user_per_minute: 1_000_000.try_into().unwrap(),
            tenant_per_minute: 1_000_000.try_into().unwrap(),
            sign_in_per_minute: 1_000_000.try_into().unwrap(),
            behind_proxy: false,
        })
        .await
    }

    /// A server that nobody has founded: no founder, no business.
    pub async fn unfounded() -> Self {
        let url = fresh_database("devhub", event_store::migrate).await;
        let clock = Clock::manual("2026-03-02T09:00:00Z".parse().unwrap());
        Self::open(url, clock, MasterKey::generate().unwrap(), RateLimits::default()).await
    }

    /// A server with other rate limits.
    pub async fn start_with(limits: RateLimits) -> Self {
        let url = fresh_database("devhub", event_store::migrate).await;
        let clock = Clock::manual("2026-03-02T09:00:00Z".parse().unwrap());
        let master = MasterKey::generate().unwrap();
        Self::on(url, clock, master, limits).await
    }

    /// A server on a database that may have been used before.
    pub async fn on(url: String, clock: Clock, master: MasterKey, limits: RateLimits) -> Self {
        let world = Self::open(url, clock, master, limits).await;
        founding::found(&world.app, FOUNDER, Some(&SecretString::from(PASSWORD))).await.unwrap();
        world
    }

    async fn open(url: String, clock: Clock, master: MasterKey, limits: RateLimits) -> Self {
        let database = Database::connect(&url).await.unwrap();
        let (app, tasks) = App::start(database, clock.clone(), master.clone(), limits).await.unwrap();
        // The tasks end with the runtime of the test.
        std::mem::forget(tasks);
        let router = api::router(&app);
        Self { app, router, clock, url, master }
    }

    /// Another server on the same database.
    pub async fn second_server(&self) -> Self {
        let many = 1_000_000.try_into().unwrap();
        let limits = RateLimits {
            user_per_minute: many,
            tenant_per_minute: many,
            sign_in_per_minute: many,
            behind_proxy: false,
        };
        Self::on(self.url.clone(), self.clock.clone(), self.master.clone(), limits).await
    }

    /// Somebody who has not signed in.
    pub fn nobody(&self) -> Client {
        Client {
            router: self.router.clone(),
            token: None,
            refresh_token: None,
            user: Value::Null,
            tenant: None,
            people: std::sync::Arc::default(),
        }
    }

    /// The platform founder, signed in.
    pub async fn founder(&self) -> Client {
        self.nobody().signed_in(FOUNDER, PASSWORD).await
    }

    /// A business on the enterprise plan; its owner, signed in.
    pub async fn business(&self, name: &str) -> Client {
        self.business_on(name, "enterprise").await
    }

    /// A business on a plan; its owner, signed in.
    pub async fn business_on(&self, name: &str, plan: &str) -> Client {
        let slug = name.to_lowercase().replace(' ', "-");
        let body = json!({
            "business_name": name, "business_email": format!("office@{slug}.test"), "subscription_plan": plan,
            "owner": {"email": format!("owner@{slug}.test"), "full_name": format!("Owner of {name}"), "password": PASSWORD},
        });
        let registered = self.nobody().post("/api/auth/register-business", body).await.expect(201);
        self.nobody().with_tokens(&registered)
    }

    /// Waits until everything stored can be read.
    pub async fn caught_up(&self) {
        let head = *self.app.store.head().borrow();
        self.app.projections.reached(head, Duration::from_secs(30)).await.unwrap();
    }
}

impl Client {
    /// The same connection, signed in as somebody.
    pub async fn signed_in(&self, email: &str, password: &str) -> Self {
        let body = self.post("/api/auth/login", json!({"email": email, "password": password})).await.expect(200);
        self.with_tokens(&body)
    }

    /// The same connection with the tokens of an answer.
    pub fn with_tokens(&self, body: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            router: self.router.clone(),
            token: text(&body["access_token"]),
            refresh_token: text(&body["refresh_token"]),
            user: body["user"].clone(),
            tenant: text(&body["tenant"]["id"]),
            people: std::sync::Arc::clone(&self.people),
        }
    }

    /// The same person at another server.
    pub fn at(&self, world: &World) -> Self {
        Self { router: world.router.clone(), ..self.clone() }
    }

    /// The same connection with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The user's id, `USR-001`.
    pub fn id(&self) -> &str {
        self.user["id"].as_str().unwrap()
    }

    /// Invites a manager of a department, who accepts.
    pub async fn manager(&self, name: &str, department: &str) -> Self {
        self.person(name, "MANAGER", Some(department)).await
    }

    /// Invites an employee of a department, who accepts.
    pub async fn employee(&self, name: &str, department: &str) -> Self {
        self.person(name, "EMPLOYEE", Some(department)).await
    }

    /// Invites somebody, who accepts.
    pub async fn person(&self, name: &str, role: &str, department: Option<&str>) -> Self {
        let number = self.people.fetch_add(1, Ordering::Relaxed);
        let tenant = self.tenant.clone().unwrap_or_default().to_lowercase();
        let email = format!("{name}.{number}@{tenant}.test");
        let mut body = json!({"email": email, "full_name": name, "role": role});
        if let Some(department) = department {
            body["department"] = json!(department);
        }
        let invited = self.post("/api/users", body).await.expect(201);
        let token = invited["invitation"]["token"].as_str().unwrap();
        let accept = json!({"token": token, "password": PASSWORD});
        let accepted = self.anonymous().post("/api/auth/accept-invitation", accept).await.expect(200);
        let mut person = self.with_tokens(&accepted);
        person.tenant = self.tenant.clone();
        person.user = invited;
        person
    }

    /// The same connection, signed out.
    pub fn anonymous(&self) -> Self {
        Self { token: None, refresh_token: None, user: Value::Null, tenant: None, ..self.clone() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, &[], Some(body)).await
    }

    /// A POST without a body.
    pub async fn act(&self, path: &str) -> Answer {
        self.send(Method::POST, path, &[], None).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, &[], Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], None).await
    }

    /// Any request.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
        let asked = Asked { method: method.clone(), path: path.to_owned(), body: body.clone() };
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Some(body) => {
                if !headers.iter().any(|(name, _)| *name == "content-type") {
                    request = request.header("content-type", "application/json");
                }
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let peer: SocketAddr = "127.0.0.1:40000".parse().unwrap();
        let request = request.extension(ConnectInfo(peer)).body(body).unwrap();
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let answer = Answer { status: parts.status, headers: parts.headers, text };
        assert_promised(&asked, &answer);
        answer
    }
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text))
    }

    /// The body, of an answer with this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// The body of a 200.
    #[track_caller]
    pub fn ok(&self) -> Value {
        self.expect(200)
    }

    /// The id of what was created.
    #[track_caller]
    pub fn created(&self) -> String {
        self.expect(201)["id"].as_str().unwrap().to_owned()
    }

    /// The problem, of an answer with this status and code.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.expect(status);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(problem["code"], code, "{problem}");
        problem
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
