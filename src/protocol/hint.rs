//! The word somebody probably meant: for misspelt commands, options and requests.

/// A word of more letters than any name of ours has is near to none.
const LETTERS_MAX: usize = 32;

/// The candidate nearest to `word`, if any is near enough to be meant: with one slip (a letter wrong, missing,
/// added, or two swapped), or two where the word has five letters or more. In a shorter one
/// two slips make nearly any word of any other: `lock` is not `load`.
///
/// A server does this for whoever sends names that it does not know, so it must cost little: nothing is
/// allocated, and most candidates are out before they are compared.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LETTERS_MAX {
        return None;
    }
    let allowed = if word.len() < 5 { 1 } else { 2 };
    // A slip changes the length by one at most, and takes one letter away and brings one at most.
    let letters_of_word = letters(word);
    let may_be_near = |candidate: &&str| {
        candidate.len().abs_diff(word.len()) <= allowed
            && (letters(candidate) ^ letters_of_word).count_ones() as usize <= 2 * allowed
    };
    candidates
        .into_iter()
        .filter(may_be_near)
        .map(|candidate| (distance(word.as_bytes(), candidate.as_bytes()), candidate))
        .filter(|(slips, _)| *slips <= allowed)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// Which letters a word has, a bit each; what is no letter shares the bits.
fn letters(word: &str) -> u32 {
    word.bytes().fold(0, |letters, byte| letters | 1 << (byte & 31))
}

/// Optimal string alignment distance of two words of at most `LETTERS_MAX` and two more letters, compared
/// without case. Of the matrix that the textbooks fill, three rows are enough.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut rows = [[0_usize; LETTERS_MAX + 3]; 3];
    rows[0].iter_mut().enumerate().for_each(|(j, cell)| *cell = j);
    let same = |x: u8, y: u8| x.eq_ignore_ascii_case(&y);
    for i in 1..=a.len() {
        let (now, last, before) = (i % 3, (i + 2) % 3, (i + 1) % 3);
        rows[now][0] = i;
        for j in 1..=b.len() {
            let changed = rows[last][j - 1] + usize::from(!same(a[i - 1], b[j - 1]));
            let mut best = changed.min(rows[last][j] + 1).min(rows[now][j - 1] + 1);
            if i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]) {
                best = best.min(rows[before][j - 2] + 1);
            }
            rows[now][j] = best;
        }
    }
    rows[a.len() % 3][b.len()]
}

#[cfg(test)]
mod tests {
    use super::did_you_mean;

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
            assert_eq!(did_you_mean(typed, words), meant, "{typed}");
        }
    }
}
