//! The kinds of problem: one table, from which the answers, their pages and the documentation are made.

use axum::http::StatusCode;
use strum::VariantArray;

/// Why a request was refused; each kind has a status, a code and a page that explains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, VariantArray)]
#[expect(missing_docs, reason = "each is explained by its entry in the table below")]
pub enum ProblemKind {
    MalformedRequest,
    UnknownParameter,
    InvalidCursor,
    Unauthenticated,
    PermissionDenied,
    PlanLimit,
    NotFound,
    MethodNotAllowed,
    Conflict,
    VersionConflict,
    PayloadTooLarge,
    UnsupportedMediaType,
    ValidationFailed,
    IdempotencyMismatch,
    RateLimited,
    ProjectionLagging,
    Overloaded,
    Internal,
}

/// What there is to say about a kind, whoever meets it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The word in `code`; with hyphens, the end of `type`.
    pub code: &'static str,
    /// The status of the answer.
    pub status: StatusCode,
    /// The same few words every time (RFC 9457, `title`).
    pub title: &'static str,
    /// What happened.
    pub meaning: &'static str,
    /// What the caller can do about it.
    pub remedy: &'static str,
    /// The members that such an answer has beyond the common ones.
    pub members: &'static [(&'static str, &'static str)],
}

impl ProblemKind {
    /// Every kind, in the order of its status.
    #[must_use]
    pub fn all() -> &'static [Self] {
        Self::VARIANTS
    }

    /// The kind whose page is `/problems/<slug>`.
    #[must_use]
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|kind| kind.slug() == slug)
    }

    /// `validation-failed`
    #[must_use]
    pub fn slug(self) -> String {
        self.entry().code.replace('_', "-")
    }

    /// `/problems/validation-failed`
    #[must_use]
    pub fn uri(self) -> String {
        format!("/problems/{}", self.slug())
    }

    /// What there is to say about this kind.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table")]
    pub fn entry(self) -> Entry {
        match self {
            Self::MalformedRequest => Entry {
                code: "malformed_request",
                status: StatusCode::BAD_REQUEST,
                title: "Malformed request",
                meaning: "The request cannot be read: its body is not JSON, names a member twice, or a header or the instant of `as_of` has a form that is not allowed.",
                remedy: "Correct what `detail` points at (for a body, by line and column) and send it again.",
                members: &[],
            },
            Self::UnknownParameter => Entry {
                code: "unknown_parameter",
                status: StatusCode::BAD_REQUEST,
                title: "Unknown field or parameter",
                meaning: "The request names a field, query parameter or filter operator that does not exist. Nothing is ignored silently, so that a typing error cannot pass for a filter.",
                remedy: "Each entry of `errors` names one of them and what exists instead.",
                members: &[],
            },
            Self::InvalidCursor => Entry {
                code: "invalid_cursor",
                status: StatusCode::BAD_REQUEST,
                title: "Invalid cursor",
                meaning: "The cursor was not made by this server, or for another list, filter, sort or business.",
                remedy: "Follow `page.next_cursor` or the `Link` header with everything else unchanged, or begin again without a cursor.",
                members: &[],
            },
            Self::Unauthenticated => Entry {
                code: "unauthenticated",
                status: StatusCode::UNAUTHORIZED,
                title: "Not signed in",
                meaning: "The request carries no access token, or one that is no longer good: expired, forged, or its session, user or business is not active any more.",
                remedy: "Sign in, or exchange the refresh token, and send the request with `Authorization: Bearer …`. The header `WWW-Authenticate` says whether a token was seen.",
                members: &[],
            },
            Self::PermissionDenied => Entry {
                code: "permission_denied",
                status: StatusCode::FORBIDDEN,
                title: "Permission denied",
                meaning: "The caller is known, and may not do this.",
                remedy: "Ask the owner of the business for the permission that is named.",
                members: &[("permission", "the permission that is missing, such as `leads:convert`")],
            },
            Self::PlanLimit => Entry {
                code: "plan_limit",
                status: StatusCode::FORBIDDEN,
                title: "Limit of the plan reached",
                meaning: "The business's plan does not include this, or not any more of it.",
                remedy: "Free some of what is used, or move to the plan that is named.",
                members: &[
                    ("limit", "how many the plan allows"),
                    ("used", "how many are in use"),
                    ("plan", "the smallest plan that lifts the limit; absent when none does"),
                ],
            },
            Self::NotFound => Entry {
                code: "not_found",
                status: StatusCode::NOT_FOUND,
                title: "Not found",
                meaning: "There is no such thing, or the caller may not know that there is. The answer is the same for both.",
                remedy: "Check the path and the id.",
                members: &[],
            },
            Self::MethodNotAllowed => Entry {
                code: "method_not_allowed",
                status: StatusCode::METHOD_NOT_ALLOWED,
                title: "Method not allowed",
                meaning: "The path exists, and not with this method.",
                remedy: "Use one of the methods that the header `Allow` lists.",
                members: &[],
            },
            Self::Conflict => Entry {
                code: "conflict",
                status: StatusCode::CONFLICT,
                title: "Against a rule of the business",
                meaning: "The request is well formed and allowed, and the state of things forbids it: a lead is converted once, a paid invoice is not voided.",
                remedy: "`detail` says the rule in a sentence, `rule` names it for programs. Change the state first, or do something else.",
                members: &[
                    ("rule", "the name of the rule"),
                    ("retry_after", "of the rule `key_in_use`: seconds to wait"),
                ],
            },
            Self::VersionConflict => Entry {
                code: "version_conflict",
                status: StatusCode::PRECONDITION_FAILED,
                title: "Changed by somebody else",
                meaning: "`If-Match` names a version that is not the current one, and the changes since then touch the same fields.",
                remedy: "Show the person what changed, let them choose, and send it again with the current version.",
                members: &[
                    ("current_version", "the version that the record has now"),
                    ("changes_since", "what others changed since the version in `If-Match`"),
                ],
            },
            Self::PayloadTooLarge => Entry {
                code: "payload_too_large",
                status: StatusCode::PAYLOAD_TOO_LARGE,
                title: "Body too large",
                meaning: "The body is larger than is accepted.",
                remedy: "Send less at once.",
                members: &[("limit", "the most that is accepted, in bytes")],
            },
            Self::UnsupportedMediaType => Entry {
                code: "unsupported_media_type",
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                title: "Unsupported media type",
                meaning: "The body is not declared as JSON.",
                remedy: "Send `Content-Type: application/json`; for PATCH also `application/merge-patch+json`.",
                members: &[],
            },
            Self::ValidationFailed => Entry {
                code: "validation_failed",
                status: StatusCode::UNPROCESSABLE_ENTITY,
                title: "Validation failed",
                meaning: "The request can be read, and some of its values cannot be accepted.",
                remedy: "`errors` lists every one: where it is (a JSON pointer into the body, or the parameter's name), a code for programs and a sentence for people.",
                members: &[],
            },
            Self::IdempotencyMismatch => Entry {
                code: "idempotency_mismatch",
                status: StatusCode::UNPROCESSABLE_ENTITY,
                title: "Idempotency key used for another request",
                meaning: "This `Idempotency-Key` was sent before with another request.",
                remedy: "Use a new key for a new request, and the same key only to repeat the very same one.",
                members: &[],
            },
            Self::RateLimited => Entry {
                code: "rate_limited",
                status: StatusCode::TOO_MANY_REQUESTS,
                title: "Too many requests",
                meaning: "The user, the business or the address sent more requests than it may.",
                remedy: "Wait as long as `Retry-After` says. The headers `RateLimit-Policy` and `RateLimit` tell how much is left.",
                members: &[("retry_after", "seconds until the next request is accepted")],
            },
            Self::ProjectionLagging => Entry {
                code: "projection_lagging",
                status: StatusCode::SERVICE_UNAVAILABLE,
                title: "Read models are behind",
                meaning: "The read asked for a position (`DevHub-Min-Position`) that the read models have not reached in time: they are behind, or nothing has been stored there. Or a change was sent for a version (`If-Match`), and what others have changed since cannot be read yet.",
                remedy: "Try again after `Retry-After`, or read without the header what is there now.",
                members: &[("retry_after", "seconds to wait")],
            },
            Self::Overloaded => Entry {
                code: "overloaded",
                status: StatusCode::SERVICE_UNAVAILABLE,
                title: "Overloaded",
                meaning: "The server has more to do than it can take on, did not finish this request in time, or cannot reach its database at the moment.",
                remedy: "Try again after `Retry-After`; repeat a write with the same `Idempotency-Key`, so that it happens once.",
                members: &[("retry_after", "seconds to wait")],
            },
            Self::Internal => Entry {
                code: "internal",
                status: StatusCode::INTERNAL_SERVER_ERROR,
                title: "Internal error",
                meaning: "Something failed on the server. What it was stands in the server's log, under the same `request_id`.",
                remedy: "Try again; if it stays, report the `request_id`. Repeat a write with the same `Idempotency-Key`.",
                members: &[],
            },
        }
    }
}
