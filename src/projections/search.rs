//! What a search through a large business need not look at.
//!
//! ```text
//! records, by number:  0 … 1,023 │ block 16 │ block 17 │ …        64 records each
//!                      looked at │ mark: texts changed 3 times    counted up with the records, in the same statement
//!                      as they   │ signature, of 3 changes        worked out at leisure: what letters there can be
//!                      are       │
//! ```
//!
//! A signature is a table of bits, a column for each record: which groups of three letters there can be in it. Of the
//! records of a block, only those can have a word whose bits are set in all the lines that the word's own letters choose.
//! Below that, it says which two letters stand side by side anywhere in the block. As long as the signature is of the count
//! that the mark has, nobody else is looked at; of any other block, everybody is.
//!
//! An index of every group of letters of every record would make a captured lead two thirds dearer to store; of a block
//! there is one row of 4 KB, written once when it has filled up.
//!
//! Letters are taken so that whatever PostgreSQL finds equal in another case is the same here too: a signature may
//! promise too much and never too little.

mod signing;

use std::collections::BTreeSet;

use sqlx::error::BoxDynError;

pub use signing::sign;

use super::statement::{Columns, Statement};

/// Records with a smaller number are in no block: who has no others pays nothing for all this.
pub const FIRST: u32 = 1_024;
/// Records in a block.
pub const BLOCK: u32 = 64;
/// How lines are made of letters; a signature that was made in another way says nothing.
pub const SCHEME: i16 = 1;
/// Lines of a signature for groups of letters. With those for pairs, two rows are a page of the database, and a lead of
/// sixty letters sets a fifth of its bits.
const GROUP_LINES: usize = 416;
/// Lines for pairs, one for each first letter.
const PAIR_LINES: usize = 64;
/// Letters that are looked at together.
const GROUP: usize = 3;
/// Lines that each group chooses.
const LINES_OF_A_GROUP: u64 = 2;
/// Stands for every letter that is none of ASCII's.
const FOREIGN: char = '\u{80}';

/// A read model that is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Searched {
    /// Its table of current rows.
    pub table: &'static str,
    /// What its ids have before the number.
    pub prefix: &'static str,
    /// The columns that are searched, besides the id.
    pub columns: &'static [&'static str],
}

/// The block of the record with this id; none if it is in no block.
#[must_use]
pub fn block_of(id: &str) -> Option<i32> {
    let number: u32 = id.rsplit_once('-')?.1.parse().ok()?;
    if number < FIRST {
        return None;
    }
    i32::try_from(number / BLOCK).ok()
}

/// Which letters there can be in the texts of the records of a block: lines of a bit for each record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature(Vec<i64>);

impl Default for Signature {
    fn default() -> Self {
        Self(vec![0; GROUP_LINES + PAIR_LINES])
    }
}

impl Signature {
    /// Adds a text of the record of this number.
    pub fn add(&mut self, number: u32, text: &str) {
        let letters = folded(text);
        let record = 1 << (number % BLOCK);
        for group in letters.windows(GROUP) {
            lines_of(group).for_each(|line| self.set(line, record));
        }
        for pair in letters.windows(2) {
            let (line, second) = line_of(pair);
            self.set(line, second);
        }
    }

    fn set(&mut self, line: usize, bits: i64) {
        if let Some(line) = self.0.get_mut(line) {
            *line |= bits;
        }
    }

    fn into_lines(self) -> Vec<i64> {
        self.0
    }
}

/// What a signature has to have of each record that some words are in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Letters {
    /// The lines in which such a record has its bit, from 1 on, as PostgreSQL counts.
    pub lines: BTreeSet<i32>,
    /// A line, and the bit in it that such a block has.
    pub pairs: BTreeSet<(i32, i64)>,
}

impl Letters {
    /// Adds those of a word that stands anywhere in a text.
    pub fn add(&mut self, word: &str) {
        let from_one = |line: usize| i32::try_from(line + 1).unwrap_or(0);
        let letters = folded(word);
        self.lines.extend(letters.windows(GROUP).flat_map(lines_of).map(from_one));
        self.pairs.extend(letters.windows(2).map(line_of).map(|(line, second)| (from_one(line), second)));
    }
}

/// The letters of a text, each alone by itself: what is a part of a text is a part of its letters.
fn folded(text: &str) -> Vec<char> {
    text.chars().filter_map(fold).collect()
}

/// A letter as all those that some collation finds equal in another case. The dot above is left out, and every i is one:
/// there are languages in which a capital I has none, and collations that take it apart.
const fn fold(letter: char) -> Option<char> {
    match letter {
        'I' | '\u{130}' | '\u{131}' => Some('i'),
        '\u{212a}' => Some('k'),
        '\u{307}' => None,
        _ if letter.is_ascii() => Some(letter.to_ascii_lowercase()),
        _ => Some(FOREIGN),
    }
}

/// The lines that a group of letters chooses. FNV-1a, which is the same in every version of the program.
fn lines_of(group: &[char]) -> impl Iterator<Item = usize> {
    let hash = group.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, letter| {
        (hash ^ u64::from(u32::from(*letter))).wrapping_mul(0x0100_0000_01b3)
    });
    let (one, other) = (hash >> 32, hash & 0xffff_ffff);
    (0..LINES_OF_A_GROUP).filter_map(move |number| usize::try_from((one + number * other) % GROUP_LINES as u64).ok())
}

/// The line of the first letter of a pair, and the bit of the second.
fn line_of(pair: &[char]) -> (usize, i64) {
    let code = |place: usize| pair.get(place).copied().map_or(0, code);
    (GROUP_LINES + code(0), 1 << code(1))
}

/// A letter as one of 64: those of words each by itself, signs as it comes.
fn code(letter: char) -> usize {
    let after = |first: char| u32::from(letter) - u32::from(first);
    let code = match letter {
        'a'..='z' => after('a'),
        '0'..='9' => 26 + after('0'),
        FOREIGN => 36,
        ' ' => 37,
        _ => 38 + u32::from(letter) % 26,
    };
    usize::try_from(code).unwrap_or(0) % PAIR_LINES
}

/// Blocks in which searched texts have changed, by tenant.
pub(super) type Touched = BTreeSet<(String, i32)>;

/// Counts these blocks up.
pub(super) fn mark(searched: &Searched, touched: Touched, statement: &mut Statement) -> Result<(), BoxDynError> {
    let (tenants, blocks): (Vec<String>, Vec<i32>) = touched.into_iter().unzip();
    let mut columns = Columns::default();
    columns.add(statement, "tenant_id", tenants)?;
    columns.add(statement, "block", blocks)?;
    let (table, values, rows) = (searched.table, columns.values(), columns.rows());
    statement.part(
        format_args!("{table}_marks"),
        format_args!(
            "insert into search_marks (noun, tenant_id, block, changes) select '{table}', {values}, 1 from ok, {rows}
             on conflict (tenant_id, noun, block) do update set changes = search_marks.changes + 1"
        ),
    );
    Ok(())
}

/// A statement that gives a mark to each block of the records in `ids`, a relation of `tenant_id` and `id`: those that have
/// one are counted up, or left as they are.
pub(super) fn mark_all(searched: &Searched, ids: &str, counts_up: bool) -> String {
    let number = "substring(id from '-([0-9]{4,10})$')::bigint";
    let then = if counts_up { "update set changes = search_marks.changes + 1" } else { "nothing" };
    format!(
        "insert into search_marks (tenant_id, noun, block, changes)
         select distinct tenant_id, '{}', ({number} / {BLOCK})::integer, 1 from {ids} where {number} >= {FIRST} order by 1, 3
         on conflict (tenant_id, noun, block) do {then}",
        searched.table
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The records of a block that `word` can be in.
    fn found(signature: &Signature, word: &str) -> i64 {
        let mut letters = Letters::default();
        letters.add(word);
        let line = |line: &i32| signature.0[usize::try_from(*line).unwrap() - 1];
        if letters.pairs.iter().any(|(place, second)| line(place) & second == 0) {
            return 0;
        }
        letters.lines.iter().map(line).fold(-1, std::ops::BitAnd::bitand)
    }

    #[test]
    fn records_are_in_blocks_from_a_number_on() {
        let blocks = ["LED-000", "LED-1023", "LED-1024", "LED-1087", "LED-1088", "CUS-4294967295"].map(block_of);
        assert_eq!(blocks, [None, None, Some(16), Some(16), Some(17), Some(67_108_863)]);
        assert_eq!(["", "1024", "LED-", "LED-x", "TNT-PLT"].map(block_of), [None; 5]);
    }

    #[test]
    fn a_signature_leaves_out_most_of_what_is_not_there() {
        let mut signature = Signature::default();
        signature.add(1_024, "Mateo Rossi");
        signature.add(1_025, "Rossi & Figli");
        signature.add(1_025, "mateo@rossi.example");
        signature.add(1_087, "Ana Müller");
        for (word, records) in [
            ("rossi", 0b11),
            ("ROSSI", 0b11),
            ("teo r", 0b01),
            ("o@r", 0b10),
            ("fig", 0b10),
            ("ana", i64::MIN),
            ("MÜLL", i64::MIN),
            ("rosso", 0),
            ("xyz", 0),
            ("zz", 0),
            // pairs are known of blocks, and single letters not at all
            ("li", -1),
            ("q", -1),
            ("", -1),
        ] {
            assert_eq!(found(&signature, word), records, "{word}");
        }
    }

    #[test]
    fn a_signature_is_the_same_in_every_version_of_the_program() {
        let mut signature = Signature::default();
        signature.add(1_030, "Acme é");
        let set: Vec<(usize, i64)> = signature.0.iter().copied().enumerate().filter(|(_, bits)| *bits != 0).collect();
        let groups = [17, 25, 41, 190, 216, 217, 248].map(|line| (line, 1 << (1_030 % BLOCK)));
        // a-c, c-m, e-space, m-e, and a space before what is not of ASCII
        let pairs = [(416, 1 << 2), (418, 1 << 12), (420, 1 << 37), (428, 1 << 4), (453, 1 << 36)];
        assert_eq!(set, [&groups[..], &pairs[..]].concat());
    }

    proptest! {
        #[test]
        fn what_stands_in_a_text_is_never_left_out(
            before in ".{0,20}", word in ".{1,12}", after in ".{0,20}", other in ".*", number in FIRST..,
        ) {
            let mut signature = Signature::default();
            signature.add(number.wrapping_add(1), &other);
            signature.add(number, &format!("{before}{word}{after}"));
            for written in [word.clone(), word.to_lowercase(), word.to_uppercase()] {
                // an upper case of another length is none that PostgreSQL knows
                if written.to_lowercase() == word.to_lowercase() && written.chars().count() == word.chars().count() {
                    prop_assert!(found(&signature, &written) >> (number % BLOCK) & 1 == 1, "{written:?}");
                }
            }
        }
    }
}
