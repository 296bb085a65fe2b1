//! Repeated code: windows of eight lines that stand in more than one place.

use std::collections::HashMap;

const WINDOW: usize = 8;

/// Lines of code, and how many of them lie in a window that occurs again.
///
/// Each file is its lines of code, trimmed, without blank lines, comments and lone brackets' noise.
pub(crate) fn count(files: &[Vec<String>]) -> (usize, usize) {
    let mut places: HashMap<&[String], Vec<(usize, usize)>> = HashMap::new();
    for (file, lines) in files.iter().enumerate() {
        for (start, window) in lines.windows(WINDOW).enumerate() {
            places.entry(window).or_default().push((file, start));
        }
    }
    let mut repeated: Vec<Vec<bool>> = files.iter().map(|lines| vec![false; lines.len()]).collect();
    for &(file, start) in places.values().filter(|places| places.len() > 1).flatten() {
        repeated[file][start..start + WINDOW].fill(true);
    }
    let lines = files.iter().map(Vec::len).sum();
    (lines, repeated.iter().flatten().filter(|r| **r).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_occur_twice_are_counted_once_a_line() {
        let block: Vec<String> = (0..9).map(|n| n.to_string()).collect();
        let other: Vec<String> = (20..40).map(|n| n.to_string()).collect();
        assert_eq!(count(&[block.clone(), other.clone()]), (29, 0));
        assert_eq!(count(&[block.clone(), [other, block].concat()]), (38, 18));
    }
}
