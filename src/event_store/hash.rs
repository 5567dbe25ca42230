//! The tenant's hash chain: each event's hash covers the one before it, so nothing can be changed, added or
//! taken out of the middle without every later hash telling.

use aws_lc_rs::digest::{Context, SHA256};
use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

/// The hash before a tenant's first event.
pub const GENESIS: [u8; 32] = [0; 32];

/// What a link of the chain covers, beside the link before it.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a> {
    /// Whose event.
    pub tenant_id: &'a str,
    /// Its place in the tenant's history.
    pub tenant_position: i64,
    /// The aggregate's type.
    pub aggregate_type: &'a str,
    /// The aggregate's id, with its tenant.
    pub aggregate_id: &'a str,
    /// Its place in the aggregate's stream.
    pub sequence: i64,
    /// The event's own id.
    pub event_id: Uuid,
    /// The type of the event.
    pub event_type: &'a str,
    /// The version of that type.
    pub event_version: &'a str,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// When the store took it.
    pub recorded_at: DateTime<Utc>,
    /// The payload as RFC 8785 JSON.
    pub payload: &'a [u8],
    /// The metadata as RFC 8785 JSON.
    pub metadata: &'a [u8],
}

impl Link<'_> {
    /// SHA-256 over the previous hash and every field, each preceded by its length as eight bytes, big-endian.
    ///
    /// Times are RFC 3339 in UTC with microseconds, numbers decimal, the id hyphenated: what anybody can write
    /// down from a row of the log without this program.
    #[must_use]
    pub fn hash(&self, previous: &[u8]) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let mut field = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        field(previous);
        field(self.tenant_id.as_bytes());
        field(self.tenant_position.to_string().as_bytes());
        field(self.aggregate_type.as_bytes());
        field(self.aggregate_id.as_bytes());
        field(self.sequence.to_string().as_bytes());
        field(self.event_id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
        field(self.event_type.as_bytes());
        field(self.event_version.as_bytes());
        field(timestamp(self.occurred_at).as_bytes());
        field(timestamp(self.recorded_at).as_bytes());
        field(self.payload);
        field(self.metadata);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }
}

fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(payload: &[u8]) -> Link<'_> {
        Link {
            tenant_id: "TNT-001",
            tenant_position: 1,
            aggregate_type: "Lead",
            aggregate_id: "TNT-001:LED-000",
            sequence: 1,
            event_id: Uuid::nil(),
            event_type: "LeadCaptured",
            event_version: "1",
            occurred_at: DateTime::UNIX_EPOCH,
            recorded_at: DateTime::UNIX_EPOCH,
            payload,
            metadata: b"{}",
        }
    }

    #[test]
    fn the_hash_is_what_the_documentation_says() {
        let field = |bytes: &[u8]| [&(bytes.len() as u64).to_be_bytes()[..], bytes].concat();
        let written: Vec<u8> = [
            &GENESIS[..],
            b"TNT-001",
            b"1",
            b"Lead",
            b"TNT-001:LED-000",
            b"1",
            b"00000000-0000-0000-0000-000000000000",
            b"LeadCaptured",
            b"1",
            b"1970-01-01T00:00:00.000000Z",
            b"1970-01-01T00:00:00.000000Z",
            b"{\"a\":1}",
            b"{}",
        ]
        .into_iter()
        .flat_map(field)
        .collect();
        let expected = aws_lc_rs::digest::digest(&SHA256, &written);
        assert_eq!(link(b"{\"a\":1}").hash(&GENESIS), expected.as_ref());
    }

    #[test]
    fn every_part_counts() {
        let base = link(b"{}").hash(&GENESIS);
        assert_ne!(base, link(b"{} ").hash(&GENESIS));
        assert_ne!(base, link(b"{}").hash(&base));
        assert_ne!(base, Link { tenant_position: 2, ..link(b"{}") }.hash(&GENESIS));
        assert_ne!(base, Link { metadata: b"", payload: b"{}{}", ..link(b"") }.hash(&GENESIS));
    }
}
