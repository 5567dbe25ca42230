//! What the workers do, how often, and in which order: no chance in it, so that two runs ask for the same.

use std::str::FromStr;

use serde::Serialize;

/// The kinds of requests that people make of a CRM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Look at one record.
    Read,
    /// Look at a page of a list, filtered and sorted.
    List,
    /// Change something.
    Command,
    /// Ask a question over everything: reports, of now and of a day; totals; what happened.
    Report,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::List, Self::Command, Self::Report];

    /// As in a mix.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::List => "list",
            Self::Command => "command",
            Self::Report => "report",
        }
    }
}

/// How often each action is taken, relative to the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mix {
    weights: [u32; 4],
}

/// A mix that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no mix; write for example read=50,list=25,command=20,report=5, with at least one above 0")]
pub struct NoMix(String);

impl FromStr for Mix {
    type Err = NoMix;

    fn from_str(text: &str) -> Result<Self, NoMix> {
        let wrong = || NoMix(text.to_owned());
        let mut weights = [0; 4];
        for part in text.split(',') {
            let (name, weight) = part.trim().split_once('=').ok_or_else(wrong)?;
            let place = Action::ALL.iter().position(|action| action.name() == name.trim()).ok_or_else(wrong)?;
            let weight = weight.trim().parse::<u16>().map_err(|_| wrong())?;
            *weights.get_mut(place).ok_or_else(wrong)? = u32::from(weight);
        }
        if weights.iter().sum::<u32>() == 0 { Err(wrong()) } else { Ok(Self { weights }) }
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, (action, weight)) in Action::ALL.iter().zip(self.weights).enumerate() {
            write!(f, "{}{}={weight}", if number == 0 { "" } else { "," }, action.name())?;
        }
        Ok(())
    }
}

impl Mix {
    /// What a worker does in its `step`-th turn. The actions are spread evenly: after any number of turns each was
    /// taken as often as its weight says, to within a few.
    #[must_use]
    pub fn at(&self, step: u64) -> Action {
        let all = u64::from(self.weights.iter().sum::<u32>());
        let mut place = spread(step, all);
        for (action, weight) in Action::ALL.into_iter().zip(self.weights) {
            let weight = u64::from(weight);
            if place < weight {
                return action;
            }
            place -= weight;
        }
        Action::Read
    }
}

/// The `step`-th of numbers below `among` that cover them evenly: multiples of the golden ratio, modulo 1
/// (Weyl's sequence).
#[must_use]
pub fn spread(step: u64, among: u64) -> u64 {
    /// 2⁶⁴ divided by the golden ratio.
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let fraction = u128::from(step.wrapping_mul(GOLDEN));
    u64::try_from((fraction * u128::from(among)) >> 64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mix_reads_what_it_writes_and_says_what_is_wrong() {
        let mix: Mix = "read=50, list=25,command=20,report=5".parse().unwrap();
        assert_eq!(mix.to_string(), "read=50,list=25,command=20,report=5");
        assert_eq!("command=1".parse::<Mix>().unwrap().to_string(), "read=0,list=0,command=1,report=0");
        for wrong in ["", "read", "read=x", "write=3", "read=0,list=0", "read=-1"] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn each_action_is_always_taken_as_often_as_its_weight_says(
            weights in prop::array::uniform4(0_u32..60), steps in 1_u64..4_000, from in 0_u64..1_000_000,
        ) {
            prop_assume!(weights.iter().sum::<u32>() > 0);
            let mix = Mix { weights };
            let all = f64::from(weights.iter().sum::<u32>());
            let mut taken = [0_u32; 4];
            for step in from..from + steps {
                let action = mix.at(step);
                taken[Action::ALL.iter().position(|other| *other == action).unwrap()] += 1;
            }
            for (weight, taken) in weights.into_iter().zip(taken) {
                let expected = steps as f64 * f64::from(weight) / all;
                prop_assert!((f64::from(taken) - expected).abs() <= 20.0, "{taken} instead of {expected}");
            }
        }
    }
}
