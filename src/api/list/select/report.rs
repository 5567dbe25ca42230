//! What a report is worked out of: all rows of a list, as lines.

use chrono::NaiveDate;

use super::{ListScope, Source, Sql};
use crate::api::list::ListQuery;
use crate::reports::{By, Report};

impl ListQuery {
    /// By what its rows are grouped; none: they are not.
    #[must_use]
    pub fn by(&self) -> Option<&'static By> {
        self.by
    }

    /// The statement that reads the lines of a report on a day.
    #[must_use]
    pub fn lines<R: Report>(&self, scope: &ListScope<'_>, day: NaiveDate) -> Sql {
        let mut sql = self.opening(scope);
        sql.push(", asked as materialized (select ").push_bind(day).push("::date as day) ");
        let key = self.by.map_or("null::text", |by| by.expression);
        let columns = R::columns();
        sql.push(format_args!(
            "select l.* from scope cross join asked cross join lateral (select {key} as key, t.currency, {columns}"
        ));
        self.rows(&mut sql, scope, (&self.filters, Source::All));
        sql.push(" group by 1, 2");
        if let Some(split) = R::SPLIT {
            sql.push(", ").push(split);
        }
        sql.push(") l");
        sql
    }
}
