//! Curves on logarithmic axes: what grows with the size of something.
//!
//! **Invariant:** every value that is drawn is also written beside its mark.

use super::svg::{WIDTH, decade_text, escaped, open, push};

/// A line of a chart: what it is called, its class, its points.
pub(crate) struct Series {
    /// Written at its end.
    pub(crate) name: String,
    /// Class of the style sheet, which gives the colour.
    pub(crate) class: &'static str,
    /// Above zero.
    pub(crate) points: Vec<(f64, f64)>,
}

/// The plot area of a chart.
struct Area {
    x: (f64, f64),
    y: (f64, f64),
}

impl Area {
    const LEFT: f64 = 62.0;
    const RIGHT: f64 = WIDTH - 110.0;
    const TOP: f64 = 22.0;
    const BOTTOM: f64 = 236.0;

    /// Whole decades around all points; at least one.
    fn around(series: &[Series]) -> Option<Self> {
        let all = || series.iter().flat_map(|series| &series.points);
        let decades = |values: Vec<f64>| {
            let least = values.iter().copied().fold(f64::INFINITY, f64::min).max(1e-9).log10().floor();
            let most = values.iter().copied().fold(0.0, f64::max).max(1e-9).log10().ceil();
            (least, most.max(least + 1.0))
        };
        all().next()?;
        Some(Self {
            x: decades(all().map(|point| point.0).collect()),
            y: decades(all().map(|point| point.1).collect()),
        })
    }

    fn across(&self, value: f64) -> f64 {
        Self::LEFT + (value.log10() - self.x.0) / (self.x.1 - self.x.0) * (Self::RIGHT - Self::LEFT)
    }

    fn up(&self, value: f64) -> f64 {
        Self::BOTTOM - (value.max(1e-9).log10() - self.y.0) / (self.y.1 - self.y.0) * (Self::BOTTOM - Self::TOP)
    }
}

/// One chart; nothing where there are no points.
pub(crate) fn chart(series: &[Series], along: &str, upwards: &str, said: &dyn Fn(f64) -> String) -> String {
    let Some(area) = Area::around(series) else { return String::new() };
    let mut svg = open(Area::BOTTOM + 44.0, &format!("{upwards} against {along}"));
    push_axes(&mut svg, &area, along, upwards);
    for (index, series) in series.iter().enumerate() {
        let at: Vec<(f64, f64)> = series.points.iter().map(|(x, y)| (area.across(*x), area.up(*y))).collect();
        let path: Vec<String> = at.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        push(&mut svg, format_args!("<path class=\"curve {}\" d=\"M{}\"/>", series.class, path.join("L")));
        // Two series may lie close to each other: the first is labelled above its points, the second below.
        let beside = if index == 0 { -9.0 } else { 17.0 };
        for ((x, y), (_, value)) in at.iter().zip(&series.points) {
            push(
                &mut svg,
                format_args!("<circle class=\"dot {}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>", series.class),
            );
            let (y, said) = (y + beside, said(*value));
            push(&mut svg, format_args!("<text class=\"point\" x=\"{x:.1}\" y=\"{y:.1}\">{said}</text>"));
        }
        if let Some((x, y)) = at.last() {
            let (x, y, name) = (x + 34.0, y + beside, escaped(&series.name));
            push(
                &mut svg,
                format_args!("<text class=\"name {}\" x=\"{x:.1}\" y=\"{y:.1}\">{name}</text>", series.class),
            );
        }
    }
    svg + "</svg>"
}

fn push_axes(svg: &mut String, area: &Area, along: &str, upwards: &str) {
    let (left, right, top, bottom) = (Area::LEFT, Area::RIGHT, Area::TOP, Area::BOTTOM);
    for decade in area.x.0 as i32..=area.x.1 as i32 {
        let x = area.across(10f64.powi(decade));
        push(svg, format_args!("<path class=\"grid\" d=\"M{x:.1} {top}V{bottom}\"/>"));
        let (y, said) = (bottom + 18.0, decade_text(decade));
        push(svg, format_args!("<text class=\"tick across\" x=\"{x:.1}\" y=\"{y}\">{said}</text>"));
    }
    for decade in area.y.0 as i32..=area.y.1 as i32 {
        let y = area.up(10f64.powi(decade));
        push(svg, format_args!("<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/>"));
        let (x, y, said) = (left - 8.0, y + 4.0, decade_text(decade));
        push(svg, format_args!("<text class=\"tick\" x=\"{x}\" y=\"{y:.1}\">{said}</text>"));
    }
    let (x, y) = ((left + right) / 2.0, bottom + 38.0);
    push(svg, format_args!("<text class=\"tick across\" x=\"{x}\" y=\"{y}\">{}</text>", escaped(along)));
    push(svg, format_args!("<text class=\"axis\" x=\"{left}\" y=\"12\">{}</text>", escaped(upwards)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_hold_what_they_show() {
        let series = [Series { name: "one".into(), class: "pakt", points: vec![(1.0, 0.5), (1000.0, 20.0)] }];
        let area = Area::around(&series).unwrap();
        assert_eq!((area.x, area.y), ((0.0, 3.0), (-1.0, 2.0)));
        assert_eq!((area.across(1.0), area.across(1000.0)), (Area::LEFT, Area::RIGHT));
        assert!(area.up(20.0) > Area::TOP && area.up(0.5) < Area::BOTTOM);
        assert!(Area::around(&[]).is_none());
    }
}
