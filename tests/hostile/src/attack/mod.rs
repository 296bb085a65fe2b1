//! The attacks by name.

mod broker;
mod calls;
mod memory;
mod signals;

use crate::gadget::Libos;

pub(crate) type Attack = fn(&Libos, &[String]);

/// What `name` does.
pub(crate) fn by_name(name: &str) -> Option<Attack> {
    let attacks: [(&str, Attack); 23] = [
        ("calls", calls::unlisted),
        ("arguments", calls::arguments),
        ("remapped-text", calls::remapped_text),
        ("probes", calls::probes),
        ("other-modes", calls::other_modes),
        ("addresses", calls::addresses),
        ("clone", calls::clone_flags),
        ("stray-child", calls::stray_child),
        ("close-all", calls::close_all),
        ("shrink", memory::shrink),
        ("unmap-all", memory::unmap_all),
        ("random-writes", memory::random_writes),
        ("zero-arena", memory::zero_arena),
        ("small-stack", memory::small_stack),
        ("signals", signals::strangers),
        ("end", signals::end),
        ("signal-stack", signals::forged_stack),
        ("jump", signals::jump),
        ("names", broker::names),
        ("forged", broker::forged),
        ("flood", broker::flood),
        ("empty", broker::empty),
        ("exit-status", broker::exit_status),
    ];
    attacks.iter().find(|(known, _)| *known == name).map(|(_, attack)| *attack)
}
