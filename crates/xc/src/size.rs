//! Sizes as podman writes them: a number, and b, k, m, g or t.

/// Bytes of a size such as `512m`; None where it is none, or too large.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..)?.to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        "t" | "tb" => 40,
        _ => return None,
    };
    // `parse` alone would take a sign.
    let number: u64 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn units_are_powers_of_1024() {
        let all = ["512", "512b", "2k", "3M", "1g", "1tb"].map(parse);
        assert_eq!(all, [Some(512), Some(512), Some(2048), Some(3 << 20), Some(1 << 30), Some(1 << 40)]);
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "k", "-1", "+1", "1.5g", "1x", "1 k", "99999999999999999999", "99999999999t"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
