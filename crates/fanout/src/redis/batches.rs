use crate::BATCH_BYTES_MAX;

/// Splits the items for one channel into pieces within the limits of one command.
pub(super) fn batches<T>(
    items: &[T],
    count_max: usize,
    size: impl Fn(&T) -> usize,
) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let mut fits = |item: &T| {
            bytes += size(item);
            bytes <= BATCH_BYTES_MAX
        };
        let count = rest.iter().take(count_max).take_while(|item| fits(item)).count();
        let (batch, after) = rest.split_at(count.max(1).min(rest.len()));
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BATCH_MAX, BODY_BYTES_MAX};

    #[test]
    fn batches_stay_within_both_limits_and_lose_nothing() {
        for (count, size) in
            [(0, 1), (1, BODY_BYTES_MAX), (BATCH_MAX + 1, 1), (9, BODY_BYTES_MAX), (3, 700_000)]
        {
            let items = vec![size; count];
            let cut: Vec<&[usize]> = batches(&items, BATCH_MAX, |size| *size).collect();
            assert_eq!(cut.concat(), items);
            for batch in &cut {
                assert!(batch.len() <= BATCH_MAX && batch.iter().sum::<usize>() <= BATCH_BYTES_MAX);
            }
        }
    }
}
