//! A guest that does what no program does: it jumps at the LibOS's own `syscall` instruction, writes over its
//! memory and talks to the broker itself. `tests/walls.rs` runs it, names the attack on its standard input, and
//! looks at the host.
//!
//! An attack prints `held` when each of its attempts was refused as it must be, and panics when one was not.
//! One whose point is to die prints nothing.

mod attack;
mod gadget;
mod random;

use gadget::Libos;

fn main() {
    println!("ready");
    // The harness has looked at the container, and says what to do: a word a line.
    let words: Vec<String> = std::io::stdin().lines().map(|line| line.expect("a word")).collect();
    let (name, rest) = words.split_first().expect("an attack's name");
    let attack = attack::by_name(name).unwrap_or_else(|| panic!("no attack {name}"));
    attack(&Libos::find(), rest);
    println!("held");
}
