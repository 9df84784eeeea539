//! Divides cases among rows that run beside each other, each with servers of its own.

use super::fault::Case;

/// What starting the servers of a topology costs, in cases.
const START: usize = 1;

/// Returns the numbers of each row's cases. Cases with the same topology that follow one another stay in one row, in their order.
pub fn of(cases: &[Case], rows: usize) -> Vec<Vec<usize>> {
    let numbers: Vec<usize> = (0..cases.len()).collect();
    let mut groups: Vec<&[usize]> =
        numbers.chunk_by(|a, b| cases[*a].topology == cases[*b].topology).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    let mut rows: Vec<Vec<&[usize]>> = vec![Vec::new(); rows.max(1)];
    for group in groups {
        let work = |row: &Vec<&[usize]>| row.iter().map(|group| group.len() + START).sum::<usize>();
        if let Some(row) = rows.iter_mut().min_by_key(|row| work(row)) {
            row.push(group);
        }
    }
    rows.into_iter().map(|row| row.concat()).collect()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::super::fault::Fault;
    use super::*;

    #[test]
    fn every_case_runs_once_and_no_topology_is_started_more_often_than_with_one_row() {
        let cases: Vec<Case> =
            Fault::value_variants().iter().flat_map(|fault| Case::of(*fault, None).unwrap()).collect();
        let starts = |rows: &[Vec<usize>]| -> usize {
            let of_row =
                |row: &Vec<usize>| row.chunk_by(|a, b| cases[*a].topology == cases[*b].topology).count();
            rows.iter().map(of_row).sum()
        };
        let one = of(&cases, 1);
        for count in [1, 2, 3] {
            let rows = of(&cases, count);
            let mut all = rows.concat();
            all.sort_unstable();
            assert_eq!(all, (0..cases.len()).collect::<Vec<_>>());
            assert!(rows.len() == count && starts(&rows) <= starts(&one), "{rows:?}");
            assert!(rows.iter().all(|row| row.len() > 2), "{rows:?}");
        }
        assert_eq!(of(&[], 2), [vec![0; 0], vec![]]);
    }
}
