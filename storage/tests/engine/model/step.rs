//! The steps of a run, drawn from a seed.

use std::time::Duration;

use meshlog_storage::disk::SeededRandom;
use meshlog_storage::{Compaction, Durability, Policy};

/// One step of a run. Streams are named by the order of their creation.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create,
    Append(Append),
    Delete(usize),
    /// Half of what is readable goes.
    Trim(usize),
    SetState(u8, bool),
    SetPolicy(usize, Policy),
    /// Commits what waits and does what is due.
    Drive,
    /// As an idle storage does: proves the last group durable.
    Idle,
    Wait(Duration),
    /// The wall clock jumps, by seconds.
    Jump(i64),
    Reopen,
    /// The process dies without closing, so that the next open carries the last group over.
    Kill,
}

/// An entry with batches.
#[derive(Clone, Debug)]
pub(crate) struct Append {
    pub(crate) streams: Vec<usize>,
    /// Of a record.
    pub(crate) length: usize,
    /// Records have keys, of which there are few.
    pub(crate) keyed: bool,
    pub(crate) producer: Option<(u8, Turn)>,
    pub(crate) expects: Expects,
    pub(crate) durability: Durability,
}

/// What a producer says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The sequence that comes next.
    Next,
    /// The last one again, with the same content.
    Again,
    /// One is left out.
    Gap,
    /// A new epoch begins.
    Takeover,
    /// In an epoch that is over.
    Fenced,
}

/// The offset an entry is conditional on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expects {
    Nothing,
    TheNext,
    Another,
}

/// Draws numbers.
struct Dice(SeededRandom);

impl Dice {
    fn pick(&self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn index(&self, bound: u64) -> usize {
        self.pick(bound) as usize
    }
}

/// So many steps. Each seed prefers other things, so that runs differ in kind.
pub(crate) fn steps(seed: u64, count: usize) -> Vec<Step> {
    let dice = Dice(SeededRandom::new(seed));
    let weights: Vec<u64> = BASE.iter().map(|base| base * (1 + dice.pick(4))).collect();
    let total: u64 = weights.iter().sum();
    let large = dice.pick(3) == 0;
    let mut steps = vec![Step::Create, Step::Create, Step::Create, Step::Drive];
    while steps.len() < count {
        let mut drawn = dice.pick(total);
        let kind = weights
            .iter()
            .position(|weight| {
                let here = drawn < *weight;
                drawn = drawn.saturating_sub(*weight);
                here
            })
            .unwrap_or_default();
        draw(&dice, kind, large, &mut steps);
    }
    steps.truncate(count - 1);
    steps.push(Step::Drive);
    steps
}

const BASE: [u64; 12] = [2, 1, 3, 3, 3, 12, 20, 2, 6, 2, 2, 1];

fn draw(dice: &Dice, kind: usize, large: bool, steps: &mut Vec<Step>) {
    let stream = || dice.index(5);
    match kind {
        0 => steps.push(Step::Create),
        1 => steps.push(Step::Delete(stream())),
        2 => steps.push(Step::Trim(stream())),
        3 => steps.push(Step::SetState(dice.index(3) as u8, dice.pick(3) > 0)),
        4 => steps.push(Step::SetPolicy(stream(), policy(dice.pick(6)))),
        5 => steps.extend([append(dice, large), Step::Drive]),
        6 => {
            steps.extend((0..=dice.pick(3)).map(|_| append(dice, large)));
            steps.push(Step::Drive);
        }
        7 => steps.push(Step::Idle),
        8 => steps.extend((0..=dice.pick(4)).map(|_| Step::Wait(Duration::from_secs(11)))),
        9 => steps.push(Step::Kill),
        10 => steps.push(Step::Reopen),
        _ => steps.push(Step::Jump([-90_000, 90_000][dice.index(2)])),
    }
}

fn append(dice: &Dice, large: bool) -> Step {
    let lengths: &[usize] = if large { &[20, 400, 3000, 9000] } else { &[20, 60, 300, 1200, 5000] };
    let turn = || match dice.pick(10) {
        0..=4 => Turn::Next,
        5 | 6 => Turn::Again,
        7 => Turn::Gap,
        8 => Turn::Takeover,
        _ => Turn::Fenced,
    };
    Step::Append(Append {
        streams: (0..=dice.pick(3)).map(|_| dice.index(5)).collect(),
        length: lengths[dice.index(lengths.len() as u64)],
        keyed: dice.pick(3) == 0,
        producer: (dice.pick(3) == 0).then(|| (dice.index(2) as u8, turn())),
        expects: match dice.pick(8) {
            0 => Expects::TheNext,
            1 => Expects::Another,
            _ => Expects::Nothing,
        },
        durability: if dice.pick(5) == 0 { Durability::Written } else { Durability::Synced },
    })
}

fn policy(kind: u64) -> Policy {
    let none = Policy::default();
    let compact = Some(Compaction { tombstone_min_age: Duration::from_secs(25) });
    match kind {
        0 => none,
        1 => Policy { max_count: Some(4), ..none },
        2 => Policy { max_bytes: Some(9_000), ..none },
        3 => Policy { max_age: Some(Duration::from_secs(15)), ..none },
        _ => Policy { compact, ..none },
    }
}

/// Runs in which certain things happen for sure: files are rolled, given back and used again, and
/// merged while appending goes on; one stream is limited, one deleted, one trimmed, one compacted.
pub(crate) fn scripted() -> Vec<Step> {
    let append = |streams: Vec<usize>, length: usize, keyed: bool| {
        Step::Append(Append {
            streams,
            length,
            keyed,
            producer: None,
            expects: Expects::Nothing,
            durability: Durability::Synced,
        })
    };
    let wait = Step::Wait(Duration::from_secs(11));
    let mut steps = vec![Step::Create, Step::Create, Step::Create, Step::Create, Step::Drive];
    steps.extend([Step::SetPolicy(2, policy(2)), Step::SetPolicy(3, policy(4))]);
    for round in 0..3 {
        for _ in 0..4 {
            steps.extend([append(vec![0, 1], 4000, false), Step::Drive]);
            steps.extend([append(vec![2, 3], 2000, true), append(vec![3], 300, true), Step::Drive]);
        }
        steps.extend([Step::Trim(0), Step::Trim(0), Step::Drive]);
        steps.extend((0..6).map(|_| wait.clone()));
        if round == 1 {
            steps.extend([Step::Delete(0), Step::Drive, Step::Kill, wait.clone()]);
        }
    }
    steps.extend((0..4).map(|_| wait.clone()));
    for round in 0..16 {
        steps.extend([append(vec![1, 3], 4000, true), Step::Drive]);
        steps.extend([Step::SetState(round % 3, true), wait.clone()]);
    }
    steps.extend([Step::Idle, append(vec![1], 900, false), Step::Drive]);
    steps
}
