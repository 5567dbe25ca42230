//! Tokens that must pass, and every kind that must not.

use super::*;
use crate::access::permissions::Permissions;
use crate::access::sessions::{Session, SupportVisit};
use crate::access::tokens::{Act, Subject, Support, SupportMode};
use crate::aggregates::ids::{TenantId, UserId};
use crate::aggregates::permission::{Action, Grants, Role};
use crate::clock::new_event_id;

fn now() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn key(kid: &str, signs_from: DateTime<Utc>) -> Key {
    let private = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let public = Ed25519KeyPair::from_pkcs8(private.as_ref()).unwrap().public_key().as_ref().to_vec();
    Key {
        kid: kid.to_owned(),
        signs_from,
        signs_until: signs_from + SIGNS_FOR,
        verifies_until: signs_from + SIGNS_FOR + ACCESS_TOKEN_LIFETIME,
        signing: EncodingKey::from_ed_der(private.as_ref()),
        verifying: DecodingKey::from_ed_der(&public),
        public,
    }
}

fn ring(keys: impl IntoIterator<Item = Key>) -> KeyRing {
    KeyRing {
        master: Arc::new(MasterKey::generate().unwrap()),
        issuer: "https://devhub.example".into(),
        audience: "devhub".into(),
        rotates: true,
        keys: RwLock::new(keys.into_iter().collect()),
        verified: Cache::new(100),
    }
}

fn session() -> Session {
    Session {
        id: new_event_id(now()),
        tenant: TenantId::Business(1),
        user: UserId(4),
        created_at: now(),
        last_used_at: now(),
        expires_at: now() + TimeDelta::days(30),
        address: None,
        user_agent: None,
        support: None,
    }
}

fn claims() -> Claims {
    let permissions = Permissions::resolve(Role::Manager, &Grants::new());
    Claims::new(&session(), Role::Manager, &permissions, "https://devhub.example", "devhub", now())
}

fn part(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Signs whatever the test says, with a real key of the ring.
fn signed(ring: &KeyRing, header: &Value, payload: &Value) -> String {
    let message = format!("{}.{}", part(header), part(payload));
    let signature = crypto::sign(message.as_bytes(), &ring.keys()[0].signing, Algorithm::EdDSA).unwrap();
    format!("{message}.{signature}")
}

#[test]
fn a_token_says_what_was_signed_until_it_expires() {
    let ring = ring([key("a", now())]);
    let token = ring.sign(&claims(), now()).unwrap();
    let read = ring.verify(&token, now()).unwrap();
    assert_eq!(read.sub.to_string(), "TNT-001:USR-004");
    assert_eq!((read.tenant_id, read.user_role, read.is_founder), (Some(TenantId::Business(1)), Role::Manager, false));
    let end = now() + ACCESS_TOKEN_LIFETIME;
    assert!(ring.verify(&token, end - TimeDelta::microseconds(1)).is_ok());
    assert_eq!(ring.verify(&token, end), Err(TokenError::Expired));
}

#[test]
fn the_header_is_that_of_an_access_token() {
    let ring = ring([key("a", now())]);
    let header = decode_header(ring.sign(&claims(), now()).unwrap()).unwrap();
    assert_eq!(
        (header.alg, header.typ.as_deref(), header.kid.as_deref()),
        (Algorithm::EdDSA, Some("at+jwt"), Some("a"))
    );
}

#[test]
fn a_founders_token_has_no_tenant_and_a_support_token_the_visited_one() {
    let mut session = Session { tenant: TenantId::Platform, user: UserId::FOUNDER, ..session() };
    let everything = Permissions::resolve(Role::PlatformFounder, &Grants::new());
    let own = Claims::new(&session, Role::PlatformFounder, &everything, "i", "a", now());
    assert_eq!((own.tenant_id, own.is_founder), (None, true));
    assert_eq!(serde_json::to_value(&own).unwrap()["tenant_id"], Value::Null);

    session.support = Some(SupportVisit { tenant: TenantId::Business(7), mode: SupportMode::Read });
    let visit = Claims::new(&session, Role::PlatformFounder, &everything, "i", "a", now());
    let founder = Subject { tenant: TenantId::Platform, user: UserId::FOUNDER };
    assert_eq!(visit.tenant_id, Some(TenantId::Business(7)));
    assert_eq!(visit.support, Some(Support { mode: SupportMode::Read, by: founder }));
    assert_eq!(visit.act, Some(Act { sub: founder }));
    assert!(visit.permissions.iter().all(|(permission, _)| permission.action == Action::Read));
}

#[test]
fn a_token_does_not_outlive_its_session() {
    let short = Session { expires_at: now() + TimeDelta::minutes(2), ..session() };
    let claims = Claims::new(&short, Role::Employee, &Permissions::default(), "i", "a", now());
    assert_eq!(claims.exp, short.expires_at.timestamp());
}

#[test]
fn a_tampered_token_is_refused_byte_by_byte() {
    let ring = ring([key("a", now())]);
    let token = ring.sign(&claims(), now()).unwrap();
    assert!(ring.verify(&token, now()).is_ok());
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(ring.verify(&String::from_utf8(bytes).unwrap(), now()).is_err(), "byte {at}");
    }
}

#[test]
fn tampered_claims_are_refused() {
    let ring = ring([key("a", now())]);
    let token = ring.sign(&claims(), now()).unwrap();
    let parts: Vec<_> = token.split('.').collect();
    let mut payload = serde_json::to_value(claims()).unwrap();
    payload["user_role"] = json!("BUSINESS_OWNER");
    let forged = format!("{}.{}.{}", parts[0], part(&payload), parts[2]);
    assert_eq!(ring.verify(&forged, now()), Err(TokenError::BadSignature));
}

#[test]
fn no_other_algorithm_is_accepted() {
    let ring = ring([key("a", now())]);
    let payload = part(&serde_json::to_value(claims()).unwrap());
    for alg in ["none", "None", "", "HS256", "RS256", "ES256", "eddsa"] {
        let header = part(&json!({"alg": alg, "typ": "at+jwt", "kid": "a"}));
        for signature in ["", "AAAA"] {
            let refused = ring.verify(&format!("{header}.{payload}.{signature}"), now()).unwrap_err();
            assert!(matches!(refused, TokenError::Malformed | TokenError::WrongKind), "{alg}: {refused}");
        }
    }
}

#[test]
fn the_public_key_is_no_shared_secret() {
    let ring = ring([key("a", now())]);
    let public = EncodingKey::from_secret(&ring.keys()[0].public);
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some(ACCESS_TOKEN_TYPE.into());
    header.kid = Some("a".into());
    let forged = encode(&header, &claims(), &public).unwrap();
    assert_eq!(ring.verify(&forged, now()), Err(TokenError::WrongKind));
}

#[test]
fn the_sender_cannot_bring_a_key() {
    let (ours, theirs) = (ring([key("a", now())]), ring([key("a", now())]));
    let mut header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "a"});
    header["jwk"] = theirs.jwks(now())["keys"][0].clone();
    let payload = serde_json::to_value(claims()).unwrap();
    assert_eq!(ours.verify(&signed(&theirs, &header, &payload), now()), Err(TokenError::BadSignature));
}

#[test]
fn another_type_another_key_and_critical_extensions_are_refused() {
    let ring = ring([key("a", now())]);
    let payload = serde_json::to_value(claims()).unwrap();
    for (header, refusal) in [
        (json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "a"}), None),
        (json!({"alg": "EdDSA", "typ": "JWT", "kid": "a"}), Some(TokenError::WrongKind)),
        (json!({"alg": "EdDSA", "kid": "a"}), Some(TokenError::WrongKind)),
        (json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "a", "crit": ["b64"]}), Some(TokenError::WrongKind)),
        (json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "b"}), Some(TokenError::UnknownKey)),
        (json!({"alg": "EdDSA", "typ": "at+jwt"}), Some(TokenError::UnknownKey)),
    ] {
        assert_eq!(ring.verify(&signed(&ring, &header, &payload), now()).err(), refusal, "{header}");
    }
}

#[test]
fn a_token_of_or_for_somebody_else_or_from_the_future_is_refused() {
    let ring = ring([key("a", now())]);
    let later = (now() + TimeDelta::seconds(1)).timestamp();
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "a"});
    for (claim, value, refusal) in [
        ("iss", json!("https://elsewhere.example"), TokenError::WrongParty),
        ("aud", json!("elsewhere"), TokenError::WrongParty),
        ("aud", json!(["devhub"]), TokenError::Malformed),
        ("iat", json!(later), TokenError::NotYet),
        ("nbf", json!(later), TokenError::NotYet),
        ("exp", json!(now().timestamp()), TokenError::Expired),
        ("exp", Value::Null, TokenError::Malformed),
        ("sub", json!("TNT-001"), TokenError::Malformed),
        ("user_role", json!("CLIENT"), TokenError::Malformed),
    ] {
        let mut payload = serde_json::to_value(claims()).unwrap();
        payload[claim] = value;
        assert_eq!(ring.verify(&signed(&ring, &header, &payload), now()), Err(refusal), "{claim}");
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let ring = ring([key("a", now())]);
    for text in ["", ".", "..", "a.b.c", "Bearer", "eyJhbGciOiJFZERTQSJ9", "ü.ü.ü"] {
        assert_eq!(ring.verify(text, now()), Err(TokenError::Malformed), "{text}");
    }
}

#[test]
fn during_a_rotation_both_keys_are_published_and_the_old_one_verifies_what_it_signed() {
    let start = now() - SIGNS_FOR;
    let ring = ring([key("new", now()), key("old", start)]);
    let before = now() - TimeDelta::seconds(1);
    let kid = |token: &str| decode_header(token).unwrap().kid.unwrap();

    let old = ring.sign(&Claims { iat: before.timestamp(), ..claims() }, before).unwrap();
    assert_eq!(kid(&old), "old");
    assert_eq!(kid(&ring.sign(&claims(), now()).unwrap()), "new");
    assert!(ring.verify(&old, now() + TimeDelta::minutes(10)).is_ok());
    assert_eq!(ring.jwks(before)["keys"].as_array().unwrap().len(), 2);

    let later = now() + ACCESS_TOKEN_LIFETIME;
    assert_eq!(ring.jwks(later)["keys"].as_array().unwrap().len(), 1);
    // Even a token that says otherwise ends with its key, remembered or not.
    let endless = signed(
        &self::ring([key_of(&ring, 1)]),
        &json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "old"}),
        &serde_json::to_value(Claims { exp: i64::MAX, ..claims() }).unwrap(),
    );
    assert!(ring.verify(&endless, now()).is_ok());
    assert_eq!(ring.verify(&endless, later), Err(TokenError::UnknownKey));
}

/// A copy of one of the ring's keys.
fn key_of(ring: &KeyRing, index: usize) -> Key {
    let key = &ring.keys()[index];
    Key {
        kid: key.kid.clone(),
        signs_from: key.signs_from,
        signs_until: key.signs_until,
        verifies_until: key.verifies_until,
        public: key.public.clone(),
        signing: key.signing.clone(),
        verifying: key.verifying.clone(),
    }
}

#[test]
fn only_public_halves_are_published() {
    let ring = ring([key("a", now())]);
    let published = ring.jwks(now());
    let key = published["keys"][0].as_object().unwrap();
    assert_eq!(key.keys().collect::<Vec<_>>(), ["alg", "crv", "kid", "kty", "use", "x"]);
    assert_eq!(key["x"].as_str().unwrap().len(), 43);
}

#[test]
fn no_key_signs_before_or_after_its_time() {
    let ring = ring([key("a", now())]);
    for outside in [now() - TimeDelta::seconds(1), now() + SIGNS_FOR] {
        assert!(matches!(ring.sign(&claims(), outside), Err(KeyRingError::NoneSigns)));
    }
}
