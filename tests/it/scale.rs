//! The figures of `docs/scale.md` are those that `doctor` computes.

use emr_shs::testing::scanning;

const PAGE: &str = include_str!("../../docs/scale.md");

#[test]
fn scale_md_gives_the_scan_costs_that_doctor_computes() {
    let rows = PAGE.lines().filter(|line| line.ends_with(" |") && line.contains(" s | "));
    let mut count = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let number = |text: &str| text.split(' ').next().unwrap().replace(',', "").parse::<f64>().unwrap();
        let (logs, requests, every, dollars) = (number(cells[1]), number(cells[2]), number(cells[3]), number(cells[4]));
        let rolling = cells[1].ends_with("rolling");
        let asked = (logs / 1000.0).ceil() + if rolling { 2.0 * logs } else { 0.0 };
        assert_eq!(asked, requests, "{row}");
        let (exact, _) = scanning(requests as usize, every);
        assert!((exact - dollars).abs() < 0.05 * exact.max(1.0), "{row}: {exact}");
        count += 1;
    }
    assert_eq!(count, 5);
}
