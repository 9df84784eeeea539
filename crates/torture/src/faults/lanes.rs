//! Divides cases among lanes that run beside each other, each with servers of its own.

use super::fault::Case;

/// What starting the servers of a topology costs, in cases.
const START: usize = 1;

/// Returns the numbers of each lane's cases. Cases with the same topology that follow one another stay in one lane, in their order.
pub fn of(cases: &[Case], lanes: usize) -> Vec<Vec<usize>> {
    let numbers: Vec<usize> = (0..cases.len()).collect();
    let mut groups: Vec<&[usize]> =
        numbers.chunk_by(|a, b| cases[*a].topology == cases[*b].topology).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    let mut lanes: Vec<Vec<&[usize]>> = vec![Vec::new(); lanes.max(1)];
    for group in groups {
        let work = |lane: &Vec<&[usize]>| lane.iter().map(|group| group.len() + START).sum::<usize>();
        if let Some(lane) = lanes.iter_mut().min_by_key(|lane| work(lane)) {
            lane.push(group);
        }
    }
    lanes.into_iter().map(|lane| lane.concat()).collect()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::super::fault::Fault;
    use super::*;

    #[test]
    fn every_case_runs_once_and_no_topology_is_started_more_often_than_with_one_lane() {
        let cases: Vec<Case> =
            Fault::value_variants().iter().flat_map(|fault| Case::of(*fault, None).unwrap()).collect();
        let starts = |lanes: &[Vec<usize>]| -> usize {
            let of_lane =
                |lane: &Vec<usize>| lane.chunk_by(|a, b| cases[*a].topology == cases[*b].topology).count();
            lanes.iter().map(of_lane).sum()
        };
        let one = of(&cases, 1);
        for count in [1, 2, 3] {
            let lanes = of(&cases, count);
            let mut all = lanes.concat();
            all.sort_unstable();
            assert_eq!(all, (0..cases.len()).collect::<Vec<_>>());
            assert!(lanes.len() == count && starts(&lanes) <= starts(&one), "{lanes:?}");
            assert!(lanes.iter().all(|lane| lane.len() > 2), "{lanes:?}");
        }
        assert_eq!(of(&[], 2), [vec![0; 0], vec![]]);
    }
}
