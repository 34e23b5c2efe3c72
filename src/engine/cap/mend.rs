//! A quick yes where a line of moves is not enough: the record comes in all the same, and what is then over a cap moves on, again and
//! again, until nothing is. Finds most assignments that there are; proves nothing where it finds none.

use super::{
    ledger::{Ledger, Move},
    work::{Spent, Work},
};

/// Rounds of moving on.
const ROUNDS: usize = 200;
/// One round in so many moves anything, to leave places where every single move makes things worse.
const ASTRAY: usize = 8;
/// What weighing one move counts for.
const STEPS_PER_MOVE: usize = 8;

/// Numbers that look random and are the same each time: an answer must not depend on luck.
struct Turns(u64);

impl Turns {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (n.max(1) as u64)).unwrap_or(0)
    }
}

/// Lets one record more of a group in at one of `first` and moves others until all caps hold; else everything is as it was.
pub(super) fn mend(
    ledger: &mut Ledger,
    group: usize,
    first: &[usize],
    attempt: u64,
    work: &mut Work,
) -> Result<bool, Spent> {
    work.spend(ledger.len())?;
    let before = ledger.loads();
    let mut turns = Turns(0x2545_f491_4f6c_dd1d ^ (attempt << 20));
    let Some(at) = first.get(turns.below(first.len())) else { return Ok(false) };
    ledger.let_in(group, *at);
    let mended = move_on(ledger, &mut turns, work);
    if mended != Ok(true) {
        ledger.take_out(group, before);
    }
    mended
}

fn move_on(ledger: &mut Ledger, turns: &mut Turns, work: &mut Work) -> Result<bool, Spent> {
    for _ in 0..ROUNDS {
        let over = ledger.over();
        let Some(at) = over.get(turns.below(over.len())) else { return Ok(true) };
        let moves = ledger.moves_from(*at);
        work.spend(moves.len() * STEPS_PER_MOVE)?;
        let astray = turns.below(ASTRAY) == 0;
        let chosen = if astray { moves.get(turns.below(moves.len())).cloned() } else { best(ledger, moves, turns) };
        let Some(chosen) = chosen else { return Ok(false) };
        ledger.make(&chosen);
    }
    Ok(ledger.over().is_empty())
}

/// The move after which least is over; the turn decides between equals.
fn best(ledger: &mut Ledger, moves: Vec<Move>, turns: &mut Turns) -> Option<Move> {
    let (mut best, mut equals) = (None, 0);
    for one in moves {
        ledger.make(&one);
        let excess = ledger.excess();
        ledger.unmake(&one);
        let is_less = best.as_ref().is_none_or(|(least, _)| excess < *least);
        let is_equal = best.as_ref().is_some_and(|(least, _)| excess == *least);
        equals = if is_less { 1 } else { equals + usize::from(is_equal) };
        if is_less || (is_equal && turns.below(equals) == 0) {
            best = Some((excess, one));
        }
    }
    best.map(|(_, one)| one)
}
