"""Measures the table of docs/performance.md; see benches/run."""

import argparse

import report
import rows
from servers import House


def main():
    names = {measurement.__name__: measurement for measurement in rows.ALL}
    listed = "\n".join(f"  {name:12} {measurement.__doc__}" for name, measurement in names.items())
    parser = argparse.ArgumentParser(
        prog="benches/run",
        description="Measures the table of docs/performance.md.",
        epilog=f"measurements:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", help="names of measurements, with commas; the page stays as it is")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="how long each variant is measured in a round")
    parser.add_argument("--threads", type=int, default=1, help="threads of each server")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(names)
    unknown = [name for name in chosen if name not in names]
    if unknown:
        parser.error(f"no measurement is called {', '.join(unknown)}; --help lists them")

    run = rows.Run(None, options.rounds, options.seconds)
    for name in chosen:
        print(f"{name}: {names[name].__doc__}", flush=True)
        with House(options.threads) as house:
            run.house = house
            names[name](run)
    if options.only:
        print(report.table(run.rows, run.rounds, run.seconds, options.threads))
    else:
        report.write(run, options.threads)


if __name__ == "__main__":
    main()
