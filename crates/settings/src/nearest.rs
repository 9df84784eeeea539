//! Guesses what a misspelt name was meant to be.

/// Returns the known name that differs least from `name`, with at most one slip for every four characters.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (slips, near) = known.map(|known| (strsim::damerau_levenshtein(known, name), known)).min()?;
    (slips <= (name.len() / 4).max(1)).then_some(near)
}

/// The end of an error about an unknown name: the name that was probably meant.
pub(crate) fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}
