//! Whose past is shown to whom, noun by noun.

use super::{AsOf, Reader, Remembered, held};
use crate::aggregates::ids::CustomerId;
use crate::api::customers::Customers;
use crate::api::interactions::Interactions;
use crate::api::invoices::Invoices;
use crate::api::leads::Leads;
use crate::api::list::ListQuery;
use crate::api::notes::{self, Notes};
use crate::api::projects::Projects;
use crate::api::record::{Noun, row_in};
use crate::api::tenant::Tenants;
use crate::api::users::Users;
use crate::api::{App, Problem};
use crate::event_store::TenantScope;
use crate::projections::customers::CustomerRow;
use crate::projections::interactions::InteractionRow;
use crate::projections::notes::NoteRow;
use crate::projections::row::Stored;

impl Remembered for Leads {}

/// When colleagues come and go is for those to know who may read the log.
impl Remembered for Users {
    const WORKED_OUT: &'static [&'static str] = &["last_login_at"];
    const TOLD_ELSEWHERE: &'static [&'static str] =
        &["UserLoggedIn", "UserLoginFailed", "UserPasswordChanged", "UserSessionsRevoked"];
}

impl Remembered for Invoices {
    const WORKED_OUT: &'static [&'static str] = &["overdue"];
}

impl Remembered for Projects {
    const WORKED_OUT: &'static [&'static str] = &["overdue", "primary_customer_id"];
}

impl Remembered for Customers {
    // that there is a private note is nobody's business but its author's
    const TOLD_ELSEWHERE: &'static [&'static str] =
        &["CustomerNoteAdded", "CustomerNoteEdited", "CustomerNoteRemoved", "CustomerNoteRestored"];

    fn readable(then: &CustomerRow, deleted: bool) -> bool {
        !deleted || then.merged_into.is_some()
    }
}

/// What was once with a customer is with it today, or with the record that it gave way to; by what is so now there is an
/// index, so that a list of the past need not read everybody's.
///
/// # Errors
/// `not_found`.
pub async fn with_customer(
    app: &App,
    scope: TenantScope,
    query: ListQuery,
    customer: CustomerId,
) -> Result<ListQuery, Problem> {
    let mut id = customer.to_string();
    let query = query.only("customer_id", id.clone());
    if query.as_of().is_none() {
        return Ok(query);
    }
    while let Some(into) = row_in::<Customers>(app, scope, &id).await?.row.merged_into {
        id = into;
    }
    Ok(query.among_today("customer_id", vec![id]))
}

impl Remembered for Tenants {
    async fn now(app: &App, reader: Reader<'_>, id: &str) -> Result<Stored<<Self as Noun>::Row>, Problem> {
        if let Reader::Caller(caller) = reader {
            caller.require(Self::READ)?;
        }
        row_in::<Self>(app, reader.scope(), id).await
    }
}

/// Seen by whoever sees the customer that they are with once there is one, else the lead.
impl Remembered for Interactions {
    async fn now(app: &App, reader: Reader<'_>, id: &str) -> Result<Stored<InteractionRow>, Problem> {
        let stored = row_in::<Self>(app, reader.scope(), id).await?;
        match (&stored.row.customer_id, &stored.row.lead_id) {
            (Some(customer), _) => drop(Customers::now(app, reader, customer).await?),
            (None, Some(lead)) => drop(Leads::now(app, reader, lead).await?),
            (None, None) => return Err(Problem::not_found()),
        }
        Ok(stored)
    }

    async fn belonged(app: &App, scope: TenantScope, then: &InteractionRow, as_of: AsOf) -> Result<(), Problem> {
        match (&then.customer_id, &then.lead_id) {
            (Some(customer), _) => drop(held::<Customers>(app, scope, None, customer, as_of).await?),
            (None, Some(lead)) => drop(held::<Leads>(app, scope, None, lead, as_of).await?),
            (None, None) => return Err(Problem::not_found()),
        }
        Ok(())
    }
}

/// Seen by whoever sees the customer; while private, and if private now, by the author alone.
impl Remembered for Notes {
    const SEEN_BY: Option<&'static str> = Some(notes::SEEN_BY);

    async fn now(app: &App, reader: Reader<'_>, id: &str) -> Result<Stored<NoteRow>, Problem> {
        let stored = row_in::<Self>(app, reader.scope(), id).await?;
        if !notes::seen_by(&stored.row, reader.author()) {
            return Err(Problem::not_found());
        }
        Customers::now(app, reader, &stored.row.customer_id).await?;
        Ok(stored)
    }

    async fn belonged(app: &App, scope: TenantScope, then: &NoteRow, as_of: AsOf) -> Result<(), Problem> {
        held::<Customers>(app, scope, None, &then.customer_id, as_of).await.map(drop)
    }
}
