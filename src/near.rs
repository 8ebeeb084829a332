//! The word somebody probably meant: for misspelt commands, options and requests.

/// The candidate nearest to `word`, if any is near enough to be meant: with one slip (a letter wrong, missing,
/// added, or two swapped), or two where the word has five letters or more. In a shorter one
/// two slips make nearly any word of any other: `lock` is not `load`.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = if word.chars().count() < 5 { 1 } else { 2 };
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(slips, _)| *slips <= allowed)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance, letters compared without case. Words longer than any name
/// of ours are not worth the quadratic time.
fn distance(a: &str, b: &str) -> usize {
    const LETTERS_MAX: usize = 32;
    let fold = |s: &str| s.chars().take(LETTERS_MAX + 1).map(|c| c.to_ascii_lowercase()).collect::<Vec<_>>();
    let (a, b) = (fold(a), fold(b));
    if a.len().max(b.len()) > LETTERS_MAX {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                _ => {
                    let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let mut best = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                    if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                        best = best.min(rows[i - 2][j - 2] + 1);
                    }
                    best
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_near_word_is_found_and_a_far_one_is_not() {
        let words = ["get", "getall", "update", "delete", "watch"];
        for (typed, meant) in [
            ("gte", Some("get")),
            ("updat", Some("update")),
            ("UPDATE", Some("update")),
            ("dleete", Some("delete")),
            ("getal", Some("getall")),
            ("frobnicate", None),
            ("wtac", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, words), meant, "{typed}");
        }
    }
}
