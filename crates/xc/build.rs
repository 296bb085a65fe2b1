//! Embeds the LibOS image that `cargo xtask build` names in XLIBOS_IMAGE; an empty one else.
use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-env-changed=XLIBOS_IMAGE");
    let image = match std::env::var_os("XLIBOS_IMAGE") {
        Some(path) => PathBuf::from(path),
        None => {
            let path = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("no-image");
            std::fs::write(&path, b"")?;
            path
        }
    };
    println!("cargo:rerun-if-changed={}", image.display());
    println!("cargo:rustc-env=XLIBOS_IMAGE={}", image.display());
    Ok(())
}
