//! The metrics that every process has, under the names that Prometheus's own libraries give them. Read from
//! `/proc`; where there is none, there are none.

use prometheus::proto::MetricFamily;

#[cfg(not(target_os = "linux"))]
pub(super) fn families() -> Vec<MetricFamily> {
    Vec::new()
}

#[cfg(target_os = "linux")]
pub(super) fn families() -> Vec<MetricFamily> {
    // A value that cannot be read is not told.
    linux::values().unwrap_or_default()
}

#[cfg(target_os = "linux")]
mod linux {
    use procfs::process::{LimitValue, Process};
    use procfs::{CurrentSI as _, KernelStats, ProcResult};
    use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};

    use super::super::families::family;

    #[expect(
        clippy::cast_precision_loss,
        reason = "Prometheus has no other numbers"
    )]
    pub(super) fn values() -> ProcResult<Vec<MetricFamily>> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let ticks = procfs::ticks_per_second() as f64;
        let cpu = (stat.utime + stat.stime) as f64 / ticks;
        let started = KernelStats::current()?.btime as f64 + stat.starttime as f64 / ticks;
        let memory = (stat.rss * procfs::page_size()) as f64;
        let mut families = vec![
            counter("process_cpu_seconds_total", "User and system time", cpu),
            gauge("process_resident_memory_bytes", "Memory held", memory),
            gauge(
                "process_virtual_memory_bytes",
                "Addresses in use",
                stat.vsize as f64,
            ),
            gauge("process_threads", "Threads", stat.num_threads as f64),
            gauge(
                "process_start_time_seconds",
                "When the process started",
                started,
            ),
            gauge(
                "process_open_fds",
                "Open file descriptors",
                process.fd_count()? as f64,
            ),
        ];
        if let LimitValue::Value(most) = process.limits()?.max_open_files.soft_limit {
            families.push(gauge(
                "process_max_fds",
                "The most open file descriptors",
                most as f64,
            ));
        }
        Ok(families)
    }

    fn counter(name: &str, help: &str, value: f64) -> MetricFamily {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = Metric::default();
        metric.set_counter(counter);
        family(name, help, MetricType::COUNTER, std::iter::once(metric))
    }

    fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let metric = Metric::from_gauge(gauge);
        family(name, help, MetricType::GAUGE, std::iter::once(metric))
    }
}
