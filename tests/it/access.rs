//! Who is calling: sign-in, sessions, refresh tokens, one-time tokens, API keys and signing keys, on a real database.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use devhub::access::api_keys::{self, ApiKeyRefused, NewApiKey};
use devhub::access::one_time_tokens::{self, Holder, OneTimeTokenRefused, Purpose};
use devhub::access::passwords::{Credential, Scheme};
use devhub::access::permissions::Permissions;
use devhub::access::secrets::MasterKey;
use devhub::access::sessions::{self, Origin, RefreshRefused, SupportVisit};
use devhub::access::throttle::{self, Key, ThrottleError};
use devhub::access::tokens::{SupportMode, TokenError};
use devhub::access::{Access, SignInRefused, credentials};
use devhub::aggregates::ids::{TenantId, UserId};
use devhub::aggregates::permission::{Grants, Role};
use devhub::clock::Clock;
use devhub::event_store::{Database, migrate};
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;

use crate::cluster;

const ACME: TenantId = TenantId::Business(1);
const ADA: UserId = UserId(1);
const BO: UserId = UserId(2);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn platform() -> PgPool {
    let url = cluster::fresh_database("access", migrate).await;
    Database::connect(&url).await.unwrap().platform
}

fn clock() -> Clock {
    Clock::manual("2026-03-01T12:00:00.123456Z".parse().unwrap())
}

async fn access() -> Access {
    Access::start(platform().await, clock(), MasterKey::generate().unwrap(), "https://devhub.example", "devhub")
        .await
        .unwrap()
}

/// An access with one user who signs in with this address and password.
async fn access_with(email_key: &str, password: &str) -> Access {
    let access = access().await;
    let credential = access.passwords.hash(password.into()).await.unwrap();
    enter(&access, email_key, &credential).await;
    access
}

/// Lets Ada sign in with this address and credential.
async fn enter(access: &Access, email_key: &str, credential: &Credential) {
    sqlx::query("insert into platform.logins (email_key, tenant_id, user_id) values ($1, $2, $3)")
        .bind(email_key)
        .bind(ACME.to_string())
        .bind(ADA.to_string())
        .execute(&access.pool)
        .await
        .unwrap();
    credentials::store(&access.pool, ACME, ADA, credential, access.clock.now()).await.unwrap();
}

fn employee() -> Permissions {
    Permissions::resolve(Role::Employee, &Grants::new())
}

#[tokio::test]
async fn the_right_password_signs_in_and_what_is_wrong_is_not_told() {
    let access = access_with("ada@acme.example", "violet-trams").await;
    let nowhere = Origin::default();
    let signed_in = access.authenticate("ada@acme.example", "violet-trams".into(), &nowhere).await;
    assert_eq!(signed_in.unwrap(), (ACME, ADA));

    let wrong = access.authenticate("ada@acme.example", "violet-train".into(), &nowhere).await.unwrap_err();
    let unknown = access.authenticate("bo@acme.example", "violet-trams".into(), &nowhere).await.unwrap_err();
    assert_eq!(wrong.to_string(), unknown.to_string());
    assert!(matches!(wrong, SignInRefused::Wrong { account: Some((ACME, ADA)) }));
    assert!(matches!(unknown, SignInRefused::Wrong { account: None }));
}

/// `legacy-password-1`, as the old system hashed it.
const LEGACY_HASH: &str = "$2b$04$abcdefghijklmnopqrstuuqfuAqhLdQgVWgBIkuN2B/KNKiFWwsIm";

#[tokio::test]
async fn a_hash_of_the_old_system_signs_in_once_and_is_replaced() {
    let access = access().await;
    let old = Credential::from_bcrypt(LEGACY_HASH).unwrap();
    enter(&access, "ada@acme.example", &old).await;
    let kept = async || credentials::load(&access.pool, ACME, ADA).await.unwrap().unwrap();
    let sign_in =
        async |password: &str| access.authenticate("ada@acme.example", password.into(), &Origin::default()).await;
    for wrong in ["legacy-password-2", "legacy-password-1\0", "", &"legacy-password-1".repeat(9)] {
        assert!(matches!(sign_in(wrong).await, Err(SignInRefused::Wrong { .. })), "{wrong:?}");
    }
    assert_eq!(kept().await.scheme, Scheme::Bcrypt);

    // The same password twice at the same moment: both are right, and one hash stands.
    let (first, second) = tokio::join!(sign_in("legacy-password-1"), sign_in("legacy-password-1"));
    assert_eq!((first.unwrap(), second.unwrap()), ((ACME, ADA), (ACME, ADA)));
    let new = kept().await;
    assert_eq!(new.scheme, Scheme::Argon2id);
    assert!(new.hash.expose_secret().starts_with("$argon2id$"));
    sign_in("legacy-password-1").await.unwrap();
    assert_eq!(kept().await.hash.expose_secret(), new.hash.expose_secret());
    assert!(matches!(sign_in("legacy-password-2").await, Err(SignInRefused::Wrong { .. })));
}

#[tokio::test]
async fn a_password_that_was_changed_meanwhile_is_not_overwritten() {
    let access = access().await;
    let old = Credential::from_bcrypt(LEGACY_HASH).unwrap();
    enter(&access, "ada@acme.example", &old).await;
    let rehashed = access.passwords.hash("legacy-password-1".into()).await.unwrap();
    let changed = access.passwords.hash("violet-trams".into()).await.unwrap();
    credentials::store(&access.pool, ACME, ADA, &changed, access.clock.now()).await.unwrap();
    credentials::replace(&access.pool, ACME, ADA, &old, &rehashed).await.unwrap();
    let kept = credentials::load(&access.pool, ACME, ADA).await.unwrap().unwrap();
    assert_eq!(kept.hash.expose_secret(), changed.hash.expose_secret());
}

#[tokio::test]
async fn a_guessed_account_has_to_wait_even_for_the_right_password() {
    let access = access_with("ada@acme.example", "violet-trams").await;
    for _ in 0..6 {
        let refused = access.authenticate("ada@acme.example", "a wrong guess".into(), &Origin::default()).await;
        assert!(matches!(refused, Err(SignInRefused::Wrong { .. })));
    }
    let nowhere = Origin::default();
    let sign_in = || access.authenticate("ada@acme.example", "violet-trams".into(), &nowhere);
    assert!(matches!(sign_in().await, Err(SignInRefused::Wait(wait)) if wait.0 == Duration::from_secs(2)));
    access.clock.advance(Duration::from_secs(2));
    assert!(sign_in().await.is_ok());
    assert!(sign_in().await.is_ok());
}

#[tokio::test]
async fn delays_double_up_to_a_quarter_of_an_hour_and_are_forgiven_in_time() {
    let (pool, clock) = (platform().await, clock());
    let key = Key::account("ada@acme.example");
    let mut delays = Vec::new();
    for _ in 0..18 {
        throttle::attempt(&pool, &key, clock.now()).await.unwrap();
        if let Err(ThrottleError::Wait(wait)) = throttle::check(&pool, &key, clock.now()).await {
            delays.push(wait.0.as_secs());
            clock.advance(wait.0);
        }
    }
    assert_eq!(delays, [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]);
    clock.advance(DAY);
    for _ in 0..5 {
        throttle::attempt(&pool, &key, clock.now()).await.unwrap();
        assert!(throttle::check(&pool, &key, clock.now()).await.is_ok());
    }
    throttle::forget_old(&pool, clock.now() + TimeDelta::hours(1)).await.unwrap();
    assert_eq!(attempts(&pool).await, 1);
    throttle::forget_old(&pool, clock.now() + TimeDelta::hours(2)).await.unwrap();
    assert_eq!(attempts(&pool).await, 0);
}

async fn attempts(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from platform.login_attempts").fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn guesses_at_the_same_moment_are_counted_one_by_one() {
    let (pool, now) = (platform().await, clock().now());
    let key = Key::account("ada@acme.example");
    let guesses = (0..40).map(|_| throttle::attempt(&pool, &key, now));
    let let_through = futures::future::join_all(guesses).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(let_through, 6);
}

#[tokio::test]
async fn an_address_keeps_its_failures_when_one_account_of_it_signs_in() {
    let (pool, now) = (platform().await, clock().now());
    let office = Key::address("192.0.2.1".parse().unwrap());
    for _ in 0..50 {
        throttle::attempt(&pool, &office, now).await.unwrap();
    }
    throttle::attempt(&pool, &office, now).await.unwrap();
    throttle::succeeded(&pool, &office).await.unwrap();
    throttle::attempt(&pool, &office, now).await.unwrap();
    assert!(matches!(throttle::attempt(&pool, &office, now).await, Err(ThrottleError::Wait(_))));
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_a_second_use_ends_the_session() {
    let access = access().await;
    let now = access.clock.now();
    let opened = access.open_session(ACME, ADA, &Origin::default()).await.unwrap();
    let second = sessions::refresh(&access.pool, &opened.refresh_token, now).await.unwrap();
    assert_eq!(second.session.id, opened.session.id);

    let reused = sessions::refresh(&access.pool, &opened.refresh_token, now).await;
    let ended = opened.session.id;
    assert!(matches!(reused, Err(RefreshRefused::Reused { session, tenant: ACME, user: ADA }) if session == ended));
    assert_eq!(sessions::active(&access.pool, ended, now).await.unwrap(), None);
    let last = sessions::refresh(&access.pool, &second.refresh_token, now).await;
    assert!(matches!(last, Err(RefreshRefused::Ended)));
    let unknown = sessions::refresh(&access.pool, &"never issued".into(), now).await;
    assert!(matches!(unknown, Err(RefreshRefused::Unknown)));
}

#[tokio::test]
async fn of_simultaneous_uses_of_a_refresh_token_one_wins_and_the_session_ends() {
    let access = access().await;
    let now = access.clock.now();
    for _ in 0..10 {
        let opened = access.open_session(ACME, ADA, &Origin::default()).await.unwrap();
        let uses = (0..6).map(|_| sessions::refresh(&access.pool, &opened.refresh_token, now));
        let (won, lost): (Vec<_>, Vec<_>) = futures::future::join_all(uses).await.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        let (reused, late): (Vec<_>, Vec<_>) =
            lost.iter().partition(|refused| matches!(refused, Err(RefreshRefused::Reused { .. })));
        assert_eq!(reused.len(), 1, "the session is ended once");
        assert!(late.iter().all(|refused| matches!(refused, Err(RefreshRefused::Ended))));
        assert_eq!(sessions::active(&access.pool, opened.session.id, now).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_session_lives_thirty_days_from_its_last_use_and_ninety_from_its_first() {
    let access = access().await;
    let first = access.clock.now();
    let mut opened = access.open_session(ACME, ADA, &Origin::default()).await.unwrap();
    assert_eq!(opened.session.expires_at, first + TimeDelta::days(30));
    for _ in 0..4 {
        access.clock.advance(20 * DAY);
        opened = sessions::refresh(&access.pool, &opened.refresh_token, access.clock.now()).await.unwrap();
    }
    assert_eq!(opened.session.expires_at, first + TimeDelta::days(90));
    access.clock.advance(10 * DAY);
    let late = sessions::refresh(&access.pool, &opened.refresh_token, access.clock.now()).await;
    assert!(matches!(late, Err(RefreshRefused::Ended)));

    let idle = access.open_session(ACME, ADA, &Origin::default()).await.unwrap();
    access.clock.advance(30 * DAY);
    assert_eq!(sessions::active(&access.pool, idle.session.id, access.clock.now()).await.unwrap(), None);
}

#[tokio::test]
async fn a_user_sees_and_ends_their_own_sessions_and_nobody_elses() {
    let access = access().await;
    let pool = &access.pool;
    let origin = Origin { address: Some("192.0.2.7".parse().unwrap()), user_agent: Some("x".repeat(1_000)) };
    let here = access.open_session(ACME, ADA, &origin).await.unwrap().session;
    access.clock.advance(Duration::from_secs(1));
    let there = access.open_session(ACME, ADA, &origin).await.unwrap().session;
    let other = access.open_session(ACME, BO, &origin).await.unwrap().session;
    let now = access.clock.now();
    assert_eq!(here.address.as_deref(), Some("192.0.2.7"));
    assert_eq!(here.user_agent.as_ref().map(String::len), Some(256));
    assert_eq!(sessions::list(pool, ACME, ADA, now).await.unwrap(), [there.clone(), here.clone()]);

    assert!(!sessions::revoke(pool, ACME, ADA, other.id, now).await.unwrap());
    assert!(!sessions::revoke(pool, TenantId::Business(2), BO, other.id, now).await.unwrap());
    assert_eq!(sessions::revoke_all(pool, ACME, ADA, Some(here.id), now).await.unwrap(), 1);
    assert_eq!(sessions::list(pool, ACME, ADA, now).await.unwrap(), std::slice::from_ref(&here));
    assert!(sessions::revoke(pool, ACME, ADA, here.id, now).await.unwrap());
    assert!(!sessions::revoke(pool, ACME, ADA, here.id, now).await.unwrap());
    assert_eq!(sessions::active(pool, other.id, now).await.unwrap(), Some(other));
}

#[tokio::test]
async fn a_support_session_ends_in_time_or_with_the_founders_own() {
    let access = access().await;
    let (pool, now) = (&access.pool, access.clock.now());
    let founder = access.open_session(TenantId::Platform, UserId::FOUNDER, &Origin::default()).await.unwrap().session;
    let visit = SupportVisit { tenant: ACME, mode: SupportMode::Read };
    let hour = now + TimeDelta::hours(1);
    let support = sessions::open_support(pool, &founder, visit, hour, now).await.unwrap();
    assert_eq!((support.support, support.expires_at), (Some(visit), hour));
    assert!(sessions::active(pool, support.id, hour - TimeDelta::microseconds(1)).await.unwrap().is_some());
    assert_eq!(sessions::active(pool, support.id, hour).await.unwrap(), None);

    let issued = access.issue(&support, Role::PlatformFounder, &employee()).await.unwrap();
    let claims = access.keys.verify(issued.access_token.expose_secret(), now).unwrap();
    assert_eq!((claims.tenant_id, claims.sid), (Some(ACME), support.id));

    let endless = sessions::open_support(pool, &founder, visit, now + TimeDelta::days(365), now).await.unwrap();
    assert_eq!(endless.expires_at, founder.expires_at);
    assert!(sessions::open_support(pool, &endless, visit, hour, now).await.is_err());
    sessions::revoke(pool, founder.tenant, founder.user, founder.id, now).await.unwrap();
    assert_eq!(sessions::active(pool, support.id, now).await.unwrap(), None);
    assert!(sessions::open_support(pool, &founder, visit, hour, now).await.is_err());
}

#[tokio::test]
async fn a_one_time_token_is_used_once_in_time_and_for_its_purpose() {
    let (pool, now) = (platform().await, clock().now());
    for (purpose, other, days) in
        [(Purpose::Invitation, Purpose::PasswordReset, 7), (Purpose::PasswordReset, Purpose::Invitation, 3)]
    {
        let mut db = pool.acquire().await.unwrap();
        let first = one_time_tokens::create(&mut db, purpose, ACME, BO, "system", now).await.unwrap();
        let second = one_time_tokens::create(&mut db, purpose, ACME, BO, "TNT-001:USR-001", now).await.unwrap();
        let withdrawn = one_time_tokens::consume(&mut db, purpose, &first.token, now).await;
        assert!(matches!(withdrawn, Err(OneTimeTokenRefused::Unknown(_))));
        let elsewhere = one_time_tokens::consume(&mut db, other, &second.token, now).await;
        assert!(matches!(elsewhere, Err(OneTimeTokenRefused::Unknown(_))));
        one_time_tokens::revoke(&pool, other, ACME, BO).await.unwrap();
        let holder = Holder { tenant: ACME, user: BO, issued_by: "TNT-001:USR-001".into() };
        assert_eq!(one_time_tokens::find(&pool, purpose, &second.token, now).await.unwrap(), holder);
        let late = one_time_tokens::consume(&mut db, purpose, &second.token, now + TimeDelta::days(days)).await;
        assert!(matches!(late, Err(OneTimeTokenRefused::Expired(_))));
        drop(db);

        let accept = || async {
            let mut db = pool.acquire().await.unwrap();
            one_time_tokens::consume(&mut db, purpose, &second.token, now).await
        };
        let (a, b, c) = tokio::join!(accept(), accept(), accept());
        let (accepted, refused): (Vec<_>, Vec<_>) = [a, b, c].into_iter().partition(Result::is_ok);
        assert_eq!(accepted.len(), 1);
        assert!(refused.iter().all(|refused| matches!(refused, Err(OneTimeTokenRefused::Used(_)))));
    }
}

fn new_key(expires_at: Option<DateTime<Utc>>) -> NewApiKey {
    NewApiKey { name: "import".into(), role: Role::Employee, permissions: employee(), expires_at }
}

#[tokio::test]
async fn an_api_key_is_good_until_it_is_withdrawn_or_expires() {
    let (pool, now) = (platform().await, clock().now());
    let day = now + TimeDelta::days(1);
    let (key, shown) = api_keys::create(&pool, ACME, ADA, &new_key(Some(day)), now).await.unwrap();
    assert!(shown.expose_secret().starts_with(&format!("dvh_{}_", key.key_id)));
    assert_eq!(api_keys::verify(&pool, &shown, now).await.unwrap(), key);
    assert_eq!(key.permissions, employee());

    let guess = SecretString::from(format!("dvh_{}_guess", key.key_id));
    assert!(matches!(api_keys::verify(&pool, &guess, now).await, Err(ApiKeyRefused::Unknown)));
    assert!(matches!(api_keys::verify(&pool, &shown, day).await, Err(ApiKeyRefused::Expired)));
    assert!(!api_keys::revoke(&pool, TenantId::Business(2), &key.key_id, now).await.unwrap());
    assert!(api_keys::revoke(&pool, ACME, &key.key_id, now).await.unwrap());
    assert!(matches!(api_keys::verify(&pool, &shown, now).await, Err(ApiKeyRefused::Revoked)));
    assert_eq!(api_keys::list(&pool, ACME, now).await.unwrap(), []);
}

#[tokio::test]
async fn the_last_use_of_a_key_is_noted_once_a_minute() {
    let (pool, now) = (platform().await, clock().now());
    let (key, shown) = api_keys::create(&pool, ACME, ADA, &new_key(None), now).await.unwrap();
    let second = TimeDelta::seconds(1);
    for (at, noted) in
        [(now, now), (now + second, now), (now + second * 59, now), (now + second * 60, now + second * 60)]
    {
        api_keys::touch(&pool, &key, at).await.unwrap();
        assert_eq!(api_keys::verify(&pool, &shown, at).await.unwrap().last_used_at, Some(noted));
    }
    assert_eq!(api_keys::list(&pool, ACME, now).await.unwrap().len(), 1);
}

#[tokio::test]
async fn keys_are_shared_by_all_processes_and_rotate_without_a_gap() {
    let pool = platform().await;
    let (clock, master) = (clock(), MasterKey::generate().unwrap());
    let start = || Access::start(pool.clone(), clock.clone(), master.clone(), "https://devhub.example", "devhub");
    let (one, two, three) = tokio::join!(start(), start(), start());
    let (one, two, _) = (one.unwrap(), two.unwrap(), three.unwrap());
    assert_eq!(published(&one).len(), 1);

    let session = one.open_session(ACME, ADA, &Origin::default()).await.unwrap().session;
    let token = one.issue(&session, Role::Employee, &employee()).await.unwrap().access_token;
    let claims = two.keys.verify(token.expose_secret(), clock.now()).unwrap();
    assert_eq!((claims.sid, &claims.permissions), (session.id, &employee()));

    // A day before the first ends, the second is announced; one process makes it, both have it.
    clock.advance(29 * DAY);
    let (a, b) = tokio::join!(one.tidy(), two.tidy());
    a.and(b).unwrap();
    assert_eq!(published(&one).len(), 2);
    assert_eq!(published(&one), published(&two));

    clock.advance(DAY - Duration::from_secs(60));
    let session = one.open_session(ACME, ADA, &Origin::default()).await.unwrap().session;
    let old = one.issue(&session, Role::Employee, &employee()).await.unwrap().access_token;
    clock.advance(Duration::from_secs(120));
    let new = one.issue(&session, Role::Employee, &employee()).await.unwrap().access_token;
    for token in [&old, &new] {
        assert!(two.keys.verify(token.expose_secret(), clock.now()).is_ok());
    }
    clock.advance(Duration::from_secs(14 * 60));
    one.tidy().await.unwrap();
    one.keys.reload(&pool, clock.now()).await.unwrap();
    assert_eq!(published(&one).len(), 1);
    assert_eq!(one.keys.verify(old.expose_secret(), clock.now()).unwrap_err(), TokenError::UnknownKey);
    assert!(one.keys.verify(new.expose_secret(), clock.now()).is_ok());
}

fn published(access: &Access) -> Vec<String> {
    let keys = access.keys.jwks(access.clock.now());
    keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn keys_do_not_open_with_another_master_key() {
    let access = access().await;
    let other = MasterKey::generate().unwrap();
    let started = Access::start(access.pool.clone(), clock(), other, "https://devhub.example", "devhub").await;
    assert!(started.is_err());
}

#[tokio::test]
async fn nothing_that_is_kept_can_be_used_as_it_stands() {
    let access = access_with("ada@acme.example", "violet-trams").await;
    let now = access.clock.now();
    let opened = access.open_session(ACME, ADA, &Origin::default()).await.unwrap();
    let (_, key) = api_keys::create(&access.pool, ACME, ADA, &new_key(None), now).await.unwrap();
    let mut db = access.pool.acquire().await.unwrap();
    let invitation = one_time_tokens::create(&mut db, Purpose::Invitation, ACME, BO, "system", now).await.unwrap();
    let secret_of_key = key.expose_secret().splitn(3, '_').nth(2).unwrap();
    let secrets =
        ["violet-trams", opened.refresh_token.expose_secret(), secret_of_key, invitation.token.expose_secret()];

    for table in ["credentials", "sessions", "refresh_tokens", "one_time_tokens", "api_keys", "login_attempts"] {
        let kept: String =
            sqlx::query_scalar(&format!("select coalesce(string_agg(t::text, ' '), '') from platform.{table} t"))
                .fetch_one(&access.pool)
                .await
                .unwrap();
        for secret in secrets {
            assert!(!kept.contains(secret) && !kept.contains(&hex::encode(secret)), "{table}");
        }
    }
    let printed = format!("{opened:?} {invitation:?} {key:?}");
    assert!(secrets.iter().all(|secret| !printed.contains(secret)));
}
