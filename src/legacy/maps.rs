//! Replacements that somebody asked for: values that the old database has and that are to be read as others.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::tables::Table;

/// All rows of a table.
const EVERY: i64 = -1;

/// One replacement: `leads.stage:???=new` wherever it stands, `invoices/17.amount=250` in one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    pub(super) table: Table,
    pub(super) field: String,
    pub(super) pk: i64,
    /// Compared without the space around it; empty stands for null as well.
    pub(super) old: String,
    /// None for null.
    pub(super) new: Option<String>,
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, field, pk, old, new } = self;
        let (table, new) = (table.name(), new.as_deref().unwrap_or_default());
        match *pk {
            EVERY => write!(f, "{table}.{field}:{old}={new}"),
            pk => write!(f, "{table}/{pk}.{field}={new}"),
        }
    }
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected table.column:old=new for every row, or table/row.column=new for one; \
                                an old or new value of nothing stands for null";
        let (place, new) = text.split_once('=').ok_or(EXPECTED)?;
        let new = Some(new.trim().to_owned()).filter(|new| !new.is_empty());
        let (table, rest) = place.split_once(['.', '/']).ok_or(EXPECTED)?;
        let table: Table = table.trim().parse().map_err(|_| format!("there is no table {table}; {EXPECTED}"))?;
        if table == Table::PasswordVault {
            return Err("the password vault is not read, so nothing of it is replaced".to_owned());
        }
        let (pk, field, old) = if place.contains('/') {
            let (pk, field) = rest.split_once('.').ok_or(EXPECTED)?;
            let pk = pk.trim().parse().map_err(|_| format!("{pk} is no row's number; {EXPECTED}"))?;
            (pk, field, "")
        } else {
            let (field, old) = rest.split_once(':').ok_or(EXPECTED)?;
            (EVERY, field, old)
        };
        let field = field.trim().to_owned();
        if !table.columns().contains(&field.as_str()) || field == "id" || field == "hashed_password" {
            return Err(format!("{field} is no column of {} that can be replaced", table.name()));
        }
        Ok(Self { table, field, pk, old: old.trim().to_owned(), new })
    }
}

/// All replacements of a tenant's import.
#[derive(Debug, Clone, Default)]
pub struct Maps {
    of: HashMap<Table, Vec<Mapping>>,
}

impl Maps {
    pub(super) fn new(mappings: impl IntoIterator<Item = Mapping>) -> Self {
        let mut maps = Self::default();
        for mapping in mappings {
            maps.of.entry(mapping.table).or_default().push(mapping);
        }
        maps
    }

    /// Whether this very replacement is among them.
    pub(super) fn has(&self, mapping: &Mapping) -> bool {
        self.of.get(&mapping.table).is_some_and(|known| known.contains(mapping))
    }

    /// Makes the replacements that a row asks for; returns column, old and new value of each.
    pub(super) fn apply(
        &self,
        table: Table,
        pk: i64,
        fields: &mut Map<String, Value>,
    ) -> Vec<(String, Value, Option<String>)> {
        let mut made = Vec::new();
        for mapping in self.of.get(&table).into_iter().flatten() {
            let before = fields.get(&mapping.field).cloned().unwrap_or(Value::Null);
            let meant = match mapping.pk {
                EVERY => text_of(&before) == mapping.old,
                one => one == pk,
            };
            let after = mapping.new.clone().map_or(Value::Null, Value::String);
            if meant && before != after {
                fields.insert(mapping.field.clone(), after);
                made.push((mapping.field.clone(), before, mapping.new.clone()));
            }
        }
        made
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn maps(texts: &[&str]) -> Maps {
        Maps::new(texts.iter().map(|text| text.parse().unwrap()))
    }

    fn applied(maps: &Maps, pk: i64, mut row: Value) -> Value {
        maps.apply(Table::Leads, pk, row.as_object_mut().unwrap());
        row
    }

    #[test]
    fn a_value_is_replaced_everywhere_or_in_one_row() {
        let maps = maps(&["leads.stage:???=contacted", "leads/7.estimated_value=250", "leads.source:=website"]);
        assert_eq!(applied(&maps, 1, json!({"stage": "???"}))["stage"], "contacted");
        assert_eq!(applied(&maps, 1, json!({"stage": "new"}))["stage"], "new");
        assert_eq!(applied(&maps, 7, json!({"estimated_value": "TBD"}))["estimated_value"], "250");
        assert_eq!(applied(&maps, 8, json!({"estimated_value": "TBD"}))["estimated_value"], "TBD");
        assert_eq!(applied(&maps, 1, json!({"source": null}))["source"], "website");
    }

    #[test]
    fn a_replacement_is_written_as_it_was_read() {
        for text in
            ["leads.stage:???=contacted", "leads/7.estimated_value=250", "leads.source:=website", "leads/7.phone="]
        {
            assert_eq!(text.parse::<Mapping>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_replacement_that_makes_no_sense_is_refused_with_the_form() {
        for text in
            ["leads.stage", "stage:a=b", "lead.stage:a=b", "leads/x.stage=b", "leads.colour:a=b", "leads.id:1=2"]
        {
            assert!(text.parse::<Mapping>().is_err(), "{text}");
        }
        assert!("password_vault.user_system_id:a=b".parse::<Mapping>().is_err());
        assert!("users.hashed_password:=x".parse::<Mapping>().is_err());
    }
}
