//! A bar chart of mean costs as SVG: what each policy paid, the strict bound and on-demand as lines.

use super::report::Summary;

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The chart.
pub fn svg(title: &str, summary: &[Summary]) -> String {
    let (left, bar, width) = (190.0, 24.0, 560.0);
    let most = summary.iter().map(|s| s.cost_usd.max(s.on_demand_cost_usd)).fold(1e-9, f64::max) * 1.05;
    let x = |usd: f64| left + usd / most * width;
    let height = 70.0 + bar * summary.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<text x=\"10\" y=\"22\" font-size=\"15\">{}</text>\n",
        left + width + 90.0,
        escape(title)
    );
    for (i, s) in summary.iter().enumerate() {
        let y = 40.0 + bar * i as f64;
        let colour = if s.policy == "lowtide" { "#0b7285" } else { "#adb5bd" };
        out.push_str(&format!(
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect x=\"{left}\" y=\"{:.1}\" width=\"{:.1}\" height=\"16\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\">${:.2}</text>\n",
            left - 8.0, y + 13.0, escape(&s.policy), y, x(s.cost_usd) - left, x(s.cost_usd) + 5.0, y + 13.0, s.cost_usd
        ));
    }
    if let Some(s) = summary.iter().find(|s| s.policy == "lowtide").or(summary.first()) {
        for (usd, name) in [(s.bound_usd, "bound"), (s.on_demand_cost_usd, "on-demand")] {
            out.push_str(&format!(
                "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"34\" y2=\"{1:.0}\" stroke=\"#c92a2a\" stroke-dasharray=\"4 3\"/><text x=\"{0:.1}\" y=\"{2:.0}\" text-anchor=\"middle\" fill=\"#c92a2a\">{name} ${usd:.2}</text>\n",
                x(usd), height - 26.0, height - 10.0
            ));
        }
    }
    out.push_str("</svg>\n");
    out
}
