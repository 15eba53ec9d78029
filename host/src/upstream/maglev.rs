//! Consistent hashing with the table of Maglev (Eisenbud et al., "Maglev: A Fast and Reliable
//! Software Network Load Balancer", NSDI 2016, section 3.4): shares that differ by a percent or so,
//! and few keys that move when an endpoint comes or goes.
//!
//! Endpoints are put in by their addresses, so that sidecars whose files list them in another order
//! agree. A key whose endpoint is out of use goes to the one that the table has next.

use std::net::SocketAddr;

/// Sizes of a table, primes: the smallest with a hundred entries for each endpoint, or the largest.
const SIZES: [usize; 8] = [251, 509, 1_021, 2_039, 4_093, 8_191, 16_381, 65_537];

/// Entries for each endpoint.
const ENTRIES_MIN: usize = 100;

/// Which endpoint takes which key.
pub(super) struct Maglev {
    /// Indexes of endpoints.
    table: Vec<u32>,
}

impl Maglev {
    /// A table of these endpoints.
    pub(super) fn new(addresses: &[SocketAddr]) -> Self {
        let wanted = addresses.len().saturating_mul(ENTRIES_MIN);
        let size = SIZES.into_iter().find(|size| *size >= wanted).unwrap_or(SIZES[7]);
        let mut sorted: Vec<usize> = (0..addresses.len()).collect();
        sorted.sort_by_key(|at| addresses[*at]);
        let mut places: Vec<(u32, usize, usize)> = sorted
            .into_iter()
            .map(|at| {
                let name = addresses[at].to_string();
                let offset = hash(&[b"offset ", name.as_bytes()]) % size as u64;
                let skip = hash(&[b"skip ", name.as_bytes()]) % (size as u64 - 1) + 1;
                (at as u32, offset as usize, skip as usize)
            })
            .collect();
        let mut table: Vec<Option<u32>> = vec![None; size];
        let mut left = if places.is_empty() { 0 } else { size };
        while left > 0 {
            for (at, next, skip) in &mut places {
                // The size is a prime, so that each endpoint's steps lead through all places.
                while table[*next].is_some() {
                    *next = (*next + *skip) % size;
                }
                table[*next] = Some(*at);
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        Maglev { table: table.into_iter().flatten().collect() }
    }

    /// The endpoint of a key, among those that `fits`; none: there is none.
    pub(super) fn pick(&self, key: u64, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let size = self.table.len();
        if size == 0 {
            return None;
        }
        let start = (key % size as u64) as usize;
        let places = (start..size).chain(0..start);
        places.map(|place| self.table[place] as usize).find(|at| fits(*at))
    }
}

/// The hash of a key, the same in every process.
pub fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let bytes = *hasher.finalize().as_bytes();
    let (first, _) = bytes.split_first_chunk().expect("a hash has 32 bytes");
    u64::from_le_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: usize) -> Vec<SocketAddr> {
        (0..count).map(|at| SocketAddr::from(([10, 0, (at / 250) as u8, 1], at as u16))).collect()
    }

    fn shares(table: &Maglev, count: usize) -> Vec<usize> {
        let mut shares = vec![0; count];
        table.table.iter().for_each(|at| shares[*at as usize] += 1);
        shares
    }

    #[test]
    fn shares_are_nearly_even() {
        for count in [1, 2, 3, 5, 50, 500] {
            let shares = shares(&Maglev::new(&addresses(count)), count);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1 + most / 50, "{count}: {least} to {most}");
        }
    }

    #[test]
    fn a_table_has_a_hundred_entries_an_endpoint_until_it_has_its_largest_size() {
        for (count, size) in [(2, 251), (3, 509), (163, 16_381), (164, 65_537), (1_000, 65_537)] {
            assert_eq!(Maglev::new(&addresses(count)).table.len(), size, "{count}");
        }
        assert_eq!(Maglev::new(&[]).pick(7, |_| true), None);
    }

    #[test]
    fn the_order_in_the_file_makes_no_difference() {
        let forth = addresses(5);
        let back: Vec<SocketAddr> = forth.iter().rev().copied().collect();
        let (one, other) = (Maglev::new(&forth), Maglev::new(&back));
        for key in 0..1_000 {
            let key = hash(&[&u64::to_le_bytes(key)]);
            let chosen = one.pick(key, |_| true).unwrap();
            assert_eq!(forth[chosen], back[other.pick(key, |_| true).unwrap()]);
        }
    }

    #[test]
    fn an_endpoint_out_of_use_moves_its_own_keys_only() {
        let table = Maglev::new(&addresses(5));
        for key in 0..1_000 {
            let key = hash(&[&u64::to_le_bytes(key)]);
            let chosen = table.pick(key, |_| true).unwrap();
            let without = table.pick(key, |at| at != 2).unwrap();
            assert!(without != 2 && (chosen == 2 || chosen == without));
        }
        assert_eq!(table.pick(1, |_| false), None);
    }

    #[test]
    fn an_endpoint_that_goes_moves_few_other_keys() {
        let all = addresses(10);
        let (before, after) = (Maglev::new(&all), Maglev::new(&all[..9]));
        let moved = (0..10_000_u64)
            .map(|key| hash(&[&key.to_le_bytes()]))
            .filter(|key| {
                let chosen = before.pick(*key, |_| true).unwrap();
                chosen != 9 && after.pick(*key, |_| true).unwrap() != chosen
            })
            .count();
        assert!(moved < 1_500, "{moved} of 9,000 keys moved without need");
    }
}
