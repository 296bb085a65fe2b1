//! Hand-over: two threads that wake each other in turn share a processor while they do.
//!
//! The host puts a woken thread on an idle processor. Who wakes it and then sleeps has gained nothing, and paid for waking a
//! processor: ten times a switch of threads where the processor halts, as in a virtual machine. So a thread counts how
//! often it sleeps before the one that it woke has begun to run; where both of two threads find this of each other, the host is told
//! to run them on one processor. They part as soon as one of them goes on working after it woke the other, and at the next look of
//! the keeper (the service process) when they have not handed over for a while: then each may run where the host likes.
//!
//! A thread that makes one process after the other and waits for each is such a pair too, with a partner that is new every time: it is
//! tied by itself, and its children inherit that from the host, without a call.
//!
//! The counters are hints: they are read without order, and a wrong one costs time alone. Where the host runs a thread is changed
//! with [`TIES`] locked.

use crate::cpu::{self, Cpu};
use crate::errno::{Errno, Result};
use crate::host::{MASK_WORDS, has_processor};
use crate::sync::Mutex;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Who sleeps later than this after it woke another had work to do meanwhile. About what waking a processor costs.
const SOON_NS: u64 = 20_000;
/// Hand-overs in turn after which a pair is tied, at first and at most.
const FEW: u32 = 4;
const MANY: u32 = 4096;
/// Times that a tied thread may work on after it woke its partner, before they part.
const STRIKES: u32 = 4;
/// How long a tie lasts without being looked at, and how many hand-overs keep it.
const LOOK_NS: u64 = 10_000_000;
const KEEPS: u32 = 4;
/// Who asks the broker this soon after its last answer asks in quick succession.
const ASKS_SOON_NS: u64 = 100_000;
/// Who waits for a child this soon after making it had nothing else to do, and gains from it where the child is no older than this at
/// its end.
const WAITS_SOON_NS: u64 = 100_000;
const SHORT_LIFE_NS: u64 = 3_000_000;
/// Looks that a tie has to last for the pair to be trusted again as at first.
const LASTING: u32 = 10;

/// What a thread knows of its hand-overs.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct HandOver {
    /// Address of the area that the thread has woken since it last slept, 0 for none, and when; 0 the first time.
    woke: Cell<u64>,
    woke_at: Cell<u64>,
    /// Word of guest memory at which it sleeps, or slept and has not run yet.
    sleeps_at: AtomicU64,
    /// With whom it hands over, and how often it did in turn.
    partner: AtomicU64,
    streak: AtomicU32,
    /// How long a streak has to be.
    needed: AtomicU32,
    /// Where it ran when it last handed over.
    ran_on: AtomicU32,
    /// Whether the thread is tied, and to which processor.
    is_tied: AtomicBool,
    tied_to: AtomicU32,
    /// Whether it was told where to run, and may be tied to nothing else.
    is_confined: AtomicBool,
    /// Hand-overs since the keeper's last look, and looks that the tie has lasted.
    handed_over: AtomicU32,
    lasted: AtomicU32,
    strikes: AtomicU32,
    /// When the broker answered last, and how often it was asked in quick succession.
    answered_at: Cell<u64>,
    asked: Cell<u32>,
    family: Family,
}

/// What a thread knows of the processes that it makes.
#[derive(Debug)]
#[repr(C)]
struct Family {
    /// How many since it last waited for one.
    made: Cell<u32>,
    /// When it began to make the last one, and when it could go on.
    begun_at: Cell<u64>,
    made_at: Cell<u64>,
    /// Whether it waits for its only one, with nothing done meanwhile.
    waits: Cell<bool>,
    /// How often it did in turn.
    waited: Cell<u32>,
}

impl Family {
    #[cfg(not(target_os = "none"))]
    const fn new() -> Family {
        Family {
            made: Cell::new(0),
            begun_at: Cell::new(0),
            made_at: Cell::new(0),
            waits: Cell::new(false),
            waited: Cell::new(0),
        }
    }

    #[cfg(target_os = "none")]
    fn reset(&self) {
        self.made.set(0);
        self.waited.set(0);
    }

    /// The thread makes a process. Answers whether it will most likely do nothing but wait for it.
    #[cfg(any(test, target_os = "none"))]
    fn makes(&self, now: u64, needed: u32) -> bool {
        let others = self.made.replace(self.made.get().saturating_add(1));
        if others > 0 {
            self.waited.set(0);
        }
        self.begun_at.set(now);
        self.made_at.set(now);
        self.waited.get() >= needed
    }

    fn waits(&self, now: u64) {
        self.waits.set(self.made.get() == 1 && now.saturating_sub(self.made_at.get()) < WAITS_SOON_NS);
    }

    /// One has ended, and the thread knows. Answers whether it was as with those before.
    fn ended(&self, now: u64) -> bool {
        self.made.set(0);
        let is_alike = self.waits.take() && now.saturating_sub(self.begun_at.get()) < SHORT_LIFE_NS;
        self.waited.set(if is_alike { self.waited.get().saturating_add(1) } else { 0 });
        is_alike
    }
}

impl HandOver {
    #[cfg(not(target_os = "none"))]
    pub(crate) const fn new() -> HandOver {
        HandOver {
            woke: Cell::new(0),
            woke_at: Cell::new(0),
            sleeps_at: AtomicU64::new(0),
            partner: AtomicU64::new(0),
            streak: AtomicU32::new(0),
            needed: AtomicU32::new(FEW),
            ran_on: AtomicU32::new(0),
            is_tied: AtomicBool::new(false),
            tied_to: AtomicU32::new(0),
            is_confined: AtomicBool::new(false),
            handed_over: AtomicU32::new(0),
            lasted: AtomicU32::new(0),
            strikes: AtomicU32::new(0),
            answered_at: Cell::new(0),
            asked: Cell::new(0),
            family: Family::new(),
        }
    }

    /// For a new thread in the area.
    #[cfg(target_os = "none")]
    pub(crate) fn reset(&self) {
        self.woke.set(0);
        self.sleeps_at.store(0, Relaxed);
        self.partner.store(0, Relaxed);
        self.streak.store(0, Relaxed);
        self.needed.store(FEW, Relaxed);
        self.is_tied.store(false, Relaxed);
        self.is_confined.store(false, Relaxed);
        self.answered_at.set(0);
        self.family.reset();
    }

    /// For the next guest's thread that the same host thread serves: with whom it handed over stays.
    #[cfg(target_os = "none")]
    pub(crate) fn forget_guest(&self) {
        self.answered_at.set(0);
        self.family.reset();
    }

    /// The thread sleeps now, `soon` or not after it woke another, which has begun to run or not. Answers whether it
    /// should part from the one that it is tied to.
    fn slept(&self, woke: u64, soon: bool, has_begun: bool) -> bool {
        let is_same = self.partner.load(Relaxed) == woke;
        if self.is_tied.load(Relaxed) {
            // On one processor nobody begins while the other works: time alone tells.
            let strikes = if soon && is_same { 0 } else { self.strikes.load(Relaxed).saturating_add(1) };
            self.strikes.store(strikes, Relaxed);
            self.handed_over.fetch_add(u32::from(strikes == 0), Relaxed);
            return strikes >= STRIKES;
        }
        let before = if is_same { self.streak.load(Relaxed) } else { 0 };
        self.streak.store(if soon && !has_begun { before.saturating_add(1) } else { 0 }, Relaxed);
        self.partner.store(woke, Relaxed);
        false
    }

    fn is_ready_for(&self, other: u64) -> bool {
        self.partner.load(Relaxed) == other
            && self.streak.load(Relaxed) >= self.needed.load(Relaxed)
            && !self.is_tied.load(Relaxed)
            && !self.is_confined.load(Relaxed)
    }

    /// The thread asks the broker. Answers whether it had better be tied to where it runs.
    fn asked(&self, soon: bool) -> bool {
        self.asked.set(if soon { self.asked.get().saturating_add(1) } else { 0 });
        self.handed_over.fetch_add(1, Relaxed);
        // The asker has nothing to do meanwhile, whoever it is.
        self.asked.get() >= self.needed.load(Relaxed) / 2
            && !self.is_tied.load(Relaxed)
            && !self.is_confined.load(Relaxed)
    }

    fn tied(&self) {
        self.is_tied.store(true, Relaxed);
        self.strikes.store(0, Relaxed);
        self.handed_over.store(KEEPS, Relaxed);
        self.lasted.store(0, Relaxed);
    }

    /// The thread at `address` runs where its maker does, for whom it is what asks the broker is: nobody else's partner.
    fn inherits(&self, maker: &HandOver, address: u64) {
        self.tied_to.store(maker.tied_to.load(Relaxed), Relaxed);
        self.partner.store(address, Relaxed);
        self.tied();
    }

    /// Whether the tie may last until the next look.
    fn is_kept(&self) -> bool {
        let is_kept = self.handed_over.swap(0, Relaxed) >= KEEPS;
        if is_kept && self.lasted.fetch_add(1, Relaxed) >= LASTING {
            self.needed.store(FEW, Relaxed);
        }
        is_kept
    }

    /// The pair gained nothing from its tie: it has to prove itself for longer.
    fn distrust(&self) {
        self.needed.store((self.needed.load(Relaxed) * 2).min(MANY), Relaxed);
    }
}

/// Guards where threads run. Holds when the keeper looks next, in nanoseconds of CLOCK_MONOTONIC; None while nobody is tied.
static TIES: Mutex<Option<u64>> = Mutex::new(None);
/// The keeper's area.
static KEEPER: AtomicU64 = AtomicU64::new(0);

/// The calling thread calls [`look`] when it is woken, and at the time that look tells.
pub fn keep() {
    KEEPER.store(address(cpu::current()), Relaxed);
}

/// The caller is about to wake a sleeper.
pub(crate) fn wakes(target: &Cpu) {
    let own = cpu::current();
    if !own.has_task() || !target.outside().is_guests.load(Relaxed) {
        return;
    }
    own.hand_over.woke.set(address(target));
    // The first time the clock is left alone: most pairs never meet again, as a child and who waits for it.
    let is_known = own.hand_over.partner.load(Relaxed) == address(target);
    own.hand_over.woke_at.set(if is_known { crate::clock::monotonic_ns() } else { 0 });
    if own.hand_over.is_ready_for(address(target)) && target.hand_over.is_ready_for(address(own)) {
        tie(own, Some(target));
    }
}

/// The caller is about to sleep.
pub(crate) fn sleeps() {
    let own = cpu::current();
    let mine = &own.hand_over;
    let woke = mine.woke.take();
    let Some(woken) = cpu::at(woke) else { return };
    mine.ran_on.store(crate::clock::processor().0, Relaxed);
    let woke_at = mine.woke_at.get();
    let soon = woke_at != 0 && crate::clock::monotonic_ns().saturating_sub(woke_at) < SOON_NS;
    if mine.slept(woke, soon, !woken.is_asleep()) {
        part(own);
    }
}

/// Who slept last at a word of guest memory, by a part of its address. Processes that share memory usually have it at the same one.
static SLEEPERS: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

fn sleepers_at(word: u64) -> &'static AtomicU64 {
    &SLEEPERS[(word >> 2 ^ word >> 12) as usize % SLEEPERS.len()]
}

/// As [`sleeps`], at a word of guest memory.
pub(crate) fn sleeps_at(word: u64) {
    let own = cpu::current();
    own.hand_over.sleeps_at.store(word, Relaxed);
    sleepers_at(word).store(address(own), Relaxed);
    sleeps();
}

/// The caller has slept there.
pub(crate) fn slept_at() {
    cpu::current().hand_over.sleeps_at.store(0, Relaxed);
}

/// As [`wakes`], whoever sleeps at a word of guest memory.
pub(crate) fn wakes_at(word: u64) {
    let sleeper = cpu::at(sleepers_at(word).load(Relaxed));
    if let Some(sleeper) = sleeper.filter(|sleeper| sleeper.hand_over.sleeps_at.load(Relaxed) == word) {
        wakes(sleeper);
    }
}

/// The caller is about to ask the broker, at `now` of CLOCK_MONOTONIC. Answers the number of the processor to which it is tied for
/// that, where it asks in quick succession: the broker may answer there.
pub fn asks(now: u64) -> Option<u32> {
    let own = cpu::current();
    let mine = &own.hand_over;
    let is_first = mine.answered_at.get() == 0;
    if is_first {
        mine.asked.set(mine.needed.load(Relaxed));
    }
    if mine.asked(is_first || now.saturating_sub(mine.answered_at.get()) < ASKS_SOON_NS) {
        mine.partner.store(address(own), Relaxed);
        tie(own, None);
    }
    let asks_tied = mine.is_tied.load(Relaxed) && mine.partner.load(Relaxed) == address(own);
    asks_tied.then(|| mine.tied_to.load(Relaxed))
}

/// The caller has asked the broker and goes on meanwhile. Where it has waited for hardly any answer since it did so last, it is tied to its
/// processor no longer: the broker cannot work there at the same time.
pub fn goes_on() {
    let own = cpu::current();
    let waits = own.hand_over.asked.replace(0);
    // Who is tied because it waits for its children is left alone.
    let is_parent = own.hand_over.family.waited.get() > 0;
    if waits <= 1 && !is_parent && own.hand_over.is_tied.load(Relaxed) && !is_pair(own) {
        let _ties = TIES.lock();
        untie(own);
    }
}

/// The broker has answered the caller.
pub fn answered(now: u64) {
    cpu::current().hand_over.answered_at.set(now);
}

fn address(cpu: &Cpu) -> u64 {
    core::ptr::from_ref(cpu) as u64
}

/// Ties the caller, and a thread that sleeps, to the processor that runs the caller, or to the one that ran the other if fewer
/// are tied to that.
#[cold]
fn tie(own: &Cpu, other: Option<&Cpu>) {
    let Some(mut next_look) = TIES.try_lock() else { return };
    let here = crate::clock::processor().0;
    let there = other.map_or(here, |other| other.hand_over.ran_on.load(Relaxed));
    // Each look at who is tied touches a page a thread, which a new process has not got.
    let is_anybody = next_look.is_some();
    let is_emptier = is_anybody && there != here && count_tied_to(there) < count_tied_to(here);
    let (better, worse) = if is_emptier { (there, here) } else { (here, there) };
    // The broker's thread comes to who asks. Beside a pair that hands over without end the host may never let it run.
    let is_free = |processor: u32| !is_anybody || !is_tied_to(processor, other.is_none());
    let processor = if is_free(better) {
        better
    } else if better != worse && is_free(worse) {
        worse
    } else {
        return;
    };
    if !has_processor(&crate::host::processors(), processor) {
        // The host did not say where the container may run: nobody could be untied.
        return;
    }
    let pair = [Some(own), other];
    if pair.into_iter().flatten().any(|cpu| tie_to(cpu, processor).is_err()) {
        pair.into_iter().flatten().for_each(untie);
        return;
    }
    let is_first = next_look.is_none();
    next_look.get_or_insert_with(|| crate::clock::monotonic_ns() + LOOK_NS);
    drop(next_look);
    if is_first && let Some(keeper) = cpu::at(KEEPER.load(Relaxed)) {
        crate::sync::unpark(keeper);
    }
}

/// With [`TIES`] locked.
fn tie_to(cpu: &Cpu, processor: u32) -> Result<()> {
    let mut alone = [0_u64; MASK_WORDS];
    let word = alone.get_mut(processor as usize / 64).ok_or(Errno::EINVAL)?;
    *word = 1 << (processor % 64);
    cpu.hand_over.tied_to.store(processor, Relaxed);
    cpu.hand_over.tied();
    crate::host::run_on(cpu.tid(), &alone)
}

/// Those that are tied, now.
fn all_tied() -> impl Iterator<Item = &'static Cpu> {
    cpu::all().filter(|cpu| cpu.hand_over.is_tied.load(Relaxed))
}

fn count_tied_to(processor: u32) -> usize {
    all_tied().filter(|cpu| cpu.hand_over.tied_to.load(Relaxed) == processor).count()
}

fn is_pair(cpu: &Cpu) -> bool {
    cpu.hand_over.partner.load(Relaxed) != address(cpu)
}

/// Whether a pair is tied to the processor, or one that asks the broker.
fn is_tied_to(processor: u32, pair: bool) -> bool {
    all_tied().any(|cpu| is_pair(cpu) == pair && cpu.hand_over.tied_to.load(Relaxed) == processor)
}

/// The host cannot move who is tied: one of several pairs of a processor goes to one to which nobody is tied. With [`TIES`] locked.
fn spread() {
    let Some(crowded) =
        all_tied().filter(|cpu| is_pair(cpu)).find(|cpu| count_tied_to(cpu.hand_over.tied_to.load(Relaxed)) > 2)
    else {
        return;
    };
    let given = crate::host::processors();
    let mut numbers = (0..MASK_WORDS as u32 * 64).filter(|number| has_processor(&given, *number));
    let Some(free) = numbers.find(|number| count_tied_to(*number) == 0) else { return };
    let partner = cpu::at(crowded.hand_over.partner.load(Relaxed));
    for cpu in [Some(crowded), partner].into_iter().flatten().filter(|cpu| cpu.hand_over.is_tied.load(Relaxed)) {
        // One that ended has no place.
        let _ = tie_to(cpu, free);
    }
}

/// The caller and its partner have something to do at the same time.
#[cold]
fn part(own: &Cpu) {
    let _ties = TIES.lock();
    let partner = cpu::at(own.hand_over.partner.load(Relaxed));
    for cpu in [Some(own), partner].into_iter().flatten() {
        cpu.hand_over.distrust();
        untie(cpu);
    }
}

/// With [`TIES`] locked.
fn untie(cpu: &Cpu) {
    cpu.hand_over.streak.store(0, Relaxed);
    if cpu.tid() == 0 && !cpu.is_given_back() {
        // The host is making it, with the tie that it inherits: the next look unties it.
        return;
    }
    if cpu.hand_over.is_tied.swap(false, Relaxed) {
        // It may have ended meanwhile.
        let _ = crate::host::run_on(cpu.tid(), &crate::host::processors());
    }
}

/// A host thread that the caller makes inherits where the caller may run, but no tie, unless it is a process that the caller will
/// wait for.
#[cfg(target_os = "none")]
pub(crate) fn inherit(child: &Cpu, is_process: bool) {
    let own = cpu::current();
    let (mine, its) = (&own.hand_over, &child.hand_over);
    let may_share = is_process && may_share(own);
    its.is_confined.store(mine.is_confined.load(Relaxed), Relaxed);
    if !mine.is_tied.load(Relaxed) {
        return;
    }
    let _ties = TIES.lock();
    if !may_share {
        untie(own);
    } else if mine.is_tied.load(Relaxed) {
        its.inherits(mine, address(child));
    }
}

/// The caller goes on after it has slept for the start of its child (vfork).
pub fn resumes() {
    cpu::current().hand_over.family.made_at.set(crate::clock::monotonic_ns());
}

/// The caller is about to wait for a child.
pub fn waits_for_child() {
    cpu::current().hand_over.family.waits(crate::clock::monotonic_ns());
}

/// It has one that ended.
pub fn child_has_ended() {
    let mine = &cpu::current().hand_over;
    if mine.family.ended(crate::clock::monotonic_ns()) {
        mine.handed_over.fetch_add(1, Relaxed);
    }
}

/// The program of the caller goes on in another host process, where the caller would have run.
pub fn passes_on_to(other: &Cpu) {
    let own = cpu::current();
    let (mine, its) = (&own.hand_over, &other.hand_over);
    if !mine.is_tied.load(Relaxed) && !its.is_tied.load(Relaxed) {
        return;
    }
    let _ties = TIES.lock();
    if !mine.is_tied.load(Relaxed) || is_pair(own) {
        untie(other);
    } else if its.is_tied.load(Relaxed) && its.tied_to.load(Relaxed) == mine.tied_to.load(Relaxed) {
        its.inherits(mine, address(other));
    } else {
        its.partner.store(address(other), Relaxed);
        // Where the host refuses, it runs as it did.
        let _ = tie_to(other, mine.tied_to.load(Relaxed));
    }
}

/// Whether nobody told the calling thread where to run: another one may do its work.
#[must_use]
pub fn is_unconfined() -> bool {
    !cpu::current().hand_over.is_confined.load(Relaxed)
}

/// The caller is about to have a thread serve that waits, as one that it made or as a process.
#[cfg(target_os = "none")]
pub(crate) fn serves(waiting: &Cpu, is_process: bool) {
    let its = &waiting.hand_over;
    if is_process {
        if !may_share(cpu::current()) {
            let _ties = TIES.lock();
            untie(cpu::current());
        }
        passes_on_to(waiting);
    } else if its.is_tied.load(Relaxed) && its.partner.load(Relaxed) != address(cpu::current()) {
        // A tie to somebody else is over.
        let _ties = TIES.lock();
        untie(waiting);
    }
}

/// The caller has made a process by waking one: that is no hand-over.
#[cfg(target_os = "none")]
pub(crate) fn has_made() {
    cpu::current().hand_over.woke.set(0);
}

/// The caller makes a process. Answers whether that may run where the caller is tied, or the caller is not: where it will most likely do
/// nothing but wait for it.
#[cfg(target_os = "none")]
fn may_share(own: &Cpu) -> bool {
    let mine = &own.hand_over;
    let waits = mine.family.makes(crate::clock::monotonic_ns(), mine.needed.load(Relaxed));
    if waits && !mine.is_tied.load(Relaxed) && !mine.is_confined.load(Relaxed) {
        mine.partner.store(address(own), Relaxed);
        tie(own, None);
    }
    !mine.is_tied.load(Relaxed) || waits && !is_pair(own)
}

/// Has the host run a thread on these of its processors alone; None for all that the container was given.
///
/// # Errors
/// ESRCH where the thread has ended, EINVAL where the host gives none of the processors.
pub fn confine(cpu: &Cpu, mask: Option<&[u64; MASK_WORDS]>) -> Result<()> {
    let mine = &cpu.hand_over;
    if mask.is_none() && !mine.is_confined.load(Relaxed) {
        return Ok(());
    }
    let _ties = TIES.lock();
    untie(cpu);
    crate::host::run_on(cpu.tid(), mask.unwrap_or(&crate::host::processors()))?;
    mine.is_confined.store(mask.is_some(), Relaxed);
    Ok(())
}

/// Parts those that have not handed over since the last look; when to look again.
#[must_use]
pub fn look(now: u64) -> Option<u64> {
    let mut next_look = TIES.lock();
    if next_look.is_none_or(|next| now < next) {
        return *next_look;
    }
    *next_look = None;
    for cpu in all_tied() {
        if cpu.hand_over.is_kept() {
            *next_look = Some(now + LOOK_NS);
            continue;
        }
        if !cpu.is_asleep() {
            cpu.hand_over.distrust();
        }
        untie(cpu);
        if cpu.hand_over.is_tied.load(Relaxed) {
            *next_look = Some(now + LOOK_NS);
        }
    }
    spread();
    *next_look
}

#[cfg(test)]
mod tests {
    use super::{FEW, Family, HandOver, SHORT_LIFE_NS, STRIKES, WAITS_SOON_NS};

    const OTHER: u64 = 64;
    const THIRD: u64 = 128;

    /// One that has handed over often enough.
    fn ready() -> HandOver {
        let of = HandOver::new();
        (0..FEW).for_each(|_| assert!(!of.slept(OTHER, true, false)));
        of
    }

    #[test]
    fn who_hands_over_to_one_thread_is_ready_for_it_alone() {
        let of = ready();
        assert!(of.is_ready_for(OTHER) && !of.is_ready_for(THIRD));
        of.slept(THIRD, true, false);
        assert!(!of.is_ready_for(OTHER) && !of.is_ready_for(THIRD));
    }

    #[test]
    fn who_lets_the_other_one_work_beside_it_is_not_ready() {
        for (soon, has_begun) in [(false, false), (true, true)] {
            let of = ready();
            of.slept(OTHER, soon, has_begun);
            assert!(!of.is_ready_for(OTHER), "{soon} {has_begun}");
        }
    }

    #[test]
    fn a_pair_parts_where_one_keeps_working() {
        let of = ready();
        of.tied();
        assert!(!of.slept(OTHER, true, true), "the host let the other one run at once");
        (1..STRIKES).for_each(|_| assert!(!of.slept(OTHER, false, true)));
        assert!(of.slept(OTHER, false, true));
    }

    #[test]
    fn a_tie_without_hand_overs_ends_at_the_second_look() {
        let of = ready();
        of.tied();
        assert!(of.is_kept());
        assert!(!of.is_kept());
    }

    #[test]
    fn who_asks_in_quick_succession_is_tied_once() {
        let of = HandOver::new();
        assert!(![false, true, false, true].map(|soon| of.asked(soon)).contains(&true));
        assert!(of.asked(true));
        of.tied();
        assert!(!of.asked(true));
    }

    #[test]
    fn distrust_asks_for_more() {
        let of = ready();
        of.distrust();
        assert!(!of.is_ready_for(OTHER));
        (0..FEW).for_each(|_| assert!(!of.slept(OTHER, true, false)));
        assert!(of.is_ready_for(OTHER));
    }

    /// A thread that made so many processes in turn and waited for each.
    fn parent(children: u32) -> Family {
        let of = Family::new();
        for _ in 0..children {
            of.makes(0, FEW);
            of.waits(1);
            of.ended(2);
        }
        of
    }

    #[test]
    fn who_waited_for_each_child_will_wait_for_the_next() {
        assert!(!parent(FEW - 1).makes(0, FEW));
        assert!(parent(FEW).makes(0, FEW));
    }

    #[test]
    fn who_makes_two_at_once_or_works_meanwhile_begins_anew() {
        let two = parent(FEW);
        assert!(two.makes(0, FEW) && !two.makes(0, FEW));
        two.waits(1);
        assert!(!two.ended(2));
        for (waits, ends) in [(WAITS_SOON_NS, WAITS_SOON_NS), (1, SHORT_LIFE_NS)] {
            let of = parent(FEW);
            assert!(of.makes(0, FEW));
            of.waits(waits);
            assert!(!of.ended(ends) && !of.makes(ends, FEW), "{waits} {ends}");
        }
    }
}
