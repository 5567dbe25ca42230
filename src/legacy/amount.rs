//! Amounts as people typed them: `1500`, `$1,500.00`, `1.5k`, `1500,50`, `1.500,00 €`.

use rust_decimal::Decimal;

use crate::aggregates::values::Currency;

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Amount {
    /// How much.
    pub value: Decimal,
    /// The currency written beside it.
    pub currency: Option<Currency>,
    /// Whether it is a plain decimal number that needed no guess.
    pub plain: bool,
}

/// Reads an amount; none if it is none, or if it cannot be told what is meant.
///
/// With both a point and a comma, the last one is the decimal one. A single comma before one or two digits is
/// decimal (`1500,50`); before three it groups (`1,500`). A single point is always decimal.
pub(super) fn parse(text: &str) -> Option<Amount> {
    if text.len() > 60 {
        return None;
    }
    if let Some(value) = number(text) {
        return Some(Amount { value, currency: None, plain: true });
    }
    let (rest, negative) = match text.strip_prefix('(').and_then(|text| text.strip_suffix(')')) {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let (rest, currency) = currency_of(rest)?;
    let (rest, negative) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest.strip_prefix('+').unwrap_or(&rest), negative),
    };
    let (digits, factor) = multiple(rest);
    let value = number(&separated(digits)?)?.checked_mul(factor)?;
    Some(Amount { value: if negative { -value } else { value }.normalize(), currency, plain: false })
}

/// A decimal number with nothing else.
fn number(text: &str) -> Option<Decimal> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let fits = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.ends_with(|c: char| c.is_ascii_digit());
    if fits { Decimal::from_str_exact(text).ok() } else { None }
}

/// Takes the currency off, wherever it stands, and all space and apostrophes.
fn currency_of(text: &str) -> Option<(String, Option<Currency>)> {
    let mut rest: String = text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '\'' | '’' | '_')).collect();
    let mut currency = None;
    for (sign, code) in [("US$", "USD"), ("$", "USD"), ("€", "EUR"), ("£", "GBP")] {
        if rest.contains(sign) {
            rest = rest.replacen(sign, "", 1);
            currency = Some(code);
            break;
        }
    }
    let letters: String = rest.chars().filter(char::is_ascii_alphabetic).collect();
    if currency.is_none() && letters.len() >= 3 {
        let code = letters.get(..3)?.to_uppercase();
        let found = code.parse::<Currency>().ok()?;
        let upper = rest.to_uppercase();
        let at = upper.find(&code).filter(|_| upper.len() == rest.len())?;
        rest.replace_range(at..at + 3, "");
        return Some((rest, Some(found)));
    }
    Some((rest, currency.and_then(|code| code.parse().ok())))
}

/// `1.5k` → `1.5`, a thousand.
fn multiple(text: &str) -> (&str, Decimal) {
    for (suffix, factor) in [('k', 1_000), ('m', 1_000_000)] {
        if let Some(digits) = text.strip_suffix([suffix, suffix.to_ascii_uppercase()]) {
            return (digits, Decimal::from(factor));
        }
    }
    (text, Decimal::ONE)
}

/// The same number with a decimal point and no grouping.
fn separated(text: &str) -> Option<String> {
    if !text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b',' | b'.')) {
        return None;
    }
    let (commas, points) = (text.matches(',').count(), text.matches('.').count());
    let decimal = match (text.rfind(','), text.rfind('.')) {
        (Some(comma), Some(point)) => Some(comma.max(point)),
        (Some(comma), None) if commas == 1 && text.len() - comma - 1 != 3 => Some(comma),
        (None, Some(point)) if points == 1 => Some(point),
        _ => None,
    };
    let (whole, fraction) = match decimal {
        // A separator that separates nothing was meant for something that is not there.
        Some(at) if at + 1 == text.len() => return None,
        Some(at) => (text.get(..at)?, text.get(at + 1..)?),
        None => (text, ""),
    };
    // What is left of the decimal one is digits, in groups of three if it is grouped.
    let groups: Vec<&str> = whole.split([',', '.']).collect();
    let grouped = groups.iter().skip(1).all(|group| group.len() == 3)
        && groups.first().is_some_and(|first| !first.is_empty() && (groups.len() == 1 || first.len() <= 3));
    if !grouped || fraction.contains([',', '.']) {
        return None;
    }
    let whole = groups.concat();
    Some(if fraction.is_empty() { whole } else { format!("{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_they_are_meant() {
        for (text, value, currency) in [
            ("1500", "1500", None),
            ("1500.00", "1500.00", None),
            ("-20", "-20", None),
            ("$1,500.00", "1500", Some("USD")),
            ("$493.00", "493", Some("USD")),
            ("1.5k", "1500", None),
            ("$75K", "75000", Some("USD")),
            ("0.055k", "55", None),
            ("2m", "2000000", None),
            ("1500,50", "1500.5", None),
            ("1.500,00 €", "1500", Some("EUR")),
            ("1,500", "1500", None),
            ("1,234,567.89", "1234567.89", None),
            ("1.234.567", "1234567", None),
            ("EUR 20", "20", Some("EUR")),
            ("20 usd", "20", Some("USD")),
            ("(12.50)", "-12.5", None),
            ("1'000", "1000", None),
            ("1 000 000", "1000000", None),
        ] {
            let amount = parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(amount.value, value.parse().unwrap(), "{text}");
            assert_eq!(amount.currency.map(|currency| currency.code().to_owned()).as_deref(), currency, "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_not_guessed_at() {
        for text in ["TBD", "a lot", "", "12,34,56", "1.2.3,4,5", "k", "$", "1e5", "ten", "12..5", "1,", "NaN", "--5"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"9".repeat(61)), None);
    }

    #[test]
    fn only_a_bare_number_is_plain() {
        assert!(parse("1500.00").unwrap().plain);
        assert!(!parse("$5").unwrap().plain);
    }
}
