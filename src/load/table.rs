//! The report for people.

use std::fmt::{self, Display};

use anstyle::{AnsiColor, Style};

use super::figures::Percentiles;
use super::report::{Report, Storm};

const TITLE: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// The report as a table; anstream drops the colours where no terminal reads
/// them.
pub fn table(report: &Report) -> String {
    let mut table = Table(String::new());
    table.head(report);
    table.connecting(report);
    table.changing(report);
    table.memory(report);
    table.offenders(report);
    table.0
}

struct Table(String);

impl Table {
    fn line(&mut self, line: impl Display) {
        self.0.push_str(&line.to_string());
        self.0.push('\n');
    }

    fn title(&mut self, title: &str) {
        self.line(format_args!("\n{TITLE}{title}{TITLE:#}"));
    }

    fn row(&mut self, what: &str, value: impl Display) {
        self.line(format_args!("  {DIM}{what:<38}{DIM:#} {value}"));
    }

    /// Nothing where it was not measured.
    fn measured(&mut self, what: &str, value: Option<f64>, unit: &'static str) {
        if let Some(value) = value {
            self.row(what, Amount(value, unit));
        }
    }

    fn head(&mut self, report: &Report) {
        let watch = match report.watch {
            0 => "all".to_owned(),
            count => count.to_string(),
        };
        let Report {
            proxies,
            networks,
            services,
            endpoints_per_service,
            protocol,
            ..
        } = report;
        let tls = if report.tls { " over TLS" } else { "" };
        self.line(format_args!(
            "{TITLE}{proxies} sidecars{TITLE:#} on {networks} networks, {protocol} ADS{tls}; each \
             watches {watch} of {services} services of {endpoints_per_service} endpoints"
        ));
        if report.interrupted {
            self.line(format_args!("{BAD}stopped before its time{BAD:#}"));
        }
    }

    fn connecting(&mut self, report: &Report) {
        self.title("Connecting");
        self.measured("all served after", report.connect_all_s, "s");
        self.row("streams refused first", report.refused_streams);
        self.measured("CPU of the server", report.connect_cpu_s, "s");
        self.row(
            "CPU of the sidecars",
            Amount(report.client_connect_cpu_s, "s"),
        );
        for (number, Storm { all_served_s }) in (1..).zip(&report.storms) {
            let what = format!("all served after storm {number}");
            match all_served_s {
                Some(time) => self.row(&what, Amount(*time, "s")),
                None => self.row(&what, format_args!("{BAD}not in time{BAD:#}")),
            }
        }
    }

    fn changing(&mut self, report: &Report) {
        if report.writes == 0 {
            return;
        }
        self.title("Changes");
        let Report {
            writes,
            rate,
            deliveries,
            expected_deliveries,
            ..
        } = report;
        self.row("written", format_args!("{writes}, {rate} a second"));
        if report.failed_writes > 0 {
            let failed = report.failed_writes;
            self.row(
                "refused by the API server",
                format_args!("{BAD}{failed}{BAD:#}"),
            );
        }
        let style = if deliveries >= expected_deliveries {
            GOOD
        } else {
            BAD
        };
        self.row(
            "arrived at sidecars",
            format_args!("{style}{deliveries}{style:#} of {expected_deliveries}"),
        );
        self.percentiles("write → sidecar", report.latency_ms);
        self.percentiles("write → bare watch", report.api_watch_ms);
        self.row(
            "responses",
            format_args!("{}, {} MB", report.pushes, report.bytes_mb),
        );
        let style = if report.needless_pushes == 0 {
            GOOD
        } else {
            BAD
        };
        self.row(
            "responses without a change",
            format_args!("{style}{}{style:#}", report.needless_pushes),
        );
        self.measured("CPU of the server", report.churn_cpu_s, "s");
        self.measured("  for each change", report.churn_cpu_ms_per_write, "ms");
        let client = report.client_cpu_us_per_push;
        self.measured("CPU of the sidecars for each response", client, "µs");
        if report.lost_streams > 0 {
            let lost = report.lost_streams;
            self.row("streams lost", format_args!("{BAD}{lost}{BAD:#}"));
        }
    }

    fn percentiles(&mut self, what: &str, figures: Option<Percentiles>) {
        if let Some(Percentiles { p50, p90, p99, max }) = figures {
            self.row(
                what,
                format_args!("p50 {p50:.2}  p90 {p90:.2}  p99 {p99:.2}  max {max:.2} ms"),
            );
        }
    }

    fn memory(&mut self, report: &Report) {
        if report.rss_mb.is_none() {
            return;
        }
        self.title("Memory of the server");
        self.measured("before", report.rss_mb_before, "MB");
        self.measured("after", report.rss_mb, "MB");
        self.measured("peak", report.peak_mb, "MB");
    }

    fn offenders(&mut self, report: &Report) {
        if report.offenders.is_empty() {
            return;
        }
        self.title("Bad clients");
        for (offence, met) in &report.offenders {
            let closed: Vec<_> = met
                .closed
                .iter()
                .map(|(how, n)| format!("{n} × {how}"))
                .collect();
            let closed = if closed.is_empty() {
                "none closed".to_owned()
            } else {
                format!("closed: {}", closed.join(", "))
            };
            self.row(
                &offence.to_string(),
                format_args!(
                    "{} streams, {} responses; {closed}",
                    met.streams, met.pushes
                ),
            );
        }
    }
}

/// A figure with its unit.
struct Amount(f64, &'static str);

impl Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} {}", self.0, self.1)
    }
}
