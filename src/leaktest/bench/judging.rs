//! What an answer tells, as the register hears it, with doubts settled by further questions.

use super::Bench;
use crate::leaktest::{
    limits,
    register::{SURE_SCORES, Told},
    sight::Sight,
    target::{Answer, Ask, Caller, Request, Trouble},
};

/// Hears what an answer tells.
type Hear<'h> = &'h dyn Fn(&Bench<'_>, &Answer, &Request) -> Result<Told, Trouble>;

/// Questions near by that are asked to tell scores from other numbers.
const NEAR_BY: usize = 4;

impl Bench<'_> {
    /// Kinds of what an answer tells of records that are hidden from a caller.
    pub fn told(
        &mut self,
        caller: &Caller,
        sight: &Sight,
        answer: &Answer,
        request: &Request,
    ) -> Result<Vec<&'static str>, Trouble> {
        self.settled(caller, answer, request, &|bench, answer, request| Ok(sight.told(bench.world, answer, request)))
    }

    /// The same of records that are hidden by an action for a purpose: decided for what is in the answer alone.
    pub fn told_of(
        &mut self,
        caller: &Caller,
        action: &str,
        purpose: &str,
        answer: &Answer,
        request: &Request,
    ) -> Result<Vec<&'static str>, Trouble> {
        self.settled(caller, answer, request, &|bench, answer, request| {
            let trouble = std::cell::RefCell::new(None);
            let hidden = |at| {
                bench.hidden(caller, action, purpose, at).unwrap_or_else(|why| {
                    *trouble.borrow_mut() = Some(why);
                    true
                })
            };
            let told = bench.register.told(bench.world, answer, request, &hidden);
            trouble.into_inner().map_or(Ok(told), Err)
        })
    }

    /// What an answer tells, with doubts settled: words that may be the store's own by asking about something else, numbers that may be scores by
    /// asking near by.
    fn settled(
        &mut self,
        caller: &Caller,
        answer: &Answer,
        request: &Request,
        hear: Hear<'_>,
    ) -> Result<Vec<&'static str>, Trouble> {
        let told = hear(self, answer, request)?;
        let room = limits::FIELDS.saturating_sub(self.unread.len());
        self.unread.extend(told.unread.into_iter().take(room));
        let mut kinds = told.kinds;
        if !told.words.is_empty()
            && let Some(other) = self.about_something_else(request)
            && let Some(answer) = self.doubting(caller, &other)?
        {
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            kinds.extend(told.words.iter().filter(|(_, word)| !said.contains(word)).map(|(kind, _)| *kind));
        }
        let mut bits = told.scores;
        for _ in 0..NEAR_BY {
            let Some(other) = self.near_by(request).filter(|_| bits > 0.0 && bits < SURE_SCORES) else { break };
            let Some(answer) = self.doubting(caller, &other)? else { break };
            let more = hear(self, &answer, &other)?.scores;
            bits = if more > 0.0 { bits + more } else { 0.0 };
        }
        if bits >= SURE_SCORES {
            kinds.insert("score");
        }
        Ok(kinds.into_iter().collect())
    }

    fn doubting(&mut self, caller: &Caller, request: &Request) -> Result<Option<Answer>, Trouble> {
        let answer = self.ask(caller, request).map(Some);
        answer.or_else(|trouble| match trouble {
            Trouble::Unable(_) => Ok(None),
            Trouble::Broken(why) => Err(Trouble::Broken(why)),
        })
    }

    /// A request of the same shape about what does not exist; none where it would change the store.
    fn about_something_else(&mut self, request: &Request) -> Option<Request> {
        let mut other = request.clone();
        match &mut other.ask {
            Ask::Search(search) => {
                search.vector = self.dice.direction(search.vector.len());
                search.patient = search.patient.as_ref().map(|id| self.absent_id(id));
            }
            Ask::Read(id) => *id = self.absent_id(id),
            Ask::List(list) => {
                list.ids = list.ids.as_ref().map(|ids| ids.iter().map(|id| self.absent_id(id)).collect());
                list.patient = list.patient.as_ref().map(|id| self.absent_id(id));
            }
            Ask::Put(_) | Ask::Erase(_) => return None,
        }
        Some(other)
    }

    /// The same question, moved a little.
    fn near_by(&mut self, request: &Request) -> Option<Request> {
        let mut other = request.clone();
        match &mut other.ask {
            Ask::Search(search) => search.vector = self.dice.near(&search.vector, 0.1),
            Ask::Read(_) | Ask::List(_) | Ask::Put(_) | Ask::Erase(_) => return None,
        }
        Some(other)
    }
}
