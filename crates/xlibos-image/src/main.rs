//! The LibOS as an executable image: machine's entry joined to the kernel's hooks.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod hooks {
    use machine::Cpu;
    use machine::leaf::Table;

    #[unsafe(no_mangle)]
    static kernel_leaves: Table = xlibos::syscall::LEAVES;

    #[unsafe(no_mangle)]
    fn kernel_syscall(cpu: &'static Cpu) {
        xlibos::kernel::on_syscall(cpu);
    }

    #[unsafe(no_mangle)]
    fn kernel_event(cpu: &'static Cpu) {
        xlibos::kernel::on_event(cpu);
    }

    #[unsafe(no_mangle)]
    fn kernel_return(cpu: &'static Cpu) {
        xlibos::kernel::before_return(cpu);
    }

    #[unsafe(no_mangle)]
    fn kernel_child(cpu: &'static Cpu) {
        xlibos::kernel::on_child(cpu);
    }

    #[unsafe(no_mangle)]
    fn kernel_main(boot: &'static abi::boot::BootBlock) -> ! {
        xlibos::kernel::main(boot)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("xlibos-image: build for x86_64-unknown-none; `cargo xtask build` does");
    std::process::exit(1);
}
