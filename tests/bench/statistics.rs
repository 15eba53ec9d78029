//! Medians, percentiles and straight lines.

/// The middle one; of an even number the upper.
pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    percentile(figures, 0.5)
}

/// The figure below which this part of them lies.
pub(crate) fn percentile(figures: &[f64], part: f64) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let index = (sorted.len() as f64 * part) as usize;
    sorted.get(index.min(last)).copied()
}

/// The straight line through points, by least squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) slope: f64,
    pub(crate) start: f64,
    /// The part of the variation that the line explains: 1 where all points are on it.
    pub(crate) fit: f64,
}

/// None: fewer than three points, or all above one another.
pub(crate) fn line(points: &[(f64, f64)]) -> Option<Line> {
    if points.len() < 3 {
        return None;
    }
    let count = points.len() as f64;
    let x_mean = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let y_mean = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let x_spread: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
    let y_spread: f64 = points.iter().map(|(_, y)| (y - y_mean).powi(2)).sum();
    if x_spread == 0.0 {
        return None;
    }
    let slope = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum::<f64>() / x_spread;
    let start = y_mean - slope * x_mean;
    let missed: f64 = points.iter().map(|(x, y)| (y - start - slope * x).powi(2)).sum();
    let fit = if y_spread == 0.0 { 1.0 } else { 1.0 - missed / y_spread };
    Some(Line { slope, start, fit })
}

/// How well points have to lie on a line to be called straight.
pub(crate) const STRAIGHT_FIT: f64 = 0.95;
/// The part of the mean that a line may rise, or fall, over all points and still be called flat.
const FLAT_RISE: f64 = 0.1;

/// What points look like, in words; `unit` is that of the slope.
pub(crate) fn shape(points: &[(f64, f64)], unit: &str) -> Option<String> {
    let Line { slope, start, fit } = line(points)?;
    let reach = points.iter().map(|(x, _)| x).fold(0.0_f64, |most, x| most.max(*x));
    let mean = points.iter().map(|(_, y)| y).sum::<f64>() / points.len() as f64;
    let kind = match () {
        () if (slope * reach).abs() < FLAT_RISE * mean => "flat",
        () if fit >= STRAIGHT_FIT => "a straight line",
        () => "not a straight line",
    };
    Some(format!("{kind}, {slope:.4} {unit} from {start:.2} on (R² {fit:.3})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_one_whatever_the_order() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(percentile(&(1..=100).map(f64::from).collect::<Vec<_>>(), 0.99), Some(100.0));
        assert_eq!(percentile(&[1.0, 2.0], 1.0), Some(2.0));
    }

    #[test]
    fn a_line_through_points_on_it_is_that_line() {
        let line = line(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]).unwrap();
        assert!((line.slope - 2.0).abs() < 1e-9 && (line.start - 1.0).abs() < 1e-9);
        assert!((line.fit - 1.0).abs() < 1e-9);
        assert_eq!(super::line(&[(0.0, 1.0), (1.0, 3.0)]), None);
        assert_eq!(super::line(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
    }

    #[test]
    fn shapes_are_told_apart() {
        let told = |ys: [f64; 4]| {
            let points: Vec<_> = ys.iter().enumerate().map(|(x, y)| (x as f64, *y)).collect();
            shape(&points, "µs a step").unwrap()
        };
        assert!(told([10.0, 10.1, 9.9, 10.0]).starts_with("flat"));
        assert!(told([1.0, 2.0, 3.0, 4.1]).starts_with("a straight line"));
        assert!(told([1.0, 1.0, 1.0, 9.0]).starts_with("not a straight line"));
    }
}
